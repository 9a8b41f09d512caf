package ipc

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipcgen/ipcgen/internal/interleave"
	"github.com/ipcgen/ipcgen/internal/record"
	"github.com/ipcgen/ipcgen/runtime/shm"
)

// A serverConn is the server's side of a connection.
//
// One goroutine, the reader, reads the ring and runs the handlers of calls inline: in the common
// case nothing else happens between a request and its reply. When a handler takes long, the
// watchdog hands the reader role to a new goroutine, as the Go scheduler hands off a processor
// whose thread blocks, and the handler continues detached. A method whose handler was slow gets
// goroutines from the start, until it is fast again.
//
// One-way messages are handled likewise, but they must stay in order: messages that arrive while a
// handler is detached, or whose handler is known to be slow, wait in the inbox.
type serverConn struct {
	endpoint
	srv       *Server
	admission *admission
	account   *account
	log       *slog.Logger
	inbox     inbox

	draining atomic.Bool
	overdue  atomic.Bool // the client has had time to learn that it must send no more calls
	lastCall uint64      // the end of what an overdue client may have sent; belongs to the reader
	gone     atomic.Bool // the client has ended the connection; what it sent before counts

	// inline counts the inline runs, each of a handler or of several handlers of messages; its
	// lowest bits say what the reader runs now, and whether the watchdog has looked at it. The
	// goroutine that advances it owns the role: the reader when the run ends, or the watchdog.
	inline   interleave.Uint64
	asleep   atomic.Bool
	armed    atomic.Bool
	watchdog *time.Timer
	quiet    int // looks since a handler has lost the role; see period

	current         *job        // the call that the reader runs; belongs to the owner of the role
	postponed       postponed   // likewise
	messages        messageRun  // that the reader runs; belongs to the goroutine that runs them
	spinning        bool        // counted as one of the server's spinners; belongs to the reader
	signalled       bool        // a handler may have been waiting for what came; likewise
	spare           *job        // for the next call that the reader runs; belongs to the reader
	jobs            sync.Pool   // of *job, for detached calls
	contexts        contextSlab // for calls; belongs to the reader
	ringContexts    contextSlab // for calls whose requests stay in the ring; likewise
	messageContexts contextSlab // for one-way messages; belongs to the runner of the inbox

	currentMessage atomic.Pointer[boundRoute] // of the message that the reader runs, or the last

	paused   atomic.Bool // the inbox is full; nothing is read meanwhile
	refusing atomic.Bool // a refusal waits for room in the ring; nothing is read meanwhile
	full     atomic.Bool // replies exceed the budget; nothing is read meanwhile; changes under mu
	final    bool        // no more messages arrive; belongs to the reader

	budget int // bytes of requests that handlers may hold, and of replies that may wait for room

	detachedCount atomic.Int32 // calls in detached; changes under mu
	// away counts the calls that wait for other processes. While there are any, they count as one
	// of the server's spinners, because one of their handlers may poll for what it waits for.
	away atomic.Int32

	mu       interleave.Mutex // after tx.mu
	detached map[uint64]*job  // what runs on goroutines of its own, by call
	held     int              // bytes of their requests, and of those of streaming calls
	// detachments counts what was ever in detached.
	detachments uint64

	peerWindow     int                    // of the client, for items
	streams        map[uint64]*serverFlow // the streaming calls that are open; under mu
	streamHandlers int                    // the handlers of streaming calls; under mu

	encoders int       // detached calls that encode their replies
	waiting  int       // bytes of the replies that wait for room
	replies  sync.Cond // of calls that wait to be among the encoders; on mu
}

func newServerConn(ctx context.Context, s *Server, h *serverHello, g *admission, seg *shm.Segment,
	log *slog.Logger) (*serverConn, error) {
	l := g.link
	c := &serverConn{srv: s, admission: g, account: g.account, log: log,
		detached:   map[uint64]*job{},
		peerWindow: int(h.clientWindow), streams: map[uint64]*serverFlow{},
		budget: max(leastBudget, budgetMessages*int(h.maxMessage))}
	if err := c.open(&s.cfg.common, l, g.peer, seg, int(h.maxMessage), true); err != nil {
		return nil, err
	}
	c.rx.account = g.account
	c.replies.L = &c.mu
	scope := func(metadata int, down *interleave.Pointer[Error]) *callScope {
		of := newCallScope(context.WithoutCancel(ctx), &c.peer, c.clock, metadata)
		of.draining, of.down = s.closing.Done(), down
		return of
	}
	c.contexts.scope = scope(c.tx.metadata, nil)
	c.ringContexts.scope = scope(c.tx.metadata, &c.down)
	c.messageContexts.scope = scope(0, &c.down) // a message has no reply
	c.inbox = inbox{run: c.deliverWaiting, setPaused: c.paused.Store, resumed: l.Poke,
		idle: c.inboxIdle, limit: h.geo.ToServer}
	c.peer.done, c.peer.send, c.peer.stats = c.done, c.push, c.readStats
	c.watchdog = time.AfterFunc(time.Hour, c.runWatchdog)
	c.watchdog.Stop()
	return c, nil
}

