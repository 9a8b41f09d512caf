package ipc

import (
	"context"
	"time"

	flatbuffers "github.com/google/flatbuffers/go"

	"github.com/ipcgen/ipcgen/runtime/introspect"
)

// This file is the service by which every server tells tools of itself, as both sides see it. Its
// messages are tables of package introspect. Its methods are declared here, because generated
// services import this package.

// introspection is no part of a server's hello, and is not compared: its messages only ever grow,
// and a server without it answers that it has no such method.
var introspection = &Protocol{Name: "ipc.Introspection"}

// A message is a table of package introspect.
type message[T any] struct {
	pack   func(*T, *flatbuffers.Builder) flatbuffers.UOffsetT
	verify func([]byte) error
	unpack func([]byte, *T)
}

func (m message[T]) encode(b *flatbuffers.Builder, v *T) error {
	b.Finish(m.pack(v, b))
	return nil
}

func (m message[T]) decode(buf []byte, v *T) (uint64, error) {
	if err := m.verify(buf); err != nil {
		return 0, err
	}
	m.unpack(buf, v)
	return 0, nil
}

// messageOf makes a message of what ipcgen has generated for its table.
func messageOf[T any, A interface{ UnPackTo(*T) }, Limits any](
	pack func(*T, *flatbuffers.Builder) flatbuffers.UOffsetT,
	verify func([]byte, ...Limits) error,
	root func([]byte, flatbuffers.UOffsetT) A) message[T] {
	return message[T]{pack,
		func(b []byte) error { return verify(b) },
		func(b []byte, v *T) { root(b, 0).UnPackTo(v) }}
}

func introspectionMethod[Req, Rep any](name string, req message[Req],
	rep message[Rep]) *Method[Req, Rep] {
	return NewMethod(introspection, MethodSpec[Req, Rep]{
		Name: name, ID: wireID(introspection, name), Idempotent: true, ReadOnly: true,
		EncodeRequest: func(b *flatbuffers.Builder, _ uint64, v *Req) error {
			return req.encode(b, v)
		},
		DecodeRequest: req.decode,
		EncodeReply: func(b *flatbuffers.Builder, _, _ uint64, v *Rep) error {
			return rep.encode(b, v)
		},
		DecodeReply: rep.decode,
	})
}

var (
	methodDescribe = introspectionMethod("Describe",
		messageOf((*introspect.DescribeT).Pack, introspect.VerifyDescribe,
			introspect.GetRootAsDescribe),
		messageOf((*introspect.DescriptionT).Pack, introspect.VerifyDescription,
			introspect.GetRootAsDescription))
	methodReadDefinition = introspectionMethod("ReadDefinition",
		messageOf((*introspect.ReadDefinitionT).Pack, introspect.VerifyReadDefinition,
			introspect.GetRootAsReadDefinition),
		messageOf((*introspect.DefinitionPartT).Pack, introspect.VerifyDefinitionPart,
			introspect.GetRootAsDefinitionPart))
	methodReadCounters = introspectionMethod("ReadCounters",
		messageOf((*introspect.ReadCountersT).Pack, introspect.VerifyReadCounters,
			introspect.GetRootAsReadCounters),
		messageOf((*introspect.CountersT).Pack, introspect.VerifyCounters,
			introspect.GetRootAsCounters))
)

var (
	methodOpenTap = introspectionMethod("OpenTap",
		messageOf((*introspect.OpenTapT).Pack, introspect.VerifyOpenTap,
			introspect.GetRootAsOpenTap),
		messageOf((*introspect.TapT).Pack, introspect.VerifyTap,
			introspect.GetRootAsTap))
	methodReadTap = introspectionMethod("ReadTap",
		messageOf((*introspect.ReadTapT).Pack, introspect.VerifyReadTap,
			introspect.GetRootAsReadTap),
		messageOf((*introspect.TapRecordsT).Pack, introspect.VerifyTapRecords,
			introspect.GetRootAsTapRecords))
	methodCloseTap = introspectionMethod("CloseTap",
		messageOf((*introspect.CloseTapT).Pack, introspect.VerifyCloseTap,
			introspect.GetRootAsCloseTap),
		messageOf((*introspect.TapClosedT).Pack, introspect.VerifyTapClosed,
			introspect.GetRootAsTapClosed))
)

// Describe asks the server behind c what it is: its program and versions, the protocols that it
// serves, and its limits. See [WithIntrospection].
func Describe(ctx context.Context, c Caller) (*introspect.DescriptionT, error) {
	return Invoke(ctx, c, methodDescribe, &introspect.DescribeT{})
}

