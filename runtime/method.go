package ipc

import (
	"context"
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
}

// MethodInfo is what is known of a method without its types.
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

	encodeRequest func(b *flatbuffers.Builder, seq uint64, req any) error
	decodeReply   func(buf []byte, reply any) (refSeq uint64, err error)
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
	// EncodeRequest writes req, with seq in the envelope's sequence field
	// where it has one.
	EncodeRequest func(b *flatbuffers.Builder, seq uint64, req *Req) error
	// DecodeRequest fills req and returns the envelope's sequence number, or 0
	// where it has none.
	DecodeRequest func(buf []byte, req *Req) (seq uint64, err error)
	// EncodeReply writes rep, with seq and refSeq where the schema has them.
	// It does not change rep.
	EncodeReply func(b *flatbuffers.Builder, seq, refSeq uint64, rep *Rep) error
	// DecodeReply fills rep and returns the sequence number of the request it
	// answers, or 0 where the schema has none.
	DecodeReply func(buf []byte, rep *Rep) (refSeq uint64, err error)
}

// A Method is a call of an rpc_service with its types and codec.
type Method[Req, Rep any] struct {
	info MethodInfo
	spec MethodSpec[Req, Rep]
}

// NewMethod declares a method; generated code calls it once per method.
func NewMethod[Req, Rep any](p *Protocol, spec MethodSpec[Req, Rep]) *Method[Req, Rep] {
	m := &Method[Req, Rep]{
		info: MethodInfo{
			Protocol: p, Name: spec.Name, ID: spec.ID, Idempotent: spec.Idempotent,
			ReadOnly: spec.ReadOnly, Timeout: spec.Timeout,
			encodeRequest: func(b *flatbuffers.Builder, seq uint64, req any) error {
				return spec.EncodeRequest(b, seq, req.(*Req))
			},
			decodeReply: func(buf []byte, reply any) (uint64, error) {
				return spec.DecodeReply(buf, reply.(*Rep))
			},
		},
		spec: spec,
	}
	declared.add(&m.info)
	return m
}

// Info describes the method without its types.
func (m *Method[Req, Rep]) Info() *MethodInfo { return &m.info }

// A Call is one request on its way to a server. Interceptors see it.
type Call struct {
	Method *MethodInfo
	// Seq numbers the call. A Caller that finds 0 assigns its own next number;
	// a Caller that forwards to another keeps it, so that a call keeps its
	// number when it is sent again.
	Seq uint64
	// Request is the *Req and Reply the *Rep that the reply is decoded into.
	Request, Reply any
}

// A Caller carries calls to a server: a *Conn, a connection that follows the
// primary of a group, or an in-memory one. It is safe for concurrent use.
type Caller interface {
	// Invoke sends the call, waits for its reply and decodes it into
	// call.Reply. It blocks until then, until ctx is done, or until the
	// connection fails; every error is an *Error.
	Invoke(ctx context.Context, call Call) error
}

// Invoke makes a typed call through c. Generated clients are one line over it.
func Invoke[Req, Rep any](ctx context.Context, c Caller, m *Method[Req, Rep],
	req *Req) (*Rep, error) {
	if c == nil {
		c = nilCaller{}
	}
	rep := new(Rep)
	if err := c.Invoke(ctx, Call{Method: &m.info, Request: req, Reply: rep}); err != nil {
		return nil, err
	}
	return rep, nil
}

// MessageInfo is what is known of a one-way message without its type.
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

// Info describes the message without its type.
func (m *Message[M]) Info() *MessageInfo { return &m.info }

// A Post is a one-way message on its way to the peer.
type Post struct {
	Message *MessageInfo
	Seq     uint64 // as for Call
	Body    any    // the *M
}

// A Sender carries one-way messages to the peer: a *Conn towards its server,
// or a *Peer towards its client. It is safe for concurrent use.
type Sender interface {
	// Send hands the message to the transport. It blocks while the ring is
	// full, until ctx is done, or until the connection fails. A nil error
	// means that the message is in the peer's ring, not that it was handled.
	Send(ctx context.Context, post Post) error
}

// Send sends a typed one-way message through s. Generated senders are one line
// over it.
func Send[M any](ctx context.Context, s Sender, m *Message[M], body *M) error {
	if s == nil {
		s = nilCaller{}
	}
	return s.Send(ctx, Post{Message: &m.info, Body: body})
}

// A Route binds a method or message of a protocol to the code that handles it.
// Handle and Receive make them.
type Route struct {
	codec

	// One of these, by the kind of the route. Server and client reach it through a gate.
	call    func(ctx context.Context, req any) (rep any, err error)
	inPlace func(ctx context.Context, req []byte, reply *ReplyBuilder) error
	receive func(ctx context.Context, body any) error
}

// A codec is what a Route knows of its method or message, without the code that
// handles it.
type codec struct {
	id     uint32
	name   string
	method *MethodInfo // describes a message, too

	// Not of a method that is handled in place. payload may not be kept.
	decode func(payload []byte) (req any, seq uint64, err error)
	reply  func(b *flatbuffers.Builder, seq, refSeq uint64, rep any) error
}

// Handle routes calls of m to f.
func Handle[Req, Rep any](m *Method[Req, Rep], f func(context.Context, *Req) (*Rep, error)) Route {
	return Route{
		codec: codec{
			id: m.info.ID, name: m.info.Name, method: &m.info,
			decode: func(payload []byte) (any, uint64, error) {
				req := new(Req)
				seq, err := m.spec.DecodeRequest(payload, req)
				return req, seq, err
			},
			reply: func(b *flatbuffers.Builder, seq, refSeq uint64, rep any) error {
				return m.spec.EncodeReply(b, seq, refSeq, rep.(*Rep))
			},
		},
		call: func(ctx context.Context, req any) (any, error) {
			rep, err := f(ctx, req.(*Req))
			if err == nil && rep == nil {
				return nil,
					Errorf(CodeInternal, "the handler returned neither a reply nor an error")
			}
			return rep, err
		},
	}
}

// Receive routes one-way messages m to f. The messages of a connection are handled
// one after the other, and those that come meanwhile wait in memory that is bounded.
// When it is full, nothing more of the connection is read until f goes on,
// neither messages nor calls, replies and cancellations: calls wait, until their
// deadlines. So an f that makes calls on the same connection must set a deadline, or
// a flood of messages behind which the reply lies would stop both for ever.
func Receive[M any](m *Message[M], f func(context.Context, *M) error) Route {
	return Route{
		codec: codec{
			id: m.info.ID, name: m.info.Name,
			method: &MethodInfo{Protocol: m.info.Protocol, Name: m.info.Name, ID: m.info.ID},
			decode: func(payload []byte) (any, uint64, error) {
				body := new(M)
				seq, err := m.spec.Decode(payload, body)
				return body, seq, err
			},
		},
		receive: func(ctx context.Context, body any) error { return f(ctx, body.(*M)) },
	}
}

// A Service is a protocol with the code that handles it; generated code makes
// one from a user's implementation. It is immutable and may be shared between
// servers.
type Service struct {
	protocol *Protocol
	routes   []Route
	invalid  *Error // why it cannot be served, or nil
}

// NewService binds routes to a protocol.
func NewService(p *Protocol, routes ...Route) *Service {
	return &Service{protocol: p, routes: routes}
}
