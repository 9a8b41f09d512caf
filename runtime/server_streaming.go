package ipc

import (
	"fmt"
	"io"
	"sync/atomic"

	flatbuffers "github.com/google/flatbuffers/go"
	"github.com/ipcgen/ipcgen/internal/interleave"
	"github.com/ipcgen/ipcgen/internal/record"
	"github.com/ipcgen/ipcgen/runtime/introspect"
)

// This file is the server's side of streaming calls. The reader puts what comes into the flow of
// its call. The handler runs on a goroutine of its own, which waits for items and for credit at
// channels.

// A serverFlow is a streaming call at the server.
type serverFlow struct {
	flow
	conn *serverConn
	job  *job

	items, room chan struct{} // receive a value when the handler should try again
	number      atomic.Uint64 // by which taps know the call; 0 if none has seen it
	fault       *Error        // why the runtime has ended the call; under mu
}

// openStreaming handles the opening of a streaming call.
func (c *serverConn) openStreaming(h *frame, body []byte, private bool) {
	if c.down.Load() != nil {
		c.discharge(h)
		return // as for a request
	}
	used, why := c.mayOpen(h.id, len(body))
	if used {
		c.rx.release()
		c.reopened(h.id)
		return
	}
	cost := max(0, len(body)-h.charged) + len(h.metadata.pairs) + streamingCost
	refusal := c.account.charge(cost)
	if refusal == nil && why != "" {
		c.account.release(cost)
		refusal = &Error{Code: CodeResourceExhausted, Outcome: NotExecuted, Msg: why}
	}
	if refusal != nil {
		c.rx.release()
		c.discharge(h)
		c.refuse(record.End, h.id, refusal)
		return
	}
	j := c.newJob()
	j.charged = cost
	j.begin(h, c.srv.handler.routes.find(h.method), c.contexts.next())
	j.body = c.rx.keep(j.body, body, private)
	c.rx.release()
	if c.rx.ring.Revoked() {
		c.finishJob(j)
		c.spare = j
		return // the client has told its caller that it is not executed
	}
	f := &serverFlow{conn: c, job: j, items: make(chan struct{}, 1), room: make(chan struct{}, 1)}
	f.flow.init(c.srv.cfg.window, c.peerWindow, c.tx.limit)
	f.account = c.account
	// What a method that the server lacks has is not known: items may be under way.
	f.noItems = j.route != nil && j.route.stream != nil && !j.route.method.Streaming.in()
	j.streaming, j.items, j.ctx.flow = f, f, &f.flow
	c.mu.Lock()
	j.detached, j.held = true, cap(j.body)+len(h.metadata.pairs)
	c.held += j.held
	c.streams[h.id] = f
	c.streamHandlers++
	c.mu.Unlock()
	if why := c.down.Load(); why != nil {
		f.disconnect(why)
	}
	go c.runStreaming(f)
}

// streamingCost is what a streaming call takes, but for long buffers of items.
const streamingCost = callCost + keepItems

// reopened ends the connection of a client that has opened a streaming call twice.
func (c *serverConn) reopened(id uint64) {
	c.broken(fmt.Errorf("%w: streaming call %#x is open already", errBroken, id))
}

// mayOpen decides on a streaming call with a request of size bytes: whether its id is in use, and
// why there is no room for it.
func (c *serverConn) mayOpen(id uint64, size int) (used bool, why string) {
	limit := c.srv.cfg.maxStreaming
	c.mu.Lock()
	defer c.mu.Unlock()
	switch n := len(c.streams); {
	case c.streams[id] != nil:
		return true, ""
	case n >= limit:
		return false, fmt.Sprintf("%d streaming calls are open, the limit of a connection", limit)
	case c.streamHandlers >= 2*limit+lingering:
		return false, fmt.Sprintf("the handlers of %d streaming calls run, of which %d are open; "+
			"the limit of a connection is %d", c.streamHandlers, n, 2*limit+lingering)
	case c.held > 0 && c.held+size > c.budget:
		return false, fmt.Sprintf("the requests of calls in flight take %d bytes, this one %d; "+
			"the limit of a connection is %d", c.held, size, c.budget)
	}
	return false, ""
}

