package ipc

import (
	"fmt"
	"time"
)

// This file is what a server does with one-way messages: it handles them one after the other.

// receive handles a one-way message, on this goroutine or in the inbox. It reports false if the
// reader role went to another goroutine.
func (c *serverConn) receive(f *frame, body []byte, private bool) (reader bool) {
	r := c.srv.handler.routes.find(f.method)
	if c.inbox.busy() || r == nil || r.receive == nil || r.pace.slow() {
		c.inbox.put(f, body, private)
		c.rx.release()
		return true
	}
	own := c.rx.keep(c.messageBody, body, private)
	c.messageBody = nil
	c.rx.releaseSoon()
	c.currentMessage = r
	run := c.inline.Load() | inlineMessage
	c.inline.Store(run)
	n, returned := deliveryOf(f), false
	n.adoptFrom = leastAdopted
	defer func() {
		if !returned { // the handler ends this goroutine
			go func() {
				if c.received(run, n.spare(own)) {
					c.serve()
				}
			}()
		}
	}()
	c.deliver(r, &n, own)
	returned = true
	return c.received(run, n.spare(own))
}

// received ends the inline run of a message. It reports false if the reader role went to another
// goroutine.
func (c *serverConn) received(run uint64, own []byte) (reader bool) {
	if c.inline.CompareAndSwap(run, nextInline(run)) {
		if cap(own) > keepShort {
			giveBody(own)
		} else {
			c.messageBody = own
		}
		return true
	}
	c.handedOff()
	c.inbox.drain(batch{})
	return false
}

// deliverWaiting runs the handler of a message that has waited in the inbox.
func (c *serverConn) deliverWaiting(n *delivery, body []byte) {
	r := c.srv.handler.routes.find(n.method)
	if r == nil || r.receive == nil {
		c.account.release(n.charged)
		c.stats.dropped.Add(1)
		c.log.Warn("message without a handler", "id", fmt.Sprintf("%#x", n.method))
		return
	}
	if !r.pace.slow() {
		c.deliver(r, n, body)
		return
	}
	start := time.Now()
	defer func() { r.pace.took(time.Since(start), len(body)) }()
	c.deliver(r, n, body)
}

// deliver runs the handler of a message, behind the gate. One handler runs at a time.
func (c *serverConn) deliver(r *boundRoute, n *delivery, body []byte) {
	defer c.account.release(n.charged)
	ctx := c.messageContexts.next()
	defer ctx.cancel()
	if n.metadata != (Metadata{}) {
		ctx.metadata().metadata = n.metadata
	}
	c.messageContext.Store(ctx)
	if c.down.Load() != nil {
		ctx.cancel()
	}
	var observed observation
	if o := c.srv.lookout.observer.Load(); o != nil {
		observed = c.observe(o, r, n.seq, n.epoch, body)
		defer observed.end(CodeInternal, OutcomeUnknown, nil) // the handler ends this goroutine
	}
	err := c.srv.handler.deliver(ctx, c.log, r, &c.peer, n, body)
	observed.end(codeAndText(err))
	switch {
	case !n.passed && CodeOf(err) == CodeInvalidArgument:
		c.stats.malformed.Add(1)
	case !n.passed: // the guard or an interceptor has refused it
		c.stats.dropped.Add(1)
	}
	if err != nil {
		c.log.Warn("message handler failed", "message", r.name, "err", err)
	}
}

// codeAndText is the end of a message for those who observe it.
func codeAndText(err error) (Code, Outcome, []byte) {
	if err == nil {
		return CodeOK, Executed, nil
	}
	return CodeOf(err), OutcomeOf(err), []byte(err.Error())
}