// serve reads until the connection ends or the reader role goes to another goroutine.
func (c *serverConn) serve() {
	recheck := c.recheck
	c.arm()
	for {
		if !c.work() {
			return
		}
		ended := c.down.Load() != nil // before gone, which readWire sets first
		if c.gone.Load() {
			c.fail(c.disconnectReason())
			c.rx.ring.Finish()
			c.final, ended = true, true
			c.inbox.open()
			if !c.work() { // what it sent before counts
				return
			}
		}
		if ended {
			break
		}
		if c.overdue.Load() && c.lastCall == 0 {
			c.lastCall = c.rx.ring.Published()
		}
		start := time.Now()
		c.stopSpinning()
		c.rx.tally.publish()
		c.asleep.Store(true)
		if c.finished() {
			c.fail(&Error{Code: CodeUnavailable, Err: ErrServerClosed})
			break
		}
		if c.wire.Wait(recheck) != nil {
			c.gone.Store(true) // this side has closed the wire, and says why
		}
		c.rx.wakeups.Add(1)
		c.asleep.Store(false)
		c.rx.ring.Awake()
		c.spin.slept(time.Since(start))
		c.tx.recheckSpace()
		c.arm()
	}
	c.stopSpinning()
	c.teardown()
}

// recheck is the reader's last check before it waits for the doorbell. It declares that the reader
// sleeps, unless there is a reason not to wait, and then reports true.
func (c *serverConn) recheck() (awake bool) {
	c.tx.recheckSpace() // Wait has forgotten notifications from before
	if c.gone.Load() {
		return true
	}
	return !c.congested() && !c.rx.sleep()
}

// congested reports whether what the client has sent waits for something other than the
// reader: for handlers of messages, or for the client, which does not read.
func (c *serverConn) congested() bool {
	return c.paused.Load() || c.refusing.Load() || c.full.Load()
}

// stopped reports whether the reader must stop: the connection ends, and the ring may hold more
// than the client had sent before its end.
func (c *serverConn) stopped() bool {
	return !c.final && (c.down.Load() != nil || c.gone.Load())
}

// readWire waits until the client has closed the wire or died. Then it ends the connection, because
// the reader may run a handler that waits for that.
func (c *serverConn) readWire() {
	buf := make([]byte, 64)
	for {
		if _, err := c.wire.Read(buf); err != nil {
			c.gone.Store(true)
			c.fail(c.disconnectReason())
			return
		}
	}
}

// disconnectReason returns the reason for the end of a connection whose client is gone, or whose
// wire this side has closed.
func (c *serverConn) disconnectReason() *Error {
	return c.tx.closeReason(&Error{Code: CodeUnavailable, Msg: "the client is gone"})
}

// finished reports whether a connection that drains has nothing left to do.
func (c *serverConn) finished() bool {
	if !c.draining.Load() || c.rx.ring.Ready() && !c.late() {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.detached) == 0 && c.streamHandlers == 0 && !c.inbox.busy() && !c.refusing.Load()
}

// late reports whether the next record was sent long after the client was told to send no more.
func (c *serverConn) late() bool {
	return c.lastCall != 0 && c.rx.ring.Position() >= c.lastCall
}

// work handles messages until none has arrived for a while. It reports false if the reader role
// went to another goroutine.
func (c *serverConn) work() (reader bool) {
	return c.answerPostponed() && c.read() && c.answerPostponed()
}

// read is work without the answers that are put off before it, or when it ends.
func (c *serverConn) read() (reader bool) {
	var f frame
	s := spin{p: &c.spin}
	for !c.congested() && !c.stopped() {
		for !c.rx.ring.Poll(burst) {
			if len(c.postponed.jobs) > 0 {
				if !c.answerPostponed() {
					return false
				}
				continue
			}
			if c.signalled {
				// The handler of a streaming call runs here and now. Otherwise this goroutine
				// would poll, and the handler would have to wait for another thread.
				c.signalled = false
				runtime.Gosched()
				continue
			}
			if !c.maySpin() || !s.moreAfter(burst) {
				return true
			}
			if s.checkDue() && c.checkOthers() {
				return true
			}
		}
		if c.postponed.enough(c.srv.cfg.maxCalls) && !c.answerBeside() {
			return false
		}
		body, private, ok, err := c.rx.next(&f)
		if err != nil {
			c.broken(err)
			return true
		}
		if !ok {
			continue // a piece of a message
		}
		if c.overdue.Load() && c.refuseLate(&f) {
			c.discharge(&f)
			return true // and the connection may be finished
		}
		if why := c.rx.refused; why != nil && private && mayRefuse(f.kind) {
			c.rx.refused = nil
			c.rx.release()
			if !c.refuseLong(&f, why) {
				return true
			}
			continue
		}
		switch f.kind {
		case record.Request:
			if !c.request(&f, body, private) {
				return false
			}
		case record.Message:
			if !c.receive(&f, body, private) {
				return false
			}
		case record.Cancel:
			id := f.id
			c.rx.release()
			c.cancel(id)
		case record.Open:
			c.openStreaming(&f, body, private)
		case record.Item, record.End, record.Credit:
			if !c.handleFlow(&f, body, private) {
				return true
			}
		default:
			c.broken(fmt.Errorf("%w: a frame of kind %d", errBroken, f.kind))
			return true
		}
		if c.tx.hasWaiters() {
			c.tx.recheckSpaceBusy(2 * c.tx.piece)
		}
		if s.paid() {
			c.rx.tally.spins++
		}
		s = spin{p: &c.spin}
	}
	return true
}

