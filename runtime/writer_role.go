package ipc

import (
	"context"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/ipcgen/ipcgen/internal/interleave"
	"github.com/ipcgen/ipcgen/internal/record"
	"github.com/ipcgen/ipcgen/runtime/shm"
)

// A writerRole decides which goroutine of one side may write into the ring to the peer, and how the
// others wait. Its methods are the only access to its fields, and to the producer of the ring;
// writer_role_interleave_test.go runs them in every order.
//
// A goroutine that takes the role has space for a record. It holds the role, that is mu, until it
// gives the role up. A message in pieces keeps the role between its records: while its writer waits
// for space, mu is free and busy is true, so that no other message begins.
//
// A writer that finds no space polls for a while. Then it requests space from the consumer and
// parks. The consumer notifies this side once for each request. So the goroutine that waits for
// notifications must call recheckSpace after each of them, and as part of the last check before it
// waits. requestSpace calls spaceRequested to make sure that there is such a goroutine.
//
// The abort of a message and controls precede all other messages. They are written without
// blocking: at once, or by the goroutine that finds space next.
type writerRole struct {
	wire           wire
	failFast       bool   // refuse instead of waiting for space
	spins          int    // how often a writer polls for space before it parks
	yield          int    // after how many polls it lets others run
	spaceRequested func() // called when a notification of space is expected; may be nil

	waiting interleave.Bool // a writer waits for the role or for space; a hint for recheckSpace

	fault atomic.Pointer[Error] // the peer broke the ring; changes under mu

	mu       interleave.Mutex // the role
	ring     *shm.Producer
	closed   *Error        // once set, the ring's memory may be gone
	busy     bool          // a message in pieces is under way
	abort    bool          // the peer must be told that it was given up
	controls []*control    // frames to write as soon as there is space
	released chan struct{} // closed when the writers that wait must try again
	want     int           // the least space that a writer waits for; 0: none waits for space
	wakeups  uint64        // notifications of the peer
	waits    uint64        // of writers that parked
	gathers  int           // goroutines between gather and notify
	owed     bool          // a notification of the peer that waits for them
}

// spinForRoom is how often a writer looks for space before it parks: a peer that is awake usually
// frees some within microseconds.
const spinForRoom = 500

// A writer that spins looks for space more often, every pollTime or so, and yields seldom: a yield
// wakes a thread that looks for work, and takes the peer's processor for that. With messages of
// 1 MiB, which pass the ring in pieces, a yield for each poll made the peer lose its processor for
// most of the pieces.
const (
	pollTime      = 25 * time.Nanosecond
	pollsPerYield = 1024
)

// init prepares the role of the writers of ring.
func (r *writerRole) init(ring *shm.Producer, w wire, failFast bool) {
	r.ring, r.wire, r.failFast, r.spins, r.yield = ring, w, failFast, spinForRoom, 1
}

// spinLike makes writers wait for space as p says how to wait for messages.
func (r *writerRole) spinLike(p *spinPolicy) {
	if n := int(p.longest / pollTime); n > spinForRoom && !p.crowded() {
		r.spins, r.yield = n, pollsPerYield
	}
}

// whenRequested makes f run whenever this side expects a notification of space. It must be called
// before the first message is written. f runs under the role's mutex and must not block.
func (r *writerRole) whenRequested(f func()) { r.spaceRequested = f }

// take takes the role and returns space for a first record of n bytes. It blocks while the ring is
// full or another message is under way, until ctx is done; if block is not nil, take calls it
// before it blocks. With failFast, take fails instead of blocking if block is nil. The caller must
// give the role up by give, drop, or begin and end, unless take fails.
func (r *writerRole) take(ctx context.Context, n int, block func()) ([]byte, *Error) {
	r.mu.Lock()
	for tries := 0; ; tries++ {
		interleave.SettledAt(min(tries, r.spins))
		if r.closed != nil {
			err := r.closed
			r.mu.Unlock()
			return nil, err
		}
		need := n
		if !r.busy && r.flush() {
			dst, err := r.room(n)
			if dst != nil {
				return dst, nil
			}
			if err != nil {
				r.mu.Unlock()
				return nil, err
			}
		} else if !r.busy {
			need = r.unflushed()
		}
		if err := r.wait(ctx, need, tries, false, block); err != nil {
			r.mu.Unlock()
			return nil, err
		}
	}
}

// tryTake is like take, but returns nil where take would block. failed reports whether take would
// fail.
func (r *writerRole) tryTake(n int) (dst []byte, failed bool) {
	r.mu.Lock()
	if r.closed != nil {
		failed = true
	} else if !r.busy && r.flush() {
		var err *Error
		if dst, err = r.room(n); dst != nil {
			return dst, false
		}
		failed = err != nil
	}
	r.mu.Unlock()
	return nil, failed
}

