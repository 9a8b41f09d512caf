package ipc

import (
	"context"
	"runtime"
	"time"

	"github.com/ipcgen/ipcgen/internal/interleave"
)

// This file is how the goroutines of a client wait for messages from the server. Callers look
// at the ring themselves for a while and then park. One goroutine at a time, the waiter, waits
// for the doorbell on behalf of all. A caller that sleeps becomes the waiter if there is none,
// so that the doorbell wakes the one goroutine that has use for it: to hand a
// reply to another goroutine costs about as much as the wake-up itself. Where a waiter is
// needed when that caller has its reply, or the client handles messages, the listener waits, a
// goroutine that exists only then.
//
// The waiter must look at everything after its wait has begun and before it sleeps, as rings of
// the doorbell from before are forgotten. client_role_interleave_test.go runs this file in every
// order.

// await waits until p is completed, which the end of ctx brings about too.
func (c *Conn) await(ctx context.Context, p *pending) {
	if c.woken.Load() > 0 {
		runtime.Gosched() // their next calls go with this one, and they need a processor
	}
	if c.takeRole() {
		if c.readFor(ctx, p) {
			c.leaveRole()
			return
		}
		c.leaveRole()
	}
	interleave.Settled()
	if p.done() {
		return
	}
	c.role.park()
	if p.park() {
		c.sleep(ctx, p)
	} else {
		c.role.unpark() // completed just now
	}
}

// sleep waits for the completion of a call whose caller has parked.
func (c *Conn) sleep(ctx context.Context, p *pending) {
	start := time.Now()
	defer func() { c.spin.slept(time.Since(start)) }()
	if c.role.becomeWaiter(p) {
		done := c.sleepAsWaiter(ctx, p)
		interleave.Settled(done)
		c.endWait()
		if done {
			return
		}
	} else if c.takeRole() {
		c.leaveRole() // which asks the server to wake the waiter
	}
	interleave.Settled()
	interleave.Until(func() bool { return len(p.ready) > 0 || ctx.Err() != nil })
	select {
	case <-p.ready:
		c.woken.Add(-1)
	case <-ctx.Done():
		c.giveUp(ctx, p)
	}
}

// sleepAsWaiter is sleep for the waiter. It returns false when the wire is closed and the call is
// not complete; the goroutine that tears the connection down completes the call.
func (c *Conn) sleepAsWaiter(ctx context.Context, p *pending) (done bool) {
	if ctx.Done() != nil {
		stop := interleave.AfterFunc(ctx, c.poke)
		defer stop() // a poke that comes late wakes another goroutine, which sleeps again
	}
	if p.recheck == nil {
		// p may have been completed before its caller became the waiter.
		p.recheck = func() (done bool) { return c.handleDoorbell(p) || p.done() }
	}
	for {
		interleave.Settled()
		err := c.wire.Wait(p.recheck)
		if p.mine { // whether or not the wire was closed meanwhile
			return true
		}
		if err != nil {
			return false
		}
		c.rx.wakeups.Add(1)
		interleave.Settled()
		if c.handleDoorbell(p) {
			return true
		}
		interleave.Settled()
		if p.done() {
			interleave.Until(func() bool { return len(p.ready) > 0 })
			<-p.ready
			c.woken.Add(-1)
			return true
		}
		interleave.Settled()
		select {
		case <-ctx.Done():
			c.giveUp(ctx, p)
			return true
		default:
		}
	}
}

// giveUp completes a call whose context is done, unless another goroutine does already, and
// tells the server.
func (c *Conn) giveUp(ctx context.Context, p *pending) {
	if !p.claim(p.id) {
		interleave.Until(func() bool { return len(p.ready) > 0 })
		<-p.ready
		c.woken.Add(-1)
		return
	}
	c.role.unpark()
	p.err = contextError(ctx)
	if c.expired(p) {
		p.err.Outcome = NotExecuted
	}
	if !p.local {
		c.tx.cancel(p.id)
	}
}

// waiterNeeded reports whether the client needs a goroutine that waits for the doorbell: for
// a parked caller, for the handlers of messages, or for a writer that waits for room.
func (c *Conn) waiterNeeded() bool { return c.role.needed() || c.tx.hasWaiters() }

// ensureWaiter starts the listener unless a goroutine waits for the doorbell.
func (c *Conn) ensureWaiter() {
	if c.role.becomeWaiter(listenerCall) {
		interleave.Go(c.listen)
	}
}

