package group

import (
	"time"

	"github.com/ipcgen/ipcgen/internal/sys"
)

// listenToHearts suspects replicas whose heartbeats stop.
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
			now := time.Now() // monotonic: no process can set it
			since := now.Sub(last)
			last = now
			for _, r := range s.replicas {
				s.feelPulse(r, since)
			}
		})
	}
}

// A pulse has what the supervisor knows about the heartbeats of a replica.
type pulse struct {
	beat    uint64        // the last one seen
	silence time.Duration // the observed time since
	blinks  int           // pauses of the supervisor since
}

const (
	// fewestLooks is the number of checks without a heartbeat before the supervisor suspects a
	// replica, so that no single check decides, however late it comes.
	fewestLooks = 8
	// mostBlinks is the number of pauses in a row that can excuse a replica. A replica without a
	// heartbeat between them hangs; without the limit, a supervisor that never runs in time would
	// never find out.
	mostBlinks = 8
)

// feelPulse checks for a heartbeat. If the supervisor itself was stopped for as long as the grace,
// alone or with the whole machine, it knows nothing about that time, and starts again. A shorter
// delay, as on a busy machine, does not excuse a replica; but each check counts for no more than a
// share of the grace.
func (s *supervisor) feelPulse(r *managedReplica, since time.Duration) {
	beat := s.page.beat(r.index)
	// the first supervisor of the process wanted no heartbeat
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

// watchFutex reports the death of a registered replica by its robust futex, which the kernel
// releases before it tears down the memory of the process. The pidfd reports the death after that.
// The replica is not reaped yet, but its reign can end: if another thread of it still runs, the end
// of the reign stops that thread. watchFutex holds a thread per replica. If a replica has no futex,
// only the pidfd reports its death.
func (s *supervisor) watchFutex(r *managedReplica) {
	incarnation := r.incarnation
	word := s.page.alive(r.index)
	s.helpers.Go(func() {
		died, err := sys.WaitRobust(s.ctx, word)
		if err != nil || !died {
			return
		}
		s.do(func() {
			if r.incarnation == incarnation && r.proc != nil {
				if s.succeeded(r) {
					r.proc.handle.Linger() // what is left of it must not delay its successor
				}
				s.died(r, r.proc)
				s.kill(r) // whatever ended that thread alone
			}
		})
	})
}
