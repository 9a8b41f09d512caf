package ipc

import (
	"context"

	flatbuffers "github.com/google/flatbuffers/go"
)

// This file has the typed form of calls in place. Generated code declares an InPlaceMethod beside
// each Method. Req and Rep are accessors, which read a message in the ring. They are passed by
// value, so that a call allocates nothing.

// An InPlaceSpec holds the codec of a method that is called in place. Generated code declares it.
// The openers verify a message, point an accessor at it, and return its sequence numbers, or 0 if
// the schema has none. The finishers add the envelope of a message at the given offset.
type InPlaceSpec[Req, Rep any] struct {
	FinishRequest func(b *flatbuffers.Builder, seq, refSeq uint64, req flatbuffers.UOffsetT)
	OpenRequest   func(buf []byte) (req Req, seq, refSeq uint64, err error)
	FinishReply   func(b *flatbuffers.Builder, seq, refSeq uint64, rep flatbuffers.UOffsetT)
	OpenReply     func(buf []byte) (rep Rep, seq, refSeq uint64, err error)
}

// An InPlaceMethod is a method with the types and the codec of its calls in place.
type InPlaceMethod[Req, Rep any] struct {
	info *MethodInfo
	spec InPlaceSpec[Req, Rep]
}

// NewInPlaceMethod declares how a method is called in place. Generated code calls it once per
// method.
func NewInPlaceMethod[Req, Rep any](m *MethodInfo,
	spec InPlaceSpec[Req, Rep]) *InPlaceMethod[Req, Rep] {
	return &InPlaceMethod[Req, Rep]{info: m, spec: spec}
}

// envelopeRoom is the size that is reserved for the parts around a message: the root's offset and
// identifier, an envelope's table with its vtable, and padding.
const envelopeRoom = 64

// InvokeInPlace makes a typed call in place through c. build builds the request in the ring and
// returns its offset; read reads the verified reply there. size is the expected length of the
// request, in bytes, without its envelope. InvokeInPlace blocks until the reply is read, ctx is
// done or the connection ends. The error is an [*Error], or the error of read. The rules of
// [InPlaceCall] apply, also for trust in the peer. Methods of generated clients call it.
func InvokeInPlace[Req, Rep any](ctx context.Context, c *Conn, m *InPlaceMethod[Req, Rep], size int,
	build func(*flatbuffers.Builder) flatbuffers.UOffsetT, read func(Rep) error) error {
	return c.invokeInPlace(ctx, m.info, inPlaceArgs{
		size: size + envelopeRoom,
		build: func(b *flatbuffers.Builder, seq uint64) {
			m.spec.FinishRequest(b, seq, 0, build(b))
		},
		read: func(reply []byte) error {
			rep, _, _, err := m.spec.OpenReply(reply)
			if err != nil {
				return c.malformedReply(m.info, err)
			}
			return read(rep)
		},
	})
}

// Route returns a route that handles calls of m in place with f, under the rules of
// [HandleInPlace], or the route plain if f is nil.
func (m *InPlaceMethod[Req, Rep]) Route(f func(context.Context, Req, InPlaceReply[Rep]) error,
	plain Route) Route {
	if f == nil {
		return plain
	}
	return Route{codec: codec{id: m.info.ID, name: m.info.Name, method: m.info},
		inPlace: func(ctx context.Context, buf []byte, reply *ReplyBuilder) error {
			req, _, _, err := m.spec.OpenRequest(buf)
			if err != nil {
				reply.x.wrong = wrongBody
				return malformedRequest(err)
			}
			return f(ctx, req, InPlaceReply[Rep]{reply, m.spec.FinishReply})
		}}
}

// An InPlaceReply builds the reply to a call that is handled in place; Rep is the accessor of such
// a reply. It may be used only by the handler that receives it, until the handler returns.
type InPlaceReply[Rep any] struct {
	reply  *ReplyBuilder
	finish func(b *flatbuffers.Builder, seq, refSeq uint64, rep flatbuffers.UOffsetT)
}

// Build calls build, which builds the reply in the ring and returns its offset. size is the
// expected length of the reply, in bytes, without its envelope. refSeq is the sequence number of
// the request, for a reply that has a field for it. The handler must call Build exactly once if it
// returns nil, and must not call it otherwise.
func (r InPlaceReply[Rep]) Build(size int,
	build func(b *flatbuffers.Builder, refSeq uint64) flatbuffers.UOffsetT) error {
	return r.reply.Build(size+envelopeRoom, func(b *flatbuffers.Builder, seq, refSeq uint64) {
		r.finish(b, seq, refSeq, build(b, refSeq))
	})
}
