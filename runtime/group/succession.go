package group

import (
	"context"
	"time"

	"github.com/ipcgen/ipcgen/internal/sys"
)

// This file is the supervisor's part of replication: it chooses primaries and watches which
// replicas are in sync. The replicas replicate among themselves.

// A set of replicas has a bit for each, by place. unknownSet stands for replicas of which it is not
// known which they are: it is the bit of a place that no group has.
const (
	unknownSet = 1 << maxStateful
	setMask    = 1<<(maxStateful+1) - 1
)

// packSet returns the word of a set that the primary of the epoch has published, or of the
// candidates. Its upper bits are a checksum of the set and of the epoch.
func packSet(epoch, mask uint64) uint64 { return checksum(epoch, mask)&^setMask | mask }

// ofCandidates is the epoch of the candidates, which is that of no primary.
const ofCandidates = 0

// unpackSet returns the set of a word. ok is false if the word is not of the epoch, or was
// overwritten.
func unpackSet(w, epoch uint64) (mask uint64, ok bool) {
	mask = w & setMask
	return mask, w == packSet(epoch, mask)
}

// A syncState says whether a process has the whole state of its group.
type syncState uint64

const (
	unsynced syncState = iota // it never had it
	synced                    // it has it, or had it once
	broken                    // it could not be restored
)

// packSync returns the word of a state, which stands for one process only, by its incarnation. A
// word that is not of that process, as one that was overwritten, stands for unsynced.
func packSync(incarnation uint64, s syncState) uint64 {
	if s == unsynced {
		return 0
	}
	return checksum(incarnation, uint64(s))
}

// syncState returns the state of the process in a place.
func (p *page) syncState(index int) syncState {
	w, incarnation := p.placeWord(index, offSynced), p.incarnation(index).Load()|1
	for _, s := range []syncState{synced, broken} {
		if w == packSync(incarnation, s) {
			return s
		}
	}
	return unsynced
}

// accusation returns the word that identifies a process: its incarnation except for the lowest
// byte, and its place.
func accusation(place int, incarnation uint64) uint64 {
	return incarnation&^0xff | uint64(place+1)
}

// placeWord returns the value of a word of a replica's page.
func (p *page) placeWord(index, off int) uint64 { return p.wordOf(index, off).Load() }

// forgetState resets the words of a place for a process that has not started yet.
func (p *page) forgetState(index int) {
	for _, off := range []int{offSet, offAccused, offSynced} {
		p.wordOf(index, off).Store(0)
		sys.CrashPoint("group state of a place forgotten")
	}
	for i := range mostRequests {
		wordAt(p.home(index).mem, placeOffset(index)+offRequests+8*i).Store(0)
	}
}

// lastSet returns the set that a primary of the epoch published or, if none has done so, the
// candidates for the epoch. The place of that primary need not be known: a killed supervisor may
// have ended the reign without storing the candidates, and the next supervisor then looks for the
// set. A set has its primary.
func (p *page) lastSet(epoch uint64) uint64 {
	for index := range min(p.places(), maxStateful) {
		mask, ok := unpackSet(p.placeWord(index, offSet), epoch)
		if ok && mask&(1<<index) != 0 {
			return mask
		}
	}
	mask, ok := unpackSet(wordAt(p.mem, offCandidates).Load(), ofCandidates)
	if !ok {
		return unknownSet
	}
	return mask
}

// published returns the set that the present primary has published. begun is false if there is
// none yet. certain is false if it was published, but the primary's word has been overwritten
// since: mask is then the set that the supervisor saw last.
func (s *supervisor) published() (mask uint64, begun, certain bool) {
	p := s.reign.primary
	if p == none || p >= min(s.page.places(), maxStateful) {
		return 0, false, true
	}
	if mask, ok := unpackSet(s.page.placeWord(p, offSet), s.reign.epoch); ok {
		s.seenSet, s.seenEpoch = mask, s.reign.epoch
		return mask, true, true
	}
	if s.seenEpoch == s.reign.epoch {
		return s.seenSet, true, false
	}
	return 0, false, true
}

// inSync returns the replicas that have the whole state: the set that the primary published or,
// before that and after its reign, the candidates.
func (s *supervisor) inSync() uint64 {
	if mask, begun, _ := s.published(); begun {
		return mask
	}
	return s.candidates
}