// position returns the position of the record that the holder of the role writes.
func (r *writerRole) position() uint64 { return r.ring.Position() }

// give publishes the record that fills the space, and gives the role up.
func (r *writerRole) give(tag uint32, n int) {
	wake := r.commit(tag, n)
	r.ring.Prefetch()
	r.mu.Unlock()
	if wake {
		r.wire.Notify()
	}
}

// drop gives the role up without a record.
func (r *writerRole) drop() { r.mu.Unlock() }

// begin publishes the first record of a message in pieces. The caller keeps the role until end.
func (r *writerRole) begin(tag uint32, n int) {
	r.busy = true
	r.publish(tag, n)
}

// next is like take, for the next piece of the message that the caller has begun.
func (r *writerRole) next(ctx context.Context, n int, block func()) ([]byte, *Error) {
	for tries := 0; ; tries++ {
		interleave.SettledAt(min(tries, r.spins))
		if r.closed != nil {
			return nil, r.closed
		}
		if dst, err := r.room(n); dst != nil || err != nil {
			return dst, err
		}
		if err := r.wait(ctx, n, tries, true, block); err != nil {
			return nil, err
		}
	}
}

// end gives the role up after a message in pieces. If the message is not complete, the peer is told
// to forget its beginning.
func (r *writerRole) end(complete bool) {
	r.busy, r.abort = false, !complete
	r.resumeWriters()
	r.mu.Unlock()
}

// publish publishes a record. The caller must hold the role, and keeps it.
func (r *writerRole) publish(tag uint32, n int) {
	if r.commit(tag, n) {
		r.wire.Notify()
	}
}

// commit publishes a record. It reports whether the peer must be notified. The caller must hold
// the role.
func (r *writerRole) commit(tag uint32, n int) (wake bool) {
	crashPoint(tag, "")
	wake = r.ring.Commit(tag, n)
	crashPoint(tag, " sent")
	if wake {
		r.wakeups++
	}
	if wake && r.gathers > 0 {
		r.owed = true
		return false
	}
	return wake
}

// gather delays notifications of the peer until notify, so that it finds several records together.
// Otherwise a peer that sleeps runs in place of this goroutine as soon as it has the first record.
func (r *writerRole) gather() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gathers++
}

// notify takes back one gather.
func (r *writerRole) notify() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gathers--
	r.settle()
}

// settle sends a notification that is owed to the peer. The caller must hold mu.
func (r *writerRole) settle() {
	if r.owed {
		r.owed = false
		r.wire.Notify()
	}
}

// room returns space for a record of n bytes, or nil if there is none. If the ring is corrupt, it
// closes the wire, so that the goroutine that reads the wire ends the connection; otherwise calls
// would wait for replies forever. The caller must hold the role.
func (r *writerRole) room(n int) ([]byte, *Error) {
	dst, ok, err := r.ring.Reserve(n)
	if err != nil {
		if r.fault.Load() == nil {
			r.fault.Store(&Error{Code: CodeCorrupt, Msg: "the peer broke the protocol", Err: err})
			r.wire.Close()
		}
		e := *r.fault.Load()
		e.Outcome = NotSent
		return nil, &e
	}
	if !ok {
		return nil, nil
	}
	return dst, nil
}

