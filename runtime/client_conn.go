package ipc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	flatbuffers "github.com/google/flatbuffers/go"
	"github.com/ipcgen/ipcgen/internal/interleave"
	"github.com/ipcgen/ipcgen/internal/record"
)

// A Conn is a client's connection to a server, made by [Dial]. It is a [Caller] and a [Sender], and
// safe for concurrent use. It ends with the process of its server and does not connect again; see
// [Client]. The caller of Dial must close it.
type Conn struct {
	// Within this process, one goroutine may read the ring that holds the replies: the holder of
	// the reader role. A caller takes the role if it is free and looks for its reply itself, so
	// that the common call needs no other goroutine. It passes the replies of other callers to
	// them. A caller that has looked for long enough leaves the role to the goroutine that waits
	// for the doorbell, and parks; see client_wait.go.

	endpoint
	cfg   dialConfig
	hello serverHello
	calls callTable
	woken atomic.Int32 // callers that have been woken and do not run yet
	seq   atomic.Uint64

	streaming flowTable
	chain     Caller // the interceptors in front of the connection; nil if none
	retry     *retrier

	role readerRole
	poke func() // wire.Poke
	// the same as down, once all calls are completed; before done is closed
	why        atomic.Pointer[Error]
	agreed     sync.Map // *Protocol to *Error, nil where it is compatible
	lastAgreed atomic.Pointer[Protocol]
	routes     routeTable // for pushed messages
	inbox      *inbox
	life       context.Context // for the handlers of pushed messages; ends with the connection
	endLife    context.CancelFunc
	leaving    chan struct{} // closed when the server says that it shuts down
}

// Invoke implements [Caller]. It blocks until the reply arrives, ctx is done, or the connection
// ends.
func (c *Conn) Invoke(ctx context.Context, call Call) error {
	if c == nil {
		return nilCaller{}.Invoke(ctx, call)
	}
	if c.retry != nil && call.Method.Streaming == Unary {
		return c.invokeAgain(ctx, call)
	}
	return c.once(ctx, call)
}

// invokeAgain makes a call, and tries again as the policy says.
func (c *Conn) invokeAgain(ctx context.Context, call Call) error {
	if call.Seq == 0 {
		call.Seq = c.seq.Add(1)
	}
	b := c.cfg.timeouts.of(call.Method).bind(ctx)
	return c.retry.do(ctx, b, call.Method, c.done, func(ctx context.Context) (error, bool) {
		err := c.once(ctx, call)
		return err, c.calls.closed.Load() != nil
	})
}

// once makes a call in one attempt.
func (c *Conn) once(ctx context.Context, call Call) error {
	if c.chain != nil {
		return intercepted(ctx, c.chain, c.cfg.logger, call)
	}
	return c.invoke(ctx, &call)
}

// intercepted makes a call through the interceptors of chain, of which one may panic before or
// after the call.
func intercepted(ctx context.Context, chain Caller, log *slog.Logger, call Call) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = call.Method.callFailed(pluginPanicked(log, "a client interceptor", r))
		}
	}()
	return chain.Invoke(ctx, call)
}

// direct is the end of a chain of interceptors.
type direct struct{ c *Conn }

func (d direct) Invoke(ctx context.Context, call Call) error { return d.c.invoke(ctx, &call) }

func (c *Conn) invoke(ctx context.Context, call *Call) error {
	m := call.Method
	if m.Streaming != Unary {
		return c.invokeStreaming(ctx, call)
	}
	ctx, p, err := c.begin(ctx, m, c.cfg.timeouts.ofAttempt(m))
	if err != nil {
		return m.callFailed(err)
	}
	defer c.calls.recycle(p)
	if err := c.roundTrip(ctx, p, call); err != nil {
		return m.callFailed(err)
	}
	if err := c.decodeReply(p, call); err != nil {
		return c.malformedReply(m, err)
	}
	return nil
}

