package ipc

import (
	"context"
	"iter"
	"slices"
	"time"

	flatbuffers "github.com/google/flatbuffers/go"
)

// This file is the border between generated code and the runtime: what ipcgen
// declares, and nothing of how it is carried out.

// A Protocol identifies a service or an envelope of a schema to the peer.
// Generated code declares one per rpc_service and one per envelope; the two
// sides compare theirs when a client first uses it on a connection.
type Protocol struct {
	// Name is the fully qualified name of the service or envelope, such as
	// "audio.AudioControl".
	Name string
	// Fingerprint is the first eight bytes, big endian, of the SHA-256 of
	// Schema. Equal fingerprints need no further comparison.
	Fingerprint uint64
	// Schema is the canonical description of every type the protocol reaches;
	// see docs/protocol.md for its grammar. It decides whether two versions
	// are compatible, and names the first difference when they are not.
	Schema string
	// Definition is the binary schema (.bfbs) of the protocols of a package, for tools that show,
	// read and write messages without the schema; it may be empty. It has what a description has
	// not: comments, attributes, file identifiers. It has no part in the comparison of versions.
	Definition string

	relayed bool // messages of other versions pass under it; see CheckCompatible
}

// A MethodInfo describes a method without its types. It must not be changed.
type MethodInfo struct {
	Protocol *Protocol
	Name     string // unqualified, as in the schema
	// ID tells methods of all protocols of a connection apart on the wire: the
	// 32-bit FNV-1a hash of "<Protocol.Name>/<Name>".
	ID uint32
	// Idempotent methods may be executed more than once without harm, so a
	// call whose outcome is unknown is sent again.
	Idempotent bool
	// ReadOnly methods change no state of the service, so a group that
	// replicates has the primary alone execute them. An idempotent method may
	// well change it.
	ReadOnly bool
	// Timeout limits how long a call may take, see WithTimeout; 0: no limit of its own.
	Timeout time.Duration
	// Streaming says which sides send items in place of one message.
	Streaming Streaming

	encodeRequest func(b *flatbuffers.Builder, seq uint64, req any) error
	decodeReply   func(buf []byte, reply any) (refSeq uint64, err error)
	recycleReply  func(buf []byte, reply any) (refSeq uint64, err error)
	restoreReply  func(reply, parts any) // undoes hide
	newReply      func() any
}

// A MethodSpec holds the typed codec of a method, declared by generated code.
// Encoders build and finish exactly one message; decoders verify buf before
// they read it, and copy out of it all that they keep.
type MethodSpec[Req, Rep any] struct {
	Name       string
	ID         uint32
	Idempotent bool
	ReadOnly   bool
	Timeout    time.Duration
	Streaming  Streaming
	// EncodeRequest writes req, with seq in the envelope's sequence field
	// where it has one.
	EncodeRequest func(b *flatbuffers.Builder, seq uint64, req *Req) error
	// DecodeRequest fills req and returns the envelope's sequence number, or 0
	// where it has none.
	DecodeRequest func(buf []byte, req *Req) (seq uint64, err error)
	// RecycleRequest is DecodeRequest for a req that an earlier call has left, and that is not
	// used longer than buf: it may write in the slices of req, and may keep parts of buf in req.
	// It is nil if DecodeRequest is as good. See WithRecycling.
	RecycleRequest func(buf []byte, req *Req) (seq uint64, err error)
	// EncodeReply writes rep, with seq and refSeq where the schema has them.
	// It does not change rep.
	EncodeReply func(b *flatbuffers.Builder, seq, refSeq uint64, rep *Rep) error
	// DecodeReply fills rep and returns the sequence number of the request it
	// answers, or 0 where the schema has none.
	DecodeReply func(buf []byte, rep *Rep) (refSeq uint64, err error)
	// RecycleReply is to DecodeReply as RecycleRequest is to DecodeRequest. See [Recycler].
	RecycleReply func(buf []byte, rep *Rep) (refSeq uint64, err error)
}

// A Method is a call of an rpc_service with its types and codec.
type Method[Req, Rep any] struct {
	info MethodInfo
	spec MethodSpec[Req, Rep]
}

// NewMethod declares a method; generated code calls it once per method.
func NewMethod[Req, Rep any](p *Protocol, spec MethodSpec[Req, Rep]) *Method[Req, Rep] {
	recycle := spec.RecycleReply
	if recycle == nil {
		recycle = spec.DecodeReply
	}
	m := &Method[Req, Rep]{
		info: MethodInfo{
			Protocol: p, Name: spec.Name, ID: spec.ID, Idempotent: spec.Idempotent,
			ReadOnly: spec.ReadOnly, Timeout: spec.Timeout, Streaming: spec.Streaming,
			newReply: func() any { return new(Rep) },
			encodeRequest: func(b *flatbuffers.Builder, seq uint64, req any) error {
				return spec.EncodeRequest(b, seq, req.(*Req))
			},
			decodeReply: func(buf []byte, reply any) (uint64, error) {
				return spec.DecodeReply(buf, reply.(*Rep))
			},
			recycleReply: func(buf []byte, reply any) (uint64, error) {
				return recycle(buf, reply.(*Rep))
			},
			restoreReply: func(reply, parts any) {
				var empty Rep
				from := parts.(*Rep)
				*reply.(*Rep), *from = *from, empty
			},
		},
		spec: spec,
	}
	declared.add(&m.info)
	return m
}

