package ipc

import (
	"context"
	"fmt"
	"time"

	"github.com/ipcgen/ipcgen/internal/interleave"
	"github.com/ipcgen/ipcgen/internal/record"
)

// This file takes the reader role from a handler that takes long. The handler continues as a
// detached job.

// The values of the lowest bits of serverConn.inline.
const (
	inlineIdle    = 0
	inlineCall    = 1
	inlineOwn     = 2 // a call of the server's own methods, of health and introspection
	inlineMessage = 3
	inlineAnswers = 4 // of calls that were put off

	inlineMask = 7

	// inlineSeen is set by the watchdog in a run at which it has looked.
	inlineSeen = 8
)

// beginInline begins an inline run of a kind. The caller must be the reader.
func (c *serverConn) beginInline(kind uint64) (run uint64) {
	run = c.inline.Load() | kind
	c.inline.Store(run)
	return run
}

// endInline ends an inline run. It reports false if that has ended: the caller of endInline that
// ends it owns the reader role.
func (c *serverConn) endInline(run uint64) bool {
	run &^= inlineSeen
	next := (run | inlineMask | inlineSeen) + 1
	return c.inline.CompareAndSwap(run, next) || c.inline.CompareAndSwap(run|inlineSeen, next)
}

const (
	// patience is the time between two checks of the watchdog while handlers run. A handler that
	// runs at two checks in a row loses the reader role.
	patience = time.Millisecond
	// While no handler loses the role, the watchdog checks less often, because each check takes a
	// processor from the reader or from its client. After every quietChecks checks it doubles the
	// time between them, mostDoublings times at most.
	quietChecks   = 64
	mostDoublings = 3
)

// period returns the time until the next check of the watchdog while no handler runs. Only the
// watchdog and the goroutine that starts it may call period.
func (c *serverConn) period() time.Duration {
	return patience << min(c.quiet/quietChecks, mostDoublings)
}

// runWatchdog is the watchdog. It runs now and then while the reader is awake.
func (c *serverConn) runWatchdog() {
	run := c.inline.Load()
	next := patience
	switch {
	case run&inlineMask == inlineIdle:
		next = c.period()
	case run&inlineSeen != 0:
		c.handOff(run)
		c.quiet = 0
	default:
		c.inline.CompareAndSwap(run, run|inlineSeen) // unless it has ended
	}
	c.quiet++
	if c.asleep.Load() {
		c.armed.Store(false)
		if c.asleep.Load() || !c.armed.CompareAndSwap(false, true) {
			return
		}
	}
	select {
	case <-c.done:
	default: // even when the connection ends: a handler may still have to be cancelled
		c.watchdog.Reset(next)
	}
}

// arm starts the watchdog if it is not running.
func (c *serverConn) arm() {
	if !c.armed.Load() && c.armed.CompareAndSwap(false, true) {
		c.watchdog.Reset(c.period())
	}
}

// handOff hands the reader role to a new goroutine, if the inline run is still in progress.
func (c *serverConn) handOff(run uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.endInline(run) {
		return
	}
	defer interleave.Go(c.serve)
	if run&inlineMask == inlineMessage {
		c.currentMessage.Load().pace.foundSlow()
		c.inbox.hold()
		return
	}
	if run&inlineMask == inlineAnswers {
		for _, j := range c.postponed.leave(nil) { // their handlers were not slow
			c.detachNow(j)
		}
		return
	}
	j := c.current
	c.current = nil
	if j.route != nil {
		j.route.pace.foundSlow()
	}
	c.detachNow(j)
}

// The handlers of a connection's calls hold the requests of budgetMessages of the longest ones,
// or leastBudget bytes, if that is more: a limit of calls alone would let a client
// make its server keep as many of the longest requests.
const (
	budgetMessages = 8
	leastBudget    = 64 << 20
)

// lingering is the number of handlers that may run in addition to twice the limit of calls. They
// are handlers of answered calls whose goroutines have not ended yet.
const lingering = 64

// mayBegin decides on a call that arrives while others are detached. A call with the id of another
// one ends the connection, because a cancellation could mean either; a call beyond a limit is
// refused. size is the length of the request.
func (c *serverConn) mayBegin(f *frame, size int) bool {
	c.mu.Lock()
	used := c.detached[f.id] != nil
	// Of these calls, some may be over for the client.
	enough := len(c.detached) < c.srv.cfg.maxCalls && c.held+size <= c.budget
	tooMuch := c.account.check(size + callCost - f.charged)
	c.mu.Unlock()
	if used {
		c.rx.release()
		c.broken(fmt.Errorf("%w: call %#x is in flight already", errBroken, f.id))
		return false
	}
	if tooMuch != nil && c.srv.own.find(f.method) != nil {
		tooMuch = nil // who asks about the server learns of its state
	}
	if !enough {
		if why := c.excess(size); why != "" {
			tooMuch = &Error{Code: CodeResourceExhausted, Outcome: NotExecuted, Msg: why}
		}
	}
	if tooMuch == nil {
		return true
	}
	c.rx.release()
	c.refuse(record.Error, f.id, tooMuch)
	return false
}

