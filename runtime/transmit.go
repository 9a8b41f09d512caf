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

// A transmitter writes messages into the ring towards the peer. It is safe
// for concurrent use; the ring's one producer is whoever holds mu.
type transmitter struct {
	wire     wire
	limit    int  // longest body of a message
	piece    int  // longest payload of a record that is copied into the ring
	place    int  // longest payload of one that is built there
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
}

// sent says where in the ring a message went: where its last record starts, as
// the peer can act on the message only when it has that. It is written under mu.
type sent struct {
	done bool
	pos  uint64
}

// write puts a message into the ring. It waits while the ring is full, until
// ctx is done; before it waits it calls block, if that is not nil. Only a message
// without block fails fast: a reply has somebody who waits for it. An error
// means that the peer will never see the message.
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
	wake := t.commit(f.kind, n)
	t.mu.Unlock()
	if wake {
		t.wire.Notify()
	}
	return nil
}

// tryWrite is write, but returns false where that would wait, and for a message that does
// not fit into one record.
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
	if t.commit(f.kind, n) {
		t.wire.Notify()
	}
	return true
}

func (t *transmitter) tooLarge(n int) *Error {
	return &Error{Code: CodeTooLarge, Outcome: NotSent,
		Msg: fmt.Sprintf("message of %d bytes; this connection's limit is %d", n, t.limit)}
}

// commit publishes the reserved record. It needs mu.
func (t *transmitter) commit(tag uint32, n int) (wake bool) {
	wake = t.ring.Commit(tag, n)
	if wake {
		t.wakeups++
	}
	return wake
}

// writePieces writes a message that is too long for one record. Others wait
// until it is through, so that the peer needs to assemble only one.
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
	wake := t.commit(f.kind|record.More, n)
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

// reserve returns room for a first record of n bytes, waiting for it if need
// be. It needs mu, and gives it up while it waits.
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

// reservePiece is reserve for the pieces of the message that is under way.
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

// room returns room for a record of n bytes, or nil while there is none. On a
// ring that is broken it closes the wire, so that whoever listens to it ends the
// connection: calls that wait for a reply would wait for ever.
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

// wait waits until it makes sense to look for room for n bytes again. It needs
// mu, and gives it up while it waits. own is true for the writer of the
// message that is under way; others wait for its end, whatever room there is.
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

// requestSpace asks the peer to tell, once, when there is room for n bytes. It returns false
// if there is some now. It needs mu.
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

// flush writes what must go before any other message. It reports whether all
// of it fitted. It needs mu.
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

// cancel tells the peer that a call was given up: now, or as soon as there is
// room. It never waits.
func (t *transmitter) cancel(id uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed != nil {
		return
	}
	t.cancels = append(t.cancels, id)
	t.flushSoon()
}

// flushSoon is flush, now or as soon as there is room. It needs mu.
func (t *transmitter) flushSoon() {
	for t.closed == nil && !t.busy && !t.flush() {
		if t.requestSpace(record.HeaderLen) {
			return
		}
	}
}

// recheckSpace lets those go on who wait for room, if there is some, and else asks the peer
// anew to tell. It is called when a note has come, which may be about that, and before
// a wait that forgets those which have come.
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

// recheckSpaceBusy is retry for a reader that is too busy to read its notes.
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

// resumeWriters lets those go on who wait for room. It needs mu.
func (t *transmitter) resumeWriters() {
	t.wakeWaiters()
	t.flushSoon()
}

// wakeWaiters needs mu.
func (t *transmitter) wakeWaiters() {
	if t.released != nil {
		close(t.released)
		t.released = nil
	}
	t.want = 0
	t.waiting.Store(false)
}

// closeReason returns why the wire was closed, if this side did it, and else otherwise.
func (t *transmitter) closeReason(otherwise *Error) *Error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fault != nil {
		return t.fault
	}
	return otherwise
}

// revoke takes back the requests that the peer has not taken. From then on taken
// is final.
func (t *transmitter) revoke() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ring.Revoke()
}

// close makes every write fail with err, now and later, and returns when none
// touches the ring any more.
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
		err = t.write(ctx, &f, body, nil, block)
	}
	if cap(b.Bytes) <= keepBuffer {
		t.builders.Put(b)
	}
	return err
}