// Info returns the description of the method.
func (m *Method[Req, Rep]) Info() *MethodInfo { return &m.info }

// A Call is a request on its way to a server. It is what a [ClientInterceptor] sees.
type Call struct {
	Method *MethodInfo
	// Seq is the sequence number of the call. A Caller assigns its next number to a Call with 0. A
	// Caller that passes a Call on to another one keeps the number, so that a call has the same
	// number when it is sent again.
	Seq uint64
	// Request is the *Req. Reply is the *Rep into which the reply is decoded. A streaming call has
	// In in place of a Request, or Out in place of a Reply, or both.
	Request, Reply any
	// In are the items that the client sends, each a *Req. A Caller ranges over them once it has
	// sent the call. A call whose In yields an error fails with it.
	In iter.Seq2[any, error]
	// Out takes the items that the server sends, each a *Rep that it may keep, unless a [Recycler]
	// makes the call. The Caller calls it on the goroutine of Invoke. If it returns false, the call
	// is cancelled, and Invoke returns nil.
	Out func(item any) bool

	memory *replyMemory // of a Recycler; nil: the reply, and each item, is a new object
}

// decodeOwned is decodeReply for a body whose memory the reply may keep, as adopt says.
func (m *MethodInfo) decodeOwned(body []byte, reply any, from int, kept *bool) error {
	return adopt(body, from, kept, func() error {
		_, err := m.decodeReply(body, reply)
		return err
	})
}

// A Caller carries calls to a server: a [*Conn], a [*Client], the client of a group, or a fake in a
// test. It must be safe for concurrent use.
type Caller interface {
	// Invoke sends a call and decodes its reply into call.Reply. It blocks until the reply arrives,
	// ctx is done, or the call fails. Its errors are of type [*Error]. A streaming call ends with
	// the server's end, when Out returns false, when ctx is done, or when the call fails.
	Invoke(ctx context.Context, call Call) error
}

// Invoke makes a typed call through c and returns the reply. It blocks as [Caller.Invoke] does.
// Methods of generated clients call it.
func Invoke[Req, Rep any](ctx context.Context, c Caller, m *Method[Req, Rep],
	req *Req) (*Rep, error) {
	if c == nil {
		c = nilCaller{}
	}
	if r, ok := c.(*Recycler); ok {
		return recycledReply[Rep](ctx, r, Call{Method: &m.info, Request: req})
	}
	rep := new(Rep)
	if err := c.Invoke(ctx, Call{Method: &m.info, Request: req, Reply: rep}); err != nil {
		return nil, err
	}
	return rep, nil
}

// A MessageInfo describes a one-way message without its type. It must not be changed.
type MessageInfo struct {
	Protocol *Protocol
	Name     string // of the union member, as in the schema
	ID       uint32 // FNV-1a of "<Protocol.Name>/<Name>", as for methods

	encode func(b *flatbuffers.Builder, seq uint64, msg any) error
}

// A MessageSpec holds the typed codec of an envelope's member, declared by
// generated code, under the same rules as a MethodSpec.
type MessageSpec[M any] struct {
	Name   string
	ID     uint32
	Encode func(b *flatbuffers.Builder, seq uint64, m *M) error
	Decode func(buf []byte, m *M) (seq uint64, err error)
	// Recycle is to Decode as RecycleRequest is to DecodeRequest.
	Recycle func(buf []byte, m *M) (seq uint64, err error)
}

// A Message is a member of an envelope with its type and codec.
type Message[M any] struct {
	info MessageInfo
	spec MessageSpec[M]
}

// NewMessage declares an envelope's member; generated code calls it once per
// member.
func NewMessage[M any](p *Protocol, spec MessageSpec[M]) *Message[M] {
	return &Message[M]{
		info: MessageInfo{
			Protocol: p, Name: spec.Name, ID: spec.ID,
			encode: func(b *flatbuffers.Builder, seq uint64, m any) error {
				return spec.Encode(b, seq, m.(*M))
			},
		},
		spec: spec,
	}
}

// A Post is a one-way message on its way to the peer.
type Post struct {
	Message *MessageInfo
	Seq     uint64 // as for Call
	Body    any    // the *M
}

