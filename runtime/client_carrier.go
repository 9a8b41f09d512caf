package ipc

import (
	"context"
	"sync/atomic"

	flatbuffers "github.com/google/flatbuffers/go"
)

// This file is the client's half of the seam for other carriers.

// A CarrierClient makes calls through a [Carrier]: generated clients take it in place of a [*Conn].
// It is a [Caller] and a [Sender], and safe for concurrent use.
type CarrierClient struct {
	carrier Carrier
	cfg     dialConfig
	chain   Caller // the interceptors; nil: none
	seq     atomic.Uint64
}

// NewCarrierClient returns a client of what c carries calls to. Of the options,
// [WithClientInterceptor], [WithTimeout], [WithMethodTimeout] and [WithEpoch] have an effect:
// those that concern connections change nothing.
//
// A call without items runs [Carrier.Handle] on its own goroutine and returns when Handle does. A
// streaming call has another goroutine for Handle, and does not wait for it when its context ends,
// or its loop is left. [CarrierClient.Send] returns the error of Handle.
func NewCarrierClient(c Carrier, opts ...DialOption) (*CarrierClient, error) {
	if c == nil {
		return nil, invalid("NewCarrierClient was given a nil Carrier")
	}
	cfg, err := dialConfigOf(opts)
	if err != nil {
		return nil, err
	}
	cc := &CarrierClient{carrier: c, cfg: cfg}
	if len(cfg.interceptors) > 0 {
		cc.chain = chainClient(callerFunc(func(ctx context.Context, call Call) error {
			return cc.invoke(ctx, &call)
		}), cfg.interceptors)
	}
	return cc, nil
}

// Limits returns the limits that the options of c set. Its carrier keeps to them.
func (c *CarrierClient) Limits() Limits { return c.cfg.limits() }

// Invoke implements [Caller].
func (c *CarrierClient) Invoke(ctx context.Context, call Call) error {
	if c == nil {
		return nilCaller{}.Invoke(ctx, call)
	}
	if c.chain != nil {
		return intercepted(ctx, c.chain, c.cfg.logger, call)
	}
	return c.invoke(ctx, &call)
}

// Send implements [Sender].
func (c *CarrierClient) Send(ctx context.Context, post Post) error {
	if c == nil {
		return nilCaller{}.Send(ctx, post)
	}
	m := post.Message
	b := takeBuilder()
	defer giveBuilder(b)
	in, err := c.inbound(ctx, m.Protocol, m.ID, post.Seq)
	if err == nil {
		in.OneWay = true
		in.Body, err = encode(b, func() error { return m.encode(b, in.Seq, post.Body) })
	}
	if err == nil {
		_, err = c.carry(ctx, in)
	}
	if err != nil {
		return m.sendFailed(err)
	}
	return nil
}

// inbound begins a call or message with ctx.
func (c *CarrierClient) inbound(ctx context.Context, p *Protocol, method uint32,
	seq uint64) (*Inbound, *Error) {
	if err := ended(ctx); err != nil {
		return nil, err
	}
	metadata, err := OutgoingMetadata(ctx)
	if err != nil {
		return nil, asCallError(err)
	}
	if seq == 0 {
		seq = c.seq.Add(1)
	}
	return &Inbound{Protocol: p, Method: method, Seq: seq, Epoch: c.epoch(), Metadata: metadata},
		nil
}

func (c *CarrierClient) epoch() uint64 {
	if c.cfg.epoch == nil {
		return 0
	}
	return c.cfg.epoch.Epoch()
}

// invoke makes a call.
func (c *CarrierClient) invoke(ctx context.Context, call *Call) error {
	m := call.Method
	if err := m.checkItems(call); err != nil {
		return m.callFailed(err)
	}
	in, err := c.inbound(ctx, m.Protocol, m.ID, call.Seq)
	if err == nil {
		err = c.exchange(ctx, call, in)
	}
	if err != nil {
		return m.callFailed(err)
	}
	return nil
}

// exchange carries a call to its end.
func (c *CarrierClient) exchange(ctx context.Context, call *Call, in *Inbound) *Error {
	m := call.Method
	ctx, stop := c.cfg.timeouts.of(m).bind(ctx).context(ctx)
	defer stop()
	if m.Streaming != Unary {
		return c.stream(ctx, call, in)
	}
	b := takeBuilder()
	defer giveBuilder(b)
	var err *Error
	in.Body, err = encode(b, func() error { return m.encodeRequest(b, in.Seq, call.Request) })
	if err != nil {
		return err
	}
	answer, err := c.carry(ctx, in)
	return c.conclude(ctx, call, in, &answer, err)
}

// carry calls the carrier.
func (c *CarrierClient) carry(ctx context.Context, in *Inbound) (answer Outbound, err *Error) {
	failed := func() (failed error) {
		defer plugin(c.cfg.logger, "Carrier.Handle", &failed)
		answer, failed = c.carrier.Handle(ctx, in)
		return failed
	}()
	if failed != nil {
		err = asCallError(failed)
	}
	return answer, err
}

