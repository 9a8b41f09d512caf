package ipc

import (
	"context"
	"time"
)

// This file is how a client waits for its doorbell. One goroutine at a time may; it has
// the watch, and acts for all. A caller that sleeps takes the watch itself if it is free, so that
// the server's note wakes the one goroutine that has use for it: handing a reply
// on to another one costs about as much as the whole wake-up. Where others rely on
// the watch when it is given up, or the client handles messages, the listener has it, a
// goroutine that exists only then.
//
// Whoever has the watch must look after it has begun to wait and before it sleeps, and
// look at everything: what it was told before is forgotten. role_model_test.go tries all
// interleavings.

// listenerWatch stands for the listener where the watch names the call whose
// caller has it.
var listenerWatch = new(pending)

// watched reports whether anybody relies on the watch: a caller that has parked, the
// handlers of messages, or a writer that waits for room.
func (c *Conn) watched() bool { return c.relied() || c.tx.waiting.Load() }

// relied reports whether anybody relies on others to read.
func (c *Conn) relied() bool { return c.parked.Load() > 0 || !c.routes.empty() }

// keepWatch sees to it that somebody has the watch.
func (c *Conn) keepWatch() {
	if c.watch.CompareAndSwap(nil, listenerWatch) {
		go c.listen()
	}
}

// endWatch gives the watch up, to the listener if anybody relies on it.
func (c *Conn) endWatch() {
	c.watch.Store(nil)
	if c.watched() {
		c.keepWatch()
	}
}

// listen has the watch as long as anybody relies on it. When the connection ends it
// keeps the watch, since nobody can wait any more.
func (c *Conn) listen() {
	look := func() (done bool) {
		c.heed(nil)
		return !c.watched()
	}
	for {
		if c.wire.Wait(look) != nil {
			return
		}
		if !c.watched() {
			break
		}
		c.rx.wakeups.Add(1)
	}
	c.endWatch()
}

// sleep waits for the completion of a call whose caller has parked.
func (c *Conn) sleep(ctx context.Context, p *pending) {
	start := time.Now()
	if c.watch.CompareAndSwap(nil, p) {
		done := c.sleepOnWatch(ctx, p)
		c.endWatch()
		if done {
			c.spin.slept(time.Since(start))
			return
		}
	} else if c.takeRole() {
		c.leaveRole() // which tells the server that this side sleeps
	}
	select {
	case <-p.ready:
	case <-ctx.Done():
		c.giveUp(ctx, p)
	}
	c.spin.slept(time.Since(start))
}

// sleepOnWatch is sleep for the caller that has the watch. It returns false when the
// wire is closed; whoever buries the connection completes the call.
func (c *Conn) sleepOnWatch(ctx context.Context, p *pending) (done bool) {
	if ctx.Done() != nil {
		stop := context.AfterFunc(ctx, c.poke)
		defer stop() // a poke that comes late wakes somebody for nothing
	}
	if p.look == nil {
		// done: before this caller had the watch
		p.look = func() (done bool) { return c.heed(p) || p.done() }
	}
	for {
		if c.wire.Wait(p.look) != nil {
			return false
		}
		c.rx.wakeups.Add(1)
		if p.mine || c.heed(p) {
			return true
		}
		if p.done() {
			<-p.ready
			return true
		}
		select {
		case <-ctx.Done():
			c.giveUp(ctx, p)
			return true
		default:
		}
	}
}

// heed does what a note from the server may be about: it lets those go on who wait
// for room, and reads what has come, unless somebody else does. If it returns true it has
// claimed p, which may be nil, and put the reply into it. Otherwise the server
// knows that this side sleeps, if anybody relies on it.
func (c *Conn) heed(p *pending) (mine bool) {
	c.tx.retry()
	for {
		if c.takeRole() {
			if mine = c.dispatch(p); mine {
				p.mine = true
				c.parked.Add(-1)
			}
			c.leaveRole()
			return mine
		}
		switch c.role.Load() {
		case roleFree, roleAsleep: // only just
		case roleHeld:
			if c.role.CompareAndSwap(roleHeld, roleNoted) {
				return false
			}
		default:
			return false
		}
	}
}

// complete hands a claimed call back to its caller.
func (c *Conn) complete(p *pending) {
	if !p.complete() {
		return
	}
	c.parked.Add(-1)
	p.ready <- struct{}{}
	if c.watch.Load() == p {
		c.wire.Poke()
	}
}