// A Sender carries one-way messages to the peer: a [*Conn] or [*Client] to its server, a [*Peer] to
// its client. It must be safe for concurrent use.
type Sender interface {
	// Send puts the message into the ring to the peer. It blocks while the ring is full, until ctx
	// is done or the connection fails. After a nil error the message is in the ring; it may not
	// have been handled yet.
	Send(ctx context.Context, post Post) error
}

// Send sends a typed one-way message through s. It blocks as [Sender.Send] does. Methods of
// generated senders call it.
func Send[M any](ctx context.Context, s Sender, m *Message[M], body *M) error {
	if s == nil {
		s = nilCaller{}
	}
	return s.Send(ctx, Post{Message: &m.info, Body: body})
}

// A Route binds a method or message to the function that handles it. [Handle], [Receive] and
// [HandleInPlace] make Routes.
type Route struct {
	codec

	// One of these, by the kind of the route. Server and client reach it through a gate.
	call    func(ctx context.Context, req any) (rep any, err error)
	inPlace func(ctx context.Context, req []byte, reply *ReplyBuilder) error
	receive func(ctx context.Context, body any) error
	stream  streamHandler
}

// A codec is what a Route knows of its method or message, without the code that
// handles it.
type codec struct {
	id     uint32
	name   string
	method *MethodInfo // describes a message, too

	// Not of a method that is handled in place. payload may not be kept, unless by a used that is
	// not nil: that comes from fresh, or from decode, and is no longer referred to.
	decode func(payload []byte, used any) (req any, seq uint64, err error)
	fresh  func() any
	reply  func(b *flatbuffers.Builder, seq, refSeq uint64, rep any) error
}

// decoding returns the decode of a codec. recycle may be nil.
func decoding[T any](decode, recycle func([]byte, *T) (uint64, error)) func([]byte, any) (any,
	uint64, error) {
	if recycle == nil {
		recycle = decode
	}
	return func(payload []byte, used any) (any, uint64, error) {
		if v, ok := used.(*T); ok {
			seq, err := recycle(payload, v)
			return v, seq, err
		}
		v := new(T)
		seq, err := decode(payload, v)
		return v, seq, err
	}
}

// Handle returns a [Route] that handles the calls of m with f. f is called concurrently. Its
// context ends with the call's deadline, when the client cancels the call, and when the connection
// ends. f owns the request and may keep it, unless [WithRecycling] is set. The reply that it
// returns must not be changed until it has been sent.
func Handle[Req, Rep any](m *Method[Req, Rep], f func(context.Context, *Req) (*Rep, error)) Route {
	return Route{codec: codecOf(m), call: func(ctx context.Context, req any) (any, error) {
		return replied(f(ctx, req.(*Req)))
	}}
}

// codecOf returns the codec of a method whose messages are objects.
func codecOf[Req, Rep any](m *Method[Req, Rep]) codec {
	return codec{
		id: m.info.ID, name: m.info.Name, method: &m.info,
		decode: decoding(m.spec.DecodeRequest, m.spec.RecycleRequest),
		fresh:  func() any { return new(Req) },
		reply: func(b *flatbuffers.Builder, seq, refSeq uint64, rep any) error {
			return m.spec.EncodeReply(b, seq, refSeq, rep.(*Rep))
		},
	}
}

// replied returns what a handler has returned.
func replied[Rep any](rep *Rep, err error) (any, error) {
	if err == nil && rep == nil {
		return nil, Errorf(CodeInternal, "the handler returned neither a reply nor an error")
	}
	return rep, err
}

// Receive returns a [Route] that handles the one-way messages m with f. The messages of a
// connection are handled one after the other. Messages that arrive meanwhile wait in memory of
// limited size. When it is full, nothing more is read from the connection until f returns: neither
// messages nor calls, replies and cancellations. So if f makes calls on the same connection, it
// must set a deadline; otherwise a reply that lies behind many messages would block both forever.
func Receive[M any](m *Message[M], f func(context.Context, *M) error) Route {
	return Route{
		codec: codec{
			id: m.info.ID, name: m.info.Name,
			method: &MethodInfo{Protocol: m.info.Protocol, Name: m.info.Name, ID: m.info.ID},
			decode: decoding(m.spec.Decode, m.spec.Recycle),
			fresh:  func() any { return new(M) },
		},
		receive: func(ctx context.Context, body any) error { return f(ctx, body.(*M)) },
	}
}

// A Service is a protocol with the functions that handle it. Generated code makes one from an
// implementation. A Service is immutable and may be shared by servers. It is an option of
// [NewServer], [Dial] and [Connect].
type Service struct {
	protocol *Protocol
	routes   []Route
	invalid  *Error // why it cannot be served, or nil
}

// NewService returns a [Service] that handles p with routes.
func NewService(p *Protocol, routes ...Route) *Service {
	return &Service{protocol: p, routes: slices.Clone(routes)}
}
