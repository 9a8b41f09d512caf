package ipc

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipcgen/ipcgen/internal/interleave"
)

// A callContext is the context of one call or one-way message, while its handler runs. It is never
// reused: a handler may pass it to a goroutine that outlives the call, which must see the end of
// that call and nothing of the next one. That costs little, because a context is small, contextSlab
// makes many at a time, and the channel and the timer are made when Done is called.
type callContext struct {
	scope    *callScope
	deadline int64 // in nanoseconds of the shared clock; 0: none
	flow     *flow // of a streaming call
	// nil until the context is asked for more than its deadline, or the call ends
	end atomic.Pointer[callEnd]
	// nil until there is metadata of the request or the reply
	beside  atomic.Pointer[incoming]
	scratch leases
}

// A callScope is what the contexts of a connection have in common.
type callScope struct {
	context.Context // the values of
	peer            *Peer
	clock           clock
	metadata        int             // the limit of a reply's metadata; 0: there are no replies
	draining        <-chan struct{} // closed when the server begins to shut down

	// For one-way messages, and for calls whose requests stay in the ring, of each of which one at
	// a time is handled: why the connection has ended, and the context to which that has to be
	// told. Other contexts find out when they are asked. It is nil for other calls: when the
	// connection ends they are detached, or soon will be, and are cancelled one by one.
	down  *interleave.Pointer[Error]
	mu    sync.Mutex
	asked *callContext

	// The ends of calls whose contexts have made no callEnd of their own.
	canceled, expired callEnd
}

func newCallScope(values context.Context, peer *Peer, clock clock, metadata int) *callScope {
	s := &callScope{Context: values, peer: peer, clock: clock, metadata: metadata}
	for d, err := range map[*callEnd]error{&s.canceled: context.Canceled,
		&s.expired: context.DeadlineExceeded} {
		d.done, d.err = make(chan struct{}), err
		close(d.done)
	}
	return s
}

// tell has the end of the connection end c, whose Done was called.
func (s *callScope) tell(c *callContext) {
	if s.down == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.end.Load().reason() != nil {
		return // another message or call may be handled by now
	}
	s.asked = c
	if s.down.Load() != nil {
		c.cancel()
	}
}

// end ends the context of what is handled, after down was set.
func (s *callScope) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked != nil {
		s.asked.cancel()
	}
}

// A contextSlab hands out contexts. It belongs to one goroutine at a time.
type contextSlab struct {
	scope *callScope
	fresh []callContext
}

// slabLen contexts, which one allocation makes, take three kilobytes.
const slabLen = 64

// next returns the context of a call that begins; it has no deadline yet.
func (s *contextSlab) next() *callContext {
	if len(s.fresh) == 0 {
		s.fresh = make([]callContext, slabLen)
	}
	c := &s.fresh[0]
	s.fresh = s.fresh[1:]
	c.scope = s.scope
	return c
}

// A callEnd is the end of a context and its reason.
type callEnd struct {
	mu    sync.Mutex
	done  chan struct{}
	timer *time.Timer
	err   error
}

// finish ends d because of err, unless it has ended.
func (d *callEnd) finish(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil {
		return
	}
	d.err = err
	close(d.done)
	if d.timer != nil {
		d.timer.Stop()
	}
}

// reason returns the reason why d has ended, or nil.
func (d *callEnd) reason() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

// cancel ends the context. The end of a call cancels its context, too.
func (c *callContext) cancel() { c.finish(&c.scope.canceled) }

// finish ends the context with the error of end.
func (c *callContext) finish(end *callEnd) {
	if !c.end.CompareAndSwap(nil, end) {
		c.end.Load().finish(end.err)
	}
}

// Deadline implements context.Context.
func (c *callContext) Deadline() (time.Time, bool) {
	if c.deadline == 0 {
		return time.Time{}, false
	}
	return c.scope.clock.time(c.deadline), true
}

// Done implements context.Context.
func (c *callContext) Done() <-chan struct{} {
	if d := c.end.Load(); d != nil {
		return d.done
	}
	d := &callEnd{done: make(chan struct{})}
	if !c.make(d) {
		return c.end.Load().done
	}
	c.scope.tell(c)
	return d.done
}

// make makes d the end of c, unless there is one.
func (c *callContext) make(d *callEnd) bool {
	d.mu.Lock() // the timer must be set before another goroutine stops it
	defer d.mu.Unlock()
	if !c.end.CompareAndSwap(nil, d) {
		return false
	}
	if deadline, ok := c.Deadline(); ok {
		d.timer = time.AfterFunc(time.Until(deadline), func() {
			d.finish(context.DeadlineExceeded)
		})
	}
	return true
}

// Err implements context.Context.
func (c *callContext) Err() error {
	if d := c.end.Load(); d != nil {
		if err := d.reason(); err != nil {
			return err
		}
	}
	if deadline, ok := c.Deadline(); ok && !time.Now().Before(deadline) {
		c.finish(&c.scope.expired)
		return c.end.Load().reason()
	}
	if down := c.scope.down; down != nil && down.Load() != nil {
		c.cancel()
		return c.end.Load().reason()
	}
	return nil
}

// Value implements context.Context.
func (c *callContext) Value(key any) any {
	switch key.(type) {
	case peerKey:
		return c.scope.peer
	case incomingKey:
		return c.beside.Load()
	case callKey:
		return c
	case scratchKey:
		return &c.scratch
	case drainingKey:
		return c.scope.draining
	case flowKey:
		if c.flow != nil {
			return c.flow
		}
	}
	return c.scope.Context.Value(key)
}

type peerKey struct{}

type callKey struct{}

// metadata returns the metadata of the context, which it makes if there is none.
func (c *callContext) metadata() *incoming {
	if in := c.beside.Load(); in != nil {
		return in
	}
	in := new(incoming)
	if limit := c.scope.metadata; limit > 0 {
		in.reply = &replyMetadata{limit: limit}
	}
	c.beside.CompareAndSwap(nil, in)
	return c.beside.Load()
}

// replyMetadata returns what the handler has set.
func (c *callContext) replyMetadata() Metadata {
	if in := c.beside.Load(); in != nil {
		return in.reply.get()
	}
	return Metadata{}
}

// PeerFromContext returns the client whose call, message or stream is being handled. ok is false if
// ctx does not come from a handler.
func PeerFromContext(ctx context.Context) (p *Peer, ok bool) {
	p, ok = ctx.Value(peerKey{}).(*Peer)
	return p, ok
}
