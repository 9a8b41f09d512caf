package sys

import (
	"sync"
	"time"
)

// CheckPeriod is the period of checks whether a path still names the same file. No event of the
// kernel reports all the ways in which that can change.
const CheckPeriod = 400 * time.Millisecond

// A Check is a function that is called every CheckPeriod. All Checks of a process are called one
// after the other by one goroutine, so an idle process wakes up once per period, however many names
// it holds. The function must therefore not block for long.
type Check struct {
	mu sync.Mutex // held while f runs
	f  func()     // nil after Stop
}

// NewCheck calls f every CheckPeriod, until Stop is called.
func NewCheck(f func()) *Check {
	c := &Check{f: f}
	checks.add(c)
	return c
}

// Stop ends the calls. It waits for a call that runs, so the function must not call it, and the
// caller must not hold a lock for which the function waits. Further calls have no effect.
func (c *Check) Stop() {
	checks.remove(c)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.f = nil
}

func (c *Check) run() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.f != nil {
		c.f()
	}
}

// checks has the Checks of this process.
var checks checkList

// A checkList calls Checks by a timer, which runs while there are any.
type checkList struct {
	mu    sync.Mutex
	all   map[*Check]struct{}
	timer *time.Timer // nil while there are no Checks
}

func (l *checkList) add(c *Check) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all == nil {
		l.all = make(map[*Check]struct{})
	}
	l.all[c] = struct{}{}
	if l.timer == nil {
		l.timer = time.AfterFunc(CheckPeriod, l.run)
	}
}

func (l *checkList) remove(c *Check) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.all, c)
}

func (l *checkList) run() {
	began := time.Now()
	l.mu.Lock()
	all := make([]*Check, 0, len(l.all))
	for c := range l.all {
		all = append(all, c)
	}
	l.mu.Unlock()
	for _, c := range all {
		c.run()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.all) == 0 {
		l.timer = nil
		return
	}
	l.timer.Reset(max(CheckPeriod-time.Since(began), CheckPeriod/2))
}
