package ipc

import (
	"fmt"
	"time"

	"github.com/ipcgen/ipcgen/internal/interleave"
)

// This file is what a server does with one-way messages: it handles them one after the other.

// A messageRun has messages that the reader has taken out of the ring together, and whose handlers
// it runs one after the other. To take the role for each of them, and to give their memory back one
// by one, would cost more than to decode them.
type messageRun struct {
	batch
	at     int    // of the message whose handler runs
	spare  []byte // memory for the next one that is alone in a run
	inline uint64 // the inline run that it is in
}

const (
	// runLength is how many messages a run has at most. The first one waits until the others
	// are copied.
	runLength = 16
	// runMessage is the length of the longest message that shares a run with others.
	runMessage = 1 << 10
)

// handled goes on to the next message.
func (m *messageRun) handled() {
	n := &m.messages[m.at]
	m.at++
	if n.own == nil {
		return
	}
	if own := n.spare(n.own); cap(own) > keepShort {
		giveBody(own)
	} else {
		m.spare = own
	}
}

// reset forgets the messages.
func (m *messageRun) reset() {
	m.batch, m.at = m.emptied(), 0
}

// receive handles a one-way message, on this goroutine or in the inbox, and with it those that have
// come behind it. It reports false if the reader role went to another goroutine.
func (c *serverConn) receive(f *frame, body []byte, private bool) (reader bool) {
	m := &c.messages
	switch {
	case !c.mayRun(f):
		c.inbox.put(f, body, private)
		c.rx.release()
		return true
	case private || len(body) > runMessage:
		own := c.rx.keep(m.spare, body, private)
		m.spare = nil
		m.add(f, own, true)
	default:
		m.add(f, body, false)
		c.collect(m)
	}
	c.rx.releaseSoon()
	return c.runMessages()
}

// mayRun reports whether the reader runs the handler of a message itself.
func (c *serverConn) mayRun(f *frame) bool {
	r := c.srv.handler.routes.find(f.method)
	return r != nil && r.receive != nil && !r.pace.slow() && !c.inbox.busy()
}

// collect adds short messages to m that have come already.
func (c *serverConn) collect(m *messageRun) {
	var f frame
	for len(m.messages) < runLength && !c.overdue.Load() {
		body, ok := c.rx.nextMessage(&f, runMessage)
		if !ok {
			return
		}
		if !c.mayRun(&f) {
			c.rx.ring.Unread()
			return
		}
		c.rx.tally.message(len(body))
		m.add(&f, body, false)
	}
}

// runMessages runs the handlers of the messages in c.messages. It reports false if the reader role
// went to another goroutine.
func (c *serverConn) runMessages() (reader bool) {
	m := &c.messages
	runs := false // a handler
	defer func() {
		if runs { // the handler ends this goroutine
			interleave.Go(func() {
				m.handled()
				if !c.endInline(m.inline) {
					c.leaveMessages()
				} else if c.runMessages() {
					c.serve()
				}
			})
		}
	}()
	for m.at < len(m.messages) {
		c.setCurrentMessage()
		m.inline = c.beginInline(inlineMessage)
		for {
			n := &m.messages[m.at]
			runs = true
			c.deliver(c.currentMessage.Load(), &n.delivery, m.batch.body(n))
			runs = false
			m.handled()
			if m.at == len(m.messages) || c.inline.Load() != m.inline {
				break // the watchdog has looked at this run, and what follows is another one
			}
			c.setCurrentMessage()
		}
		if !c.endInline(m.inline) {
			c.leaveMessages()
			return false
		}
	}
	m.reset()
	return true
}

// setCurrentMessage says whose handler runs next. The watchdog may ask as soon as the inline run
// has begun.
func (c *serverConn) setCurrentMessage() {
	r := c.srv.handler.routes.find(c.messages.messages[c.messages.at].method)
	if c.currentMessage.Load() != r {
		c.currentMessage.Store(r)
	}
}

// leaveMessages runs the handlers of the messages that are left in c.messages, and of those that
// have come since another goroutine has the reader role.
func (c *serverConn) leaveMessages() {
	m := c.messages
	c.messages = messageRun{}
	c.handedOff()
	c.inbox.drain(m.batch.rest(m.at))
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

// deliver runs the handler of a message, behind the fence and the gate. One handler runs at a time.
func (c *serverConn) deliver(r *boundRoute, n *delivery, body []byte) {
	defer c.account.release(n.charged)
	if c.srv.handler.admit(n.epoch, r) != nil { // now, as the message may have waited
		c.stats.dropped.Add(1)
		return
	}
	ctx := c.messageContexts.next()
	defer ctx.cancel()
	if n.metadata != (Metadata{}) {
		ctx.metadata().metadata = n.metadata
	}
	n.leases = &ctx.scratch
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