// setCandidates determines who may be promoted next. The page has the set for the next supervisor.
// This one relies on its own memory, because another process can write in the page.
func (s *supervisor) setCandidates(set uint64) {
	s.candidates = set
	wordAt(s.page.mem, offCandidates).Store(packSet(ofCandidates, set))
	sys.CrashPoint("group candidates stored")
}

// adoptCandidates determines the candidates at the start of a supervisor, from the page.
func (s *supervisor) adoptCandidates() {
	s.candidates = s.page.lastSet(s.reign.epoch)
}

// countedOn reports whether a replica has the whole state and is in the primary's set. Until a new
// primary has published its set, no replica is: the primary may find that a candidate is behind.
func (s *supervisor) countedOn(r *managedReplica) bool {
	if r.proc == nil || !r.synced {
		return false // after the end of the group there is no page either
	}
	return (s.reign.primary == none || s.begun()) && s.inSync()&(1<<r.index) != 0
}

// begun reports whether there is a primary that has published its set.
func (s *supervisor) begun() bool {
	_, begun, _ := s.published()
	return begun
}

// endReign ends the reign and stores which replicas were in sync at its end. The reign ends first:
// the primary cannot release answers after that, so no change is answered by a set that is smaller
// than the stored one.
func (s *supervisor) endReign() {
	if s.cfg.Replication == nil {
		return
	}
	over := s.reign
	over.primary = none
	s.page.storeReign(over)
	sys.CrashPoint("group reign ended")
	if _, _, certain := s.published(); !certain {
		s.setCandidates(unknownSet) // a replica may have left the set since the supervisor saw it
		return
	}
	s.setCandidates(s.inSync())
}

// whole reports whether the process in a place has the whole state, or had it once.
func (p *page) whole(index int) bool { return p.syncState(index) == synced }

// successor returns the replica to promote, or nil if there is none yet. lost means that no replica
// is left with all changes that were answered.
func (s *supervisor) successor() (next *managedReplica, lost bool) {
	candidates := s.candidates
	if s.cfg.Replication == nil || candidates == 0 {
		return s.firstReady(func(*managedReplica) bool { return true }), false
	}
	// The bit may stand for a process that has died since; the word cannot.
	candidate := func(r *managedReplica) bool {
		return candidates&(1<<r.index) != 0 && s.page.whole(r.index)
	}
	if r := s.firstReady(candidate); r != nil {
		return r, false
	}
	for _, r := range s.replicas {
		if r.state == starting && r.suspicion == nil && candidate(r) {
			return nil, false // the primary knew it before the supervisor does
		}
	}
	if r := s.firstReady(func(r *managedReplica) bool { return s.page.whole(r.index) }); r != nil {
		return r, true
	}
	for _, r := range s.replicas {
		if r.adopted() && r.state == starting && r.suspicion == nil && s.page.whole(r.index) {
			return nil, false // it will be ready, and its state is better than none
		}
	}
	return s.firstReady(func(r *managedReplica) bool {
		return s.page.syncState(r.index) != broken
	}), true
}

// succeeded reports whether another process takes over when r dies.
func (s *supervisor) succeeded(r *managedReplica) bool {
	return s.reign.primary == r.index && s.stopping == nil &&
		s.firstReady(func(other *managedReplica) bool { return other != r }) != nil
}

func (s *supervisor) firstReady(ok func(*managedReplica) bool) *managedReplica {
	for _, r := range s.replicas {
		if r.state == ready && r.suspicion == nil && ok(r) {
			return r
		}
	}
	return nil
}

// stateLost reports that a reign begins without all changes that were answered.
func (s *supervisor) stateLost(r *managedReplica) {
	cause := "no replica in sync is left; the state begins anew"
	if s.page.whole(r.index) {
		cause = "no replica in sync is left; the state is that of one that fell behind"
	}
	s.setCandidates(0)
	s.report(Event{Kind: StateLost, Replica: r.name, PID: r.proc.pid, Cause: cause})
}

// watchSync makes the supervisor check the replicas' words after a change.
func (s *supervisor) watchSync(dir *sys.DirWatch) {
	defer dir.Close()
	stop := context.AfterFunc(s.ctx, func() { dir.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	for {
		s.do(s.checkSync)
		if dir.Next(func(string, bool) {}) != nil {
			return
		}
	}
}
