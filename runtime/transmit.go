package ipc

import (
	"context"
	"encoding/binary"
	"fmt"
	"runtime"
	"sync"

	flatbuffers "github.com/google/flatbuffers/go"
	"github.com/ipcgen/ipcgen/internal/interleave"
	"github.com/ipcgen/ipcgen/internal/record"
	"github.com/ipcgen/ipcgen/runtime/shm"
)

// A transmitter writes messages into the ring to the peer. It is safe for concurrent use: mu
// serializes the writers, which are one producer of the ring.
type transmitter struct {
	wire     wire
	limit    int  // longest body of a message
	piece    int  // longest payload of a record that is copied into the ring
	place    int  // longest payload of one that is built there
	metadata int  // longest metadata
	failFast bool // refuse instead of waiting for room

	builders sync.Pool // of *flatbuffers.Builder, for one-way messages

	waiting        interleave.Bool // somebody waits for turn, or for room; a hint for retry
	spaceRequested func()          // called when a note that tells of room is expected; may be nil

	mu       interleave.Mutex
	ring     *shm.Producer
	closed   *Error        // once set, the ring's memory may be gone
	fault    *Error        // the peer broke the ring
	busy     bool          // a message in pieces is under way
	abort    bool          // the peer must be told that it was given up
	cancels  []uint64      // calls to cancel as soon as there is room
	released chan struct{} // closed when those who wait should try again
	want     int           // the least room that somebody waits for; 0: nobody does
	messages uint64
	bytes    uint64
	wakeups  uint64
	waits    uint64
}

// init prepares the transmitter to write messages with bodies of up to limit bytes
// into a ring of that capacity.
func (t *transmitter) init(ring *shm.Producer, w wire, capacity, limit int, failFast bool) {
	t.ring, t.wire, t.limit, t.failFast = ring, w, limit, failFast
	t.piece, t.place = longestRecord(capacity), shm.MaxPayload(capacity)
	t.metadata = min(MaxMetadata, capacity/8)
}

// sent is the position in the ring of a message's last record. The peer can act on the message only
// when it has that record. It is written under transmitter.mu.
type sent struct {
	done bool
	pos  uint64
}

// write puts a message into the ring. It blocks while the ring is full, until ctx is done; if block
// is not nil, write calls it before it blocks. With failFast, only messages without block fail
// instead of blocking: a reply always waits, because its caller does. An error means that the peer
// will never see the message.
func (t *transmitter) write(ctx context.Context, f *frame, body []byte, at *sent,
	block func()) *Error {
	if len(body) > t.limit {
		return t.tooLarge(len(body))
	}
	n := f.size() + len(body)
	if n > t.piece {
		return t.writePieces(ctx, f, body, at, block)
	}
	t.mu.Lock()
	dst, err := t.reserve(ctx, n, block)
	if err != nil {
		t.mu.Unlock()
		return err
	}
	f.put(dst)
	copy(dst[f.size():], body)
	if at != nil {
		*at = sent{true, t.ring.Position()}
	}
	t.messages++
	t.bytes += uint64(len(body))
	wake := t.commit(f.tag(), n)
	t.mu.Unlock()
	if wake {
		t.wire.Notify()
	}
	return nil
}

