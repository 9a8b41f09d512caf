package ipc

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipcgen/ipcgen/runtime/introspect"
)

// This file is how a server counts by method. It does so only while a tool asks, because several
// atomic additions and two looks at the clock for each message would cost as much as the rest.

// An observer is what a server looks at for each call and message. It does not change.
type observer struct {
	since time.Time // of the counts; zero if nothing is counted
}

// A lookout publishes the observer. Nobody who handles messages takes its lock.
type lookout struct {
	observer atomic.Pointer[observer] // nil: nobody asks

	mu   sync.Mutex
	idle *time.Timer // ends the counting
}

// countingTime is how long a server counts after a tool has asked.
const countingTime = time.Minute

// count begins to count what routes handle, or goes on, and returns the time since then.
func (p *lookout) count(routes *routeTable) (since time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if o := p.observer.Load(); o != nil {
		p.idle.Reset(countingTime)
		return o.since
	}
	for _, r := range routes.places {
		if r != nil {
			r.counts.Store(new(routeCounts))
		}
	}
	o := &observer{since: time.Now()}
	p.observer.Store(o)
	p.idle = time.AfterFunc(countingTime, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.observer.CompareAndSwap(o, nil)
	})
	return o.since
}

// A routeCounts counts the calls of a method, or the messages of a kind.
type routeCounts struct {
	begun, done atomic.Uint64
	duration    atomic.Uint64
	errors      [CodeUnknown + 1]atomic.Uint64
	histogram   [256]atomic.Uint64
}

// An observation is a call or message that is observed. The zero observation is none.
type observation struct {
	start  time.Time
	counts *routeCounts
}

// begin begins to observe what r handles.
func (o *observer) begin(r *boundRoute) (n observation) {
	if n.counts = r.counts.Load(); n.counts != nil {
		n.counts.begun.Add(1)
		n.start = time.Now()
	}
	return n
}

// end ends an observation, if it is one and has not ended.
func (n *observation) end(code Code) {
	if n.counts == nil {
		return
	}
	took := uint64(max(0, time.Since(n.start)))
	n.counts.duration.Add(took)
	n.counts.histogram[bucketOf(took)].Add(1)
	if code != CodeOK {
		n.counts.errors[min(code, CodeUnknown)].Add(1)
	}
	n.counts.done.Add(1)
	n.counts = nil
}

// bucketOf returns the place of a duration in a histogram: one place for each of 0 to 3, and then
// four for each power of two.
func bucketOf(ns uint64) int {
	if ns < 4 {
		return int(ns)
	}
	power := bits.Len64(ns) - 3
	return power*4 + int(ns>>power)
}

func (c *routeCounts) read() *introspect.MethodCountersT {
	m := &introspect.MethodCountersT{Done: c.done.Load(), Duration: c.duration.Load()}
	m.InFlight = uint32(max(0, int64(c.begun.Load()-m.Done)))
	for code := range c.errors {
		if n := c.errors[code].Load(); n != 0 {
			m.Errors = append(m.Errors, &introspect.ErrorCountT{Code: uint32(code), Count: n})
		}
	}
	last := 0
	histogram := make([]uint64, len(c.histogram))
	for i := range c.histogram {
		if histogram[i] = c.histogram[i].Load(); histogram[i] != 0 {
			last = i + 1
		}
	}
	m.Histogram = histogram[:last]
	return m
}
