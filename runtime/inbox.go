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
	room  func() // called when the inbox is no longer full
	idle  func() // called when the queue has run dry; may be nil
	limit int    // bytes that wait before it is full
	full  atomic.Bool

	mu      sync.Mutex
	queue   []inboxMessage
	bytes   int
	running bool
}

type inboxMessage struct {
	method uint32
	body   []byte
}

// put queues a message, always; it returns false when no more should come
// until room is called.
func (b *inbox) put(method uint32, body []byte) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.queue = append(b.queue, inboxMessage{method, body})
	b.bytes += len(body) + 64
	if !b.running {
		b.running = true
		go b.drain()
	}
	if b.bytes > b.limit {
		b.full.Store(true)
		return false
	}
	return true
}

func (b *inbox) drain() {
	for {
		b.mu.Lock()
		if len(b.queue) == 0 {
			b.queue, b.running = nil, false
			b.mu.Unlock()
			if b.idle != nil {
				b.idle()
			}
			return
		}
		m := b.queue[0]
		b.queue[0] = inboxMessage{}
		b.queue = b.queue[1:]
		b.bytes -= len(m.body) + 64
		freed := b.bytes <= b.limit/2 && b.full.Load()
		if freed {
			b.full.Store(false)
		}
		b.mu.Unlock()
		if freed {
			b.room()
		}
		b.run(m.method, m.body)
	}
}

// busy reports whether a message waits or is being handled.
func (b *inbox) busy() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.running
}

// open takes the limit away, when no more can come than has.
func (b *inbox) open() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.limit = math.MaxInt
	b.full.Store(false)
}
