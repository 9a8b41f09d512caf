package ipc

import (
	"math"
	"sync"
	"sync/atomic"
)

// An inbox runs the handlers of one-way messages of a connection, one after
// the other in the order in which they came, on a goroutine that exists only
// while there are any.
type inbox struct {
	run   func(method uint32, body []byte)
	room  func()            // called when the inbox is no longer full
	idle  func()            // called when the queue has run dry; may be nil
	spent func(body []byte) // takes a private body back when its message has been handled
	limit int               // bytes that wait before it is full
	full  atomic.Bool

	running atomic.Bool // changes under mu

	mu   sync.Mutex
	next batch // what waits
}

// A batch holds messages that are handled one after the other without the lock
// in between. Short ones are copied to one buffer, which the next batch but one
// uses again: handlers copy out of a body what they keep.
type batch struct {
	messages []inboxMessage
	buf      []byte
	bytes    int
}

// An inboxMessage has its body in the batch's buffer, or in own.
type inboxMessage struct {
	method   uint32
	from, to int
	own      []byte
}

// put queues a message, always; it returns false when no more should come
// until room is called. The body is copied, unless it is private.
func (b *inbox) put(method uint32, body []byte, private bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := &b.next
	m := inboxMessage{method: method, from: len(n.buf)}
	if private {
		m.own = body
	} else {
		n.buf = append(n.buf, body...)
	}
	m.to = len(n.buf)
	n.messages = append(n.messages, m)
	n.bytes += len(body) + 64
	if !b.running.Load() {
		b.running.Store(true)
		go b.drain()
	}
	if n.bytes > b.limit {
		b.full.Store(true)
		return false
	}
	return true
}

// occupy makes messages wait while a handler runs outside of the inbox. The caller, who
// alone may put messages at that time, sees to it that drain is called afterwards.
func (b *inbox) occupy() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.running.Store(true)
}

// drain runs the handlers of what waits, until nothing does.
func (b *inbox) drain() {
	var now batch
	for {
		b.mu.Lock()
		clear(now.messages)
		now = batch{messages: now.messages[:0], buf: now.buf[:0]}
		now, b.next = b.next, now
		if len(now.messages) == 0 {
			b.running.Store(false)
			b.mu.Unlock()
			if b.idle != nil {
				b.idle()
			}
			return
		}
		freed := b.full.Swap(false)
		b.mu.Unlock()
		if freed {
			b.room()
		}
		for _, m := range now.messages {
			body := m.own
			if body == nil {
				body = now.buf[m.from:m.to:m.to]
			}
			b.run(m.method, body)
			if m.own != nil {
				b.spent(m.own)
			}
		}
	}
}

// busy reports whether a message waits or is being handled.
func (b *inbox) busy() bool { return b.running.Load() }

// open takes the limit away, when no more can come than has.
func (b *inbox) open() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.limit = math.MaxInt
	b.full.Store(false)
}
