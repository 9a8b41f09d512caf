package ipc

import (
	"fmt"
	"time"
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
	clear(m.messages)
	m.batch, m.at = batch{messages: m.messages[:0], buf: m.buf[:0]}, 0
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
	if m.at == len(m.messages) {
		m.reset()
		return true
	}
	m.inline = c.beginInline(inlineMessage)
	returned := false
	defer func() {
		if !returned { // the handler ends this goroutine
			go func() {
				m.handled()
				if !c.endInline(m.inline) {
					c.leaveMessages()
				} else if c.runMessages() {
					c.serve()
				}
			}()
		}
	}()
	for {
		if n := &m.messages[m.at]; m.at == 0 || c.admits(n.epoch) {
			r := c.srv.handler.routes.find(n.method)
			if c.currentMessage.Load() != r {
				c.currentMessage.Store(r)
			}
			c.deliver(r, &n.delivery, m.batch.body(n))
		}
		m.handled()
		more := m.at < len(m.messages)
		if more && c.inline.Load() == m.inline {
			continue
		}
		// The watchdog has looked at this run since it began. What follows is another one.
		if !c.endInline(m.inline) {
			returned = true
			c.leaveMessages()
			return false
		}
		if !more {
			break
		}
		m.inline = c.beginInline(inlineMessage)
	}
	returned = true
	m.reset()
	return true
}

// leaveMessages runs the handlers of the messages that are left in c.messages, and of those that
// have come since another goroutine has the reader role.
func (c *serverConn) leaveMessages() {
	m := c.messages
	c.messages = messageRun{}
	c.handedOff()
	c.inbox.drain(batch{messages: m.messages[m.at:], buf: m.buf})
}

// admits reports whether the fence admits a message, and counts it otherwise.
func (c *serverConn) admits(epoch uint64) bool {
	if fence := c.srv.cfg.fence; fence != nil && fence.Admit(epoch) != nil {
		c.stats.dropped.Add(1)
		return false
	}
	return true
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
