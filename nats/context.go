package natsipc

import (
	"context"
	"sync/atomic"
	"time"
)

// A callContext is the context of a handler. Most handlers ask it for values, and whether the call
// is over, at most. What [context.WithCancelCause] makes, and hangs into the context of the server,
// is made for those that ask for more, and for a call that ends early.
type callContext struct {
	context.Context           // the server's
	deadline        time.Time // zero: none
	own             atomic.Pointer[ownContext]
}

// An ownContext is what a call has of its own.
type ownContext struct {
	context.Context
	cancel context.CancelCauseFunc
	unwind context.CancelFunc // of the deadline
}

// over stands for the own context of a call that has ended and had none.
var over = func() *ownContext {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return &ownContext{Context: ctx}
}()

// made returns the call's own context.
func (c *callContext) made() *ownContext {
	if o := c.own.Load(); o != nil {
		return o
	}
	o := &ownContext{unwind: func() {}}
	o.Context, o.cancel = context.WithCancelCause(c.Context)
	if !c.deadline.IsZero() {
		o.Context, o.unwind = context.WithDeadline(o.Context, c.deadline)
	}
	if !c.own.CompareAndSwap(nil, o) {
		o.end(nil)
	}
	return c.own.Load()
}

// end ends the context.
func (o *ownContext) end(cause error) {
	if o != over {
		o.cancel(cause)
		o.unwind()
	}
}

// cancel ends the context before the call has ended.
func (c *callContext) cancel(cause error) { c.made().end(cause) }

// release ends the context when the call has ended.
func (c *callContext) release() {
	if !c.own.CompareAndSwap(nil, over) {
		c.own.Load().end(nil)
	}
}

// Deadline implements [context.Context].
func (c *callContext) Deadline() (time.Time, bool) { return c.deadline, !c.deadline.IsZero() }

// Done implements [context.Context].
func (c *callContext) Done() <-chan struct{} { return c.made().Done() }

// Err implements [context.Context].
func (c *callContext) Err() error {
	if o := c.own.Load(); o != nil {
		return o.Err()
	}
	if err := c.Context.Err(); err != nil {
		return err
	}
	if !c.deadline.IsZero() && time.Until(c.deadline) <= 0 {
		return c.made().Err()
	}
	return nil
}

// Value implements [context.Context].
func (c *callContext) Value(key any) any {
	if o := c.own.Load(); o != nil && o != over {
		return o.Value(key)
	}
	return c.Context.Value(key)
}
