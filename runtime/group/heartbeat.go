package group

import (
	"time"

	"github.com/ipcgen/ipcgen/internal/sys"
)

// listenToHearts suspects replicas whose heartbeat stops.
func (s *supervisor) listenToHearts() {
	period := s.cfg.Heartbeat.Period
	tick := time.NewTicker(period)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-tick.C:
		case <-s.ctx.Done():
			return
		}
		s.do(func() {
			now := time.Now() // monotonic: nobody can set it
			since := now.Sub(last)
			last = now
			for _, r := range s.replicas {
				s.feelPulse(r, since)
			}
		})
	}
}

// A pulse is what the supervisor knows of a replica's heart.
type pulse struct {
	beat    uint64        // the last one seen
	silence time.Duration // observed since
	blinks  int           // pauses of the supervisor since
}

const (
	// fewestLooks is how often the supervisor must have looked in vain before it
	// suspects a replica, so that no single look decides, however late it comes.
	fewestLooks = 8
	// mostBlinks is how many pauses in a row can excuse a replica: one that has
	// not beaten before the next one hangs, or else a supervisor that never gets
	// to run in time would never find that out.
	mostBlinks = 8
)

// feelPulse looks for a heartbeat. A supervisor that was stopped itself for as
// long as the grace, alone or with the whole machine, knows nothing of the
// meantime, and begins anew. A shorter delay, as on a busy machine, is no excuse
// for a replica; but each look counts for no more than a share of the grace.
func (s *supervisor) feelPulse(r *managedReplica, since time.Duration) {
	beat := s.page.beat(r.index)
	// its first supervisor wanted no heartbeat
	mute := beat == 0 && r.proc != nil && r.proc.cmd == nil
	if r.state != ready || beat != r.pulse.beat || mute {
		r.pulse = pulse{beat: beat}
		return
	}
	grace := s.cfg.Heartbeat.grace()
	if since >= grace && r.pulse.blinks < mostBlinks {
		r.pulse.silence = 0
		r.pulse.blinks++
		return
	}
	r.pulse.silence += min(since, max(s.cfg.Heartbeat.Period, grace/fewestLooks))
	if r.pulse.silence >= grace && s.stopping == nil {
		s.suspect(r, "hangs: no heartbeat for "+r.pulse.silence.Round(time.Millisecond).String())
	}
}

// watchFutex learns of the death of a registered replica from its robust futex,
// which the kernel releases before it tears the memory down; the pidfd tells
// after that. The replica is not reaped yet, but its reign can end: should
// another thread of it still run, the reign's end stops it. It holds a thread
// per replica. A replica that offers no futex is left to the pidfd.
func (s *supervisor) watchFutex(r *managedReplica) {
	incarnation := r.incarnation
	word := s.page.alive(r.index)
	s.helpers.Go(func() {
		died, err := sys.WaitRobust(word)
		if err != nil || !died {
			return
		}
		s.do(func() {
			if r.incarnation == incarnation && r.proc != nil {
				s.died(r, r.proc)
				s.kill(r) // whatever ended that thread alone
			}
		})
	})
}
