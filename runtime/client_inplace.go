package ipc

import (
	"context"

	flatbuffers "github.com/google/flatbuffers/go"
)

// This file is the zero-copy form of calls: messages are built in the ring and
// read in the ring, within callbacks. Nothing that a callback is given may be
// kept when it returns.

// An InPlaceCall is a call whose messages are built and read in shared memory, without copies and
// allocations. What its callbacks receive must not be kept.
type InPlaceCall struct {
	Method *MethodInfo
	// Seq numbers the call, as in Call.
	Seq uint64
	// Size is how many bytes of the ring to set aside for the request. A
	// request that turns out longer, or does not fit into half of the ring (see
	// WithRings), is built elsewhere and copied. So is one of a small size, where
	// that is faster.
	Size int
	// Build builds and finishes the request. It runs while all other writers of
	// the connection wait, so it should only build.
	Build func(b *flatbuffers.Builder, seq uint64)
	// Read verifies the reply and reads it. It runs while all other readers of
	// the connection wait. The reply may lie in memory that the server can
	// change; a server that is not trusted calls for Invoke. A Read that panics, as
	// accessors do when the reply changes, makes the call fail with CodeInternal.
	Read func(reply []byte) error
}

// InvokeInPlace makes a call as [Conn.Invoke] does. It does not run the client's interceptors: they
// see a [Call] with its Request and Reply, which do not exist here. The server's interceptors run.
func (c *Conn) InvokeInPlace(ctx context.Context, call *InPlaceCall) error {
	return c.invokeInPlace(ctx, call.Method,
		inPlaceArgs{call.Seq, call.Size, call.Build, call.Read})
}

// An inPlaceArgs is an InPlaceCall without its method. The compiler sees that what
// it holds ends with the call, while methods are kept: so callers' function
// literals cost no allocation.
type inPlaceArgs struct {
	seq   uint64
	size  int
	build func(b *flatbuffers.Builder, seq uint64)
	read  func(reply []byte) error
}

func (c *Conn) invokeInPlace(ctx context.Context, m *MethodInfo, args inPlaceArgs) error {
	if c == nil {
		return m.callFailed(errNilCaller)
	}
	ctx, p, err := c.begin(ctx, m, c.cfg.timeouts.of(m))
	if err == nil {
		defer func() {
			p.view, p.inPlace = nil, false
			c.calls.recycle(p)
		}()
		var rerr error
		if err, rerr = c.roundTripInPlace(ctx, p, m, &args); err == nil {
			return rerr
		}
	}
	return m.callFailed(err)
}

// roundTripInPlace sends the call and has its reply read. It returns the call's error, or
// that of read.
func (c *Conn) roundTripInPlace(ctx context.Context, p *pending, m *MethodInfo,
	args *inPlaceArgs) (*Error, error) {
	f, err := c.sendInPlace(ctx, p, m, args)
	if err != nil {
		return err, nil
	}
	return c.awaitInPlace(ctx, p, &f, args)
}

// awaitInPlace waits for the reply to f and has it read: in the ring if this goroutine is the
// one that finds it there, and otherwise where another one has copied it.
func (c *Conn) awaitInPlace(ctx context.Context, p *pending, f *frame,
	args *inPlaceArgs) (*Error, error) {
	mine := false
	if c.takeRole() {
		p.inPlace = true
		mine = c.readFor(ctx, p)
		p.inPlace = false
		if mine && p.view != nil {
			rerr := func() error {
				defer c.leaveRole()
				defer c.rx.release()
				if c.stale(&p.frame, f) {
					return nil
				}
				return c.readInPlace(args, p.view)
			}()
			return c.outcome(p, f), rerr
		}
		c.leaveRole()
	}
	if !mine {
		c.await(ctx, p)
	}
	if err := c.outcome(p, f); err != nil {
		return err, nil
	}
	return nil, c.readInPlace(args, p.body)
}

// sendInPlace has the request built and sent, or completes the call with the error why it
// cannot be sent.
func (c *Conn) sendInPlace(ctx context.Context, p *pending, m *MethodInfo,
	args *inPlaceArgs) (f frame, err *Error) {
	done := false
	defer func() {
		if !done {
			c.abandon(p)
		}
	}()
	f, err = c.requestFrame(ctx, p, m, args.seq)
	if err != nil {
		return f, err
	}
	err = c.tx.writeInPlace(ctx, &f, p.builder, inPlaceBody{args.size,
		func(b *flatbuffers.Builder) {
			defer logPanic(c.cfg.logger)
			args.build(b, f.seq)
		}}, &p.sent, nil)
	done = err == nil
	return f, err
}

// readInPlace has the reply read. A server that changes it meanwhile makes accessors
// panic, which is an error like any other of the reply.
func (c *Conn) readInPlace(args *inPlaceArgs, reply []byte) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = panicked(c.cfg.logger, r)
		}
	}()
	return args.read(reply)
}
