package ipc

import (
	"context"

	flatbuffers "github.com/google/flatbuffers/go"
)

// This file gives calls in place their types. Generated code declares an
// InPlaceMethod beside each Method; Req and Rep are accessors here, which read a
// message where it lies. They are passed by value, so that a call allocates nothing.

// An InPlaceSpec holds the codec of a method that is called in place, declared by
// generated code. The openers verify a message and point an accessor at it, and
// return the numbers in it, or 0 where the schema has none. The finishers put what
// surrounds a message around the one at the given offset.
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

// NewInPlaceMethod declares how a method is called in place; generated code calls
// it once per method.
func NewInPlaceMethod[Req, Rep any](m *MethodInfo,
	spec InPlaceSpec[Req, Rep]) *InPlaceMethod[Req, Rep] {
	return &InPlaceMethod[Req, Rep]{info: m, spec: spec}
}

// envelopeRoom is the room set aside for what surrounds a message: the root's
// offset and identifier, an envelope's table with its vtable, and padding.
const envelopeRoom = 64

// InvokeInPlace makes a typed call in place through c: build builds the request in
// the ring and returns its offset, and read reads the verified reply there. size
// is the room for the request alone. The rules and the trust of an InPlaceCall
// apply; the error is an *Error, or what read returned. Generated clients are one
// line over it.
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

// Route handles calls of m in place with f, under the rules of HandleInPlace, or by
// the route plain when f is nil.
func (m *InPlaceMethod[Req, Rep]) Route(f func(context.Context, Req, InPlaceReply[Rep]) error,
	plain Route) Route {
	if f == nil {
		return plain
	}
	return Route{codec: codec{id: m.info.ID, name: m.info.Name, method: m.info},
		inPlace: func(ctx context.Context, buf []byte, reply *ReplyBuilder) error {
			req, _, _, err := m.spec.OpenRequest(buf)
			if err != nil {
				reply.c.stats.malformed.Add(1)
				return malformedRequest(err)
			}
			return f(ctx, req, InPlaceReply[Rep]{reply, m.spec.FinishReply})
		}}
}

// An InPlaceReply builds the reply to a call that is handled in place, which Rep
// reads. It serves the handler it was given to, until that returns.
type InPlaceReply[Rep any] struct {
	reply  *ReplyBuilder
	finish func(b *flatbuffers.Builder, seq, refSeq uint64, rep flatbuffers.UOffsetT)
}

// Build has build build the reply in the ring and return its offset. size is the
// room for the reply alone. refSeq is the number of the request, for a reply that
// has a field of its own for it. Build must be called once, and only if the
// handler then returns nil.
func (r InPlaceReply[Rep]) Build(size int,
	build func(b *flatbuffers.Builder, refSeq uint64) flatbuffers.UOffsetT) error {
	return r.reply.Build(size+envelopeRoom, func(b *flatbuffers.Builder, seq, refSeq uint64) {
		r.finish(b, seq, refSeq, build(b, refSeq))
	})
}
