package ipc

import (
	"math"
	"sync"

	"github.com/ipcgen/ipcgen/internal/interleave"
)

// An inbox runs the handlers of a connection's one-way messages, one after the other in the order
// of arrival, on a goroutine that exists only while there are messages.
type inbox struct {
	run       func(n *delivery, body []byte)
	setPaused func(full bool) // called under mu when full changes
	resumed   func()          // called when the inbox is no longer full
	idle      func()          // called when the queue has run dry; may be nil

	running interleave.Bool // changes under mu

	mu    interleave.Mutex
	limit int   // bytes that wait before it is full
	full  bool  // nothing more should come
	next  batch // what waits
	lent  bool  // the memory of next has gone to batches, for the last messages took much
}

// batches has the memory of inboxes in which much has waited.
var batches sync.Pool // of *batch

// A batch holds messages that are handled one after the other without the lock
// in between. Short ones are copied to one buffer, which the next batch but one
// uses again: handlers copy out of a body what they keep.
type batch struct {
	messages []inboxMessage
	buf      []byte
	bytes    int
	own      int // memory of bodies that are not in buf
}

// keepBatch is the length of the longest buffer of a batch that the pool keeps.
const keepBatch = 4 << 20

// size returns how much memory the batch takes.
func (n *batch) size() int {
	return cap(n.buf) + cap(n.messages)*messageOverhead + n.own
}

// long reports whether an inbox should not keep the memory of n.
func (n *batch) long() bool {
	return cap(n.buf) > keepShort || cap(n.messages)*messageOverhead > keepShort
}

// add appends a message. The body is copied, unless it is private.
func (b *batch) add(f *frame, body []byte, private bool) {
	m := inboxMessage{delivery: deliveryOf(f), from: len(b.buf)}
	if private {
		m.own, m.adoptFrom = body, leastAdopted
		b.own += cap(body)
	} else {
		b.buf = append(b.buf, body...)
	}
	m.to = len(b.buf)
	b.messages = append(b.messages, m)
}

// body returns the body of one of the batch's messages.
func (b *batch) body(m *inboxMessage) []byte {
	if m.own != nil {
		return m.own
	}
	return b.buf[m.from:m.to:m.to]
}

// emptied returns b without its messages, for others.
func (b batch) emptied() batch {
	clear(b.messages)
	return batch{messages: b.messages[:0], buf: b.buf[:0]}
}

// rest returns b without its first n messages, which were handled.
func (b batch) rest(n int) batch {
	clear(b.messages[:n]) // else they would keep their bodies as long as the batch is there
	b.messages = b.messages[n:]
	return b
}

// takeBatch returns an empty batch, with memory of one that is not used any more, if there is any.
func takeBatch() batch {
	if used, ok := batches.Get().(*batch); ok {
		return *used
	}
	return batch{}
}

// giveBatch takes the memory of an empty batch.
func giveBatch(b batch) {
	if cap(b.messages) > 0 && cap(b.buf) <= keepBatch {
		batches.Put(&b)
	}
}

// A delivery is a one-way message without its body, on its way to the handler.
type delivery struct {
	method     uint32
	seq, epoch uint64
	metadata   Metadata
	charged    int  // to the server's memory, for the body
	passed     bool // it has come as far as its handler
	adoptFrom  int  // see adopt; 0: something else refers to the memory of the body
	kept       bool // and the object has it now
	leases     *leases
}

// open decodes the body of a message.
func (n *delivery) open(r *boundRoute, body []byte) (m any, seq uint64, err error) {
	return r.openOwned(body, n.adoptFrom, &n.kept)
}

// spare returns the memory of a body that was handled, unless the object has it.
func (n *delivery) spare(body []byte) []byte {
	if n.kept {
		return nil
	}
	return body
}

func deliveryOf(f *frame) delivery {
	return delivery{method: f.method, seq: f.id, epoch: f.epoch, metadata: f.metadata,
		charged: f.charged}
}

// An inboxMessage has its body in the batch's buffer, or in own.
type inboxMessage struct {
	delivery
	from, to int
	own      []byte
}

// put queues a message. It reports false if no more messages may be put until resumed is called.
// The body is copied, unless it is private.
func (b *inbox) put(f *frame, body []byte, private bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.lent {
		b.next, b.lent = takeBatch(), false
	}
	b.next.add(f, body, private)
	b.next.bytes += len(body) + len(f.metadata.pairs) + messageOverhead
	if !b.running.Load() {
		b.running.Store(true)
		interleave.Go(func() { b.drain(batch{}) })
	}
	if b.next.bytes > b.limit {
		b.setFull(true)
	}
	return !b.full
}

// setFull tells the reader when to stop and when to go on. The caller must hold b.mu.
func (b *inbox) setFull(full bool) (changed bool) {
	if b.full == full {
		return false
	}
	b.full = full
	b.setPaused(full)
	return true
}

// hold makes messages wait while a handler runs outside of the inbox. The caller must call drain
// afterwards, and is the only one that may call put until then.
func (b *inbox) hold() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.running.Store(true)
}

// messageOverhead is what a message takes beside its body and metadata.
const messageOverhead = 96

// drain runs the handlers of the messages in now, and then of those that wait, until none waits.
func (b *inbox) drain(now batch) {
	for {
		b.runAll(now)
		b.mu.Lock()
		now, b.next = b.next, now.emptied()
		if len(now.messages) == 0 {
			if b.next.long() {
				giveBatch(b.next)
				b.next, b.lent = batch{}, true
			}
			b.running.Store(false)
			b.mu.Unlock()
			if b.idle != nil {
				b.idle()
			}
			return
		}
		freed := b.setFull(false)
		b.mu.Unlock()
		if freed {
			b.resumed()
		}
	}
}

// runAll runs the handlers of the messages in now. If a handler ends its goroutine, another
// goroutine runs the rest.
func (b *inbox) runAll(now batch) {
	i := 0
	defer func() {
		if i < len(now.messages) {
			now = now.rest(i + 1)
			interleave.Go(func() { b.drain(now) })
		}
	}()
	for ; i < len(now.messages); i++ {
		m := &now.messages[i]
		b.run(&m.delivery, now.body(m))
		if m.own != nil {
			giveBody(m.spare(m.own))
		}
	}
}

// busy reports whether a message waits or is being handled.
func (b *inbox) busy() bool { return b.running.Load() }

// open removes the limit. The caller must ensure that nothing more arrives.
func (b *inbox) open() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.limit = math.MaxInt
	b.setFull(false)
}
