package ipc

import (
	"context"
	"encoding/binary"
	"fmt"

	flatbuffers "github.com/google/flatbuffers/go"
)

// This file is the zero-copy form of calls: messages are built in the ring and
// read in the ring, within callbacks. Nothing that a callback is given may be
// kept when it returns.

// An InPlaceCall is a call without copies and without allocations.
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

// InvokeInPlace makes a call as Invoke does. It runs none of the client's
// interceptors: they see a Call with its Request and Reply, which do not exist here, and
// whatever is handed to them would have to be allocated. The server's interceptors do run.
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

func (c *Conn) invokeInPlace(ctx context.Context, m *MethodInfo, trip inPlaceArgs) error {
	if c == nil {
		return errNilCaller.in("call", m.Protocol.Name, m.Name)
	}
	ctx, p, err := c.begin(ctx, m)
	if err == nil {
		defer func() {
			p.view, p.inPlace = nil, false
			c.calls.recycle(p)
		}()
		var rerr error
		if err, rerr = c.roundTripInPlace(ctx, p, m, &trip); err == nil {
			return rerr
		}
	}
	return err.in("call", m.Protocol.Name, m.Name)
}

// roundTripInPlace sends the call and has its reply read. It returns the call's error, or
// that of read.
func (c *Conn) roundTripInPlace(ctx context.Context, p *pending, m *MethodInfo,
	trip *inPlaceArgs) (*Error, error) {
	f, err := c.sendInPlace(ctx, p, m, trip)
	if err != nil {
		return err, nil
	}
	return c.awaitInPlace(ctx, p, &f, trip)
}

// awaitInPlace waits for the reply to f and has it read: in the ring if this goroutine is the
// one that finds it there, and otherwise where another one has copied it.
func (c *Conn) awaitInPlace(ctx context.Context, p *pending, f *frame,
	trip *inPlaceArgs) (*Error, error) {
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
				return c.readInPlace(trip, p.view)
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
	return nil, c.readInPlace(trip, p.body)
}

// sendInPlace has the request built and sent, or completes the call with the error why it
// cannot be sent.
func (c *Conn) sendInPlace(ctx context.Context, p *pending, m *MethodInfo,
	trip *inPlaceArgs) (f frame, err *Error) {
	done := false
	defer func() {
		if !done {
			c.abandon(p)
		}
	}()
	f = c.requestFrame(ctx, p, m, trip.seq)
	err = c.tx.build(ctx, &f, p.builder, trip.size, &p.sent, nil, func(b *flatbuffers.Builder) {
		defer logPanic(c.cfg.logger)
		trip.build(b, f.seq)
	})
	done = err == nil
	return f, err
}

// readInPlace has the reply read. A server that changes it meanwhile makes accessors
// panic, which is an error like any other of the reply.
func (c *Conn) readInPlace(trip *inPlaceArgs, reply []byte) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = panicked(c.cfg.logger, r)
		}
	}()
	return trip.read(reply)
}

// shortInPlace is the length of a record up to which a message is built in the memory of its
// builder and copied. That is faster: a builder reads what it has written, and in the ring it waits
// for each cache line, which the peer has read last. The copy leaves no gap that the peer reads.
const shortInPlace = 256

// build writes a message of at most size bytes that build makes in the ring,
// with b. A longer one is copied.
func (t *transmitter) build(ctx context.Context, f *frame, b *flatbuffers.Builder, size int,
	at *sent, block func(), build func(*flatbuffers.Builder)) (err *Error) {
	head := f.size() + gapLen
	n := (head + max(size, 0) + 7) &^ 7
	if n > t.place || n <= shortInPlace {
		body, err := encode(b, func() error { build(b); return nil })
		if err != nil {
			return err
		}
		return t.write(ctx, f, body, at, block)
	}
	t.mu.Lock()
	slot, err := t.reserve(ctx, n, block)
	if err != nil {
		t.mu.Unlock()
		return err
	}
	own := b.Bytes
	body, err := t.buildIn(b, slot[head:n:n], build)
	if err != nil || !within(body, slot[head:]) {
		t.mu.Unlock()
		defer func() { b.Bytes = own }()
		if err != nil {
			return err
		}
		return t.write(ctx, f, body, at, block) // the builder has moved to the heap
	}
	b.Bytes = own
	if len(body) > t.limit {
		t.mu.Unlock()
		return t.tooLarge(len(body))
	}
	f.put(slot)
	binary.NativeEndian.PutUint64(slot[f.size():], uint64(n-head-len(body)))
	if at != nil {
		*at = sent{true, t.ring.Position()}
	}
	t.messages++
	t.bytes += uint64(len(body))
	wake := t.commit(f.kind|tagGap, n)
	t.mu.Unlock()
	if wake {
		t.wire.Notify()
	}
	return nil
}

