package ipc

import (
	"context"
	"fmt"
	"time"
)

// This file is how a handler that takes long loses the reader's role, and goes on apart.

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
	if j.route != nil {
		j.route.pace.foundSlow()
	}
	c.goesApart(j)
	if c.down.Load() != nil {
		j.ctx.cancel()
	}
}

// The handlers of a connection's calls hold the requests of budgetMessages of the longest ones,
// or leastBudget bytes, if that is more: a limit of calls alone would let a client
// make its server keep as many of the longest requests.
const (
	budgetMessages = 8
	leastBudget    = 64 << 20
)

// lingering is how many handlers may run beside twice the limit of calls: of calls that are
// answered, and whose goroutines have not come to their end.
const lingering = 64

// mayBegin decides on a call that has come while others run apart: one that has the id of
// another ends the connection, since a cancellation could mean either, and one beyond the
// limit is refused. size is that of the request.
func (c *serverConn) mayBegin(f *frame, size int) bool {
	c.mu.Lock()
	used := c.apart[f.id] != nil
	// Of these calls, some may be over for the client.
	enough := len(c.apart) < c.srv.cfg.maxCalls && c.held+size <= c.budget
	c.mu.Unlock()
	if used {
		c.rx.release()
		c.broken(fmt.Errorf("%w: call %#x is in flight already", errBroken, f.id))
		return false
	}
	if enough {
		return true
	}
	why := c.excess(size)
	if why == "" {
		return true
	}
	c.rx.release()
	c.refuse(f.id, &Error{Code: CodeResourceExhausted, Outcome: NotExecuted, Msg: why})
	return false
}

// excess says why there is no room for a call with a request of size bytes, or returns "".
//
// A client makes its next call when it has an answer, or has cancelled a call, which is before the
// handler has come to its end. So these calls do not count, but have a limit of their own: a
// handler in place may go on after its reply, and any handler after it is cancelled.
func (c *serverConn) excess(size int) string {
	limit := c.srv.cfg.maxCalls
	c.tx.mu.Lock() // before mu
	defer c.tx.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	n, over, held := len(c.apart), 0, c.held
	for _, j := range c.apart {
		if j.answer.done {
			held -= j.held
		}
		if j.answer.done || j.givenUp {
			over++
		}
	}
	switch {
	case n-over >= limit:
		return fmt.Sprintf("%d calls are in flight, the limit of a connection", limit)
	case n >= 2*limit+lingering:
		return fmt.Sprintf("the handlers of %d calls run, of which %d are answered or cancelled; "+
			"the limit of a connection is %d", n, over, 2*limit+lingering)
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

// refuse answers a call that is not handled. A client that sends such calls and does not
// read the answers would make them pile up here; so nothing more is read before this one is
// in the ring.
func (c *serverConn) refuse(id uint64, why *Error) {
	f, text := c.errorFrame(id, why)
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

// goesApart counts a call among those that the reader does not wait for. It needs mu.
func (c *serverConn) goesApart(j *job) {
	j.lost = true
	j.held = cap(j.body)
	c.held += j.held
	c.apart[j.frame.id] = j
	c.crowd.Add(1)
}

// startApart registers a call that gets its own goroutine.
func (c *serverConn) startApart(j *job) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.goesApart(j)
	if c.down.Load() != nil {
		j.ctx.cancel()
	}
}

// runApart handles a call on a goroutine of its own.
func (c *serverConn) runApart(j *job) {
	start := time.Now()
	defer func() {
		j.route.pace.took(time.Since(start))
		c.endApart(j)
	}()
	c.handle(j)
}

// endApart forgets a call that has been answered.
func (c *serverConn) endApart(j *job) {
	c.mu.Lock()
	delete(c.apart, j.frame.id)
	c.held -= j.held
	c.crowd.Add(-1)
	last := len(c.apart) == 0
	c.mu.Unlock()
	j.finish()
	c.jobs.Put(j)
	if last && c.draining.Load() {
		c.wire.Poke()
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

// handedOff returns when the handOff that has taken the role has come to its end.
func (c *serverConn) handedOff() {
	c.mu.Lock()
	defer c.mu.Unlock()
}
