package ipc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	flatbuffers "github.com/google/flatbuffers/go"
	"github.com/ipcgen/ipcgen/runtime/shm"
)

// A serverConn is the server's side of a connection.
//
// One goroutine, the reader, reads the ring and runs the handlers of calls itself: in
// the common case nothing else happens between a request and its reply. When a handler
// takes long, the watchdog takes the reader's role away and gives it to a
// fresh goroutine (as the Go scheduler hands off a processor whose thread
// blocks), and the handler goes on by itself. A method that was found slow in this
// way gets goroutines from the start, until it is found fast again.
//
// One-way messages are handled likewise, except that they must stay in order: those
// that come while a handler runs that has lost the role, or is known to be slow, wait
// for it in the inbox.
type serverConn struct {
	endpoint
	srv   *Server
	log   *slog.Logger
	inbox inbox

	draining atomic.Bool
	gone     atomic.Bool // the client has ended the connection; what it sent before counts

	// turn counts handlers that the reader runs, and its lowest bits say what it
	// runs now. Whoever moves it on from there owns the role: the reader when
	// the handler returns, or the watchdog.
	turn     atomic.Uint64
	asleep   atomic.Bool
	armed    atomic.Bool
	watchdog *time.Timer
	seen     uint64 // the turn at the last look of the watchdog

	current      *job        // the call that the reader runs; belongs to whoever owns turn
	note         *boundRoute // of the message that the reader runs; likewise
	noteBody     []byte      // for the next message that the reader runs; belongs to the reader
	spinning     bool        // counted as one of the server's spinners; belongs to the reader
	spare        *job        // for the next call that the reader runs; belongs to the reader
	jobs         sync.Pool   // of *job, for calls that run apart
	contexts     contextSlab // for calls; belongs to the reader
	noteContexts contextSlab // for one-way messages; belongs to whoever runs the inbox

	message atomic.Pointer[callContext] // of the message handler that ran last

	mu    sync.Mutex
	apart map[uint64]*job // what runs on goroutines of its own, by call
}

// A job is a call that is being handled, with the buffers for it.
type job struct {
	frame   frame
	body    []byte
	route   *boundRoute
	ctx     *callContext
	builder *flatbuffers.Builder
	reply   ReplyBuilder // of a call handled in place
	inRing  bool         // so is its request, and the reader keeps its role meanwhile
	hush    func()       // ends what hearFor has begun; nil if it has not
	refused *Error       // answer with this instead of handling it
	lost    bool         // it runs apart; under mu
}

// What the lowest bits of a turn say.
const (
	turnIdle    = 0
	turnCall    = 1
	turnMessage = 3

	turnMask = 3
)

// afterTurn is the value that follows the turn of a handler.
func afterTurn(turn uint64) uint64 { return (turn | turnMask) + 1 }

const (
	// patience is how often the watchdog looks. A handler that runs during
	// two looks in a row loses the reader's role.
	patience = time.Millisecond
)

func newServerConn(ctx context.Context, s *Server, h *serverHello, peer Peer, l Link, seg *shm.Segment, log *slog.Logger) (*serverConn, error) {
	c := &serverConn{srv: s, log: log, apart: map[uint64]*job{}}
	if err := c.open(&s.cfg.common, l, peer, seg, int(h.maxMessage), true); err != nil {
		return nil, err
	}
	c.contexts.scope = newCallScope(context.WithoutCancel(ctx), &c.peer, c.clock)
	c.noteContexts.scope = c.contexts.scope
	c.inbox = inbox{run: c.deliverWaiting, room: l.Poke, idle: c.inboxIdle, spent: c.rx.spare.put, limit: h.geo.ToServer}
	c.peer.done, c.peer.send, c.peer.stats = c.done, c.push, c.readStats
	c.watchdog = time.AfterFunc(time.Hour, c.watch)
	c.watchdog.Stop()
	return c, nil
}

