package ipc

import (
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	flatbuffers "github.com/google/flatbuffers/go"

	"github.com/ipcgen/ipcgen/runtime/introspect"
)

// This file is how a server counts by method, and shows to taps what it does. It does either only
// while a tool asks, because several atomic additions and two looks at the clock for each message
// would cost as much as the rest.

// An observer is what a server looks at for each call and message. It does not change.
type observer struct {
	counting bool
	taps     []*tap
}

// A lookout publishes the observer. Goroutines that handle messages do not take its lock.
type lookout struct {
	observer atomic.Pointer[observer] // nil: no client asks
	calls    atomic.Uint64            // numbers of what taps have seen

	mu    sync.Mutex
	since time.Time   // of the counts; zero if nothing is counted
	idle  *time.Timer // ends the counting
	taps  []*tap      // replaced when it changes
	last  uint64      // the number of the last tap
}

// countingTime is how long a server counts after a tool has asked.
const countingTime = time.Minute

// publish shows to those who handle messages what is to be observed. The caller holds mu.
func (p *lookout) publish() {
	o := &observer{counting: !p.since.IsZero(), taps: p.taps}
	if !o.counting && len(o.taps) == 0 {
		o = nil
	}
	p.observer.Store(o)
}

// count begins to count what routes handle, or goes on, and returns the time since then.
func (p *lookout) count(routes *routeTable) (since time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.since.IsZero() {
		p.idle.Reset(countingTime)
		return p.since
	}
	for _, r := range routes.places {
		if r != nil {
			r.counts.Store(new(routeCounts))
		}
	}
	p.since = time.Now()
	p.idle = time.AfterFunc(countingTime, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.since = time.Time{}
		p.publish()
	})
	p.publish()
	return p.since
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
	start  time.Time // zero: nothing is observed, or the observation has ended
	counts *routeCounts
	record tapRecord
	taps   []*tap
	reply  []byte // of a call in place that is tapped
}

// observe begins to observe a call or message with a body. An observation of what r does not
// handle, or of introspection itself, is none.
func (c *serverConn) observe(o *observer, r *boundRoute, seq, epoch uint64,
	body []byte) (n observation) {
	if r == nil || r.introspects {
		return n
	}
	n.start = time.Now()
	if o.counting {
		if n.counts = r.counts.Load(); n.counts != nil {
			n.counts.begun.Add(1)
		}
	}
	for _, t := range o.taps {
		if t.wants(r) {
			n.taps = append(n.taps, t)
		}
	}
	if len(n.taps) > 0 {
		n.record = tapRecord{kind: introspect.TapKindRequest, route: r, pid: c.peer.PID, seq: seq,
			epoch: epoch, call: c.srv.lookout.calls.Add(1), at: n.start}
		if r.receive != nil {
			n.record.kind = introspect.TapKindMessage
		}
		n.offer(body)
	}
	return n
}

// keepReply copies the reply of a call in place, before the client can see it.
func (n *observation) keepReply(b *flatbuffers.Builder) {
	if len(n.taps) > 0 {
		n.reply = slices.Clone(b.FinishedBytes())
	}
}

// end ends an observation, if it is one and has not ended. body is the reply, or the text of an
// error.
func (n *observation) end(code Code, outcome Outcome, body []byte) {
	if n.start.IsZero() {
		return
	}
	took := max(0, time.Since(n.start))
	if c := n.counts; c != nil {
		c.duration.Add(uint64(took))
		c.histogram[bucketOf(uint64(took))].Add(1)
		if code != CodeOK {
			c.errors[min(code, CodeUnknown)].Add(1)
		}
		c.done.Add(1)
	}
	if len(n.taps) > 0 {
		r := &n.record
		r.kind, r.at = introspect.TapKindEnd, n.start.Add(took)
		r.code, r.outcome, r.duration = code, outcome, took
		if code == CodeOK && body == nil {
			body = n.reply
		}
		n.offer(body)
	}
	*n = observation{}
}

// offer gives the record with a body to the taps.
func (n *observation) offer(body []byte) {
	for _, t := range n.taps {
		t.offer(&n.record, body)
	}
}

// observeItem shows an item of a streaming call to the taps that want items. seq is its place in
// its direction. A call that began before all taps gets its number now.
func (f *serverFlow) observeItem(kind introspect.TapKind, seq, epoch uint64, item *content) {
	c, j := f.conn, f.job
	o := c.srv.lookout.observer.Load()
	if o == nil || j.route == nil {
		return
	}
	for _, t := range o.taps {
		if !t.items || !t.wants(j.route) {
			continue
		}
		if f.number.Load() == 0 {
			f.number.CompareAndSwap(0, c.srv.lookout.calls.Add(1))
		}
		t.offer(&tapRecord{kind: kind, route: j.route, pid: c.peer.PID, call: f.number.Load(),
			seq: seq, epoch: epoch, at: time.Now()}, item.whole())
	}
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