// runStreaming handles a streaming call.
func (c *serverConn) runStreaming(f *serverFlow) {
	defer c.endStreaming(f)
	c.handle(f.job)
}

// endStreaming forgets a streaming call that has been answered. Its job is not used again: the
// handler may have kept its sequences.
func (c *serverConn) endStreaming(f *serverFlow) {
	f.close()
	c.closeFlow(f)
	c.mu.Lock()
	c.held -= f.job.held
	c.streamHandlers--
	freed := c.forgetReply(f.job)
	c.dischargeCall(f.job)
	c.mu.Unlock()
	f.job.ctx.cancel()
	if freed || c.draining.Load() {
		c.wire.Poke()
	}
}

// closeFlow takes a call out of those that are open. It reports false if it was not among them: the
// client has ended it.
func (c *serverConn) closeFlow(f *serverFlow) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.streams[f.job.frame.id] != f {
		return false
	}
	delete(c.streams, f.job.frame.id)
	return true
}

// handleFlow takes in a frame of a streaming call. It reports false if the client broke the
// protocol.
func (c *serverConn) handleFlow(h *frame, body []byte, private bool) bool {
	c.mu.Lock()
	f := c.streams[h.id]
	c.mu.Unlock()
	if f == nil {
		c.stats.dropped.Add(1)
		c.rx.release()
		c.discharge(h)
		return true
	}
	err := f.handle(h, body, private)
	c.signalled = true
	c.rx.release()
	c.discharge(h)
	if err != nil {
		c.broken(err)
	}
	return err == nil
}

// handle takes in a frame. An error means that the client broke the protocol.
func (f *serverFlow) handle(h *frame, body []byte, private bool) error {
	switch h.kind {
	case record.Item:
		why, err := f.put(h, body, private)
		if why != nil {
			f.refuse(why)
		}
		signal(f.items)
		return err
	case record.Credit:
		err := f.credited(h.items(), h.bytes())
		signal(f.room)
		return err
	case record.End:
		if h.code == CodeOK {
			return f.halfClosed(h)
		}
		why := remoteError(h.code, OutcomeUnknown, "the client has ended the call")
		why.Taken = h.items()
		if err := f.finish(why, why, h.items()); err != nil {
			return err
		}
		f.conn.closeFlow(f)
		f.job.ctx.cancel()
		f.signalAll()
	}
	return nil
}

// halfClosed takes in that the client sends no more items.
func (f *serverFlow) halfClosed(h *frame) error {
	if !f.halfClose() {
		return fmt.Errorf("%w: streaming call %#x is half-closed twice", errBroken, h.id)
	}
	signal(f.items)
	return nil
}

// disconnect ends a call whose connection ends.
func (f *serverFlow) disconnect(why *Error) {
	told := *why
	told.Taken = f.known()
	_ = f.finish(&told, &told, told.Taken)
	f.job.ctx.cancel()
	f.signalAll()
}

func (f *serverFlow) signalAll() {
	signal(f.items)
	signal(f.room)
}

// signal makes the goroutine that waits at c try again.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it will try anyway
	}
}

// received implements itemStream.
func (f *serverFlow) received(yield func([]byte, error) bool) {
	for {
		if f.due() {
			f.conn.tx.tell(&f.control, f.credit(f.job.frame.id))
		}
		body, err := f.next()
		if err == io.EOF || !yield(body, err) || err != nil {
			return
		}
	}
}

// next returns the next item. Its error is io.EOF behind the last.
func (f *serverFlow) next() ([]byte, error) {
	for {
		interleave.Settled()
		body, epoch, ok, end := f.take(func() {})
		switch {
		case ok:
			f.observeItem(introspect.TapKindRequestItem, f.count(), epoch, &content{body: body})
			return body, nil
		case end != nil:
			return nil, end
		}
		if !f.await(f.items) && !f.hasEnded() { // its end says more
			// The handler may take this for the end of the items. The client must not.
			why := contextError(f.job.ctx)
			f.fail(why)
			return nil, why
		}
	}
}