// serve reads until the connection ends or the role goes to another goroutine.
func (c *serverConn) serve() {
	look := c.look
	c.arm()
	for {
		if !c.work() {
			return
		}
		if c.gone.Load() {
			c.fail(c.farewell())
			c.rx.ring.Finish()
			c.inbox.open()
			if !c.work() { // what it sent before counts
				return
			}
		}
		if c.down.Load() != nil {
			break
		}
		start := time.Now()
		c.stopSpinning()
		c.rx.tally.publish()
		c.asleep.Store(true)
		if c.finished() {
			c.fail(&Error{Code: CodeUnavailable, Err: ErrServerClosed})
			break
		}
		if c.wire.Wait(look) != nil {
			c.gone.Store(true) // this side has closed the wire, and says why
		}
		c.rx.wakeups.Add(1)
		c.asleep.Store(false)
		c.rx.ring.Awake()
		c.spin.slept(time.Since(start))
		c.tx.retry()
		c.arm()
	}
	c.stopSpinning()
	c.bury()
}

// look is the reader's last look before it waits for a note from the client: it
// declares that the reader sleeps, unless there is a reason not to wait.
func (c *serverConn) look() (awake bool) {
	c.tx.retry() // the note that told of room may be one that is not waited for any more
	if c.gone.Load() {
		return true
	}
	return !c.inbox.full.Load() && !c.rx.sleep()
}

// hear waits for the client's end.
func (c *serverConn) hear() {
	buf := make([]byte, 64)
	for {
		if _, err := c.wire.Read(buf); err != nil {
			c.gone.Store(true)
			c.wire.Poke()
			return
		}
	}
}

// farewell is why a connection ends whose client is gone, or whose wire this side
// has closed.
func (c *serverConn) farewell() *Error {
	return c.tx.reason(&Error{Code: CodeUnavailable, Msg: "the client is gone"})
}

// maySpin reports whether this reader is one of those that may look for
// requests without sleeping: half as many as there are processors, as a
// spinning reader is of use only while its client runs beside it.
func (c *serverConn) maySpin() bool {
	if c.spinning {
		return true
	}
	if c.srv.spinners.Add(1) > c.srv.maxSpinners {
		c.srv.spinners.Add(-1)
		return false
	}
	c.spinning = true
	return true
}

func (c *serverConn) stopSpinning() {
	if c.spinning {
		c.spinning = false
		c.srv.spinners.Add(-1)
	}
}

// finished reports whether a connection that drains has nothing left to do.
func (c *serverConn) finished() bool {
	if !c.draining.Load() || c.rx.ring.Ready() {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.apart) == 0 && !c.inbox.busy()
}

// work handles what has come until nothing more has for a while. It returns
// false when the role went to another goroutine.
func (c *serverConn) work() (reader bool) {
	var f frame
	s := spin{p: &c.spin}
	for !c.inbox.full.Load() {
		for !c.rx.ring.Ready() {
			if !c.maySpin() || !s.more() {
				return true
			}
			if s.pause() {
				c.rx.tally.publish()
				if c.tx.waiting.Load() {
					c.tx.retryIfRoom()
				}
				if c.down.Load() != nil || c.gone.Load() {
					return true
				}
			}
		}
		body, private, ok, err := c.rx.next(&f)
		if err != nil {
			c.log.Warn("client broke the protocol", "err", err)
			c.fail(&Error{Code: CodeCorrupt, Msg: "the client broke the protocol", Err: err})
			return true
		}
		if !ok {
			continue // a piece of a message
		}
		switch f.kind {
		case kindRequest:
			if !c.request(&f, body, private) {
				return false
			}
		case kindMessage:
			if fence := c.srv.cfg.fence; fence != nil && fence.Admit(f.epoch) != nil {
				c.rx.release()
				c.stats.dropped.Add(1)
				continue
			}
			if !c.receive(&f, body, private) {
				return false
			}
		case kindCancel:
			id := f.id
			c.rx.release()
			c.cancel(id)
		default:
			c.fail(&Error{Code: CodeCorrupt, Msg: fmt.Sprintf("the client sent a frame of kind %d", f.kind), Err: errBroken})
			return true
		}
		if c.tx.waiting.Load() {
			c.tx.retryIfRoom()
		}
		if s.paid() {
			c.rx.tally.spins++
		}
		s = spin{p: &c.spin}
	}
	return true
}

