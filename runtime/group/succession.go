package group

import (
	"context"
	"time"

	"github.com/ipcgen/ipcgen/internal/sys"
)

// This file is the supervisor's part of replication: it chooses primaries and watches which
// replicas are in sync. The replicas replicate among themselves.

// packSet returns the word of a set of replicas: a bit for each, by place, and the epoch of the
// primary that wrote it.
func packSet(epoch, mask uint64) uint64 { return epoch<<maxStateful | mask }

func unpackSet(w uint64) (epoch, mask uint64) { return w >> maxStateful, w & (1<<maxStateful - 1) }

// broken is the value of a replica's offSynced after its state could not be restored.
const broken = ^uint64(0)

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
		if of, mask := unpackSet(p.placeWord(index, offSet)); of == epoch && mask&(1<<index) != 0 {
			return mask
		}
	}
	return wordAt(p.mem, offCandidates).Load()
}

// inSync returns the replicas that have the whole state: the set that the primary published or,
// before that and after its reign, the candidates.
func (s *supervisor) inSync() uint64 {
	p := s.reign.primary
	if p == none || p >= min(s.page.places(), maxStateful) {
		return s.candidates
	}
	if of, mask := unpackSet(s.page.placeWord(p, offSet)); of == s.reign.epoch && mask != 0 {
		return mask
	}
	return s.candidates
}

// setCandidates determines who may be promoted next. The page has the set for the next supervisor.
// This one relies on its own memory, because another process can write in the page.
func (s *supervisor) setCandidates(set uint64) {
	s.candidates = set
	wordAt(s.page.mem, offCandidates).Store(set)
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
	if s.reign.primary == none {
		return false
	}
	epoch, _ := unpackSet(s.page.placeWord(s.reign.primary, offSet))
	return epoch == s.reign.epoch
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
	s.setCandidates(s.inSync())
}

// whole reports whether the process in a place has the whole state, or had it once.
func (p *page) whole(index int) bool {
	synced := p.placeWord(index, offSynced)
	return synced != 0 && synced != broken
}

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
		return s.page.placeWord(r.index, offSynced) != broken
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