// decodeReply decodes the reply of a call. A codec that panics has not understood it.
func (c *Conn) decodeReply(p *pending, call *Call) (err error) {
	defer plugin(c.cfg.logger, "the codec of a reply", &err)
	if m := call.memory; m.takes(call) {
		p.body, m.body = m.body, p.body
		return m.decode(call.Method, m.body)
	}
	return call.Method.decodeOwned(p.body, call.Reply, leastAdopted, &p.kept)
}

// begin checks whether a call that t limits can be made, and registers it. It returns the context
// of the call, which has its deadline and ends when p is recycled.
func (c *Conn) begin(ctx context.Context, m *MethodInfo, t timeout) (context.Context, *pending,
	*Error) {
	if err := c.agree(m.Protocol); err != nil {
		return ctx, nil, err
	}
	if err := ended(ctx); err != nil {
		return ctx, nil, err
	}
	b := t.bind(ctx)
	p, err := c.calls.register(ctx, b)
	if err != nil {
		return ctx, nil, err
	}
	return p.bound.wrap(ctx, b), p, nil
}

// roundTrip sends the call and waits until p is completed.
func (c *Conn) roundTrip(ctx context.Context, p *pending, call *Call) *Error {
	f, err := c.send(ctx, p, call)
	if err != nil {
		return err
	}
	c.await(ctx, p)
	return c.outcome(p, &f)
}

// send sends a request, or completes the call with the error why it cannot be sent.
func (c *Conn) send(ctx context.Context, p *pending, call *Call) (f frame, err *Error) {
	done := false
	defer func() {
		if !done {
			c.abandon(p)
		}
	}()
	f, err = c.requestFrame(ctx, p, call.Method, call.Seq)
	if err != nil {
		return f, err
	}
	request, err := encodeContent(p.builder, func() error {
		return call.Method.encodeRequest(p.builder, f.seq, call.Request)
	})
	if err == nil {
		err = c.tx.writeContent(ctx, &f, &request, &p.sent, nil)
	}
	request.done()
	done = err == nil
	return f, err
}

// requestFrame makes the header of a request.
func (c *Conn) requestFrame(ctx context.Context, p *pending, m *MethodInfo,
	seq uint64) (frame, *Error) {
	if seq == 0 {
		seq = c.seq.Add(1)
	}
	f := frame{kind: record.Request, id: p.id, method: m.ID, seq: seq, epoch: c.epoch()}
	if d, ok := ctx.Deadline(); ok {
		f.deadline = c.clock.at(d)
	}
	p.deadline = f.deadline
	p.outgoing = outgoingOf(ctx)
	err := c.tx.attach(&f, p.outgoing)
	return f, err
}

// abandon completes a call that was not sent.
func (c *Conn) abandon(p *pending) {
	if !p.claim(p.id) {
		c.await(context.Background(), p) // another goroutine completes it now
	}
}

// stale reports whether a reply comes from an epoch that is over.
func (c *Conn) stale(reply, request *frame) bool {
	return request.epoch != 0 && reply.epoch != 0 && reply.epoch < c.epoch()
}

// encode builds a message; a builder that cannot grow any more panics.
func encode(b *flatbuffers.Builder, build func() error) (body []byte, e *Error) {
	defer func() {
		if r := recover(); r != nil {
			err, ok := r.(error)
			if !ok {
				err = fmt.Errorf("%v", r)
			}
			e = &Error{Code: CodeInvalidArgument, Outcome: NotSent,
				Msg: "cannot encode the message", Err: err}
		}
	}()
	b.Reset()
	if err := build(); err != nil {
		return nil, &Error{Code: CodeInvalidArgument, Outcome: NotSent,
			Msg: "cannot encode the message", Err: err}
	}
	return b.FinishedBytes(), nil
}

// expired reports whether the server cannot execute a request because its deadline has passed. That
// holds if the deadline has passed, by the clock that both sides read, and the server has not taken
// the request: the server checks the deadline after that. The end of ctx is not enough, because a
// context may end before its deadline.
func (c *Conn) expired(p *pending) bool {
	if p.deadline == 0 || c.now() < p.deadline {
		return false
	}
	return c.tx.untaken(&p.sent)
}