// conclude takes in the answer to a call.
func (c *CarrierClient) conclude(ctx context.Context, call *Call, in *Inbound, answer *Outbound,
	err *Error) *Error {
	if o := outgoingOf(ctx); o != nil && o.reply != nil {
		*o.reply = answer.Metadata
	}
	switch {
	case err != nil && ctx.Err() != nil && err.Is(ctx.Err()):
		// As over a connection: it is this side that has ended the call.
		outcome := err.Outcome
		if err = contextError(ctx); outcome == NotSent || outcome == NotExecuted {
			err.Outcome = outcome
		}
	case err == nil && in.Epoch != 0 && answer.Epoch != 0 && answer.Epoch < c.epoch():
		err = fromOldEpoch("reply", answer.Epoch)
	}
	if err == nil && !call.Method.Streaming.out() {
		if why := decodeAnswer(call, answer); why != nil {
			err = malformedAnswer("reply", why).with(Executed)
		}
	}
	if err != nil && answer.Taken != 0 {
		told := *err
		told.Taken = answer.Taken
		return &told
	}
	return err
}

// decodeAnswer decodes the reply of a call, which may keep the memory of the answer if that is the
// call's.
func decodeAnswer(call *Call, answer *Outbound) error {
	if m := call.memory; m.takes(call) {
		if !answer.Owned {
			return m.decode(call.Method, m.copy(answer.Body))
		}
		m.body = answer.Body
		return m.decode(call.Method, m.body)
	}
	var kept bool // no other message wants the memory
	return call.Method.decodeOwned(answer.Body, call.Reply, adoptFrom(answer.Owned), &kept)
}

// stream carries a streaming call. It does not wait for the carrier when this side ends the call.
func (c *CarrierClient) stream(ctx context.Context, call *Call, in *Inbound) *Error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // the end of the call for the carrier, and for the source of the items
	x := &carriedItems{call: call, ctx: ctx, results: make(chan any), done: make(chan struct{}),
		items: make(chan *flatbuffers.Builder), sourceEnded: make(chan struct{})}
	m := call.Method
	if m.Streaming.out() {
		in.Out = x.take
	}
	if m.Streaming.in() {
		in.In = x.received
	} else {
		b := flatbuffers.NewBuilder(256) // the carrier may use it for longer than the call goes on
		body, err := encode(b, func() error { return m.encodeRequest(b, in.Seq, call.Request) })
		if err != nil {
			return err
		}
		in.Body = body
	}
	x.err = errExited // unless Handle returns
	go func() {
		defer close(x.done)
		x.answer, x.err = c.carry(ctx, in)
	}()
	switch {
	case !m.Streaming.in():
	case m.Streaming.out():
		go x.source.watch(func() *Error { return x.send(in.Seq) }, func() { close(x.sourceEnded) })
	default:
		if err := x.send(in.Seq); err != nil {
			return err
		}
	}
	for {
		select {
		case item := <-x.results:
			if !call.Out(item) {
				return nil
			}
		case <-x.sourceEnded:
			return x.source.error()
		case <-x.done:
			if x.malformed != nil {
				return x.malformed
			}
			return c.conclude(ctx, call, in, &x.answer, x.err)
		case <-ctx.Done():
			return contextError(ctx)
		}
	}
}

// A carriedItems has the items of a streaming call through a carrier.
type carriedItems struct {
	call *Call
	ctx  context.Context // of the call at the carrier

	results   chan any // items of the server
	malformed *Error   // why one of them was not passed on

	items       chan *flatbuffers.Builder // those of the client, encoded
	source      sourceEnd                 // of the items of a call with items both ways
	sourceEnded chan struct{}             // closed when source has failed

	done   chan struct{} // closed when the carrier has returned
	answer Outbound
	err    *Error
}

// take passes an item of the server to the goroutine of Invoke.
func (x *carriedItems) take(item []byte) (more bool) {
	if x.malformed != nil {
		return false
	}
	m := x.call.Method
	v := m.newReply()
	if _, err := m.decodeReply(item, v); err != nil {
		x.malformed = malformedAnswer("item", err)
		return false
	}
	select {
	case x.results <- v:
		return true
	case <-x.ctx.Done():
		return false
	}
}

// received yields the items of the client to the carrier.
func (x *carriedItems) received(yield func([]byte, error) bool) {
	for {
		select {
		case b, ok := <-x.items:
			if !ok {
				return
			}
			more := yield(b.FinishedBytes(), nil)
			giveBuilder(b)
			if !more {
				return
			}
		case <-x.ctx.Done():
			yield(nil, contextError(x.ctx))
			return
		}
	}
}

// send ranges over the items of the client. Its error is that of the source, or of an item.
func (x *carriedItems) send(seq uint64) *Error {
	more, err := pushItems(x.call.In, func(item any) (more bool, err *Error) {
		b := takeBuilder()
		_, err = encode(b, func() error { return x.call.Method.encodeRequest(b, seq, item) })
		if err != nil {
			return false, err.with(OutcomeUnknown) // the call has begun
		}
		select {
		case x.items <- b:
			return true, nil
		case <-x.done:
		case <-x.ctx.Done():
		}
		giveBuilder(b)
		return false, nil // the result of the call says why
	})
	if more {
		close(x.items)
	}
	return err
}