// newJob returns a job for the next call. Only the reader calls it.
func (c *serverConn) newJob() *job {
	j := c.spare
	c.spare = nil
	if j == nil {
		j, _ = c.jobs.Get().(*job)
	}
	if j == nil {
		j = &job{builder: flatbuffers.NewBuilder(256)}
	}
	j.ctx = c.contexts.next()
	return j
}

// finish prepares a job for another call.
func (j *job) finish() {
	j.ctx.cancel()
	j.ctx = nil
	if cap(j.body) > keepBuffer {
		j.body = nil
	}
	if cap(j.builder.Bytes) > keepBuffer {
		j.builder = flatbuffers.NewBuilder(256)
	}
	j.lost, j.refused = false, nil
}

// inboxIdle is called when all messages have been handled.
func (c *serverConn) inboxIdle() {
	if c.draining.Load() {
		c.wire.Poke()
	}
}

// request handles a call, here or on another goroutine. It returns false when
// the role went to another goroutine.
func (c *serverConn) request(f *frame, body []byte, private bool) (reader bool) {
	if c.down.Load() != nil {
		return true // too late; as it is not released, the client knows that it was not executed
	}
	r := c.srv.routes.find(f.method)
	if r != nil && r.inPlace != nil && c.srv.cfg.trusted && !private {
		c.requestInRing(f, r, body)
		return true
	}
	j := c.newJob()
	j.frame, j.route = *f, r
	j.body = c.rx.keep(j.body, body, private)
	c.rx.release()
	if r != nil && r.pace.slow() && c.startApart(j) {
		go c.runApart(j)
		return true
	}
	c.current = j
	turn := c.turn.Load() | turnCall
	c.turn.Store(turn)
	c.handle(j)
	if c.turn.CompareAndSwap(turn, afterTurn(turn)) {
		j.finish()
		c.spare = j
		return true
	}
	c.endApart(j)
	return false
}

// requestInRing handles a call whose request stays in the ring. The reader
// keeps its role, as nobody else may read on before the ring is released.
func (c *serverConn) requestInRing(f *frame, r *boundRoute, body []byte) {
	c.rx.ring.Take()
	j := c.newJob()
	own := j.body
	j.frame, j.route, j.body, j.inRing = *f, r, body, true
	c.handle(j)
	if j.hush != nil {
		j.hush()
	}
	c.rx.release()
	j.body, j.inRing, j.hush = own, false, nil
	j.finish()
	c.spare = j
}

// hearFor waits for the client's notes while the reader, with the request of j in the
// ring, waits for room for the reply: that there is room, or the client's end.
func (c *serverConn) hearFor(j *job) {
	if j.hush != nil {
		return // since an earlier wait
	}
	var over atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		look := func() bool {
			c.tx.retry()
			return over.Load() || c.gone.Load()
		}
		for !over.Load() {
			if c.wire.Wait(look) != nil || c.gone.Load() {
				why := c.farewell()
				c.fail(why)
				c.tx.close(why) // nobody else would end the wait
				return
			}
		}
	}()
	j.hush = func() {
		over.Store(true)
		c.wire.Poke()
		<-done
	}
}

// watch is the watchdog. It runs once per patience while the reader is awake.
func (c *serverConn) watch() {
	turn := c.turn.Load()
	if turn&turnMask != turnIdle && turn == c.seen {
		c.handOff(turn)
	}
	c.seen = turn
	if c.asleep.Load() {
		c.armed.Store(false)
		if c.asleep.Load() || !c.armed.CompareAndSwap(false, true) {
			return
		}
	}
	select {
	case <-c.done:
	default: // even when the connection ends: a handler may still have to be cancelled
		c.watchdog.Reset(patience)
	}
}

