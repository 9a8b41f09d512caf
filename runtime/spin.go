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
//
// With WithYield, a wait that takes longer than a microsecond or so yields the processor between
// two polls: on a machine with fewer processors than sides that spin, they then alternate within
// microseconds. A side that sleeps instead lets its processor fall asleep, too, and a virtual one
// takes 50 microseconds to wake up. Other connections do without, because there a yield wins
// nothing, and the answer may come during it: with yields everywhere, calls of 64 bytes had twice
// the p99, and 8 callers of one connection two thirds of the rate.
type spinPolicy struct {
	longest    time.Duration // 0: never spin
	budget     atomic.Int64  // of the next spin, in nanoseconds
	vain       atomic.Uint32 // short sleeps since the last spin that paid
	long       atomic.Bool   // the last wait was a long one: yield early in the next
	cheap      atomic.Uint32 // waits with yields since the last dear one
	without    atomic.Uint32 // waits that are left without yields
	pause      atomic.Uint32 // what without was after the last dear yield
	perGosched uint          // so many checks are followed by one
	shared     bool          // the two sides share one processor: yield it to the peer instead
	yield      bool          // in long waits; see WithYield
	pollers    uint64        // sides of this process that wait in turn, above which none polls
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
	// briefPolls take a quarter of a microsecond. Where waits are long, polls yield after them.
	briefPolls = 128
	// burst polls for a message are made in a row, as the calls between two polls take longer than
	// a poll: up to so much later would this side notice the message.
	burst = 16
	// yieldPolls is the number of polls for which one that yields counts.
	yieldPolls = 64
	// A yield that takes longer than dearYield went to a thread that does not wait for anybody, and
	// has taken the processor for a time slice of milliseconds. That costs as much as cheapYields
	// waits gain. So the waits after it do not yield, and more of them after each further one.
	dearYield   = 500 * time.Microsecond
	cheapYields = 64
	mostWithout = 1 << 15
	// checksPerGosched checks take 30 microseconds at least; then other goroutines of this process
	// may run. In a process with more than one processor a Gosched wakes a thread that looks for
	// work. That thread takes the peer's processor, or this one's; most of the slow calls that
	// were measured contained one.
	checksPerGosched = 32
	// checksAlone is checksPerGosched where the process has one processor. No thread is woken
	// there, and other goroutines have no other processor to run on.
	checksAlone = 2
)

func (p *spinPolicy) init(longest time.Duration, yield bool, l Link, peer Peer) {
	if !l.SpinPays() {
		longest = 0
	}
	p.longest, p.yield, p.shared = longest, yield, sys.ShareProcessor(peer.PID)
	p.perGosched, p.pollers = checksPerGosched, uint64(max(2, runtime.GOMAXPROCS(0)))
	if runtime.GOMAXPROCS(0) == 1 {
		p.perGosched = checksAlone
	}
	p.budget.Store(int64(longest))
}

// crowded reports whether others need the processor of a goroutine that spins: the peer, or
// the only other goroutines of this process.
func (p *spinPolicy) crowded() bool { return p.shared || p.alone() }

// alone reports whether this process has one processor. If the peer has another one, a yield gives
// it nothing.
func (p *spinPolicy) alone() bool { return p.perGosched == checksAlone }

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
	p      *spinPolicy
	start  time.Time // of the first yield or check
	polls  uint
	checks uint // of the time, one for each pollsPerCheck polls
	due    bool // the last call of more was a check
	yields bool // it has yielded
	stays  bool // it does not yield any more
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
	long := s.yields && !s.stays && time.Since(s.start) > shortestSpin
	if long != s.p.long.Load() {
		s.p.long.Store(long)
	}
	return true
}

// more reports whether to poll once more; it is called between two polls.
func (s *spin) more() bool { return s.moreAfter(1) }

// moreAfter is more, called after n polls.
func (s *spin) moreAfter(n uint) bool {
	s.polls += n
	switch p := s.p; {
	case s.polls >= (s.checks+1)*pollsPerCheck || p.longest == 0:
		s.checks, s.due = s.polls/pollsPerCheck, true
		return s.check()
	case p.shared:
		sys.Yield()
	case p.yield && !s.stays && s.polls > briefPolls &&
		(s.polls > pollsPerCheck || p.long.Load()):
		s.yield()
	}
	s.due = false
	return true
}

// yield lets another thread of the machine run, unless that has proved dear.
func (s *spin) yield() {
	if !s.yields {
		if s.stays = s.p.stay(); s.stays {
			return
		}
	}
	began := time.Now()
	if s.start.IsZero() {
		s.start = began
	}
	sys.Yield()
	if time.Since(began) > dearYield {
		s.stays = true
		s.p.lost()
	} else if !s.yields {
		s.p.cheap.Add(1)
	}
	s.yields = true
	s.polls += yieldPolls - 1
}

// stay reports whether a wait must do without yields.
func (p *spinPolicy) stay() bool {
	if p.alone() {
		return true
	}
	n := p.without.Load()
	return n > 0 && p.without.CompareAndSwap(n, n-1)
}

// lost adapts the policy to a dear yield.
func (p *spinPolicy) lost() {
	n := uint32(cheapYields)
	if p.cheap.Swap(0) < cheapYields {
		n = min(2*max(p.pause.Load(), cheapYields), mostWithout)
	}
	p.pause.Store(n)
	p.without.Store(n)
}

// checkDue reports, after more, whether the caller must check for other events than a message.
func (s *spin) checkDue() bool { return s.due }

func (s *spin) check() bool {
	if s.start.IsZero() {
		s.start = time.Now()
		return s.p.longest > 0
	}
	if time.Since(s.start) > time.Duration(s.p.budget.Load()) {
		return false
	}
	if s.checks%s.p.perGosched == 0 {
		runtime.Gosched()
	}
	return true
}