// wait blocks until the ring may have space for n bytes. own is true for the writer of the message
// that is in progress; other writers also wait for the end of that message. The caller must hold
// mu, which is released while wait blocks.
func (r *writerRole) wait(ctx context.Context, n, tries int, own bool, block func()) *Error {
	r.settle() // only the peer makes room
	if r.failFast && block == nil {
		return &Error{Code: CodeResourceExhausted, Outcome: NotSent, Msg: "the ring is full"}
	}
	if tries < r.spins && r.released == nil { // no writer has given up on that
		r.mu.Unlock()
		if (tries+1)%r.yield == 0 {
			runtime.Gosched()
		}
		r.mu.Lock()
		return nil
	}
	r.waiting.Store(true)
	if (own || !r.busy) && !r.requestSpace(n) {
		return nil
	}
	if r.released == nil {
		r.released = make(chan struct{})
	}
	r.waits++
	released := r.released
	r.mu.Unlock()
	defer r.mu.Lock()
	if block != nil {
		block()
	}
	interleave.Until(func() bool { return isClosed(released) || ctx.Err() != nil })
	if isClosed(released) {
		return nil
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

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// requestSpace asks the consumer for one notification when n bytes are free. It reports false if
// they are free already; then it wakes the writers that wait, because the request of any of them is
// withdrawn with this one. The caller must hold mu.
func (r *writerRole) requestSpace(n int) bool {
	// First: the notification may come at once, and recheckSpace looks at this.
	r.waiting.Store(true)
	n = max(n, 1) // as want, 0 means that no writer waits
	if r.want == 0 || n < r.want {
		r.want = n
	}
	r.wire.Expect()
	if !r.ring.Starve(n) {
		r.wakeWaiters()
		return false
	}
	if r.spaceRequested != nil {
		r.spaceRequested()
	}
	return true
}

// flush writes the records that precede any other message: the abort of a message, and
// controls. It reports whether all of them are written. The caller must hold the role.
func (r *writerRole) flush() bool {
	if r.abort {
		dst, err := r.room(0)
		if dst == nil {
			return err != nil // a broken ring loses it all
		}
		r.publish(record.Abort, 0)
		r.abort = false
	}
	for len(r.controls) > 0 {
		c := r.controls[0]
		dst, err := r.room(c.frame.size())
		if dst == nil {
			return err != nil
		}
		c.frame.put(dst)
		r.publish(c.frame.kind, c.frame.size())
		c.queued = false
		r.controls = r.controls[1:]
	}
	r.controls = nil
	return true
}

// unflushed returns the length of the record for which flush, which has failed, found no space.
func (r *writerRole) unflushed() int {
	if r.abort {
		return 0
	}
	return r.controls[0].frame.size()
}

// A control is a frame without a body that goes before other messages: the cancellation of a call,
// or the credit or the end of a streaming call. It has a place of its own for each call, where a
// later frame of the call replaces one that still waits.
type control struct {
	frame  frame // under writerRole.mu, as is queued
	queued bool
}

// cancel tells the peer that a call is cancelled.
func (r *writerRole) cancel(id uint64) {
	r.tell(new(control), frame{kind: record.Cancel, id: id})
}

// tell sends f in the place of c, at once or as soon as there is space. It never waits for space.
func (r *writerRole) tell(c *control, f frame) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed != nil || c.frame.kind == record.End {
		return // nothing follows the end of a call
	}
	c.frame = f
	if !c.queued {
		c.queued = true
		r.controls = append(r.controls, c)
	}
	r.flushSoon()
}

// flushSoon flushes at once, or as soon as there is space. The caller must hold mu.
func (r *writerRole) flushSoon() {
	for r.closed == nil && !r.busy && !r.flush() {
		if r.requestSpace(r.unflushed()) {
			return
		}
	}
}

// hasWaiters reports whether a writer may be waiting.
func (r *writerRole) hasWaiters() bool { return r.waiting.Load() }

// recheckSpace resumes the writers that wait, if the ring has space, and otherwise requests it
// again. It must be called after each notification, which may be about space, and before a wait
// that forgets earlier notifications.
func (r *writerRole) recheckSpace() {
	if !r.waiting.Load() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed == nil && r.want != 0 && !r.requestSpace(r.want) {
		r.flushSoon()
	}
}

// recheckSpaceBusy resumes the writers that wait if at most used bytes of the ring are in use. It
// is for a reader that is too busy to wait for notifications.
func (r *writerRole) recheckSpaceBusy(used int) {
	if !r.waiting.Load() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed == nil && r.ring.Used() <= used {
		r.ring.Fed()
		r.resumeWriters()
	}
}

// resumeWriters wakes the writers that wait, and flushes. The caller must hold mu.
func (r *writerRole) resumeWriters() {
	r.wakeWaiters()
	r.flushSoon()
}

// wakeWaiters wakes the writers that wait. The caller must hold mu.
func (r *writerRole) wakeWaiters() {
	if r.released != nil {
		close(r.released)
		r.released = nil
	}
	r.want = 0
	r.waiting.Store(false)
}

// closeReason returns the reason for which this side has closed the wire, or otherwise if it has
// not. It does not wait for the role, whose holder may wait for the end of the connection.
func (r *writerRole) closeReason(otherwise *Error) *Error {
	if why := r.fault.Load(); why != nil {
		return why
	}
	return otherwise
}

// lock keeps all goroutines from publishing, and from changing a [sent], until unlock.
func (r *writerRole) lock() { r.mu.Lock() }

// unlock takes back one lock.
func (r *writerRole) unlock() { r.mu.Unlock() }

// woken returns how often the peer was notified. The caller must hold lock.
func (r *writerRole) woken() uint64 { return r.wakeups }

// waited returns how often a writer has parked. The caller must hold lock.
func (r *writerRole) waited() uint64 { return r.waits }

// revoke withdraws the requests that the peer has not taken. After that, the result of taken does
// not change.
func (r *writerRole) revoke() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ring.Revoke()
}

// taken reports whether the peer has taken a message that is sent. The ring's memory must be there.
func (r *writerRole) taken(at *sent) bool { return r.ring.Taken(at.pos) }

// untaken reports whether a message is sent, and the peer has certainly not taken it yet.
func (r *writerRole) untaken(at *sent) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.closed == nil && at.done && !r.taken(at)
}

// close makes all writes fail with err, and returns when no writer uses the ring any more.
func (r *writerRole) close(err *Error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed == nil {
		r.closed = err
		r.wakeWaiters()
	}
}