// dispatch hands the messages that have arrived to the goroutines that wait for them. It returns
// after the last message of a batch, because the server may send more without end. It returns true
// when it has claimed p, which may be nil: as soon as it has put the reply into p or, for a wait
// of a streaming call, with the other items that had come. The caller must hold the role, which
// must not be paused.
func (c *Conn) dispatch(p *pending) (mine bool) {
	var f frame
	for first := true; first || c.rx.ring.Batch(); first = false {
		interleave.Settled()
		body, private, ok, err := c.rx.next(&f)
		if err != nil {
			c.fail(&Error{Code: CodeCorrupt, Msg: "the server broke the protocol", Err: err})
			return mine
		}
		if !ok {
			return mine
		}
		switch f.kind {
		case record.Reply, record.Error:
			to := c.calls.find(f.id)
			if to == nil || !to.claim(f.id) {
				c.stats.dropped.Add(1)
				c.rx.release()
				continue
			}
			to.frame = f
			if to == p && to.inPlace && f.kind == record.Reply && !private {
				to.view = body // released when it has been read
				return true
			}
			to.body = c.rx.keep(to.body, body, private)
			c.rx.release()
			if to == p {
				return true
			}
			c.complete(to)
		case record.Message:
			more := c.inbox.put(&f, body, private)
			c.rx.release()
			if !more {
				return mine
			}
		case record.Item, record.End, record.Credit:
			claimed, ok := c.handleFlow(&f, body, private, p)
			mine = mine || claimed
			if !ok {
				return mine
			}
		default:
			c.fail(&Error{Code: CodeCorrupt,
				Msg: fmt.Sprintf("the server sent a frame of kind %d", f.kind), Err: errBroken})
			return mine
		}
	}
	return mine
}

// readWire reads the wire until it is closed. The server writes one byte when it shuts down; the
// end of the wire means that the server is gone.
func (c *Conn) readWire() {
	buf := make([]byte, 64)
	for told := false; ; {
		n, err := c.wire.Read(buf)
		if bytes.IndexByte(buf[:n], goAway) >= 0 && !told {
			told = true
			c.calls.refuse(&Error{Code: CodeUnavailable, Outcome: NotSent,
				Msg: "the server is shutting down"})
			close(c.leaving)
		}
		if err != nil {
			c.fail(c.tx.closeReason(&Error{Code: CodeUnavailable, Msg: "the server is gone"}))
			return
		}
	}
}

// fail ends the connection for the given reason. The holder of the reader role tears it down, or
// this goroutine if the role is free.
func (c *Conn) fail(why *Error) {
	if !c.down.CompareAndSwap(nil, why) {
		return
	}
	c.stats.ends(why)
	if c.granted(c.role.end()) {
		c.leaveRole()
		return
	}
	c.wire.Close() // so that the server need not wait for the holder of the role
}

// teardown completes all calls and releases the memory. The caller must hold the reader role, which
// no goroutine gets afterwards.
func (c *Conn) teardown() {
	c.role.close()
	why := c.down.Load()
	if why.Code != CodeCorrupt {
		c.rx.ring.Finish()
		c.inbox.open()
		c.dispatch(nil) // what the server published before it died counts
	}
	c.rx.tally.publish()
	refused := *why
	refused.Outcome = NotSent
	c.tx.close(&refused)
	c.tx.revoke() // the server may live, and read on
	c.calls.refuse(&refused)
	c.endFlows(why, &refused)
	lost := c.calls.claimAll()
	for _, p := range lost {
		err := *why
		switch {
		case !p.sent.done:
			err.Outcome = NotSent
		case !c.tx.taken(&p.sent):
			err.Outcome = NotExecuted
		}
		p.err = &err
		c.complete(p)
	}
	c.endLife()
	c.why.Store(why)
	if len(lost) == 0 {
		c.release()
		return
	}
	interleave.Go(func() {
		time.Sleep(lossRest)
		c.release()
	})
}