// arm starts the watchdog if it is not running.
func (c *serverConn) arm() {
	if !c.armed.Load() && c.armed.CompareAndSwap(false, true) {
		c.watchdog.Reset(patience)
	}
}

// handOff gives the reader's role, if it still is at that turn, to a new
// goroutine.
func (c *serverConn) handOff(turn uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.turn.CompareAndSwap(turn, afterTurn(turn)) {
		return
	}
	defer func() { go c.serve() }()
	if turn&turnMask == turnMessage {
		c.note.pace.foundSlow()
		c.inbox.occupy()
		return
	}
	j := c.current
	c.current = nil
	j.lost = true
	if j.route != nil {
		j.route.pace.foundSlow()
	}
	c.apart[j.frame.id] = j
	if c.down.Load() != nil {
		j.ctx.cancel()
	}
}

// startApart registers a call that gets its own goroutine. It refuses the
// call when the client has too many.
func (c *serverConn) startApart(j *job) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.apart) >= c.srv.cfg.maxCalls {
		j.refused = &Error{Code: CodeResourceExhausted, Outcome: NotExecuted,
			Msg: fmt.Sprintf("%d calls are in flight, the limit of a connection", c.srv.cfg.maxCalls)}
		return false
	}
	c.apart[j.frame.id] = j
	j.lost = true
	return true
}

func (c *serverConn) runApart(j *job) {
	start := time.Now()
	c.handle(j)
	j.route.pace.took(time.Since(start))
	c.endApart(j)
}

func (c *serverConn) endApart(j *job) {
	c.mu.Lock()
	delete(c.apart, j.frame.id)
	last := len(c.apart) == 0
	c.mu.Unlock()
	j.finish()
	c.jobs.Put(j)
	if last && c.draining.Load() {
		c.wire.Poke()
	}
}

// cancel cancels the context of a call that runs apart. One that the reader
// runs is over before the reader can see this.
func (c *serverConn) cancel(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if j := c.apart[id]; j != nil {
		j.ctx.cancel()
	}
}

// handle runs a call and sends its reply.
func (c *serverConn) handle(j *job) {
	if err := c.run(j); err != nil {
		c.answerError(j, err)
	}
}

// run runs a call and sends its reply, unless it returns an error to send.
func (c *serverConn) run(j *job) error {
	f, r, fence := &j.frame, j.route, c.srv.cfg.fence
	if j.refused != nil {
		return j.refused
	}
	if r == nil || r.receive != nil {
		c.stats.dropped.Add(1)
		return &Error{Code: CodeUnimplemented, Outcome: NotExecuted, Msg: fmt.Sprintf("the server has no method with id %#x", f.method)}
	}
	if f.deadline != 0 && !time.Now().Before(c.clock.time(f.deadline)) {
		return &Error{Code: CodeDeadlineExceeded, Outcome: NotExecuted, Msg: "the deadline passed before the call was handled"}
	}
	if fence != nil {
		if err := fence.Admit(f.epoch); err != nil {
			return &Error{Code: CodeFenced, Outcome: NotExecuted, Msg: err.Error()}
		}
	}
	j.ctx.deadline = f.deadline
	if r.inPlace != nil {
		return c.callInPlace(j)
	}
	body, err := c.call(j)
	if err != nil {
		return err
	}
	reply := frame{kind: kindReply, id: f.id}
	if err := c.stamp(j, &reply); err != nil {
		return err
	}
	if len(body) > c.tx.limit {
		return &Error{Code: CodeTooLarge, Outcome: Executed,
			Msg: fmt.Sprintf("the reply has %d bytes; this connection's limit is %d", len(body), c.tx.limit)}
	}
	c.send(j, &reply, body)
	return nil
}

