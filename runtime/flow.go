package ipc

import (
	"fmt"
	"io"

	"github.com/ipcgen/ipcgen/internal/interleave"
	"github.com/ipcgen/ipcgen/internal/record"
)

// This file is what the two sides of a streaming call have in common: the items that have come and
// wait to be taken, and the credit for those that go. docs/protocol.md has the rules.
// flow_interleave_test.go runs this file in every order.

const (
	// DefaultStreamingWindow is the default of [WithStreamingWindow].
	DefaultStreamingWindow = 256 << 10
	// DefaultMaxStreamingCalls is the default of [WithMaxStreamingCalls].
	DefaultMaxStreamingCalls = 1024

	leastWindow = 4 << 10

	// itemCost is what an item costs beside its body, so that a window bounds the number of items.
	itemCost = 64
	// keepItems is how many bytes of a buffer for items are kept while there are none.
	keepItems = 16 << 10
)

// A flow has the items of a streaming call at one side. The goroutine that reads the connection
// puts items and credit in; the code of the user takes items, and sends others. Each of the two may
// wait: the owner of the flow knows how, and is told by the results when to end which wait.
type flow struct {
	window  uint64          // for what comes
	limit   int             // longest body of an item that goes
	noItems bool            // none may come
	closed  interleave.Bool // this side has done with the call

	// For the goroutine that takes items.
	now   batch
	at    int           // of the next message of now
	given *inboxMessage // the item that take has returned, if it has memory of its own
	cost  uint64        // of the items taken
	told  interleave.Uint64
	taken interleave.Uint64 // items, and callFrozen

	mu    interleave.Mutex
	next  batch  // has come, and is not in now
	came  uint64 // cost of all items that have come
	items uint32 // that have come
	lent  bool   // the memory of now and next has gone to batches
	end   error  // behind the last item; io.EOF for a clean end
	stop  error  // why nothing more may be sent

	account *account // pays for what has come, if it is much
	held    int      // memory of now, which belongs to the goroutine that takes
	charged int

	peerWindow uint64
	sent       uint64 // cost of all items that were sent
	sentItems  uint64
	paid       uint64 // what the peer says of them: their costs
	paidItems  uint64 // and their number

	control control // of this call
}

func (f *flow) init(window, peerWindow, longest int) {
	f.window, f.peerWindow = uint64(window), uint64(peerWindow)
	f.limit = min(peerWindow/2-itemCost, longest)
}

// put queues an item that has come. If there is no memory for it, full says so, and the call must
// end. An error means that the peer broke the protocol.
func (f *flow) put(h *frame, body []byte, private bool) (full *Error, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	cost := uint64(len(body)) + itemCost
	switch {
	case f.closed.Load(), f.end != nil && f.end != io.EOF:
		return nil, nil // this side has ended the call, which the peer may not know
	case f.end == io.EOF, f.noItems:
		return nil, fmt.Errorf("%w: an item of streaming call %#x, where none may come", errBroken,
			h.id)
	case h.method != f.items:
		return nil, fmt.Errorf("%w: item %d of streaming call %#x has the number %d", errBroken,
			f.items, h.id, h.method)
	case f.came+cost-f.told.Load() > f.window:
		return nil, fmt.Errorf("%w: an item of streaming call %#x beyond its window of %d bytes",
			errBroken, h.id, f.window)
	}
	f.came += cost
	f.items++
	if f.lent {
		f.next, f.lent = takeBatch(), false
	}
	f.next.add(h, body, private)
	return f.charge(), nil
}

// charge charges the memory of the items beyond keepItems. The caller must hold f.mu.
func (f *flow) charge() *Error {
	switch n := max(0, f.held+f.next.size()-keepItems); {
	case n > f.charged:
		if why := f.account.charge(n - f.charged); why != nil {
			return why
		}
		f.charged = n
	case n < f.charged:
		f.account.release(f.charged - n)
		f.charged = n
	}
	return nil
}

// errCallEnded is for those who go on to use a streaming call.
var errCallEnded = &Error{Code: CodeFailedPrecondition, Outcome: NotSent,
	Msg: "the streaming call has ended"}

// take returns the next item, or the end behind the last. If there is neither, it calls wait, under
// f.mu, and ok is false. The body must not be used after the next take, unless its memory was kept;
// see owned. One goroutine at a time may call take, owned, took and due.
func (f *flow) take(wait func()) (body []byte, epoch uint64, ok bool, end error) {
	f.spareGiven()
	if f.closed.Load() {
		return nil, 0, false, errCallEnded
	}
	if f.at == len(f.now.messages) {
		f.mu.Lock()
		f.now, f.next, f.at = f.next, f.now.emptied(), 0
		f.held = f.now.size()
		if len(f.now.messages) == 0 {
			end = f.end
			if end == nil {
				if f.now.size()+f.next.size() > keepItems {
					giveBatch(f.now)
					giveBatch(f.next)
					f.now, f.next, f.held, f.lent = batch{}, batch{}, 0, true
				}
				_ = f.charge() // less than before
				wait()
			}
			f.mu.Unlock()
			return nil, 0, false, end
		}
		_ = f.charge() // no more than before
		f.mu.Unlock()
	}
	m := &f.now.messages[f.at]
	f.at++
	if m.own != nil {
		f.given = m
	}
	return f.now.body(m), m.epoch, true, nil
}