// buildIn has build build a message in slot, with b, whose own memory is the caller's to
// put back. A build that ends its goroutine (runtime.Goexit) leaves b and mu, which the
// caller holds, as they were before.
func (t *transmitter) buildIn(b *flatbuffers.Builder, slot []byte,
	build func(*flatbuffers.Builder)) (body []byte, err *Error) {
	own, returned := b.Bytes, false
	defer func() {
		if !returned {
			b.Bytes = own
			t.mu.Unlock()
		}
	}()
	b.Bytes = slot
	body, err = encode(b, func() error { build(b); return nil })
	returned = true
	return body, err
}

// within reports whether body, which a builder has finished, ends where slot
// ends: a builder that had to grow has moved elsewhere.
func within(body, slot []byte) bool {
	return len(body) > 0 && len(body) <= len(slot) && &body[len(body)-1] == &slot[len(slot)-1]
}

// A ReplyBuilder sends the reply of a call that is handled in place.
type ReplyBuilder struct {
	c    *serverConn
	j    *job
	sent bool
}

// Build builds the reply in the ring: size is as for an InPlaceCall. build is
// given the sequence numbers of the reply and of the request that it answers.
// It must be called once, and only if the handler then returns nil.
func (r *ReplyBuilder) Build(size int,
	build func(b *flatbuffers.Builder, seq, refSeq uint64)) error {
	if r.sent {
		return Errorf(CodeInternal, "the handler replied twice")
	}
	if why := r.c.down.Load(); why != nil {
		return why
	}
	f := frame{kind: kindReply, id: r.j.frame.id}
	if err := r.c.stamp(r.j, &f); err != nil {
		return err
	}
	r.c.beginReply(r.j)
	defer r.c.endReply(r.j)
	werr := r.c.tx.build(context.Background(), &f, r.j.builder, size, &r.j.answer, func() {
		r.c.handOffBeforeWait(r.j)
	},
		func(b *flatbuffers.Builder) {
			defer logPanic(r.c.log)
			build(b, r.j.frame.seq, r.j.frame.seq)
		})
	if werr != nil {
		e := *werr
		e.Outcome = Executed // the handler runs; it is the reply that was not sent
		return &e
	}
	r.sent = true
	return nil
}

// HandleInPlace routes calls of m to f, which verifies and reads the request
// where it is and builds the reply in the ring. The request is a copy unless
// the server was made with WithTrustedClients; then it lies in the ring, and
// f holds up the other calls of its connection. Neither may be kept. The
// server's interceptors run around f, with a ServerCall without Request and Reply; the
// reply is on its way when f has built it, so an interceptor can refuse the call
// before f, and no longer after it.
func HandleInPlace[Req, Rep any](m *Method[Req, Rep],
	f func(ctx context.Context, req []byte, reply *ReplyBuilder) error) Route {
	return Route{codec: codec{id: m.info.ID, name: m.info.Name, method: &m.info}, inPlace: f}
}

// WithTrustedClients lets handlers made by HandleInPlace read requests where the
// client wrote them and can still change them.
func WithTrustedClients() ServerOption {
	return serverOption(func(c *serverConfig) { c.trusted = true })
}

// callInPlace runs a handler that replies by itself, behind the gate.
func (c *serverConn) callInPlace(j *job) error {
	j.reply = ReplyBuilder{c: c, j: j}
	err := j.route.inPlace(c, j)
	switch {
	case err != nil && j.reply.sent:
		c.log.Warn("handler failed after its reply", "method", j.route.name, "err", err)
		return nil
	case err == nil && !j.reply.sent:
		return Errorf(CodeInternal, "the handler of %s did not reply", j.route.name)
	}
	return err
}

// gapLen is the length of the word before a body that was built in the ring:
// how many bytes of the slot lie unused between it and the body.
const gapLen = 8

// skipGap returns the body behind a gap.
func skipGap(rest []byte) ([]byte, error) {
	if len(rest) < gapLen {
		return nil, errShortFrame
	}
	gap := binary.NativeEndian.Uint64(rest)
	rest = rest[gapLen:]
	if gap > uint64(len(rest)) {
		return nil, fmt.Errorf("%w: a gap of %d bytes in a body of %d", errBroken, gap, len(rest))
	}
	return rest[gap:], nil
}