// stamp completes the header of the reply to a call, if the fence lets it out.
func (c *serverConn) stamp(j *job, reply *frame) error {
	fence := c.srv.cfg.fence
	if fence == nil {
		return nil
	}
	if err := fence.Admit(j.frame.epoch); err != nil {
		return &Error{Code: CodeFenced, Msg: err.Error()}
	}
	reply.epoch = fence.Epoch()
	return nil
}

// call decodes the request, runs the handler and the interceptors, and encodes the
// reply.
func (c *serverConn) call(j *job) (body []byte, err error) {
	encoding := false
	defer func() {
		switch r := recover(); {
		case r == nil:
		case encoding: // a builder that cannot grow any more panics
			err = cannotEncode(fmt.Errorf("%v", r))
		default:
			err = panicked(c.log, r)
		}
	}()
	req, seq, err := j.route.decode(j.body)
	if err != nil {
		c.stats.malformed.Add(1)
		return nil, malformedRequest(err)
	}
	rep, err := c.answer(j, req, seq)
	if err != nil {
		return nil, err
	}
	encoding = true
	j.builder.Reset()
	if err := j.route.reply(j.builder, j.frame.seq, seq, rep); err != nil {
		return nil, cannotEncode(err)
	}
	return j.builder.FinishedBytes(), nil
}

// answer runs the handler and the interceptors. seq is the request's number as its
// message has it.
func (c *serverConn) answer(j *job, req any, seq uint64) (rep any, err error) {
	if len(c.srv.cfg.interceptors) == 0 {
		return j.route.call(j.ctx, req)
	}
	sc := c.serverCall(j)
	sc.Request, sc.refSeq = req, seq
	err = chainServer(j.ctx, sc, c.srv.cfg.interceptors, func(ctx context.Context) error {
		var err error
		sc.Reply, err = j.route.call(ctx, sc.Request)
		return err
	})
	return sc.Reply, err
}

func malformedRequest(why error) *Error {
	return &Error{Code: CodeInvalidArgument, Outcome: NotExecuted, Msg: "malformed request: " + why.Error()}
}

func cannotEncode(why error) *Error {
	return &Error{Code: CodeInternal, Outcome: Executed, Msg: "cannot encode the reply", Err: why}
}

// serverCall shows a call to the interceptors.
func (c *serverConn) serverCall(j *job) *ServerCall {
	return &ServerCall{Method: j.route.method, Seq: j.frame.seq, Epoch: j.frame.epoch, Peer: &c.peer,
		Body: j.body, route: &j.route.Route}
}

// answerError sends the error of a call.
func (c *serverConn) answerError(j *job, err error) {
	f := frame{kind: kindError, id: j.frame.id, code: CodeOf(err), outcome: Executed}
	msg := err.Error()
	var e *Error
	if errors.As(err, &e) {
		f.outcome = e.Outcome
		if error(e) == err {
			msg = e.text()
		}
	}
	if c.srv.cfg.fence != nil {
		f.epoch = c.srv.cfg.fence.Epoch()
	}
	c.send(j, &f, []byte(shorten(msg, c.tx.limit)))
}

// send writes the answer to a call. A client that is gone misses it, as is
// to be; one that does not read keeps its own calls waiting only. Once the connection ends
// there are no answers: its end is one, and handlers whose contexts it has cancelled
// would give others.
func (c *serverConn) send(j *job, f *frame, body []byte) {
	if c.down.Load() != nil {
		return
	}
	if err := c.tx.write(context.Background(), f, body, nil, func() { c.stepAside(j) }); err != nil && c.down.Load() == nil {
		c.log.Warn("reply lost", "err", err)
	}
}

// stepAside gives the role away before a job of the reader waits.
func (c *serverConn) stepAside(j *job) {
	if j.inRing {
		c.hearFor(j)
		return
	}
	c.mu.Lock()
	lost := j.lost
	c.mu.Unlock()
	if !lost {
		c.handOff(c.turn.Load())
	}
}

