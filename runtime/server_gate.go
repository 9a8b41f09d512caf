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
		if p := call.passage; p != nil {
			p.within.Add(1)
			defer p.within.Add(-1)
		}
		return g[1:].pass(ctx, call, last)
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
		p := &passage{x: x}
		sc := b.serverCall(p)
		sc.Request, sc.refSeq = req, seq
		err := p.run(g, x.context, sc, func(ctx context.Context) (err error) {
			sc.Reply, err = f(ctx, sc.Request)
			return err
		})
		return x.replyOf(sc, err)
	}
}

// A passage is what runs behind the gate for one thing that a client has started. An interceptor
// may have a goroutine for what is further in, and return without it. Then the handler goes on with
// its request, and with what it has leased, which must not be used again. The execution is: so
// nothing behind the gate has it once the passage has ended.
type passage struct {
	inside atomic.Int32  // handlers that run
	left   chan struct{} // closed when the last one has returned after the end; nil without a wait
	within atomic.Int32  // the number of interceptors around the one that runs

	mu sync.Mutex // before serverConn.mu
	x  *execution // nil of a message, and when the passage has ended
}

// passageEnded is added to passage.inside when the passage has ended. It makes it less than 0.
const passageEnded = math.MinInt32 / 2

// run runs the interceptors of g around last. When they have returned, or panicked, it ends the
// passage, and waits for its handlers if there is left. Otherwise it sets outlived.
func (p *passage) run(g gate, ctx context.Context, call *ServerCall,
	last func(context.Context) error) error {
	defer p.end()
	return g.pass(ctx, call, p.guard(last))
}

// end ends the passage.
func (p *passage) end() {
	p.mu.Lock()
	x := p.x
	p.x = nil
	p.mu.Unlock()
	outlived := p.inside.Add(passageEnded) != passageEnded
	switch {
	case p.left == nil:
		x.outlived = outlived
	case outlived:
		<-p.left
	}
}

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

// postpone puts the answer of a call off until wait has returned, and reports true, if it can. If
// not, it lets the carrier know that the call waits. p may be nil.
func (p *passage) postpone(wait func() error) bool {
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch x := p.x; {
	case x == nil:
	case x.mayPostpone && x.after == nil && p.within.Load() == 0:
		x.after = wait
		return true
	default:
		x.carrier.willWait()
	}
	return false
}

// replyOf returns the reply of a call whose interceptors have returned err, and err.
func (x *execution) replyOf(call *ServerCall, err error) (any, error) {
	if x.outlived && err != nil {
		return nil, err // the handler may set a reply now
	}
	return call.Reply, err
}

func (g gate) callsInPlace(b *boundRoute,
	f func(context.Context, []byte, *ReplyBuilder) error) func(*execution) error {
	if len(g) == 0 {
		return func(x *execution) error { return f(x.context, x.body, &x.reply) }
	}
	return func(x *execution) error {
		p := &passage{x: x, left: make(chan struct{})} // the handler has the memory of the call
		sc := b.serverCall(p)
		sc.InPlace = true
		return p.run(g, x.context, sc, func(ctx context.Context) error {
			return f(ctx, x.body, &x.reply)
		})
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
		p := &passage{left: make(chan struct{})} // messages are handled one after the other
		err = p.run(g, ctx, sc, func(ctx context.Context) error {
			n.passed = true
			return f(ctx, sc.Request)
		})
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
		p := &passage{x: x}
		sc := b.serverCall(p)
		sc.Kind, sc.Request, sc.refSeq, sc.In, sc.Out = KindStreamingCall, req, seq, x.in, x.out
		err := p.run(g, x.context, sc, func(ctx context.Context) (err error) {
			sc.Reply, err = f(ctx, sc.Request, sc.In, sc.Out)
			return err
		})
		return x.replyOf(sc, err)
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
func (b *boundRoute) serverCall(p *passage) *ServerCall {
	x := p.x
	return &ServerCall{Kind: KindCall, Protocol: b.protocol, Name: b.name, Method: b.method,
		Seq: x.seq, Epoch: x.epoch, Peer: x.peer, Body: x.body, Sum: x.sum, codec: b.codec,
		passage: p}
}
