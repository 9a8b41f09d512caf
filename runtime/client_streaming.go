package ipc

import (
	"context"
	"fmt"
	"io"
	"iter"
	"sync"

	"github.com/ipcgen/ipcgen/internal/record"
)

// This file is the client's side of streaming calls. The caller's goroutine takes the items of the
// server, or sends its own; a call with both has a second goroutine, which sends. Each of the two
// waits as the caller of a call does, with a pending of its own, so that a reader of the ring is
// needed only while one of them waits: what has come meanwhile is within the windows.

// A clientFlow is a streaming call at the client.
type clientFlow struct {
	flow
	conn  *Conn
	id    uint64
	info  *MethodInfo
	epoch uint64 // of the opening
	items pending
	room  pending

	cancelled *Error // why the server was told of the end; before took refuses items

	// Of the server's end; before the end stands in the flow.
	reply    []byte
	metadata Metadata
}

// A flowTable has the streaming calls of a connection.
type flowTable struct {
	slots chan struct{} // has one value for each call

	mu     sync.Mutex
	last   uint64 // the last id
	flows  map[uint64]*clientFlow
	closed *Error // no more calls
}

func (t *flowTable) init(limit int) {
	t.slots = make(chan struct{}, limit)
	t.flows = make(map[uint64]*clientFlow)
}

// add gives a call its id.
func (t *flowTable) add(f *clientFlow) *Error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed != nil {
		return t.closed
	}
	t.last++
	f.id = t.last
	t.flows[f.id] = f
	return nil
}

// remove takes a call out, and reports whether it was there.
func (t *flowTable) remove(id uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.flows[id]
	delete(t.flows, id)
	return ok
}

// find returns a call, or nil.
func (t *flowTable) find(id uint64) *clientFlow {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.flows[id]
}

// close takes all calls out, and refuses further ones.
func (t *flowTable) close(why *Error) map[uint64]*clientFlow {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = why
	flows := t.flows
	t.flows = nil
	return flows
}

// enter waits until one more streaming call may be open.
func (c *Conn) enter(ctx context.Context) *Error {
	if cap(c.streaming.slots) == 0 {
		return &Error{Code: CodeResourceExhausted, Outcome: NotSent,
			Msg: "the server takes no streaming calls"}
	}
	select {
	case c.streaming.slots <- struct{}{}:
		return nil
	default:
	}
	select {
	case c.streaming.slots <- struct{}{}:
		return nil
	case <-c.leaving:
	case <-c.done:
	case <-ctx.Done():
		e := contextError(ctx)
		e.Msg, e.Outcome = "waiting for one of the open streaming calls to end", NotSent
		return e
	}
	return c.calls.closed.Load()
}

// invokeStreaming makes a streaming call.
func (c *Conn) invokeStreaming(ctx context.Context, call *Call) error {
	m := call.Method
	err := m.checkItems(call)
	if err == nil {
		err = c.agree(m.Protocol)
	}
	if err == nil {
		err = ended(ctx)
	}
	if err != nil {
		return m.callFailed(err)
	}
	ctx, stop := c.cfg.timeouts.of(m).bind(ctx).context(ctx)
	defer stop()
	if err := c.enter(ctx); err != nil {
		return m.callFailed(err)
	}
	defer func() { <-c.streaming.slots }()
	f, err := c.openFlow(ctx, call)
	if err != nil {
		return m.callFailed(err)
	}
	// However this function is left, also by a panic of the loop body.
	why := &Error{Code: CodeCanceled}
	defer func() { f.leave(why) }()
	defer context.AfterFunc(ctx, func() { f.cancel(ctx) })()
	err = f.run(ctx, call)
	if o := f.items.outgoing; o != nil && o.reply != nil {
		*o.reply = f.endMetadata()
	}
	if err == nil {
		return nil
	}
	why = err
	told := *err
	told.Taken = f.known()
	return m.callFailed(&told)
}

// checkItems returns an error for a call whose items are not those of its method.
func (m *MethodInfo) checkItems(call *Call) *Error {
	if m.Streaming.in() == (call.In != nil) && m.Streaming.out() == (call.Out != nil) {
		return nil
	}
	return invalid("a method with streaming %v is called with In, Out or both where the method "+
		"has them", m.Streaming)
}

