package group

import (
	"errors"
	"fmt"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// An OutOfSyncReason is the reason for which a standby left the set of replicas in sync, or could
// not join it.
type OutOfSyncReason uint8

// The reasons.
const (
	// OutOfSyncUnknown: the primary ended before it could tell.
	OutOfSyncUnknown OutOfSyncReason = iota
	// OutOfSyncLate: the standby did not answer in the time that [Replication.AckTimeout] gives it.
	// It hangs, is stopped, or is much slower than the primary.
	OutOfSyncLate
	// OutOfSyncLinkEnded: the connection between primary and standby ended. The standby closed it,
	// or its process is dead or about to be.
	OutOfSyncLinkEnded
	// OutOfSyncGone: the standby gave up its registration, as at the end of its process.
	OutOfSyncGone
	// OutOfSyncRefused: the standby refused what the primary sent, or answered nonsense.
	OutOfSyncRefused
	// OutOfSyncDiverged: the standby answered a change differently than the primary. A handler is
	// not deterministic, see [State]. The standby is replaced.
	OutOfSyncDiverged
	// OutOfSyncIncompatible: the standby serves an incompatible version. It is replaced.
	OutOfSyncIncompatible
	// OutOfSyncSnapshot: [State].Snapshot failed on the primary, or [State].Restore on the standby.
	OutOfSyncSnapshot
	// OutOfSyncBacklog: more changes waited for the standby than [Replication.Backlog] permits.
	OutOfSyncBacklog
	// OutOfSyncPromotion: a new primary did not find the standby in sync when it took over. The
	// standby lacked changes, or did not answer within [Replication.AckTimeout].
	OutOfSyncPromotion
)

var outOfSyncReasons = [...]string{
	"the primary ended before it could tell why",
	"it did not answer the primary in time (Replication.AckTimeout)",
	"its connection to the primary ended",
	"it gave up its registration, or its process ended",
	"it refused what the primary sent",
	"it answered a change differently than the primary",
	"it serves an incompatible version",
	"a snapshot of the state could not be taken or restored",
	"too many changes waited for it (Replication.Backlog)",
	"a new primary did not find it in sync",
}

func (r OutOfSyncReason) String() string {
	if int(r) < len(outOfSyncReasons) {
		return outOfSyncReasons[r]
	}
	return fmt.Sprintf("OutOfSyncReason(%d)", uint8(r))
}

// An OutOfSyncError is the error of an [OutOfSync] event.
type OutOfSyncError struct {
	Replica string
	PID     int
	Reason  OutOfSyncReason
	Detail  string // the primary's error, for people; may be empty
}

func (e *OutOfSyncError) Error() string {
	return fmt.Sprintf("%s (pid %d) fell out of sync: %s", e.Replica, e.PID, e.why())
}

// why is the error without the replica, which an event names itself.
func (e *OutOfSyncError) why() string {
	if e.Detail == "" {
		return e.Reason.String()
	}
	return e.Reason.String() + ": " + e.Detail
}

// errSnapshot marks errors of State.Snapshot, and of State.Restore on a standby.
var errSnapshot = errors.New("the state could not be handed over")

// reasonOf returns the reason that an error of a session stands for.
func reasonOf(err error) OutOfSyncReason {
	var failure *ipc.Error
	switch {
	case errors.Is(err, errGone):
		return OutOfSyncGone
	case errors.Is(err, errBehind):
		return OutOfSyncBacklog
	case errors.Is(err, errDiverged):
		return OutOfSyncDiverged
	case errors.Is(err, ErrIncompatible), ipc.CodeOf(err) == ipc.CodeIncompatible:
		return OutOfSyncIncompatible
	case errors.Is(err, errSnapshot):
		return OutOfSyncSnapshot
	case errors.Is(err, errLate), ipc.CodeOf(err) == ipc.CodeDeadlineExceeded:
		return OutOfSyncLate
	case errors.As(err, &failure) && failure.Remote, errors.Is(err, errPacket),
		ipc.CodeOf(err) == ipc.CodeCorrupt:
		return OutOfSyncRefused
	}
	return OutOfSyncLinkEnded
}

// A primary stamps in its page when each standby joined the set, when it left it, and when an
// attempt to bring it in sync failed: a word for each of these and each place. The stamps of a
// reign are numbered, so that a supervisor that looks late can tell which came last: it also learns
// of a standby that has left the set and joined it again. The last loss and the last failed attempt
// have a text.

// packStamp returns the word of a stamp.
func packStamp(epoch, number uint64, reason OutOfSyncReason) uint64 {
	return epoch<<32 | number&(1<<24-1)<<8 | uint64(reason)
}

// stampNumber returns the number of a stamp, or 0 if the stamp is not of the epoch.
func stampNumber(stamp, epoch uint64) uint64 {
	if stamp>>32 != epoch&(1<<32-1) {
		return 0
	}
	return stamp >> 8 & (1<<24 - 1)
}

func stampReason(stamp uint64) OutOfSyncReason { return OutOfSyncReason(stamp) }

// A stampKind is the kind of a primary's stamps: the offsets of its words and of its text.
type stampKind struct{ words, textOf, text int }

var (
	stampOfJoin    = stampKind{words: offJoins}
	stampOfLoss    = stampKind{words: offLosses, textOf: offLossTextOf, text: offLossText}
	stampOfAttempt = stampKind{words: offAttempts, textOf: offAttemptTextOf, text: offAttemptText}
)

// stamp stamps something of a standby. The caller must hold p.mu.
func (p *primary) stamp(kind stampKind, s *standby, why error) {
	p.stamps++
	mem := p.r.replica.place
	word := packStamp(p.epoch, p.stamps, OutOfSyncUnknown)
	if why != nil {
		word = packStamp(p.epoch, p.stamps, reasonOf(why))
		wordAt(mem, kind.textOf).Store(0)
		setText(mem, kind.text, stampTextRoom, why.Error())
		wordAt(mem, kind.textOf).Store(word)
	}
	wordAt(mem, kind.words+8*s.place).Store(word)
}

// stampText returns the text of a stamp, or "" if another stamp has taken its room.
func (p *page) stampText(kind stampKind, primary int, stamp uint64) string {
	if p.placeWord(primary, kind.textOf) != stamp {
		return ""
	}
	said := text(p.home(primary).mem, placeOffset(primary)+kind.text, stampTextRoom)
	if p.placeWord(primary, kind.textOf) != stamp {
		return ""
	}
	return said
}

// checkSync reports which replicas came in sync or fell out of it, and suspects replicas that were
// accused or whose state is broken.
func (s *supervisor) checkSync() {
	if s.cfg.Replication == nil || s.stopping != nil {
		return
	}
	for _, r := range s.replicas {
		s.checkSyncOf(r)
		if s.page.syncState(r.index) == broken {
			s.suspect(r, "could not restore the state")
		}
	}
	if p := s.reign.primary; p != none {
		accused := s.page.placeWord(p, offAccused)
		for _, r := range s.replicas {
			if accused == accusation(r.index, r.incarnation) {
				s.suspect(r, "does not answer as the primary does: "+
					text(s.page.home(p).mem, placeOffset(p)+offAccusation, accusationRoom))
			}
		}
	}
}

// checkSyncOf reports whether a replica came in sync, fell out of it, or both.
func (s *supervisor) checkSyncOf(r *managedReplica) {
	before := s.lossOf(r)
	// The set is read after the stamps, which the primary writes first: a loss whose stamp is not
	// seen here has no effect on the set either, or is seen by the second look below.
	synced := r.proc != nil && s.inSync()&(1<<r.index) != 0 &&
		s.page.whole(r.index)
	if !s.begun() && s.reign.primary != none {
		// The set is that of the reign before. A process that got the state since is in no set yet.
		synced = synced && r.synced
	}
	loss := before
	if !synced {
		loss = s.lossOf(r)
	}
	rejoined := synced && loss.fresh(r) && loss.joined > loss.number
	if r.synced && r.proc != nil && (!synced || rejoined) {
		err := s.outOfSync(r, loss)
		s.report(Event{Kind: OutOfSync, Replica: r.name, PID: r.proc.pid,
			Cause: err.cause(), Err: err})
	}
	if synced && (!r.synced || rejoined) {
		s.report(Event{Kind: InSync, Replica: r.name, PID: r.proc.pid})
	}
	if !synced || !r.synced || rejoined {
		r.lossSeen = loss.stamp
	}
	if synced != r.synced {
		r.synced = synced
		s.expectSync(r)
	}
}

// A loss is what the stamps of the present primary say of a standby that left the set.
type loss struct {
	stamp          uint64
	number, joined uint64 // of the stamps; 0 if there is none of this reign
}

// fresh reports whether the loss is not the last one that the supervisor has seen.
func (l *loss) fresh(r *managedReplica) bool { return l.number != 0 && l.stamp != r.lossSeen }

func (s *supervisor) lossOf(r *managedReplica) (l loss) {
	p := s.reign.primary
	if p == none || r.index >= maxStateful {
		return loss{}
	}
	l.stamp = s.page.placeWord(p, stampOfLoss.words+8*r.index)
	l.number = stampNumber(l.stamp, s.reign.epoch)
	l.joined = stampNumber(s.page.placeWord(p, stampOfJoin.words+8*r.index), s.reign.epoch)
	return l
}

// outOfSync returns the error of a replica that left the set.
func (s *supervisor) outOfSync(r *managedReplica, l loss) *OutOfSyncError {
	e := &OutOfSyncError{Replica: r.name, PID: r.proc.pid}
	switch {
	case l.fresh(r):
		e.Reason = stampReason(l.stamp)
		e.Detail = s.page.stampText(stampOfLoss, s.reign.primary, l.stamp)
	case r.state == dead:
		e.Reason = OutOfSyncGone
	case s.begun() && l.joined == 0:
		e.Reason = OutOfSyncPromotion
		_, e.Detail = s.lastFailure(r)
	}
	return e
}

// lastFailure returns why the present primary last lost a standby or could not bring it in sync.
// ok is false if it did neither.
func (s *supervisor) lastFailure(r *managedReplica) (ok bool, why string) {
	p := s.reign.primary
	if p == none || r.index >= maxStateful {
		return false, ""
	}
	kind, stamp := stampOfLoss, s.page.placeWord(p, stampOfLoss.words+8*r.index)
	attempt := s.page.placeWord(p, stampOfAttempt.words+8*r.index)
	if stampNumber(attempt, s.reign.epoch) > stampNumber(stamp, s.reign.epoch) {
		kind, stamp = stampOfAttempt, attempt
	}
	if stampNumber(stamp, s.reign.epoch) == 0 {
		return false, ""
	}
	why = stampReason(stamp).String()
	if said := s.page.stampText(kind, p, stamp); said != "" {
		why += ": " + said
	}
	return true, why
}

// cause returns the text of the event.
func (e *OutOfSyncError) cause() string {
	if e.Detail == "" {
		return e.Reason.String()
	}
	return e.Reason.String() + ": " + e.Detail
}

// expectSync suspects a ready replica that is out of sync for too long while there is a primary.
func (s *supervisor) expectSync(r *managedReplica) {
	if s.cfg.Replication == nil || r.state != ready || r.synced {
		return
	}
	p, epoch := r.proc, s.reign.epoch
	s.after(s.cfg.Replication.SyncTimeout, func() {
		switch {
		case r.proc != p || r.synced || s.reign.primary == r.index || s.stopping != nil:
		case s.reign.epoch != epoch || !s.begun():
			s.expectSync(r) // not the replica's fault yet
		default:
			problem := fmt.Sprintf("was out of sync for %v", s.cfg.Replication.SyncTimeout)
			if ok, why := s.lastFailure(r); ok {
				problem += " (" + why + ")"
			}
			s.suspect(r, problem)
		}
	})
}
