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
			// A supervisor that was stopped itself, or busy until now, knows
			// nothing of the meantime.
			now := time.Now()
			slept := now.Sub(last) > 2*period
			last = now
			for _, r := range s.replicas {
				s.feelPulse(r, slept)
			}
		})
	}
}

// feelPulse counts looks, not time: so a clock that jumps proves nothing, and
// every look is one at which the supervisor ran.
func (s *supervisor) feelPulse(r *replica, slept bool) {
	beat := s.page.beat(r.index)
	mute := beat == 0 && r.proc != nil && r.proc.cmd == nil // its first supervisor wanted no heartbeat
	if r.state != ready || beat != r.beat || slept || mute {
		r.beat, r.misses = beat, 0
		return
	}
	if r.misses++; r.misses >= s.cfg.Heartbeat.misses() && s.stopping == nil {
		s.suspect(r, "hangs: no heartbeat for "+(time.Duration(r.misses)*s.cfg.Heartbeat.Period).String())
	}
}

// watchEarly learns of the death of a registered replica from its robust futex,
// which the kernel releases before it tears the memory down; the pidfd tells
// after that. The replica is not reaped yet, but its reign can end: should
// another thread of it still run, the reign's end stops it. It holds a thread
// per replica. A replica that offers no futex is left to the pidfd.
func (s *supervisor) watchEarly(r *replica) {
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
				r.proc.kill() // whatever ended that thread alone
			}
		})
	})
}