// endWait lets another goroutine wait for the doorbell: the listener, if one is needed.
func (c *Conn) endWait() {
	c.role.leaveWaiter()
	if c.waiterNeeded() {
		c.ensureWaiter()
	}
}

// listen is the waiter as long as one is needed. When the connection ends it remains the
// waiter, since no goroutine can wait any more.
func (c *Conn) listen() {
	recheck := func() (done bool) {
		c.handleDoorbell(nil)
		interleave.Settled()
		return !c.waiterNeeded()
	}
	for {
		interleave.Settled()
		if c.wire.Wait(recheck) != nil {
			return
		}
		interleave.Settled()
		if !c.waiterNeeded() {
			break
		}
		c.rx.wakeups.Add(1)
	}
	interleave.Settled()
	c.endWait()
}

// handleDoorbell does everything that the server may have rung the doorbell for. It resumes
// writers if the ring has room, and reads the messages that have arrived, unless another
// goroutine holds the reader role. It reports true if it has claimed p, which may be nil, and
// stored the reply in p. Otherwise, if a reader is needed, the server has been asked to ring
// the doorbell for the next message.
func (c *Conn) handleDoorbell(p *pending) (mine bool) {
	c.tx.recheckSpace()
	if !c.granted(c.role.takeOrNotify()) {
		return false
	}
	interleave.Settled()
	if mine = c.dispatch(p); mine {
		p.mine = true
		c.role.unpark()
	}
	interleave.Settled(mine)
	c.leaveRole()
	return mine
}

// complete hands a claimed call back to its caller.
func (c *Conn) complete(p *pending) {
	if !p.complete() {
		return
	}
	c.role.unpark()
	c.woken.Add(1)
	p.ready <- struct{}{}
	if c.role.isWaiter(p) {
		c.wire.Poke()
	}
}

// takeRole takes the reader role if no goroutine holds it.
func (c *Conn) takeRole() bool { return c.granted(c.role.take()) }

// granted reports whether the role was taken, and makes it ready for use.
func (c *Conn) granted(g grant) bool {
	if g == grantedAsleep {
		c.rx.ring.Awake()
	}
	return g != notGranted
}

// readFor reads, as the holder of the role, until it does not pay to look any
// longer. It returns true when it has claimed p and put the reply into it, and
// else false, as when another goroutine has completed p before.
func (c *Conn) readFor(ctx context.Context, p *pending) bool {
	s := spin{p: &c.spin}
	for {
		if c.rx.ring.Poll(burst) {
			if c.dispatch(p) {
				if s.paid() {
					c.rx.tally.spins++
				}
				return true
			}
			if c.role.paused() || c.finished(ctx, p) {
				return false
			}
		}
		if !s.moreAfter(burst) {
			return false
		}
		if s.checkDue() {
			c.rx.tally.publish()
			if c.finished(ctx, p) {
				return false
			}
		}
	}
}

// finished reports whether the caller of p has no reason to read any longer.
func (c *Conn) finished(ctx context.Context, p *pending) bool {
	return p.done() || c.down.Load() != nil || ctx.Err() != nil
}

// mostRounds is how often a goroutine that gives the role up reads what has come meanwhile.
const mostRounds = 64

// leaveRole gives the role up. If a reader is needed, leaveRole first reads the messages that have
// arrived, and leaves the role to the waiter. While the server sends faster than this side reads,
// another goroutine continues, because a caller has a deadline of its own to keep.
func (c *Conn) leaveRole() {
	for round := 0; ; round++ {
		interleave.Settled()
		asked := false
		switch c.role.free() {
		case needsNothing:
			return
		case needsTeardown:
			c.teardown()
			return
		case needsReader:
			if round == mostRounds {
				interleave.Go(c.leaveRole)
				return
			}
			c.dispatch(nil)
			interleave.Settled()
			asked = c.rx.sleep()
		}
		c.rx.tally.publish()
		interleave.Settled(asked)
		if c.role.entrust(asked) {
			return
		}
		if asked {
			c.rx.ring.Awake()
		}
	}
}

// pause stops reading while the inbox is full. resume must be called afterwards.
func (c *Conn) pause(full bool) {
	if full {
		c.role.pause()
	} else {
		c.role.resume()
	}
}

// resume reads what has come while the inbox was full.
func (c *Conn) resume() {
	if c.takeRole() {
		c.leaveRole()
	}
}
