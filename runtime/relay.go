package ipc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync/atomic"

	flatbuffers "github.com/google/flatbuffers/go"

	"github.com/ipcgen/ipcgen/internal/prebuilt"
)

// This file is for gateways: they pass calls and messages on as they are encoded, by the
// description of a protocol, without the code that ipcgen has generated for it.

// An encoded is a message of a relay, as it travels.
type encoded struct{ body []byte }

func decodeEncoded(buf []byte, e *encoded) (uint64, error) {
	e.body = bytes.Clone(buf)
	return 0, nil
}

// A relayedProtocol has what a protocol's description says of its methods and messages.
type relayedProtocol struct {
	methods  []*Method[encoded, encoded]
	messages []*Message[encoded]
}

// relayProtocol reads the description of p.
func relayProtocol(p *Protocol) (*relayedProtocol, error) {
	d, err := parseDescription(p.Schema)
	if err != nil {
		return nil, &Error{Code: CodeCorrupt, Outcome: NotSent, Msg: "protocol " + p.Name, Err: err}
	}
	r := new(relayedProtocol)
	b := d.blocks["protocol "+p.Name]
	if b == nil {
		return r, nil // a topic, or a stream
	}
	if b.kind == "envelope" {
		r.addMessages(p, d)
		return r, nil
	}
	for _, key := range b.order {
		if e := b.entries[key]; e.kind() == "method" {
			r.methods = append(r.methods, relayMethod(p, strings.TrimPrefix(e.key, "method "), e))
		}
	}
	return r, nil
}

// addMessages adds the members of the union in the envelope p.
func (r *relayedProtocol) addMessages(p *Protocol, d *description) {
	table := d.typ(p.Name)
	if table == nil {
		return
	}
	for _, key := range table.order {
		union := d.typ(table.entries[key].typ())
		if union == nil || union.kind != "union" {
			continue
		}
		for _, key := range union.order {
			name := union.entries[key].name()
			r.messages = append(r.messages, &Message[encoded]{
				info: MessageInfo{Protocol: p, Name: name, ID: wireID(p, name),
					encode: func(b *flatbuffers.Builder, _ uint64, msg any) error {
						return prebuilt.Place(b, msg.(*encoded).body)
					}},
				spec: MessageSpec[encoded]{Decode: decodeEncoded},
			})
		}
	}
}

func relayMethod(p *Protocol, name string, e *entryLine) *Method[encoded, encoded] {
	m := &Method[encoded, encoded]{
		info: MethodInfo{Protocol: p, Name: name, ID: wireID(p, name),
			Idempotent: e.has("idempotent"), ReadOnly: e.has("read_only"),
			newReply: func() any { return new(encoded) },
			encodeRequest: func(b *flatbuffers.Builder, _ uint64, req any) error {
				return prebuilt.Place(b, req.(*encoded).body)
			},
			decodeReply: func(buf []byte, reply any) (uint64, error) {
				return decodeEncoded(buf, reply.(*encoded))
			}},
		spec: MethodSpec[encoded, encoded]{
			DecodeRequest: decodeEncoded,
			EncodeReply: func(b *flatbuffers.Builder, _, _ uint64, rep *encoded) error {
				return prebuilt.Place(b, rep.body)
			}},
	}
	for _, s := range []Streaming{ClientStreaming, ServerStreaming, BidiStreaming} {
		if e.has("streaming:" + s.String()) {
			m.info.Streaming = s
		}
	}
	return m
}

// Relay returns a service of p whose calls and one-way messages a carrier takes, as they are
// encoded. p needs its Schema. Errors of the carrier, their outcomes, and metadata both ways pass
// unchanged. The carrier counts the calls itself: their numbers are not those of the clients.
//
// A client compares itself with p, and not with the server, whose version may be another one. So
// the carrier should pass a call only to a server of which p is all that it has; [CheckCompatible]
// says so of the protocol of the service. Relay tells its clients of a server that has more with
// CodeUnavailable, not sent.
func Relay(p *Protocol, to Carrier) (*Service, error) {
	if p == nil || to == nil {
		return nil, invalid("Relay was given no Protocol or no Carrier")
	}
	p = announced(p)
	r, err := relayProtocol(p)
	if err != nil {
		return nil, err
	}
	g := &relay{protocol: p, to: to}
	var routes []Route
	for _, m := range r.methods {
		routes = append(routes, g.route(m))
	}
	for _, m := range r.messages {
		routes = append(routes, Receive(m, func(ctx context.Context, e *encoded) error {
			in := g.inbound(ctx, m.info.ID)
			in.OneWay, in.Body = true, e.body
			_, err := g.carry(ctx, in)
			return err
		}))
	}
	return NewService(p, routes...), nil
}

// announced returns a protocol that stands for the versions of all clients of a gateway.
func announced(p *Protocol) *Protocol {
	q := *p
	q.relayed = true
	return &q
}

// passed returns the error of a call that a gateway passes on. That a server has more than is
// announced passes, for the gateway will announce it.
func passed(err error) Error {
	told := *asCallError(err)
	told.Op = ""
	if errors.Is(err, errUnannounced) {
		told.Code = CodeUnavailable
	}
	return told
}

// A relay is the service of Relay.
type relay struct {
	protocol *Protocol
	to       Carrier
	seq      atomic.Uint64
}

