package ipc

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// This file gives calls a deadline that the contexts of their callers lack.

// WithTimeout limits how long a call may take, in all its attempts, if neither
// [WithMethodTimeout] nor the schema (timeout: "250ms") limits its method. The limit begins when
// the call does; the call ends at it or at the deadline of its context, whichever is earlier. The
// handler's context has that deadline.
//
// It also limits how long Send waits: for room in the ring and, in a [Client], for a server. It
// does not limit streams and streaming calls. 0, the default, is no limit.
//
// The client's interceptors do not see the limit in their contexts: it is set behind them.
func WithTimeout(d time.Duration) DialOption {
	return dialOption(func(c *dialConfig) {
		if d < 0 {
			c.refuse(invalid("WithTimeout was given %v; give a positive duration, or 0 for none",
				d))
			return
		}
		c.timeouts.all = d
	})
}

// WithMethodTimeout is [WithTimeout] for one method, named as in errors:
// "audio.AudioControl/SetParam". It takes precedence over the method's timeout in the schema and
// over WithTimeout; 0 is no limit. A method that no package of the program declares is an error
// with [CodeInvalidArgument], of Dial, Connect or NewClient.
func WithMethodTimeout(method string, d time.Duration) DialOption {
	return dialOption(func(c *dialConfig) {
		if d < 0 {
			c.refuse(invalid("WithMethodTimeout was given %v for %s; give a positive duration, "+
				"or 0 for none", d, method))
			return
		}
		id, err := declared.find(method)
		if err != nil {
			c.refuse(err)
			return
		}
		// A copy: the options of one connection may be applied to another.
		methods := map[uint32]time.Duration{id: d}
		for other, d := range c.timeouts.methods {
			if other != id {
				methods[other] = d
			}
		}
		c.timeouts.methods = methods
	})
}

// A catalogue has the names of the methods that the program declares. Only declared methods can be
// called, so a name that is not here is a mistake.
type catalogue struct {
	mu  sync.Mutex
	ids map[string]map[string]uint32 // by service and method
}

var declared catalogue

func (c *catalogue) add(m *MethodInfo) {
	if m.Protocol == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ids == nil {
		c.ids = make(map[string]map[string]uint32)
	}
	if c.ids[m.Protocol.Name] == nil {
		c.ids[m.Protocol.Name] = make(map[string]uint32)
	}
	c.ids[m.Protocol.Name][m.Name] = m.ID
}

// find returns the ID of a method. The error of a name that is none has those that it could be.
func (c *catalogue) find(name string) (uint32, *Error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	service, method, _ := strings.Cut(name, "/")
	methods, ok := c.ids[service]
	if !ok {
		return 0, invalid("WithMethodTimeout: no service of this program is called %q; there "+
			`is %s. Write a method as "package.Service/Method"`, service, listOf(c.ids))
	}
	id, ok := methods[method]
	if !ok {
		return 0, invalid("WithMethodTimeout: service %s has no method %q; it has %s", service,
			method, listOf(methods))
	}
	return id, nil
}

// listOf returns some of the keys of m, for a text.
func listOf[V any](m map[string]V) string {
	const most = 10
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	if len(names) == 0 {
		return "none"
	}
	if n := len(names) - most; n > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), n)
	}
	return strings.Join(names, ", ")
}

// timeouts is how long the calls of a connection may take.
type timeouts struct {
	all     time.Duration
	methods map[uint32]time.Duration // by the ID of the method
	attempt time.Duration            // of each attempt, see RetryPolicy
}

// A timeout is how long one operation may take, and is the cause of its error if it takes longer.
type timeout struct {
	limit time.Duration // 0: none
	by    string        // who sets the limit
}

func (t timeout) Error() string {
	return fmt.Sprintf("the timeout of %v (%s) passed", t.limit, t.by)
}

func (t *timeouts) of(m *MethodInfo) timeout {
	if len(t.methods) > 0 {
		if d, ok := t.methods[m.ID]; ok {
			return timeout{d, "WithMethodTimeout"}
		}
	}
	if m.Streaming != Unary {
		return timeout{}
	}
	if m.Timeout > 0 {
		return timeout{m.Timeout, "in the schema"}
	}
	return t.ofMessages()
}

// ofAttempt returns the limit of one attempt.
func (t *timeouts) ofAttempt(m *MethodInfo) timeout {
	d := t.of(m)
	if t.attempt > 0 && (d.limit <= 0 || t.attempt < d.limit) {
		return timeout{t.attempt, "WithRetry, for an attempt"}
	}
	return d
}

func (t *timeouts) ofMessages() timeout { return timeout{t.all, "WithTimeout"} }

// A bound is the moment at which a timeout ends an operation. The zero bound ends nothing.
type bound struct {
	timeout
	at time.Time
}

// bind returns when t ends an operation that begins now: never if the deadline of ctx is earlier.
func (t timeout) bind(ctx context.Context) bound {
	if t.limit <= 0 || ctx == nil {
		return bound{}
	}
	at := time.Now().Add(t.limit)
	if d, ok := ctx.Deadline(); ok && !d.After(at) {
		return bound{}
	}
	return bound{t, at}
}

// context returns ctx with the deadline of the bound, for operations that show it to others or that
// wait anyway. stop must be called at the end.
func (b bound) context(ctx context.Context) (_ context.Context, stop func()) {
	if b.limit <= 0 {
		return ctx, func() {}
	}
	return context.WithDeadlineCause(ctx, b.at, b.timeout)
}

// A boundContext is the context of a call in its connection. Most calls end before anything waits
// for the end of their contexts, so a boundContext has no timer until then, and can be used again.
// It belongs to one goroutine, and never leaves this package.
type boundContext struct {
	context.Context // the caller's
	bound
	timer context.Context // nil until it is needed
	stop  func()
}

// wrap returns a context that ends with ctx and at the bound. It is ctx itself if b is zero, and
// otherwise lives in c.
func (c *boundContext) wrap(ctx context.Context, b bound) context.Context {
	if b.limit <= 0 {
		return ctx
	}
	c.Context, c.bound = ctx, b
	return c
}

// end frees what c holds. Nothing may use the context any more.
func (c *boundContext) end() {
	if c.stop != nil {
		c.stop()
	}
	if c.Context != nil {
		*c = boundContext{}
	}
}

func (c *boundContext) timed() context.Context {
	if c.timer == nil {
		c.timer, c.stop = c.bound.context(c.Context)
	}
	return c.timer
}

func (c *boundContext) Deadline() (time.Time, bool) { return c.at, true }
func (c *boundContext) Done() <-chan struct{}       { return c.timed().Done() }

func (c *boundContext) Value(key any) any {
	if key == (outgoingKey{}) { // of each call, which needs no timer
		return c.Context.Value(key)
	}
	return c.timed().Value(key)
}

// AfterFunc is known to package context, which otherwise starts a goroutine for a context that it
// does not know.
func (c *boundContext) AfterFunc(f func()) (stop func() bool) {
	return context.AfterFunc(c.timed(), f)
}

func (c *boundContext) Err() error {
	if c.timer != nil {
		return c.timer.Err()
	}
	if err := c.Context.Err(); err != nil || time.Now().Before(c.at) {
		return err
	}
	return context.DeadlineExceeded
}
