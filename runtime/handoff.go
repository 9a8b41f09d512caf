package ipc

import (
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
