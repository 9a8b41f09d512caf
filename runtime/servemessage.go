package ipc

import (
	"fmt"
	"time"
)

// This file is what a server does with one-way messages: it handles them one after the other.

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