// excess says why there is no room for a call with a request of size bytes, or returns "".
//
// A client makes its next call when it has an answer, or has cancelled a call, which is before the
// handler has come to its end. So these calls do not count, but have a limit of their own: a
// handler in place may go on after its reply, and any handler after it is cancelled.
func (c *serverConn) excess(size int) string {
	limit := c.srv.cfg.maxCalls
	c.tx.lock() // before mu
	defer c.tx.unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	n, answered, held := len(c.detached), 0, c.held
	for _, j := range c.detached {
		if j.sent.done {
			held -= j.held
		}
		if j.sent.done || j.givenUp {
			answered++
		}
	}
	switch {
	case n-answered >= limit:
		return fmt.Sprintf("%d calls are in flight, the limit of a connection", limit)
	case n >= 2*limit+lingering:
		return fmt.Sprintf("the handlers of %d calls run, of which %d are answered or cancelled; "+
			"the limit of a connection is %d", n, answered, 2*limit+lingering)
	case n > 0 && held+size > c.budget:
		return fmt.Sprintf("the requests of calls in flight take %d bytes, this one %d; the limit "+
			"of a connection is %d", held, size, c.budget)
	case n > 0 && c.held+size > 2*c.budget:
		return fmt.Sprintf("the requests of %d calls whose handlers run take %d bytes, this one "+
			"%d; the limit of a connection is %d, answered calls included", n, c.held, size,
			2*c.budget)
	}
	return ""
}

// refuse answers a call that is not handled. If the ring is full, nothing more is read until the
// answer is in the ring: otherwise a client that sends such calls and does not read the answers
// could make them pile up.
func (c *serverConn) refuse(kind uint32, id uint64, why *Error) {
	f, text := c.errorFrame(kind, id, why)
	if c.tx.tryWrite(&f, text) {
		return
	}
	c.refusing.Store(true)
	go func() {
		// fails when the connection ends
		_ = c.tx.write(context.Background(), &f, text, nil, func() {})
		c.refusing.Store(false)
		c.wire.Poke()
	}()
}

// detach registers a call that the reader does not wait for. The caller must hold c.mu.
func (c *serverConn) detach(j *job) {
	j.detached = true
	c.detachments++
	j.detachment = c.detachments
	j.held = cap(j.body) + len(j.frame.metadata.pairs)
	c.held += j.held
	j.charged += callCost + max(0, j.held-j.frame.charged)
	c.account.mustCharge(callCost + max(0, j.held-j.frame.charged))
	c.detached[j.frame.id] = j
	c.detachedCount.Add(1)
}

// startDetached registers a call that gets its own goroutine.
func (c *serverConn) startDetached(j *job) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.detachNow(j)
}

// detachNow is detach for a call that is not new. The caller must hold c.mu.
func (c *serverConn) detachNow(j *job) {
	c.detach(j)
	if c.down.Load() != nil {
		j.ctx.cancel()
	}
}

// runDetached handles a call on its own goroutine.
func (c *serverConn) runDetached(j *job) {
	start, n := time.Now(), len(j.body)
	run := c.inline.Load()
	defer func() {
		d := time.Since(start)
		if d < patience && c.ranAlone(j, run) {
			d = 0
		}
		j.route.pace.took(d, n)
		c.answerDetached(j)
	}()
	c.handle(j)
}

// ranAlone reports whether a detached call would have delayed no other call, had the
// reader run it: none came meanwhile. run is the value of inline at its beginning.
func (c *serverConn) ranAlone(j *job, run uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.detached) == 1 && c.detachments == j.detachment &&
		run&inlineMask == inlineIdle && c.inline.Load() == run
}

// endDetached removes a detached call that has been answered.
func (c *serverConn) endDetached(j *job) {
	c.mu.Lock()
	delete(c.detached, j.frame.id)
	c.held -= j.held
	c.detachedCount.Add(-1)
	last := len(c.detached) == 0
	freed := c.forgetReply(j)
	c.mu.Unlock()
	if freed {
		c.wire.Poke()
	}
	c.finishJob(j)
	c.jobs.Put(j)
	if last && c.draining.Load() {
		c.wire.Poke()
	}
}

// handOffBeforeWait hands the reader role on before the handler of j blocks.
func (c *serverConn) handOffBeforeWait(j *job) {
	if j.inRing {
		c.listenWhileBlocked(j)
		return
	}
	c.mu.Lock()
	lost := j.detached
	c.mu.Unlock()
	if !lost {
		c.handOff(c.inline.Load())
	}
	c.replyWaits(j)
}

// willWait implements carrier. It hands the reader role on if another message has arrived.
func (j *job) willWait() {
	c := j.conn
	j.countAway()
	c.mu.Lock() // so that the watchdog does not hand the role on meanwhile
	run := c.inline.Load()
	more := !j.detached && !j.inRing && c.rx.ring.Ready()
	c.mu.Unlock()
	if more {
		c.handOff(run)
	}
}

// countAway counts a call as one that waits for another process.
func (j *job) countAway() {
	if c := j.conn; !j.away {
		j.away = true
		if c.away.Add(1) == 1 {
			c.srv.spinners.count(c.srv.spinners.away)
		}
	}
}

// returned takes back what countAway has counted for a call that has come to its end.
func (c *serverConn) returned(j *job) {
	if !j.away {
		return
	}
	j.away = false
	if c.away.Add(-1) == 0 {
		c.srv.spinners.count(-c.srv.spinners.away)
	}
}

// handedOff returns when the handOff that has taken the reader role has returned.
func (c *serverConn) handedOff() {
	c.mu.Lock()
	defer c.mu.Unlock()
}
