package ipc

import (
	"context"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
)

// Everything that a client can start passes the gate in this file on its way to its handler. A
// handler that a server has bound to a route or a stream can be reached through the gate only. So
// no kind, including kinds that are added later, bypasses the interceptors.

// A Kind distinguishes what a client can start.
type Kind uint8

// The kinds.
const (
	// KindCall is a call of a method, plain or in place.
	KindCall Kind = iota
	// KindMessage is a one-way message.
	KindMessage
	// KindStream is a stream of structs, from its opening to its end.
	KindStream
	// KindSubscription is a subscription to a topic, from its opening to its end.
	KindSubscription
	// KindIntrospection is a call of a tool that asks about the server itself.
	KindIntrospection
	// KindStreamingCall is a call of a method that streams, from its opening to its end.
	KindStreamingCall
	// KindHealth is a health check.
	KindHealth
)

func (k Kind) String() string {
	switch k {
	case KindCall:
		return "call"
	case KindMessage:
		return "message"
	case KindStream:
		return "stream"
	case KindSubscription:
		return "subscription"
	case KindIntrospection:
		return "introspection"
	case KindStreamingCall:
		return "streaming call"
	case KindHealth:
		return "health check"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// A gate is the list of a server's interceptors, the outermost first. A client has no interceptors
// for what its server sends.
type gate []ServerInterceptor

// pass runs the interceptors around last.
func (g gate) pass(ctx context.Context, call *ServerCall, last func(context.Context) error) error {
	if len(g) == 0 {
		return last(ctx)
	}
	return g[0](ctx, call, func(ctx context.Context) error {
		call.within++
		err := g[1:].pass(ctx, call, last)
		call.within--
		return err
	})
}

// A boundRoute is a route whose handler lies behind a gate, with what a server learns about
// it. Of call, inPlace, receive and stream it has the one that its kind asks for.
type boundRoute struct {
	*codec
	protocol *Protocol
	pace     pace
	seqField int  // of a guarded server: where requests carry their numbers; -1 for nowhere
	adopts   bool // its objects may keep the memory of their messages: there are no interceptors
	recycles bool
	used     sync.Pool // of what decode returns, if it recycles
	// longReply is the length of the last reply that was encoded, if it was long, and 0 otherwise.
	longReply atomic.Int64
	measuring chan struct{} // full while a reply is encoded to be measured

	introspects bool                        // it tells of the server itself
	counts      atomic.Pointer[routeCounts] // nil until a tool has asked

	call    func(x *execution, req any, seq uint64) (rep any, err error)
	inPlace func(x *execution) error
	receive func(ctx context.Context, p *Peer, n *delivery, payload []byte) error
	stream  func(x *execution, req any, seq uint64) (rep any, err error)
}

// newBoundRoute returns a route without its handler.
func newBoundRoute(p *Protocol, c *codec) *boundRoute {
	return &boundRoute{codec: c, protocol: p, measuring: make(chan struct{}, 1)}
}

// bind puts the gate before the handler of a route.
func (g gate) bind(p *Protocol, r *Route) *boundRoute {
	b := newBoundRoute(p, &r.codec)
	b.adopts = len(g) == 0 // an interceptor may look at the message when the handler has the object
	switch {
	case r.call != nil:
		b.call = g.calls(b, r.call)
	case r.inPlace != nil:
		b.inPlace = g.callsInPlace(b, r.inPlace)
	case r.receive != nil:
		b.receive = g.messages(b, r.receive)
	case r.stream != nil:
		b.stream = g.streamingCalls(b, r.stream)
	}
	return b
}

func (g gate) calls(b *boundRoute, f func(context.Context, any) (any, error)) func(*execution,
	any, uint64) (any, error) {
	if len(g) == 0 {
		return func(x *execution, req any, _ uint64) (any, error) { return f(x.context, req) }
	}
	return func(x *execution, req any, seq uint64) (any, error) {
		sc, p := b.serverCall(x), new(passage)
		sc.Request, sc.refSeq = req, seq
		err := g.pass(x.context, sc, p.guard(func(ctx context.Context) (err error) {
			sc.Reply, err = f(ctx, sc.Request)
			return err
		}))
		if x.outlived = p.end(); x.outlived && err != nil {
			return nil, err // the handler may set a reply now
		}
		return sc.Reply, err
	}
}

// A passage is what runs behind the gate for one thing that a client has started. An interceptor
// may have a goroutine for the handler, and return without it. Then the handler goes on with its
// request, and with what it has leased, which must not be used again.
type passage struct {
	inside atomic.Int32  // handlers that run
	left   chan struct{} // closed when the last one has returned after end; nil without a wait
}

// passageEnded is added to passage.inside when the passage has ended. It makes it less than 0.
const passageEnded = math.MinInt32 / 2

// guard returns a last step of the passage, which does not begin once that has ended.
func (p *passage) guard(last func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		for n := p.inside.Load(); ; n = p.inside.Load() {
			if n < 0 {
				return Errorf(CodeFailedPrecondition,
					"an interceptor calls next after it has returned from the call")
			}
			if p.inside.CompareAndSwap(n, n+1) {
				break
			}
		}
		defer func() {
			if p.inside.Add(-1) == passageEnded && p.left != nil {
				close(p.left)
			}
		}()
		return last(ctx)
	}
}

// end ends the passage, and reports whether a handler outlives it.
func (p *passage) end() (outlived bool) { return p.inside.Add(passageEnded) != passageEnded }

// wait ends the passage, and waits for its handler.
func (p *passage) wait() {
	if p.end() {
		<-p.left
	}
}

func (g gate) callsInPlace(b *boundRoute,
	f func(context.Context, []byte, *ReplyBuilder) error) func(*execution) error {
	if len(g) == 0 {
		return func(x *execution) error { return f(x.context, x.body, &x.reply) }
	}
	return func(x *execution) error {
		sc, p := b.serverCall(x), passage{left: make(chan struct{})}
		sc.InPlace = true
		defer p.wait() // the handler has the memory of the call
		return g.pass(x.context, sc, p.guard(func(ctx context.Context) error {
			return f(ctx, x.body, &x.reply)
		}))
	}
}

func (g gate) messages(b *boundRoute, f func(context.Context, any) error) func(context.Context,
	*Peer, *delivery, []byte) error {
	return func(ctx context.Context, peer *Peer, n *delivery, payload []byte) error {
		body, seq, err := n.open(b, payload)
		if err != nil {
			return &Error{Code: CodeInvalidArgument, Outcome: NotExecuted,
				Msg: "malformed message", Err: err}
		}
		if len(g) == 0 {
			n.passed = true
			err := f(ctx, body)
			b.close(body)
			return err
		}
		sc := &ServerCall{Kind: KindMessage, Protocol: b.protocol, Name: b.name, Method: b.method,
			Seq: n.seq, Epoch: n.epoch,
			Peer: peer, Request: body, Body: payload, refSeq: seq, codec: b.codec}
		p := passage{left: make(chan struct{})}
		err = g.pass(ctx, sc, p.guard(func(ctx context.Context) error {
			n.passed = true
			return f(ctx, sc.Request)
		}))
		p.wait() // messages are handled one after the other
		b.close(body)
		return err
	}
}

func (g gate) streamingCalls(b *boundRoute, f streamHandler) func(*execution, any,
	uint64) (any, error) {
	return func(x *execution, req any, seq uint64) (any, error) {
		if len(g) == 0 {
			return f(x.context, req, x.in, x.out)
		}
		sc, p := b.serverCall(x), new(passage)
		sc.Kind, sc.Request, sc.refSeq, sc.In, sc.Out = KindStreamingCall, req, seq, x.in, x.out
		err := g.pass(x.context, sc, p.guard(func(ctx context.Context) (err error) {
			sc.Reply, err = f(ctx, sc.Request, sc.In, sc.Out)
			return err
		}))
		if x.outlived = p.end(); x.outlived && err != nil {
			return nil, err // the handler may set a reply now
		}
		return sc.Reply, err
	}
}

// open decodes a request or a message, into an object that close was given, if there is one.
func (b *boundRoute) open(payload []byte) (req any, seq uint64, err error) {
	if !b.recycles {
		return b.decode(payload, nil)
	}
	return b.decode(payload, b.usedOr(b.used.Get()))
}

// usedOr returns used, or a new object if that is nil.
func (b *boundRoute) usedOr(used any) any {
	if used == nil {
		return b.fresh()
	}
	return used
}

// openOwned is open for a payload whose memory the object may keep, as adopt says.
func (b *boundRoute) openOwned(payload []byte, from int, kept *bool) (req any, seq uint64,
	err error) {
	if b.recycles || !b.adopts {
		return b.open(payload)
	}
	err = adopt(payload, from, kept, func() (err error) {
		req, seq, err = b.decode(payload, nil)
		return err
	})
	return req, seq, err
}

// close takes an object from open back, to which nothing refers any more. A handler that panics
// does not come here: its deferred functions, and goroutines that recovered, may go on.
func (b *boundRoute) close(req any) {
	if b.recycles {
		b.used.Put(req)
	}
}

// serverCall returns the description of a call for the interceptors.
func (b *boundRoute) serverCall(x *execution) *ServerCall {
	return &ServerCall{Kind: KindCall, Protocol: b.protocol, Name: b.name, Method: b.method,
		Seq: x.seq, Epoch: x.epoch, Peer: x.peer, Body: x.body, Sum: x.sum, codec: b.codec,
		execution: x}
}