func (g *relay) inbound(ctx context.Context, method uint32) *Inbound {
	return &Inbound{Protocol: g.protocol, Method: method, Seq: g.seq.Add(1),
		Metadata: MetadataFromContext(ctx)}
}

// carry passes a call on.
func (g *relay) carry(ctx context.Context, in *Inbound) (*encoded, error) {
	out, err := g.to.Handle(ctx, in)
	if !in.OneWay {
		for k, v := range out.Metadata.All() {
			if err := SetReplyMetadata(ctx, k, v); err != nil {
				return nil, err
			}
		}
	}
	if err != nil {
		told := passed(err)
		told.Remote = false // so that its outcome is that of this call
		return nil, &told
	}
	return &encoded{out.Body}, nil
}

// route returns the route of a method.
func (g *relay) route(m *Method[encoded, encoded]) Route {
	call := func(ctx context.Context, in iter.Seq2[*encoded, error], req *encoded,
		yield func(*encoded, error) bool) (*encoded, error) {
		x := g.inbound(ctx, m.info.ID)
		if req != nil {
			x.Body = req.body
		}
		if in != nil {
			x.In = func(yield func([]byte, error) bool) {
				for item, err := range in {
					var body []byte
					if err == nil {
						body = item.body
					}
					if !yield(body, err) {
						return
					}
				}
			}
		}
		if yield != nil {
			x.Out = func(item []byte) bool {
				return yield(&encoded{bytes.Clone(item)}, nil)
			}
		}
		return g.carry(ctx, x)
	}
	items := func(ctx context.Context, in iter.Seq2[*encoded, error],
		req *encoded) iter.Seq2[*encoded, error] {
		return func(yield func(*encoded, error) bool) {
			more := true
			_, err := call(ctx, in, req, func(item *encoded, err error) bool {
				more = yield(item, err)
				return more
			})
			if err != nil && more {
				yield(nil, err)
			}
		}
	}
	switch m.info.Streaming {
	case ServerStreaming:
		return HandleServerStream(m, func(ctx context.Context,
			req *encoded) iter.Seq2[*encoded, error] {
			return items(ctx, nil, req)
		})
	case BidiStreaming:
		return HandleBidiStream(m, func(ctx context.Context,
			in iter.Seq2[*encoded, error]) iter.Seq2[*encoded, error] {
			return items(ctx, in, nil)
		})
	case ClientStreaming:
		return HandleClientStream(m, func(ctx context.Context,
			in iter.Seq2[*encoded, error]) (*encoded, error) {
			return call(ctx, in, nil, nil)
		})
	}
	return Handle(m, func(ctx context.Context, req *encoded) (*encoded, error) {
		return call(ctx, nil, req, nil)
	})
}

// CarryTo returns a carrier that makes the calls of protocols through c, and sends their one-way
// messages if c is a [Sender], as they are encoded. The protocols need their Schema. It is the
// other half of a gateway; see [Relay].
func CarryTo(c Caller, protocols ...*Protocol) (Carrier, error) {
	if c == nil {
		return nil, invalid("CarryTo was given a nil Caller")
	}
	t := &callerCarrier{caller: c, methods: map[uint32]*MethodInfo{},
		messages: map[uint32]*MessageInfo{}}
	t.sender, _ = c.(Sender)
	for _, p := range protocols {
		r, err := relayProtocol(announced(p))
		if err != nil {
			return nil, err
		}
		for _, m := range r.methods {
			t.methods[m.info.ID] = &m.info
		}
		for _, m := range r.messages {
			t.messages[m.info.ID] = &m.info
		}
	}
	return t, nil
}

// A callerCarrier is the carrier of CarryTo.
type callerCarrier struct {
	caller   Caller
	sender   Sender
	methods  map[uint32]*MethodInfo
	messages map[uint32]*MessageInfo
}

// Handle implements [Carrier].
func (t *callerCarrier) Handle(ctx context.Context, in *Inbound) (out Outbound, err error) {
	for k, v := range in.Metadata.All() {
		ctx = WithMetadata(ctx, k, v)
	}
	if in.OneWay {
		m := t.messages[in.Method]
		if m == nil || t.sender == nil {
			return out, t.unknown(in)
		}
		return out, t.sender.Send(ctx, Post{Message: m, Seq: in.Seq, Body: &encoded{in.Body}})
	}
	m := t.methods[in.Method]
	if m == nil || m.Streaming.out() != (in.Out != nil) || in.In != nil && !m.Streaming.in() {
		return out, t.unknown(in)
	}
	var reply encoded
	call := Call{Method: m, Seq: in.Seq}
	if m.Streaming.in() {
		call.In = func(yield func(any, error) bool) {
			if in.In == nil {
				return
			}
			for item, err := range in.In {
				if !yield(&encoded{item}, err) {
					return
				}
			}
		}
	} else {
		call.Request = &encoded{in.Body}
	}
	if m.Streaming.out() {
		call.Out = func(item any) bool { return in.Out(item.(*encoded).body) }
	} else {
		call.Reply = &reply
	}
	err = t.caller.Invoke(WithReplyMetadata(ctx, &out.Metadata), call)
	if err != nil {
		told := passed(err)
		out.Taken = told.Taken
		return out, &told
	}
	out.Body = reply.body
	return out, nil
}

func (t *callerCarrier) unknown(in *Inbound) error {
	return &Error{Code: CodeUnimplemented, Outcome: NotExecuted,
		Msg: fmt.Sprintf("the gateway knows no such method with id %#x", in.Method)}
}
