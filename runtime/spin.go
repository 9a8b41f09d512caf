package ipc

import (
	"runtime"
	"sync/atomic"
	"time"

	"github.com/ipcgen/ipcgen/internal/sys"
)

// A spinPolicy decides how long to poll for the peer's next message before sleeping.
//
// Sleeping and being woken costs tens of microseconds, most of them for the machine's wake-up of an
// idle processor. Spinning for as long costs at most twice the better of the two choices (the
// ski-rental argument of Karlin et al., "Empirical studies of competitive spinning", 1991). A side
// whose waits are mostly longer soon stops spinning.
//
// If both sides sleep, most of a wait consists of wake-ups: the peer's, and this side's own. Such a
// wait does not show that spinning would not pay, because neither side spins. So only a wait that
// is much longer than two wake-ups makes a side spin less. Otherwise two processes that have once
// fallen asleep would never learn again how fast the other one is.
//
// If spinning fails time after time, the scheduler may have put both sides on one processor. There
// a side that spins keeps the other from answering (240 microseconds a call, of which 200 are
// spinning; 10 without). So after several spins in vain a side spins only now and then.
type spinPolicy struct {
	longest time.Duration // 0: never spin
	budget  atomic.Int64  // of the next spin, in nanoseconds
	vain    atomic.Uint32 // short sleeps since the last spin that paid
	yield   uint          // how many checks are followed by a yield
	shared  bool          // the two sides share one processor: yield it to the peer instead
	pollers uint64        // sides of this process that wait in turn, above which none polls
}

const (
	// defaultSpin is somewhat longer than a wake-up across processors (50 to 80 microseconds on
	// virtual machines), so that a side that has woken the other still polls when the answer
	// arrives.
	defaultSpin = 100 * time.Microsecond
	// hopeless times the longest spin is a wait that consists of more than
	// wake-ups.
	hopeless = 3
	// tries in a row that do not pay are followed by one in retryEvery.
	tries      = 8
	retryEvery = 64
	// shortestSpin is left when spinning has not paid lately.
	shortestSpin = time.Microsecond
	// pollsPerCheck polls take about a microsecond, so that a reply of a peer that
	// spins comes before the clock is read for the first time.
	pollsPerCheck = 512
	// checksPerYield checks take some 30 microseconds; then other goroutines of this process
	// may run. In a process with more than one processor a yield wakes a thread that looks for
	// work. That thread takes the peer's processor, or this one's; most of the slow calls that
	// were measured contained a yield.
	checksPerYield = 32
	// checksAlone is checksPerYield where the process has one processor. No thread is woken
	// there, and other goroutines have no other processor to run on.
	checksAlone = 2
)

func (p *spinPolicy) init(longest time.Duration, l Link, peer Peer) {
	if !l.SpinPays() {
		longest = 0
	}
	p.longest, p.shared = longest, sys.ShareProcessor(peer.PID)
	p.yield, p.pollers = checksPerYield, uint64(max(2, runtime.GOMAXPROCS(0)))
	if runtime.GOMAXPROCS(0) == 1 {
		p.yield = checksAlone
	}
	p.budget.Store(int64(longest))
}

// crowded reports whether others need the processor of a goroutine that spins: the peer, or
// the only other goroutines of this process.
func (p *spinPolicy) crowded() bool { return p.shared || p.yield == checksAlone }

// slept adapts the policy to a wait that outlasted the spinning.
func (p *spinPolicy) slept(d time.Duration) {
	less := int64(min(shortestSpin, p.longest))
	if d >= hopeless*p.longest {
		p.budget.Store(max(p.budget.Load()/2, less))
	} else if n := p.vain.Add(1); n < tries || n%retryEvery == 0 {
		p.budget.Store(int64(p.longest))
	} else {
		p.budget.Store(less)
	}
}

// A spin is one wait under a policy.
type spin struct {
	p     *spinPolicy
	start time.Time
	polls uint
}

// paid adapts the policy to a wait that ended without a sleep. It reports whether the wait took
// any poll.
func (s *spin) paid() bool {
	if s.polls == 0 {
		return false
	}
	if s.p.vain.Load() != 0 {
		s.p.vain.Store(0)
	}
	if s.p.budget.Load() != int64(s.p.longest) {
		s.p.budget.Store(int64(s.p.longest))
	}
	return true
}

// more reports whether to poll once more; it is called between two polls.
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

// checkDue reports, after more, whether the caller must check for other events than a message.
func (s *spin) checkDue() bool { return s.polls%pollsPerCheck == 0 }

func (s *spin) check() bool {
	if s.polls <= pollsPerCheck {
		s.start = time.Now()
		return s.p.longest > 0
	}
	if time.Since(s.start) > time.Duration(s.p.budget.Load()) {
		return false
	}
	if s.polls%(s.p.yield*pollsPerCheck) == 0 {
		runtime.Gosched()
	}
	return true
}