// receive handles a one-way message, here or in the inbox. It returns false when
// the role went to another goroutine.
func (c *serverConn) receive(f *frame, body []byte, private bool) (reader bool) {
	r := c.srv.routes.find(f.method)
	if c.inbox.busy() || r == nil || r.receive == nil || r.pace.slow() {
		c.inbox.put(f.method, body, private)
		c.rx.release()
		return true
	}
	own := c.rx.keep(c.noteBody, body, private)
	c.noteBody = nil
	c.rx.releaseSoon()
	c.note = r
	turn := c.turn.Load() | turnMessage
	c.turn.Store(turn)
	c.deliver(r, own)
	if c.turn.CompareAndSwap(turn, afterTurn(turn)) {
		if cap(own) <= keepBuffer {
			c.noteBody = own
		}
		return true
	}
	c.handedOff()
	c.inbox.drain()
	return false
}

// handedOff returns when the handOff that has taken the role has come to its end.
func (c *serverConn) handedOff() {
	c.mu.Lock()
	defer c.mu.Unlock()
}

// deliverWaiting runs the handler of a message that has waited in the inbox.
func (c *serverConn) deliverWaiting(method uint32, body []byte) {
	r := c.srv.routes.find(method)
	if r == nil || r.receive == nil {
		c.stats.dropped.Add(1)
		c.log.Warn("message without a handler", "id", fmt.Sprintf("%#x", method))
		return
	}
	if !r.pace.slow() {
		c.deliver(r, body)
		return
	}
	start := time.Now()
	c.deliver(r, body)
	r.pace.took(time.Since(start))
}

// deliver runs the handler of a message. One is run at a time.
func (c *serverConn) deliver(r *boundRoute, body []byte) {
	ctx := c.noteContexts.next()
	defer ctx.cancel()
	c.message.Store(ctx)
	if c.down.Load() != nil {
		ctx.cancel()
	}
	if err := protect(c.log, func() error { return r.receive(ctx, body) }); err != nil {
		if CodeOf(err) == CodeInvalidArgument {
			c.stats.malformed.Add(1)
		}
		c.log.Warn("message handler failed", "message", r.name, "err", err)
	}
}

// drain makes the connection end as soon as nothing is left to do.
func (c *serverConn) drain() {
	c.draining.Store(true)
	_, _ = c.wire.Write([]byte{noteGoingAway}) // a client that is gone needs no note
	c.wire.Poke()
}

// fail ends the connection.
func (c *serverConn) fail(why *Error) {
	if !c.down.CompareAndSwap(nil, why) {
		return
	}
	c.stats.ends(why)
	if why.Code == CodeCorrupt {
		c.srv.corrupted.Add(1)
	}
	c.mu.Lock()
	for _, j := range c.apart {
		j.ctx.cancel()
	}
	c.mu.Unlock()
	if ctx := c.message.Load(); ctx != nil {
		ctx.cancel()
	}
	c.wire.Close()
}

// bury gives the memory back when the reader has come to the end.
func (c *serverConn) bury() {
	c.rx.tally.publish()
	why := *c.down.Load()
	why.Outcome = NotSent
	c.tx.close(&why)
	c.watchdog.Stop()
	if err := c.seg.Close(); err != nil {
		c.log.Warn("unmap the shared memory", "err", err)
	}
	close(c.done)
	c.srv.leave(c)
	c.log.Debug("client disconnected", "reason", why.Error())
}

// push sends a one-way message to the client.
func (c *serverConn) push(ctx context.Context, p Post) error {
	var epoch uint64
	if c.srv.cfg.fence != nil {
		epoch = c.srv.cfg.fence.Epoch()
	}
	if err := c.tx.post(ctx, &p, epoch, nil); err != nil {
		return err.in("send", p.Message.Protocol.Name, p.Message.Name)
	}
	return nil
}