// openFlow registers a streaming call and sends its opening.
func (c *Conn) openFlow(ctx context.Context, call *Call) (*clientFlow, *Error) {
	if err := c.calls.closed.Load(); err != nil {
		return nil, err
	}
	f := &clientFlow{conn: c, info: call.Method}
	f.flow.init(c.cfg.window, int(c.hello.window), c.tx.limit)
	f.items.init()
	f.room.init()
	f.noItems = !call.Method.Streaming.out()
	f.epoch = c.epoch()
	if d, ok := ctx.Deadline(); ok {
		f.items.deadline = c.clock.at(d)
	}
	f.items.outgoing = outgoingOf(ctx)
	// From here on, another goroutine may read f: a server that breaks the protocol may send a
	// frame for a call that has not been opened.
	if err := c.streaming.add(f); err != nil {
		return nil, err
	}
	seq := call.Seq
	if seq == 0 {
		seq = c.seq.Add(1)
	}
	h := frame{kind: record.Open, id: f.id, method: call.Method.ID, seq: seq, epoch: f.epoch,
		deadline: f.items.deadline}
	err := c.tx.attach(&h, f.items.outgoing)
	var body []byte
	b := takeBuilder()
	if err == nil && !call.Method.Streaming.in() {
		body, err = encode(b, func() error {
			return call.Method.encodeRequest(b, seq, call.Request)
		})
	}
	if err == nil {
		err = c.tx.write(ctx, &h, body, &f.items.sent, nil)
	}
	giveBuilder(b)
	if err != nil {
		c.streaming.remove(f.id)
		return nil, err
	}
	return f, nil
}

// init prepares a pending that is no call in a table.
func (p *pending) init() {
	p.ready, p.local = make(chan struct{}, 1), true
	p.state.Store(p.id | callDone)
}

// arm prepares the wait of a goroutine that another one ends by complete.
func (p *pending) arm() {
	p.err, p.mine = nil, false
	p.state.Store(p.id | callWaiting)
}

// run carries a call to its end.
func (f *clientFlow) run(ctx context.Context, call *Call) *Error {
	if call.Out == nil {
		if err := f.sendWatched(ctx, call.In); err != nil {
			return err
		}
		_, err := f.receive(nil, nil)
		if err != nil {
			return err
		}
		if err := f.decodeReply(call); err != nil {
			return f.malformed(err)
		}
		return nil
	}
	var source sourceEnd
	if call.In != nil {
		sending, stop := context.WithCancel(ctx)
		defer stop()
		go f.sendDetached(sending, call.In, &source)
	}
	for {
		item, err := f.receive(&source, call.memory)
		if item == nil {
			return err
		}
		if !call.Out(item) {
			return nil
		}
	}
}

// decodeReply decodes the reply of a call whose items have all been sent.
func (f *clientFlow) decodeReply(call *Call) error {
	if m := call.memory; m.takes(call) {
		m.body, f.reply = f.reply, nil
		return m.decode(f.info, m.body)
	}
	_, err := f.info.decodeReply(f.reply, call.Reply)
	return err
}

// receive returns the next item, or neither an item nor an error at the end of the call. The item
// is valid until the next receive, if m is not nil.
func (f *clientFlow) receive(source *sourceEnd, m *replyMemory) (item any, err *Error) {
	if f.due() {
		f.conn.tx.tell(&f.control, f.credit(f.id))
	}
	for {
		body, epoch, ok, end := f.take(f.items.arm)
		switch {
		case ok:
			return f.decodeItem(body, epoch, m)
		case end == io.EOF:
			return nil, nil
		case end == errSource:
			return nil, source.error()
		case end != nil:
			return nil, asCallError(end)
		}
		// The end of ctx ends the flow, see cancel, and so this wait, which need not watch ctx.
		f.conn.await(context.Background(), &f.items)
		if f.items.err != nil {
			return nil, f.items.err
		}
	}
}

func (f *clientFlow) decodeItem(body []byte, epoch uint64, m *replyMemory) (any, *Error) {
	if f.stale(epoch) {
		return nil, fromOldEpoch("item", epoch)
	}
	item, err := f.unpack(body, m)
	if err != nil {
		return nil, f.malformed(err)
	}
	if !f.took(len(body)) {
		return nil, f.cancelled
	}
	return item, nil
}

func (f *clientFlow) unpack(body []byte, m *replyMemory) (item any, err error) {
	if m != nil { // body does not change before the next take, as m needs it
		return m.object(f.info), m.decode(f.info, body)
	}
	item = f.info.newReply()
	from, kept := f.owned()
	return item, f.info.decodeOwned(body, item, from, kept)
}

