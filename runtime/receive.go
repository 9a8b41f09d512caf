package ipc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/ipcgen/ipcgen/internal/record"
	"github.com/ipcgen/ipcgen/runtime/shm"
)

// A receiver reads messages from the ring that the peer fills. It belongs to the goroutine that
// holds the reader role.
type receiver struct {
	wire  wire
	ring  *shm.Consumer
	limit int // longest body of a message
	hold  int // how much memory releaseSoon may keep

	// A message in pieces that is under way.
	partial frame
	body    []byte
	total   int
	got     int // bytes that have come, which are not in body if it is refused
	active  bool
	longest int      // message in pieces that has come
	account *account // that pays for long bodies
	refused *Error   // why it did not; of the last message that next has returned, too
	old     []byte   // for the next one, if it is short
	garbage garbage

	tally   tally
	wakeups atomic.Uint64
	sleeps  atomic.Uint64
}

// init prepares the receiver to read messages with bodies of up to limit bytes from
// a ring of that capacity.
func (r *receiver) init(ring *shm.Consumer, w wire, capacity, limit int) {
	r.ring, r.wire, r.limit, r.hold = ring, w, limit, capacity/8
}

// errBroken marks messages that a peer never sends if it follows the protocol.
var errBroken = errors.New("message breaks the protocol")

// next returns the next message. The caller takes it with release: before that, the peer can be
// certain that nothing has come of it. The body is private when it was assembled
// from pieces; otherwise it lies in shared memory until release, where the
// peer can change it. ok is false when there is no complete message among the records
// that had come when next was called: a peer that sends pieces without end does not
// keep the caller from looking at other things.
func (r *receiver) next(f *frame) (body []byte, private, ok bool, err error) {
	for first := true; first || r.ring.Batch(); first = false {
		tag, rec, ok, err := r.ring.Next()
		if !ok || err != nil {
			return nil, false, false, err
		}
		kind := tag & record.KindMask
		switch {
		case !mayFlag(kind, tag&^record.KindMask):
			return nil, false, false, fmt.Errorf("%w: tag %#x", errBroken, tag)
		case kind == record.Piece:
			done, err := r.more(tag, rec)
			if err != nil {
				return nil, false, false, err
			}
			if done {
				*f = r.partial
				body, r.body, r.active, r.partial.charged = r.body, nil, false, 0
				r.count(f.kind, r.total)
				return body, true, true, nil
			}
			r.release()
		case kind == record.Abort:
			giveBody(r.body)
			r.drop()
			r.active = false
			r.release()
		case r.active:
			return nil, false, false, fmt.Errorf("%w: a message begins within another", errBroken)
		case tag&record.More != 0:
			if err := r.begin(tag, rec); err != nil {
				return nil, false, false, err
			}
			r.release()
		default:
			if err := f.get(tag, rec); err != nil {
				return nil, false, false, err
			}
			body := rec[f.size():]
			if tag&record.Gap != 0 {
				if body, err = skipGap(body); err != nil {
					return nil, false, false, err
				}
			}
			if len(body) > r.limit {
				return nil, false, false,
					fmt.Errorf("%w: %d bytes; the limit is %d", errBroken, len(body), r.limit)
			}
			r.count(kind, len(body))
			return body, false, true, nil
		}
	}
	return nil, false, false, nil
}

// nextMessage returns the next message if it is a one-way message of up to n bytes, in one record
// and without anything beside its body, that had come when next was called. It leaves any other
// one to next.
func (r *receiver) nextMessage(f *frame, n int) (body []byte, ok bool) {
	if !r.ring.Batch() || r.active {
		return nil, false
	}
	tag, rec, ok, err := r.ring.Next()
	if !ok || err != nil {
		return nil, false // next returns the error, too
	}
	n = min(n, r.limit)
	if tag != record.Message || f.get(tag, rec) != nil || len(rec)-f.size() > n {
		r.ring.Unread()
		return nil, false
	}
	return rec[f.size():], true
}

// count counts a message.
func (r *receiver) count(kind uint32, n int) {
	r.tally.message(n)
	r.garbage.add(n, ballastOf(kind, n))
}

// mayFlag reports whether records of a kind may have these flags.
func mayFlag(kind, flags uint32) bool {
	switch kind {
	case record.Cancel, record.Abort, record.Credit:
		return flags == 0
	case record.Piece:
		return flags&^record.More == 0
	}
	return flags&^(record.More|record.Gap|record.Metadata) == 0 &&
		flags&(record.More|record.Gap) != record.More|record.Gap
}