// checkOthers does what a reader that polls must do now and then. It reports true if the reader
// must stop.
func (c *serverConn) checkOthers() (stop bool) {
	c.rx.tally.publish()
	if c.srv.spinners.crowd() {
		runtime.Gosched()
	}
	if c.tx.hasWaiters() {
		c.tx.recheckSpaceBusy(2 * c.tx.piece)
	}
	return c.stopped()
}

// inboxIdle is called when all messages have been handled.
func (c *serverConn) inboxIdle() {
	if c.draining.Load() {
		c.wire.Poke()
	}
}

// obedience is the time that a client has to learn that its server is shutting down. Later messages
// of the client must not delay the end of the connection.
const obedience = time.Second

// drain makes the connection end when nothing is left to do.
func (c *serverConn) drain() {
	c.draining.Store(true)
	time.AfterFunc(obedience, func() {
		c.overdue.Store(true)
		c.wire.Poke()
	})
	_, _ = c.wire.Write([]byte{goAway}) // fails if the client is gone
	c.wire.Poke()
}

// refuseLate refuses the call or drops the message f if the client sent it long after it was told
// to send no more. It returns false otherwise.
func (c *serverConn) refuseLate(f *frame) bool {
	if c.lastCall == 0 {
		c.lastCall = c.rx.ring.Published() // by a client that leaves the reader no rest
	}
	if c.rx.ring.Position() <= c.lastCall {
		return false
	}
	var answer uint32
	switch f.kind {
	case record.Request:
		answer = record.Error
	case record.Open:
		answer = record.End
	case record.Message:
		c.rx.release()
		c.stats.dropped.Add(1)
		return true
	default:
		return false // of a call that was sent before
	}
	id := f.id
	c.rx.release()
	c.refuse(answer, id, &Error{Code: CodeUnavailable, Outcome: NotExecuted,
		Msg: "the server is shutting down, and has said so"})
	return true
}

// broken ends the connection of a client that breaks the protocol.
func (c *serverConn) broken(why error) {
	c.log.Warn("client broke the protocol", "err", why)
	c.fail(&Error{Code: CodeCorrupt, Msg: "the client broke the protocol", Err: why})
}

// cut ends the connection of a server that is closed.
func (c *serverConn) cut() { c.fail(&Error{Code: CodeUnavailable, Err: ErrServerClosed}) }

// fail ends the connection, and with it the contexts of its handlers. Any goroutine may call it, so
// that the end waits for no handler.
func (c *serverConn) fail(why *Error) {
	c.mu.Lock()
	if c.down.Load() != nil {
		c.mu.Unlock()
		return
	}
	c.stats.ends(why) // before the reader can see the end, and add the counts to the server's
	if why.Code == CodeCorrupt {
		c.srv.corrupted.Add(1)
	}
	c.down.Store(why)
	for _, j := range c.detached {
		j.ctx.cancel()
	}
	flows := slices.Collect(maps.Values(c.streams))
	c.replies.Broadcast()
	c.mu.Unlock()
	for _, f := range flows {
		f.disconnect(why)
	}
	c.ringContexts.scope.end()
	c.messageContexts.scope.end()
	c.wire.Close()
}

// teardown releases the memory when the reader has ended.
func (c *serverConn) teardown() {
	c.rx.tally.publish()
	c.rx.drop()
	c.srv.lookout.closeTaps(c, 0)
	why := *c.down.Load()
	why.Outcome = NotSent
	c.tx.close(&why)
	c.watchdog.Stop()
	if err := c.seg.Close(); err != nil {
		c.log.Warn("unmap the shared memory", "err", err)
	}
	close(c.done)
	c.srv.release(c.admission, c)
	c.log.Debug("client disconnected", "reason", why.Error())
}

// push sends a one-way message to the client.
func (c *serverConn) push(ctx context.Context, p Post) error {
	var epoch uint64
	if c.srv.cfg.fence != nil {
		epoch = c.srv.cfg.fence.Epoch()
	}
	err := ended(ctx)
	if err == nil {
		err = c.tx.sendMessage(ctx, &p, epoch, nil)
	}
	if err != nil {
		return p.Message.sendFailed(err)
	}
	return nil
}