// stale reports whether an item or an end comes from an epoch that is over.
func (f *clientFlow) stale(epoch uint64) bool {
	return f.conn.stale(&frame{epoch: epoch}, &frame{epoch: f.epoch})
}

// sendAll sends the items of in, and the half-close. It returns an error if in yields one, or if an
// item cannot be sent, but not if the call has ended: the result of the call tells that.
func (f *clientFlow) sendAll(ctx context.Context, in iter.Seq2[any, error]) *Error {
	more, err := pushItems(in, func(item any) (bool, *Error) { return f.send(ctx, item) })
	if err != nil || !more {
		return err
	}
	h := frame{kind: record.End, id: f.id, seq: f.count()}
	if err := f.conn.tx.write(ctx, &h, nil, nil, func() {}); err != nil && ctx.Err() != nil {
		err := *err
		err.Outcome = OutcomeUnknown // the opening was sent
		return &err
	}
	return nil
}

// pushItems calls send with the items of a source, until that ends or send reports false. The error
// is that of the source or of send. more is true if the source has ended without one.
func pushItems(in iter.Seq2[any, error], send func(any) (bool, *Error)) (more bool, err *Error) {
	more = true
	in(func(item any, failed error) bool {
		switch {
		case !more:
			return false
		case failed != nil:
			err = &Error{Code: CodeOf(failed), Outcome: OutcomeUnknown,
				Msg: "the source of the items failed", Err: failed}
		default:
			more, err = send(item)
		}
		more = more && err == nil
		return more
	})
	return more, err
}

// send sends an item. It reports false if the call has ended.
func (f *clientFlow) send(ctx context.Context, item any) (more bool, err *Error) {
	c := f.conn
	b := takeBuilder()
	defer giveBuilder(b)
	message, err := encodeContent(b, func() error {
		return f.info.encodeRequest(b, c.seq.Add(1), item)
	})
	defer message.done()
	n := len(message.body)
	if err == nil {
		err = f.tooLong(n)
	}
	for err == nil {
		number, ok, stop := f.reserve(n, f.room.arm)
		if stop != nil {
			return false, nil
		}
		if ok {
			h := frame{kind: record.Item, id: f.id, method: number, epoch: f.epoch}
			err = c.tx.writeContent(ctx, &h, &message, nil, func() {})
			if err == nil {
				return true, nil
			}
			if ctx.Err() == nil {
				return false, nil // the connection ends, and the call with it
			}
			break
		}
		c.await(ctx, &f.room)
		err = f.room.err
	}
	told := *err
	told.Outcome = OutcomeUnknown // of the call, which the server has
	return false, &told
}

// errSource ends a call whose source of items has failed.
var errSource = fmt.Errorf("the source of the items failed")

// A sourceEnd is how the source of the items of a call with items both ways has failed. It is
// written before errSource is.
type sourceEnd struct {
	err      *Error
	panicked bool
	value    any // of the panic
}

// error returns why the source has failed. If it has panicked, so does the loop over the result.
func (s *sourceEnd) error() *Error {
	if s.panicked {
		panic(s.value)
	}
	return s.err
}

// watch runs send, and keeps in s how it has failed. failed is called if it has,
// also when send ends
// its goroutine.
func (s *sourceEnd) watch(send func() *Error, failed func()) {
	returned := false
	defer func() {
		if v := recover(); v != nil {
			s.panicked, s.value = true, v
		} else if !returned {
			s.err = &Error{Code: CodeInternal, Outcome: OutcomeUnknown,
				Msg: "the source of the items ended its goroutine (runtime.Goexit)"}
		}
		if s.panicked || s.err != nil {
			failed()
		}
	}()
	s.err = send()
	returned = true
}

// sendDetached is sendAll on a goroutine of its own. A failure ends the call at this side, and the
// goroutine that receives tells the server.
func (f *clientFlow) sendDetached(ctx context.Context, in iter.Seq2[any, error],
	source *sourceEnd) {
	source.watch(func() *Error { return f.sendAll(ctx, in) }, func() { f.abort(errSource) })
}

// sendWatched is sendAll while no goroutine waits for the server, which may answer early.
func (f *clientFlow) sendWatched(ctx context.Context, in iter.Seq2[any, error]) *Error {
	c := f.conn
	c.role.park()
	defer c.role.unpark()
	c.resume()
	c.ensureWaiter()
	return f.sendAll(ctx, in)
}

