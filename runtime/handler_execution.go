package ipc

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	flatbuffers "github.com/google/flatbuffers/go"
)

// This file is how a Handler executes a call: it decodes it, runs its handler and encodes the
// reply.

// An execution is a call that a Handler executes, with its buffers: body is its request, and
// builder encodes the reply.
type execution struct {
	scratch
	handler *Handler
	carrier carrier
	log     *slog.Logger

	context    context.Context
	leases     *leases     // of context
	route      *boundRoute // nil: the handler has no such method
	method     uint32
	seq, epoch uint64
	peer       *Peer
	items      itemStream // of a streaming call
	item       content    // that the handler sends
	former     any        // the client's last item, if they are recycled
	sum        uint64     // of the request, if there is a guard
	adoptFrom  int        // see adopt; 0: something else refers to the memory of body
	outlived   bool       // the handler goes on, after its interceptors have returned

	reply ReplyBuilder // of a call handled in place
	wrong wrong        // with the request

	// mayPostpone is set if the carrier can put the answer off. after is then what the answer waits
	// for, and answer and failed are the answer meanwhile, as perform has returned it.
	mayPostpone bool
	after       func() error
	answer      []byte
	failed      error
}

// A wrong says what is wrong with a request, for those who count.
type wrong uint8

const (
	wrongMethod wrong = iota + 1 // there is none
	wrongBody                    // it is malformed
)

// A carrier has brought a call, and takes its reply.
type carrier interface {
	// beginReply is called before the reply is encoded. It may block. An error withholds the reply.
	beginReply() *Error
	// encoded is called when the reply is in the call's builder, and returns it. An error withholds
	// the reply.
	encoded() (body []byte, why *Error)
	// willWait is called before the handler waits for another process.
	willWait()
}

// An itemStream is the two directions of a streaming call. Its methods are called by the handler's
// goroutine.
type itemStream interface {
	// received yields the items of the client until yield returns false, and goes on where it has
	// ended. yield must call took or malformed before it lets the user's code run.
	received(yield func(item []byte, err error) bool)
	// owned returns from which length on an object may keep the memory of the item that was
	// received, and where to say that it does; see adopt.
	owned() (from int, kept *bool)
	// took says that the user's code gets an item of n bytes.
	took(n int)
	// malformed is fail, for an item that cannot be decoded. No further items are received.
	malformed(why *Error)
	// send waits until there is room for an item, which b has encoded, stamps it and sends it. It
	// reports false if the call has ended. A returned error must be passed to fail.
	send(b *flatbuffers.Builder, item *content) (more bool, err *Error)
	// ended reports whether items cannot be sent any more.
	ended() bool
	// fail ends both directions for a reason of the runtime's.
	fail(why *Error)
	// result returns the error with which the call ends: that of its handler, unless the runtime
	// has ended the call.
	result(err error) error
}

// execute executes a call and encodes its reply. The handler of a call in place sends its reply
// itself.
func (h *Handler) execute(x *execution) (body []byte, epoch uint64, err error) {
	body, err = h.perform(x)
	return x.release(body, err)
}

// perform is execute without release. If it sets x.after, release must wait for that.
func (h *Handler) perform(x *execution) (body []byte, err error) {
	r := x.route
	if r == nil || r.receive != nil || (r.stream != nil) != (x.items != nil) {
		x.wrong = wrongMethod
		return nil, &Error{Code: CodeUnimplemented, Outcome: NotExecuted,
			Msg: fmt.Sprintf("the server has no method with id %#x", x.method)}
	}
	if deadline, ok := x.context.Deadline(); ok && !time.Now().Before(deadline) {
		return nil, &Error{Code: CodeDeadlineExceeded, Outcome: NotExecuted,
			Msg: "the deadline passed before the call was handled"}
	}
	if err := h.admit(x.epoch, r); err != nil {
		return nil, err.with(NotExecuted)
	}
	x.outlived = false
	body, err = x.guarded()
	if !x.outlived {
		x.leases.end() // unless the handler has panicked: its goroutines may go on
	}
	return body, err
}

// release returns what perform has returned, stamped, unless the fence withholds it.
func (x *execution) release(body []byte, err error) ([]byte, uint64, error) {
	if err != nil || x.route.inPlace != nil {
		return nil, 0, err
	}
	epoch, err := x.stamp()
	return body, epoch, err
}

// admit asks the fence for an epoch. Its error does not know the outcome.
func (h *Handler) admit(epoch uint64, r *boundRoute) *Error {
	if h.fence == nil || r.introspects {
		return nil
	}
	if err := h.fence.Admit(epoch); err != nil {
		return &Error{Code: CodeFenced, Msg: err.Error()}
	}
	return nil
}

// stamp returns the epoch of a reply or an item, unless the fence withholds it. It looks at the
// epoch first: the reign may end between the two looks, and 0, which no client checks, would then
// be the epoch of what the fence has admitted.
func (x *execution) stamp() (epoch uint64, err error) {
	h := x.handler
	if h.fence == nil || x.route.introspects {
		return 0, nil
	}
	epoch = h.fence.Epoch()
	if err := h.admit(x.epoch, x.route); err != nil {
		return 0, err
	}
	return epoch, nil
}