// maxDefinition limits what ReadDefinition believes of a server, in bytes.
const maxDefinition = 16 << 20

// ReadDefinition reads a definition of the server behind c, by its number in the server's
// description: the binary schema (.bfbs) of protocols that name it. What a server sends is to be
// checked as any schema of unknown origin.
func ReadDefinition(ctx context.Context, c Caller, number int) ([]byte, error) {
	var all []byte
	for len(all) <= maxDefinition {
		part, err := Invoke(ctx, c, methodReadDefinition, &introspect.ReadDefinitionT{
			Definition: uint32(number), Offset: uint32(len(all))})
		if err != nil || len(part.Data) == 0 {
			return all, err
		}
		all = append(all, part.Data...)
	}
	return nil, Errorf(CodeTooLarge, "the server's definition %d has more than %d bytes", number,
		maxDefinition)
}

// ReadCounters reads the counters of the server behind c. The first request makes the server count
// by method; it stops a minute after the last one. See [WithIntrospection].
func ReadCounters(ctx context.Context, c Caller) (*introspect.CountersT, error) {
	return Invoke(ctx, c, methodReadCounters, &introspect.ReadCountersT{})
}

// A Tap shows the calls and one-way messages of all clients of a server, as copies. It ends with
// the connection on which it was opened. A server has four taps at most. It never waits for them:
// what is not read soon enough is lost. Streams of structs are not shown, nor is introspection.
type Tap struct {
	caller Caller
	number uint64
}

// TapOptions choose what a tap copies. The zero value stands for everything.
type TapOptions struct {
	// Methods names methods and one-way messages, "audio.AudioControl/SetParam"; none stands for
	// all.
	Methods []string
	// MaxBody is how many bytes of a request, reply, item or message are copied at most. The
	// default is 64 KiB. The limit of the connection's messages bounds it as well.
	MaxBody int
	// Items copies the items of calls that stream, also of calls that began before the tap. A
	// server whose version of the runtime does not know of this copies none.
	Items bool
}

// OpenTap opens a tap at the server behind c. See [WithIntrospection].
func OpenTap(ctx context.Context, c Caller, o TapOptions) (*Tap, error) {
	limit := uint32(64 << 10)
	if o.MaxBody > 0 {
		limit = uint32(min(o.MaxBody, 1<<30))
	}
	t, err := Invoke(ctx, c, methodOpenTap, &introspect.OpenTapT{Methods: o.Methods,
		MaxBody: limit, Items: o.Items})
	if err != nil {
		return nil, err
	}
	return &Tap{c, t.Number}, nil
}

// Read waits until the tap has copied something, and returns that, in the order in which it
// happened on each connection, and the number of records that were lost since the tap was opened.
// If ctx ends while Read waits, records that the server has handed over already can be lost without
// being counted; see [Tap.Take].
func (t *Tap) Read(ctx context.Context) (records []*introspect.TapRecordT, lost uint64, err error) {
	for {
		records, lost, err = t.Take(ctx, tapWait)
		if err != nil || len(records) > 0 {
			return records, lost, err
		}
	}
}

// Take is like [Tap.Read], but waits for wait at most, a second at most, and then returns no
// records. A tool that takes records until there are none has seen all calls that had ended before.
func (t *Tap) Take(ctx context.Context, wait time.Duration) (records []*introspect.TapRecordT,
	lost uint64, err error) {
	got, err := Invoke(ctx, t.caller, methodReadTap, &introspect.ReadTapT{Number: t.number,
		Wait: int64(wait)})
	if err != nil {
		return nil, 0, err
	}
	return got.Records, got.Lost, nil
}

// Close closes the tap.
func (t *Tap) Close(ctx context.Context) error {
	_, err := Invoke(ctx, t.caller, methodCloseTap, &introspect.CloseTapT{Number: t.number})
	return err
}

// WithIntrospection decides which clients may ask a server about itself: its protocols and limits,
// its counters, and the calls of all its clients. Such a client must be admitted by [WithAuthorize]
// as well. allow returns nil to accept a peer, and must be safe for concurrent use. By default,
// processes of the same user may ask. With nil, the server has no such service.
//
// The server's interceptors see these calls as [KindIntrospection]. A [Fence] and a [Guard] do not
// see them, so a standby answers too.
func WithIntrospection(allow func(Peer) error) ServerOption {
	return serverOption(func(c *serverConfig) { c.introspect = allow })
}