// tryWrite is like write, but reports false where write would block, and for a message that takes
// more than one record.
func (t *transmitter) tryWrite(f *frame, body []byte) (done bool) {
	n := f.size() + len(body)
	if n > t.piece {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed != nil {
		return true
	}
	if t.busy || !t.flush() {
		return false
	}
	dst, err := t.room(n)
	if dst == nil {
		return err != nil
	}
	f.put(dst)
	copy(dst[f.size():], body)
	t.messages++
	t.bytes += uint64(len(body))
	if t.commit(f.tag(), n) {
		t.wire.Notify()
	}
	return true
}

// attach gives a message the metadata of o, which may be nil.
func (t *transmitter) attach(f *frame, o *outgoing) *Error {
	switch {
	case o == nil:
		return nil
	case o.err != nil:
		return o.err
	case len(o.metadata.pairs) > t.metadata:
		return metadataTooLarge(len(o.metadata.pairs), t.metadata)
	}
	f.metadata = o.metadata
	return nil
}

func (t *transmitter) tooLarge(n int) *Error {
	return &Error{Code: CodeTooLarge, Outcome: NotSent,
		Msg: fmt.Sprintf("message of %d bytes; this connection's limit is %d", n, t.limit)}
}

// commit publishes the reserved record. The caller must hold t.mu.
func (t *transmitter) commit(tag uint32, n int) (wake bool) {
	wake = t.ring.Commit(tag, n)
	if wake {
		t.wakeups++
	}
	return wake
}

// writePieces writes a message that is too long for one record. Other writers wait until it is
// complete, so that the peer assembles one message at a time.
func (t *transmitter) writePieces(ctx context.Context, f *frame, body []byte, at *sent,
	block func()) *Error {
	t.mu.Lock()
	defer t.mu.Unlock()
	head := f.size() + record.TotalLen
	n := min(head+len(body), t.piece)
	dst, err := t.reserve(ctx, n, block)
	if err != nil {
		return err
	}
	f.put(dst)
	binary.NativeEndian.PutUint64(dst[f.size():], uint64(len(body)))
	rest := body[copy(dst[head:], body):]
	t.messages++
	t.bytes += uint64(len(body))
	wake := t.commit(f.tag()|record.More, n)
	t.busy = true
	defer func() {
		t.busy = false
		t.wakeWaiters()
		t.flushSoon()
	}()
	for len(rest) > 0 {
		if wake {
			t.wire.Notify()
		}
		n := min(len(rest), t.piece)
		dst, err := t.reservePiece(ctx, n, block)
		if err != nil {
			t.abort = true
			return err
		}
		tag := record.Piece
		if n < len(rest) {
			tag |= record.More
		}
		rest = rest[copy(dst, rest):]
		if at != nil && len(rest) == 0 {
			*at = sent{true, t.ring.Position()}
		}
		wake = t.commit(tag, n)
	}
	if wake {
		t.wire.Notify()
	}
	return nil
}

// reserve returns room for a first record of n bytes. The caller must hold t.mu, which is released
// while reserve blocks.
func (t *transmitter) reserve(ctx context.Context, n int, block func()) ([]byte, *Error) {
	for tries := 0; ; tries++ {
		if t.closed != nil {
			return nil, t.closed
		}
		if !t.busy && t.flush() {
			if dst, err := t.room(n); dst != nil || err != nil {
				return dst, err
			}
		}
		if err := t.wait(ctx, n, tries, false, block); err != nil {
			return nil, err
		}
	}
}

// reservePiece is like reserve, for the pieces of the message that is in progress.
func (t *transmitter) reservePiece(ctx context.Context, n int, block func()) ([]byte, *Error) {
	for tries := 0; ; tries++ {
		if t.closed != nil {
			return nil, t.closed
		}
		if dst, err := t.room(n); dst != nil || err != nil {
			return dst, err
		}
		if err := t.wait(ctx, n, tries, true, block); err != nil {
			return nil, err
		}
	}
}

// room returns room for a record of n bytes, or nil if there is none. If the ring is corrupt, it
// closes the wire, so that the goroutine that reads the wire ends the connection; otherwise calls
// would wait for replies forever. The caller must hold t.mu.
func (t *transmitter) room(n int) ([]byte, *Error) {
	dst, ok, err := t.ring.Reserve(n)
	if err != nil {
		if t.fault == nil {
			t.fault = &Error{Code: CodeCorrupt, Msg: "the peer broke the protocol", Err: err}
			t.wire.Close()
		}
		e := *t.fault
		e.Outcome = NotSent
		return nil, &e
	}
	if !ok {
		return nil, nil
	}
	return dst, nil
}

// spinForRoom is how often a writer looks for room before it parks: a peer
// that is awake usually makes some within microseconds.
const spinForRoom = 500

// wait blocks until the ring may have room for n bytes. own is true for the writer of the message
// that is in progress; other writers also wait for the end of that message. The caller must hold
// t.mu, which is released while wait blocks.
func (t *transmitter) wait(ctx context.Context, n, tries int, own bool, block func()) *Error {
	if t.failFast && block == nil {
		return &Error{Code: CodeResourceExhausted, Outcome: NotSent, Msg: "the ring is full"}
	}
	if tries < spinForRoom {
		t.mu.Unlock()
		runtime.Gosched()
		t.mu.Lock()
		return nil
	}
	t.waiting.Store(true)
	if (own || !t.busy) && !t.requestSpace(n) {
		t.wakeWaiters() // nothing will wake them now
		return nil
	}
	if t.released == nil {
		t.released = make(chan struct{})
	}
	t.waits++
	released := t.released
	t.mu.Unlock()
	defer t.mu.Lock()
	if block != nil {
		block()
	}
	select {
	case <-released:
		return nil
	case <-ctx.Done():
		e := contextError(ctx)
		e.Msg, e.Outcome = "waiting for room in the ring", NotSent
		return e
	}
}

// requestSpace asks the consumer for one notification when n bytes are free. It reports false if
// they are free already. The caller must hold t.mu.
func (t *transmitter) requestSpace(n int) bool {
	// First: the note that answers may come at once, and retry looks at this.
	t.waiting.Store(true)
	if t.want == 0 || n < t.want {
		t.want = n
	}
	t.wire.Expect()
	if !t.ring.Starve(n) {
		return false
	}
	if t.spaceRequested != nil {
		t.spaceRequested()
	}
	return true
}

// flush writes the records that precede any other message: the abort of a message, and
// cancellations. It reports whether all of them are written. The caller must hold t.mu.
func (t *transmitter) flush() bool {
	if t.abort {
		dst, err := t.room(0)
		if dst == nil {
			return err != nil // a broken ring loses it all
		}
		if t.commit(record.Abort, 0) {
			t.wire.Notify()
		}
		t.abort = false
	}
	for len(t.cancels) > 0 {
		f := frame{kind: record.Cancel, id: t.cancels[0]}
		dst, err := t.room(record.HeaderLen)
		if dst == nil {
			return err != nil
		}
		f.put(dst)
		if t.commit(record.Cancel, record.HeaderLen) {
			t.wire.Notify()
		}
		t.cancels = t.cancels[1:]
	}
	t.cancels = nil
	return true
}

// cancel tells the peer that a call is cancelled, at once or as soon as there is room. It never
// blocks.
func (t *transmitter) cancel(id uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed != nil {
		return
	}
	t.cancels = append(t.cancels, id)
	t.flushSoon()
}

// flushSoon flushes at once, or as soon as there is room. The caller must hold t.mu.
func (t *transmitter) flushSoon() {
	for t.closed == nil && !t.busy && !t.flush() {
		if t.requestSpace(record.HeaderLen) {
			return
		}
	}
}

// recheckSpace resumes the writers that wait, if the ring has room, and otherwise requests it
// again. It must be called after each notification, which may be about room, and before a wait that
// forgets earlier notifications.
func (t *transmitter) recheckSpace() {
	if !t.waiting.Load() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed == nil && t.want != 0 && !t.requestSpace(t.want) {
		t.resumeWriters()
	}
}

// recheckSpaceBusy is like recheckSpace, for a reader that is too busy to wait for notifications.
func (t *transmitter) recheckSpaceBusy() {
	if !t.waiting.Load() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed == nil && t.ring.Used() <= 2*t.piece {
		t.ring.Fed()
		t.resumeWriters()
	}
}

// resumeWriters wakes the writers that wait, and flushes. The caller must hold t.mu.
func (t *transmitter) resumeWriters() {
	t.wakeWaiters()
	t.flushSoon()
}

// wakeWaiters wakes the writers that wait. The caller must hold t.mu.
func (t *transmitter) wakeWaiters() {
	if t.released != nil {
		close(t.released)
		t.released = nil
	}
	t.want = 0
	t.waiting.Store(false)
}

// closeReason returns the reason for which this side has closed the wire, or otherwise if it has
// not.
func (t *transmitter) closeReason(otherwise *Error) *Error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fault != nil {
		return t.fault
	}
	return otherwise
}

// revoke withdraws the requests that the peer has not taken. After that, the result of
// shm.Producer.Taken does not change.
func (t *transmitter) revoke() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ring.Revoke()
}

// close makes all writes fail with err, and returns when no writer uses the ring any more.
func (t *transmitter) close(err *Error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed == nil {
		t.closed = err
		t.wakeWaiters()
	}
}

// sendMessage encodes and writes a one-way message.
func (t *transmitter) sendMessage(ctx context.Context, p *Post, epoch uint64, block func()) *Error {
	b, _ := t.builders.Get().(*flatbuffers.Builder)
	if b == nil {
		b = flatbuffers.NewBuilder(256)
	}
	body, err := encode(b, func() error { return p.Message.encode(b, p.Seq, p.Body) })
	if err == nil {
		f := frame{kind: record.Message, id: p.Seq, epoch: epoch, method: p.Message.ID}
		if err = t.attach(&f, outgoingOf(ctx)); err == nil {
			err = t.write(ctx, &f, body, nil, block)
		}
	}
	if cap(b.Bytes) <= keepLong {
		t.builders.Put(b)
	}
	return err
}