// guarded executes a call if the guard admits it.
func (x *execution) guarded() (body []byte, err error) {
	if guard := x.handler.guard; guard != nil && !x.route.introspects && x.items == nil {
		x.sum = x.route.sum(x.body)
		place, err := guard.Enter(x.sum)
		if err != nil {
			return nil, err
		}
		defer guard.Leave(place)
	}
	switch {
	case x.route.inPlace != nil:
		return nil, x.callInPlace()
	case x.items != nil:
		return x.callStreaming()
	}
	return x.call()
}

// call decodes the request, runs the handler behind the gate, and encodes the reply.
func (x *execution) call() (body []byte, err error) {
	req, seq, err := x.openRequest()
	if err != nil {
		x.wrong = wrongBody
		return nil, malformedRequest(err)
	}
	rep, err := x.route.call(x, req, seq)
	if err == nil {
		body, err = x.encodeReply(seq, rep)
	}
	x.close(req) // the reply may have referred to parts of it
	return body, err
}

// close takes a request back, unless the handler goes on with it, and with what the request has of
// the body.
func (x *execution) close(req any) {
	if x.outlived {
		x.kept = true
		return
	}
	x.route.close(req)
}

// openRequest decodes the request of a call, which may keep the memory of the body if that is the
// call's.
func (x *execution) openRequest() (req any, seq uint64, err error) {
	r, body := x.route, x.body
	if r.recycles && !r.adopts && x.adoptFrom == 0 {
		body = slices.Clone(body) // a handler that outlives its interceptors has parts of it
	}
	return r.openOwned(body, x.adoptFrom, &x.kept)
}

// encodeReply encodes the reply of a call.
func (x *execution) encodeReply(refSeq uint64, rep any) (body []byte, err error) {
	defer func() {
		if r := recover(); r != nil { // a builder that cannot grow any more panics
			_ = panicked(x.log, r) // leaves a trace
			body, err = nil, cannotEncode(fmt.Errorf("%v", r))
		}
	}()
	if why := x.carrier.beginReply(); why != nil {
		return nil, why
	}
	x.builder.Reset()
	if err := x.route.reply(x.builder, x.seq, refSeq, rep); err != nil {
		return nil, cannotEncode(err)
	}
	body, why := x.carrier.encoded()
	if why != nil {
		return nil, why
	}
	return body, nil
}

// callStreaming runs the handler of a streaming call behind the gate, and encodes its reply, if it
// has one.
func (x *execution) callStreaming() (body []byte, err error) {
	var req any
	seq := x.seq
	kind := x.route.method.Streaming
	if !kind.in() {
		if req, seq, err = x.openRequest(); err != nil {
			x.wrong = wrongBody
			return nil, malformedRequest(err)
		}
	}
	rep, err := x.route.stream(x, req, seq)
	if err = x.items.result(err); err == nil && !kind.out() {
		body, err = x.encodeReply(seq, rep)
	}
	if !kind.in() {
		x.close(req)
	}
	return body, err
}

// in is the sequence of the client's items.
func (x *execution) in(yield func(any, error) bool) {
	x.items.received(func(body []byte, err error) bool {
		var item any
		if err == nil {
			item, err = x.open(body)
		}
		return yield(item, err) && err == nil
	})
}

// open decodes an item of the client.
func (x *execution) open(body []byte) (any, error) {
	if err := x.handler.admit(x.epoch, x.route); err != nil {
		return nil, err
	}
	item, err := x.decodeItem(body)
	if err != nil {
		why := &Error{Code: CodeInvalidArgument, Msg: "malformed item: " + err.Error()}
		x.items.malformed(why)
		return nil, why
	}
	x.items.took(len(body))
	return item, nil
}

func (x *execution) decodeItem(body []byte) (item any, err error) {
	if x.route.recycles {
		item, _, err = x.route.decode(body, x.route.usedOr(x.former))
		x.former = item
		return item, err
	}
	from, kept := x.items.owned()
	item, _, err = x.route.openOwned(body, from, kept)
	return item, err
}

// out sends an item of the handler. It returns false once the call has ended.
func (x *execution) out(item any) bool {
	if x.items.ended() {
		return false
	}
	b := takeBuilder() // a handler may send its reply with that of the call
	defer giveBuilder(b)
	var err *Error
	x.item, err = encodeContent(b, func() error { return x.route.reply(b, x.seq, x.seq, item) })
	defer x.item.done()
	more := false
	if err == nil {
		more, err = x.items.send(b, &x.item)
	} else {
		err.Outcome = Executed
	}
	if err != nil {
		x.items.fail(err)
	}
	return more && err == nil
}

// deliver runs the handler of a message, behind the guard and the gate. The handler has seen the
// message if n.passed is true then.
func (h *Handler) deliver(ctx context.Context, log *slog.Logger, r *boundRoute, p *Peer,
	n *delivery, body []byte) error {
	if h.guard != nil {
		place, err := h.guard.Enter(r.sum(body))
		if err != nil {
			return err
		}
		defer h.guard.Leave(place)
	}
	return protect(log, r.name, func() error {
		err := r.receive(ctx, p, n, body)
		n.leases.end()
		return err
	})
}