// A message in pieces gets memory before it has come, but no more than eagerLen and eagerTimes what
// has come with its announcement, or than the longest one that has come on the connection; a longer
// one grows as it comes. So a peer cannot make this side allocate by announcing what it never
// sends. To grow takes as much memory again as the message, and copies most of it: calls of 16 MiB
// took nearly twice as long.
const (
	eagerLen   = 4 << 20
	eagerTimes = 256
)

// begin starts to assemble a message.
func (r *receiver) begin(tag uint32, rec []byte) error {
	if err := r.partial.get(tag, rec); err != nil {
		return err
	}
	rec = rec[r.partial.size():]
	if len(rec) < record.TotalLen {
		return errShortFrame
	}
	total := binary.NativeEndian.Uint64(rec)
	if total > uint64(r.limit) || total < uint64(len(rec)-record.TotalLen) {
		return fmt.Errorf("%w: %d bytes announced; the limit is %d", errBroken, total, r.limit)
	}
	rec = rec[record.TotalLen:]
	r.total, r.got, r.active, r.refused = int(total), len(rec), true, nil
	buf := r.old
	if r.total <= cap(buf) {
		r.old = nil
	} else {
		buf = takeBody(r.total)
	}
	eager := max(r.longest, min(eagerLen, eagerTimes*len(rec)))
	n := max(cap(buf), min(r.total, eager))
	if !r.charge(n) {
		giveBody(buf)
		return nil
	}
	if cap(buf) < n {
		buf = newBody(n)
	}
	r.body = append(buf[:0], rec...)
	return nil
}

// charge has the body that is assembled paid for when its memory has n bytes. If it reports false,
// the rest of the message is not kept.
func (r *receiver) charge(n int) bool {
	if n <= keepShort {
		return true
	}
	if r.refused = r.account.charge(n - r.partial.charged); r.refused != nil {
		r.drop()
		return false
	}
	r.partial.charged = n
	return true
}

// drop forgets the body that is assembled.
func (r *receiver) drop() {
	r.account.release(r.partial.charged)
	r.body, r.partial.charged = nil, 0
}

// more appends a piece to the message in progress.
func (r *receiver) more(tag uint32, rec []byte) (done bool, err error) {
	last := tag&record.More == 0
	if !r.active {
		return false, fmt.Errorf("%w: a piece without a beginning", errBroken)
	}
	if r.got += len(rec); r.got > r.total || last != (r.got == r.total) {
		return false, fmt.Errorf("%w: pieces add up to %d bytes, not %d", errBroken, r.got, r.total)
	}
	if r.refused == nil && r.grow(len(rec)) {
		r.body = append(r.body, rec...)
	}
	if last {
		r.longest = max(r.longest, r.total)
	}
	return last, nil
}

// grow makes room for n more bytes of the message that is under way: at most twice what has come,
// and never more than the message has, as its memory counts for the limits of a connection. It
// reports false if there is no memory for that.
func (r *receiver) grow(n int) bool {
	need := len(r.body) + n
	if need <= cap(r.body) {
		return true
	}
	size := min(2*need, r.total)
	if !r.charge(size) {
		return false
	}
	r.body = append(newBody(size), r.body...)
	return true
}

// keep returns a body of next for use after its release: the body itself if it is private, and
// otherwise a copy in old. If the body is private, old serves the next message in pieces.
func (r *receiver) keep(old, body []byte, private bool) []byte {
	if !private {
		return append(old[:0], body...)
	}
	r.old = old
	return body
}

// sleep asks the peer to wake this side, once, when something arrives. It reports false if
// something has arrived. The peer may send the notification before this side waits, so sleep must
// be called where the wire does not forget it, or where the caller acts on everything that was
// forgotten; see wire.
func (r *receiver) sleep() bool {
	r.wire.Expect()
	if !r.ring.Sleep() {
		return false
	}
	r.sleeps.Add(1)
	return true
}

// release returns the memory of the last message of next to the peer.
func (r *receiver) release() {
	if r.ring.Release() {
		r.wire.Notify()
	}
}

// releaseSoon is like release, but leaves it to a later release if more messages have arrived. A
// peer that waits for room polls the word that release writes, so each release costs both sides a
// cache miss.
func (r *receiver) releaseSoon() {
	if r.ring.Held() >= r.hold || !r.ring.Ready() {
		r.release()
	}
}
