package ipc

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// A callContext is the context of a call while its handler runs.
//
// It costs nothing until it is asked: its channel and its timer are made when
// somebody calls Done. A context that was not asked for its channel is used
// again for the next call. One that was is pinned: somebody may still listen to it.
type callContext struct {
	context.Context // of the server: its values
	peer            *Peer

	used atomic.Bool // there is more than the deadline

	mu       sync.Mutex
	deadline time.Time
	done     chan struct{}
	timer    *time.Timer
	err      error
}

// begin prepares the context for a call.
func (c *callContext) begin(deadline time.Time) { c.deadline = deadline }

// end ends the call: the context is cancelled. It reports whether the context
// can be used again.
func (c *callContext) end() (reusable bool) {
	if !c.used.Load() {
		return true
	}
	c.cancel(context.Canceled)
	return false
}

// cancel makes the context done because of err.
func (c *callContext) cancel(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cancelLocked(err)
}

func (c *callContext) cancelLocked(err error) {
	if c.err != nil {
		return
	}
	c.used.Store(true)
	c.err = err
	if c.timer != nil {
		c.timer.Stop()
	}
	if c.done != nil {
		close(c.done)
	}
}

// Deadline implements context.Context.
func (c *callContext) Deadline() (time.Time, bool) { return c.deadline, !c.deadline.IsZero() }

// Done implements context.Context.
func (c *callContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		c.used.Store(true)
		c.done = make(chan struct{})
		if c.err != nil {
			close(c.done)
		} else if !c.deadline.IsZero() {
			c.timer = time.AfterFunc(time.Until(c.deadline), func() { c.cancel(context.DeadlineExceeded) })
		}
	}
	return c.done
}

// Err implements context.Context.
func (c *callContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil && !c.deadline.IsZero() && !time.Now().Before(c.deadline) {
		c.cancelLocked(context.DeadlineExceeded)
	}
	return c.err
}

// Value implements context.Context.
func (c *callContext) Value(key any) any {
	if key == (peerKey{}) {
		return c.peer
	}
	return c.Context.Value(key)
}

type peerKey struct{}

// PeerFromContext returns the client whose call or message is being handled.
// ok is false where ctx does not come from a handler.
func PeerFromContext(ctx context.Context) (p *Peer, ok bool) {
	p, ok = ctx.Value(peerKey{}).(*Peer)
	return p, ok
}