// owned returns from which length on an object may keep the memory of the item that take has
// returned, and where to say that it does; see adopt.
func (f *flow) owned() (from int, kept *bool) {
	if f.given == nil {
		return 0, nil // the memory is used again
	}
	return f.given.adoptFrom, &f.given.kept
}

// spareGiven lets go of the item that take has returned.
func (f *flow) spareGiven() {
	if m := f.given; m != nil {
		giveBody(m.spare(m.own))
		m.own, f.given = nil, nil
	}
}

// callFrozen is set in flow.taken when this side has told the peer how many items it has taken, at
// the end of the call.
const callFrozen = 1 << 63

// took counts an item of n bytes as taken, unless the peer was told before how many were: then it
// reports false, and the user's code must not get the item.
func (f *flow) took(n int) bool {
	if f.taken.Add(1)&callFrozen != 0 {
		return false
	}
	f.cost += uint64(n) + itemCost
	return true
}

// due reports whether it is time to tell the peer what was taken. The goroutine that takes items
// calls due when the user's code comes back for the next one. Only then has that code certainly had
// what was counted, also if this process dies meanwhile.
func (f *flow) due() bool {
	if f.cost-f.told.Load() < f.window/2 {
		return false
	}
	f.told.Store(f.cost)
	return true
}

// count returns how many items were taken.
func (f *flow) count() uint64 { return f.taken.Load() &^ callFrozen }

// freeze makes took refuse further items, and returns how many were taken.
func (f *flow) freeze() uint64 { return f.taken.Or(callFrozen) &^ callFrozen }

// credit returns the frame that tells the peer what was taken.
func (f *flow) credit(id uint64) frame {
	return frame{kind: record.Credit, id: id, seq: f.count(), deadline: int64(f.told.Load())}
}

// reserve pays for an item of n bytes that is to be sent and returns its number. If there is no
// credit for it, reserve calls wait, under f.mu, and reports false.
func (f *flow) reserve(n int, wait func()) (number uint32, ok bool, err error) {
	cost := uint64(n) + itemCost
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.stop != nil:
		return 0, false, f.stop
	case f.sent+cost-f.paid > f.peerWindow:
		wait()
		return 0, false, nil
	}
	number = uint32(f.sentItems)
	f.sent += cost
	f.sentItems++
	return number, true, nil
}

// credited takes in what the peer says that it has taken. An error means that it broke the
// protocol.
func (f *flow) credited(items, bytes uint64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if items < f.paidItems || bytes < f.paid || items > f.sentItems || bytes > f.sent {
		return fmt.Errorf("%w: a credit for %d items and %d bytes after one for %d and %d; %d and "+
			"%d were sent", errBroken, items, bytes, f.paidItems, f.paid, f.sentItems, f.sent)
	}
	f.paid, f.paidItems = bytes, items
	return nil
}

// finish takes in an end: behind the items that have come stands end, and nothing more is sent
// because of stop. taken is how many items the peer says that it has taken.
func (f *flow) finish(end, stop error, taken uint64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if taken < f.paidItems || taken > f.sentItems {
		return fmt.Errorf("%w: an end that takes %d items, after a credit for %d; %d were sent",
			errBroken, taken, f.paidItems, f.sentItems)
	}
	f.paidItems = taken
	if f.end == nil && end != nil {
		f.end = end
	}
	if f.stop == nil && stop != nil {
		f.stop = stop
	}
	return nil
}

// halfClose takes in that no more items come. It reports false if they had ended before.
func (f *flow) halfClose() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.end != nil {
		return false
	}
	f.end = io.EOF
	return true
}

// close ends both directions at this side, at once: items that were not taken are dropped.
func (f *flow) close() {
	f.closed.Store(true)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next, f.held = batch{}, 0
	_ = f.charge() // nothing is left
	if f.stop == nil {
		f.stop = errCallEnded
	}
}

// known returns how many of the items that were sent the peer is known to have taken.
func (f *flow) known() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.paidItems
}

// tooLong returns the error for an item that goes and has n bytes, or nil.
func (f *flow) tooLong(n int) *Error {
	if n <= f.limit {
		return nil
	}
	return &Error{Code: CodeTooLarge, Outcome: NotSent, Msg: fmt.Sprintf(
		"an item of %d bytes; the limit of this streaming call is %d, from the receiver's "+
			"WithStreamingWindow (%d) and the connection's WithMaxMessage", n, f.limit,
		f.peerWindow)}
}