// abort ends the call at this side with an error, behind the items that have come.
func (f *clientFlow) abort(why error) {
	f.flow.mu.Lock()
	if f.end == nil {
		f.end = why
	}
	if f.stop == nil {
		f.stop = why
	}
	f.flow.mu.Unlock()
	f.wake(&f.items, nil)
	f.wake(&f.room, nil)
}

// cancel ends a call whose context has ended.
func (f *clientFlow) cancel(ctx context.Context) {
	why := contextError(ctx)
	if f.conn.expired(&f.items) {
		why.Outcome = NotExecuted
	}
	f.abort(why)
	f.tellEnd(why)
}

// leave ends a call that its caller has given up.
func (f *clientFlow) leave(why *Error) {
	f.tellEnd(why)
	f.flow.close()
	f.wake(&f.room, nil)
}

// tellEnd tells the server of the end, unless the call has ended there. What has come and was not
// taken is dropped, so that the server knows how many items were.
func (f *clientFlow) tellEnd(why *Error) {
	if end, ok := f.endFrame(why); ok {
		f.conn.tx.tell(&f.control, end)
	}
}

// endFrame ends the call at this side and returns what tells the server so, unless the call has
// ended there.
func (f *clientFlow) endFrame(why *Error) (end frame, ok bool) {
	if !f.conn.streaming.remove(f.id) {
		return end, false
	}
	f.cancelled = why
	return frame{kind: record.End, id: f.id, code: why.Code, seq: f.freeze()}, true
}

// handleFlow takes in a frame of a streaming call. It reports false if the server broke the
// protocol. p is the pending that the caller waits for, or nil; mine is true if it was completed.
// The caller must hold the role.
func (c *Conn) handleFlow(h *frame, body []byte, private bool, p *pending) (mine, ok bool) {
	f := c.streaming.find(h.id)
	if f == nil {
		c.stats.dropped.Add(1)
		c.rx.release()
		return false, true
	}
	wakes, err := f.handle(h, body, private)
	c.rx.release()
	if err != nil {
		c.fail(&Error{Code: CodeCorrupt, Msg: "the server broke the protocol", Err: err})
		return false, false
	}
	for _, w := range wakes {
		mine = f.wake(w, p) || mine
	}
	return mine, true
}

// handle takes in a frame, and returns whose waits it may end. An error means that the server broke
// the protocol.
func (f *clientFlow) handle(h *frame, body []byte, private bool) (wakes [2]*pending, err error) {
	switch h.kind {
	case record.Item:
		_, err = f.put(h, body, private)
		wakes[0] = &f.items
	case record.Credit:
		err = f.credited(h.items(), h.bytes())
		wakes[0] = &f.room
	case record.End:
		err = f.ended(h, body, private)
		wakes = [2]*pending{&f.items, &f.room}
	}
	return wakes, err
}

// wake ends the wait of w, which may be nil or not under way. It reports true if w is p, whose
// caller this is.
func (f *clientFlow) wake(w, p *pending) bool {
	if w == nil {
		return false
	}
	f.flow.mu.Lock()
	claimed := w.claim(w.id)
	f.flow.mu.Unlock()
	if !claimed {
		return false
	}
	if w == p {
		return true
	}
	f.conn.complete(w)
	return false
}

// endMetadata returns the metadata of the server's end, if it has come.
func (f *clientFlow) endMetadata() Metadata {
	f.flow.mu.Lock()
	defer f.flow.mu.Unlock()
	if f.end == nil {
		return Metadata{}
	}
	return f.metadata
}

// ended takes in the server's end.
func (f *clientFlow) ended(h *frame, body []byte, private bool) error {
	var end error = io.EOF
	switch {
	case f.stale(h.epoch):
		end = fromOldEpoch("end", h.epoch)
	case h.code != CodeOK:
		end = remoteError(h.code, h.outcome, string(body))
	}
	f.flow.mu.Lock()
	f.metadata = h.metadata
	f.flow.mu.Unlock()
	if h.code == CodeOK {
		f.reply = f.conn.rx.keep(nil, body, private)
	}
	if err := f.finish(end, errCallEnded, h.items()); err != nil {
		return err // the end of the connection ends the call
	}
	f.conn.streaming.remove(f.id)
	return nil
}

// endFlows ends the streaming calls of a connection that ends.
func (c *Conn) endFlows(why, refused *Error) {
	for _, f := range c.streaming.close(refused) {
		err := *why
		switch {
		case !f.items.sent.done:
			err.Outcome = NotSent
		case !c.tx.taken(&f.items.sent):
			err.Outcome = NotExecuted
		}
		f.abort(&err)
	}
}