// lossRest is how long a connection that has failed calls keeps its memory. Releasing it takes
// system calls, and so does connecting to the same place again, which a [Client] does afterwards.
// Callers that go on to another server have the processors first.
const lossRest = time.Millisecond

// release releases what the connection holds, as the last part of teardown.
func (c *Conn) release() {
	c.wire.Close()
	if err := c.seg.Close(); err != nil {
		c.cfg.logger.Warn("unmap the shared memory", "err", err)
	}
	close(c.done)
}

// errClosed is the cause of errors after Close.
var errClosed = errors.New("the connection was closed by this side")

// Close closes the connection and blocks until its memory is released. Handlers that still run are
// not waited for. Messages that were sent before are delivered. Calls that the server has not taken
// are withdrawn, and fail with outcome [NotExecuted]; calls that it has taken fail with
// [OutcomeUnknown]. Close must not be called from a callback of InvokeInPlace. It may be called
// again.
func (c *Conn) Close() error {
	c.fail(&Error{Code: CodeUnavailable, Err: errClosed})
	<-c.done
	return nil
}

// Done returns a channel that is closed when the connection has ended.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err returns nil while the connection lives, and the reason for its end afterwards.
func (c *Conn) Err() error {
	if why := c.why.Load(); why != nil {
		return why
	}
	return nil
}

// Peer returns the server's process.
func (c *Conn) Peer() Peer { return c.peer }

// Send implements [Sender]. It blocks while the ring is full, until ctx is done or the connection
// ends.
func (c *Conn) Send(ctx context.Context, post Post) error {
	if c == nil {
		return nilCaller{}.Send(ctx, post)
	}
	m := post.Message
	if err := c.agree(m.Protocol); err != nil {
		return m.sendFailed(err)
	}
	if err := ended(ctx); err != nil {
		return m.sendFailed(err)
	}
	if err := c.calls.closed.Load(); err != nil { // a server that drains would never come to an end
		return m.sendFailed(err)
	}
	if post.Seq == 0 {
		post.Seq = c.seq.Add(1)
	}
	if err := c.post(ctx, &post); err != nil {
		return m.sendFailed(err)
	}
	return nil
}

// boundContexts has contexts of messages, which have no pending.
var boundContexts = sync.Pool{New: func() any { return new(boundContext) }}

// post sends a message, within the timeout of messages.
func (c *Conn) post(ctx context.Context, post *Post) *Error {
	if b := c.cfg.timeouts.ofMessages().bind(ctx); b.limit > 0 {
		bounded := boundContexts.Get().(*boundContext)
		defer boundContexts.Put(bounded)
		defer bounded.end()
		ctx = bounded.wrap(ctx, b)
	}
	return c.tx.sendMessage(ctx, post, c.epoch(), nil)
}

func (c *Conn) epoch() uint64 {
	if c.cfg.epoch == nil {
		return 0
	}
	return c.cfg.epoch.Epoch()
}

// agree compares a protocol with the server's version when it is first used.
func (c *Conn) agree(p *Protocol) *Error {
	if c.lastAgreed.Load() == p {
		return nil
	}
	v, ok := c.agreed.Load(p)
	if !ok {
		v = c.hello.compare(p)
		c.agreed.Store(p, v)
	}
	if err := v.(*Error); err != nil {
		return err
	}
	c.lastAgreed.Store(p)
	return nil
}

// A clock translates deadlines between this process and the clock that all
// processes share, without reading either.
type clock struct {
	local  time.Time
	shared int64
}

// at returns the shared clock's reading at t; times that are too far away have the nearest reading
// that a deadline can have.
func (c clock) at(t time.Time) int64 {
	d := int64(t.Sub(c.local))
	if d > math.MaxInt64-c.shared {
		return math.MaxInt64
	}
	return max(c.shared+d, 1)
}

// time is the inverse of at. A reading before the clock's beginning counts as the beginning.
func (c clock) time(shared int64) time.Time {
	return c.local.Add(time.Duration(max(shared, 0) - c.shared))
}