// await waits until there is a reason to try again, which c brings. It reports false if there is
// none and the call's context has ended.
func (f *serverFlow) await(c chan struct{}) bool {
	ctx := f.job.ctx
	interleave.Until(func() bool { return len(c) > 0 || ctx.Err() != nil })
	select {
	case <-c:
		return true
	default:
	}
	select {
	case <-c:
		return true
	case <-ctx.Done():
		return false
	}
}

// hasEnded reports whether the client, or the end of the connection, has ended the call.
func (f *serverFlow) hasEnded() bool {
	f.flow.mu.Lock()
	defer f.flow.mu.Unlock()
	return f.stop != nil
}

// fail implements itemStream.
func (f *serverFlow) fail(why *Error) {
	f.flow.mu.Lock()
	defer f.flow.mu.Unlock()
	if f.stop == nil {
		f.fault, f.end, f.stop = why, why, why
	}
}

// refuse ends both directions because there is no memory for an item.
func (f *serverFlow) refuse(why *Error) {
	why.Outcome = OutcomeUnknown // of the call, whose handler runs
	f.fail(why)
	f.signalAll()
}

// took implements itemStream.
func (f *serverFlow) took(n int) { f.flow.took(n) }

// malformed implements itemStream.
func (f *serverFlow) malformed(why *Error) {
	f.conn.stats.malformed.Add(1)
	f.fail(why)
	f.spareGiven()
	f.now, f.at = batch{}, 0
}

// ended implements itemStream.
func (f *serverFlow) ended() bool { return f.closed.Load() }

// send implements itemStream.
func (f *serverFlow) send(b *flatbuffers.Builder, item *content) (more bool, err *Error) {
	c, j, n := f.conn, f.job, len(item.body)
	if err := f.tooLong(n); err != nil {
		return false, err.with(Executed)
	}
	h := frame{kind: record.Item, id: j.frame.id}
	charged := 0
	defer func() { c.account.release(charged) }()
	charge := func() *Error {
		why := c.account.charge(cap(b.Bytes) - charged)
		if why != nil {
			why.Outcome = Executed
			return why
		}
		charged = cap(b.Bytes)
		return nil
	}
	// The item may have to wait for the client.
	if h.method, more, err = f.pay(n, charge); !more || err != nil {
		return false, err
	}
	epoch, failed := j.stamp()
	if failed != nil {
		return false, asCallError(failed)
	}
	h.epoch = epoch
	f.observeItem(introspect.TapKindReplyItem, uint64(h.method), epoch, item)
	if n > keepShort || c.tx.hasWaiters() { // it may have to wait for room
		if err := charge(); err != nil {
			return false, err
		}
	}
	if c.tx.writeContent(j.ctx, &h, item, nil, func() {
		c.account.mustCharge(cap(b.Bytes) - charged)
		charged = cap(b.Bytes)
	}) != nil {
		return false, contextError(j.ctx)
	}
	return true, nil
}

// pay waits for credit for an item of n bytes and returns its number. It calls wait before it
// waits. It reports false if the call has ended.
func (f *serverFlow) pay(n int, wait func() *Error) (number uint32, ok bool, err *Error) {
	for {
		interleave.Settled()
		number, ok, stop := f.reserve(n, func() {})
		if ok || stop != nil {
			return number, ok, nil
		}
		if err := wait(); err != nil {
			return 0, false, err
		}
		if !f.await(f.room) {
			return 0, false, contextError(f.job.ctx)
		}
	}
}

// result implements itemStream.
func (f *serverFlow) result(err error) error {
	f.flow.mu.Lock()
	defer f.flow.mu.Unlock()
	if f.fault != nil {
		return f.fault
	}
	return err
}

// endsFlow completes the frame that ends a streaming call at the client. It reports false if the
// client has ended the call before.
func (c *serverConn) endsFlow(f *serverFlow, end *frame) bool {
	end.seq = f.count()
	return c.closeFlow(f)
}
