package ipc

import (
	"context"

	flatbuffers "github.com/google/flatbuffers/go"
	"github.com/ipcgen/ipcgen/internal/record"
)

// A ReplyBuilder sends the reply of a call that is handled in place. It must not be used after the
// handler has returned.
type ReplyBuilder struct {
	x    *execution
	sent bool
}

// Build builds the reply in the ring and sends it. size is the expected length of the reply, as in
// [InPlaceCall]. build receives the sequence numbers of the reply and of the request. Build blocks
// while the ring is full. It must be called once, and the handler must then return nil.
func (r *ReplyBuilder) Build(size int,
	build func(b *flatbuffers.Builder, seq, refSeq uint64)) error {
	if r.sent {
		return Errorf(CodeInternal, "the handler replied twice")
	}
	whole := func(b *flatbuffers.Builder) {
		defer logPanic(r.x.log)
		build(b, r.x.seq, r.x.seq)
	}
	// The types are named because a call through an interface would move whole, and what build
	// refers to, to the heap.
	var err error
	switch c := r.x.carrier.(type) {
	case *job:
		err = c.replyInPlace(size, whole)
	case *carried:
		err = c.replyInPlace(whole)
	}
	r.sent = err == nil
	return err
}

// replyInPlace sends the reply of a call in place, which build builds. size is its expected length.
// A panic of build is an error.
func (j *job) replyInPlace(size int, build func(b *flatbuffers.Builder)) error {
	c := j.conn
	if why := c.down.Load(); why != nil {
		return why
	}
	f := frame{kind: record.Reply, id: j.frame.id, metadata: j.ctx.replyMetadata()}
	epoch, err := j.stamp()
	if err != nil {
		return err
	}
	f.epoch = epoch
	counts := c.beginEncoding(j)
	defer c.endReply(j)
	if counts {
		if err := c.expectReply(j, 0); err != nil {
			return err
		}
	}
	if size > c.tx.place { // it is built in memory of its own
		if err := c.chargeReply(j, size); err != nil {
			return err
		}
	}
	werr := c.tx.writeInPlace(context.Background(), &f, j.builder, inPlaceBody{size,
		func(b *flatbuffers.Builder) {
			build(b)
			j.observed.keepReply(b)
		}}, &j.sent, func() { c.handOffBeforeWait(j) })
	if werr != nil {
		e := *werr
		e.Outcome = Executed // the handler runs; it is the reply that was not sent
		if e.Code == CodeInvalidArgument {
			e.Code = CodeInternal // what cannot be encoded is the handler's, not the client's
		}
		return &e
	}
	return nil
}

// HandleInPlace returns a [Route] that handles the calls of m with f. f verifies and reads the
// encoded request, and builds the reply in the ring. Neither may be kept. The request is a copy,
// unless the server was made with [WithTrustedClients]: then it lies in the ring, and f delays the
// other calls of its connection. A cancellation waits behind it, too, so the context of f ends with
// its deadline and its connection only.
//
// The server's interceptors run around f, with a [ServerCall] that has no Request and Reply. An
// interceptor can refuse the call before f only, because f sends the reply.
func HandleInPlace[Req, Rep any](m *Method[Req, Rep],
	f func(ctx context.Context, req []byte, reply *ReplyBuilder) error) Route {
	return Route{codec: codec{id: m.info.ID, name: m.info.Name, method: &m.info}, inPlace: f}
}

// WithTrustedClients makes handlers of [HandleInPlace] read requests in shared memory, where the
// client can change them at any time.
func WithTrustedClients() ServerOption {
	return serverOption(func(c *serverConfig) { c.trusted = true })
}

// callInPlace runs a handler that replies by itself, behind the gate.
func (x *execution) callInPlace() error {
	x.reply = ReplyBuilder{x: x}
	err := x.route.inPlace(x)
	switch {
	case err != nil && x.reply.sent:
		x.log.Warn("handler failed after its reply", "method", x.route.name, "err", err)
		return nil
	case err == nil && !x.reply.sent:
		return Errorf(CodeInternal, "the handler of %s did not reply", x.route.name)
	}
	return err
}
