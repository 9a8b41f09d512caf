package ipc

import (
	"runtime"
	"sync/atomic"
	"time"

	"github.com/ipcgen/ipcgen/internal/sys"
)

// A spinPolicy decides how long to look for the peer's next message before
// sleeping.
//
// To sleep and be woken costs tens of microseconds, most of them the machine's
// own wake-up of an idle processor. Spinning for as long as that costs at most
// twice what the better of the two would have (the ski-rental argument of
// Karlin et al., "Empirical studies of competitive spinning", 1991); and a side
// whose waits are mostly longer soon stops to spin.
//
// Where both sides sleep, a wait is mostly made of wake-ups: the peer's, and
// this side's own. Such a wait does not show that spinning would not pay; it
// shows that nobody spins. So only a wait that is longer than two wake-ups by
// far makes a side spin less, or two processes that have once fallen asleep
// would never again find out how fast the other one is.
type spinPolicy struct {
	longest time.Duration // 0: never spin
	budget  atomic.Int64  // how long to spin now, in nanoseconds
	shared  bool          // the two sides share one processor: let the peer have it instead
}

const (
	// defaultSpin is somewhat more than what a wake-up across processors costs
	// (50 to 80 microseconds on virtual machines), so that a side that has
	// woken the other is still there when that one answers.
	defaultSpin = 100 * time.Microsecond
	// hopeless times the longest spin is a wait that consists of more than
	// wake-ups.
	hopeless = 3
	// shortestSpin is left when spinning has not paid lately.
	shortestSpin = time.Microsecond
	// pollsPerCheck polls take about a microsecond, so that a reply of a peer that
	// spins comes before the clock is read for the first time.
	pollsPerCheck = 512
	// checksPerYield checks take a few microseconds; then other goroutines
	// of this process get a chance.
	checksPerYield = 2
)

func (p *spinPolicy) init(longest time.Duration, l Link, peer Peer) {
	if !l.SpinPays() {
		longest = 0
	}
	p.longest, p.shared = longest, sys.ShareProcessor(peer.PID)
	p.budget.Store(int64(longest))
}

// paid adapts the policy to a wait that ended while spinning, or before, and
// counts it.
func (s *spin) paid(t *tally) {
	if s.polls > 0 {
		t.spins++
	}
	if s.p.budget.Load() != int64(s.p.longest) {
		s.p.budget.Store(int64(s.p.longest))
	}
}

// slept adapts the policy to a wait that outlasted the spinning.
func (p *spinPolicy) slept(d time.Duration) {
	if d < hopeless*p.longest {
		p.budget.Store(int64(p.longest))
	} else {
		p.budget.Store(max(p.budget.Load()/2, int64(min(shortestSpin, p.longest))))
	}
}

// A spin is one wait under a policy.
type spin struct {
	p     *spinPolicy
	start time.Time
	polls uint
}

// more reports whether to look once more; it is called between two looks.
func (s *spin) more() bool {
	s.polls++
	if s.polls%pollsPerCheck == 0 || s.p.longest == 0 {
		return s.check()
	}
	if s.p.shared {
		sys.Yield()
	}
	return true
}

// pause reports, after more, whether it is time to look at other things than
// the ring.
func (s *spin) pause() bool { return s.polls%pollsPerCheck == 0 }

func (s *spin) check() bool {
	if s.polls <= pollsPerCheck {
		s.start = time.Now()
		return s.p.longest > 0
	}
	if time.Since(s.start) > time.Duration(s.p.budget.Load()) {
		return false
	}
	if s.polls%(checksPerYield*pollsPerCheck) == 0 {
		runtime.Gosched()
	}
	return true
}
