package ipc

import (
	"context"
	"sync"
	"sync/atomic"

	flatbuffers "github.com/google/flatbuffers/go"
	"github.com/ipcgen/ipcgen/internal/interleave"
)

// A pending is a call in flight, or the place for one. Its state says which goroutine owns it: the
// caller, until the call is registered and after it is completed, and in between the one goroutine
// that claims it to complete it.
type pending struct {
	id uint64 // of the call: the place, and a count above
	scratch
	sent sent
	// deadline is the one in the request's frame; 0: none.
	deadline int64
	bound    boundContext
	outgoing *outgoing // of the context; may be nil

	// The completion: err, or the reply's frame and its body in scratch.
	err   *Error
	frame frame

	local   bool   // it is a wait of a streaming call, of which the server knows nothing
	inPlace bool   // the caller reads the reply in the ring if it can
	view    []byte // and there it is

	state   interleave.Uint64 // the id, with how far the call is in its lowest bits
	ready   chan struct{}     // receives one value when the caller parked, unless the call is mine
	mine    bool              // the caller has claimed it after it had parked
	recheck func() bool       // for the caller that has the watch; made once
}

// An id has the place in bits 3 to 18 and the count above. The three lowest bits
// are 0 in an id; in a state they tell how far the call is.
const (
	callWaiting       = 0 // the caller looks at the state
	callParked        = 1 // the caller waits for ready
	callClaimed       = 2 // a goroutine completes it, and the caller looks at the state
	callClaimedParked = 3 // a goroutine completes it, and the caller waits for ready
	callDone          = 4 // it is completed

	phaseMask = 1<<placeShift - 1

	placeShift = 3
	placeBits  = 16
	maxPlaces  = 1 << placeBits
	countOne   = 1 << (placeShift + placeBits)
)

// claim acquires the right to complete the call with this id. It reports false if the call is not
// in flight, or is already claimed.
func (p *pending) claim(id uint64) bool {
	return p.state.CompareAndSwap(id|callWaiting, id|callClaimed) ||
		p.state.CompareAndSwap(id|callParked, id|callClaimedParked)
}

// complete marks a claimed call as completed. It reports true if the caller has parked, and must be
// woken by ready.
func (p *pending) complete() (parked bool) {
	if p.state.CompareAndSwap(p.id|callClaimed, p.id|callDone) {
		return false
	}
	p.state.Store(p.id | callDone)
	return true
}

// park announces that the caller waits for ready. It reports false if the call is already
// completed.
func (p *pending) park() bool {
	return p.state.CompareAndSwap(p.id|callWaiting, p.id|callParked) ||
		p.state.CompareAndSwap(p.id|callClaimed, p.id|callClaimedParked)
}

// done reports whether the call is completed. A caller that has parked must receive from ready
// nevertheless.
func (p *pending) done() bool { return p.state.Load() == p.id|callDone }

// A callTable has the calls of a connection. It has as many places as were ever needed at the same
// time, up to a limit.
type callTable struct {
	limit  int
	places atomic.Pointer[[]*pending]
	spare  atomic.Pointer[pending] // an idle one, for the common case of one caller
	closed atomic.Pointer[Error]

	waiting atomic.Bool // a caller waits for room

	mu   sync.Mutex
	idle []*pending
	kept int           // bytes of the buffers of idle
	room chan struct{} // closed when a place may be idle; nil while no caller waits
}

// keepIdle is how many bytes of buffers the idle places of a connection keep: the server decides on
// the lengths of replies.
const keepIdle = 1 << 20

// register takes a place for a new call. It blocks while the number of calls is at the limit.
func (t *callTable) register(ctx context.Context, b bound) (*pending, *Error) {
	p := t.spare.Load()
	if p == nil || !t.spare.CompareAndSwap(p, nil) {
		var err *Error
		if p, err = t.acquire(ctx, b); err != nil {
			return nil, err
		}
	}
	p.id += countOne
	p.prepare()
	p.err, p.sent, p.mine = nil, sent{}, false
	p.state.Store(p.id | callWaiting)
	if err := t.closed.Load(); err != nil {
		// close may have missed this call, or may claim it at this moment.
		if p.claim(p.id) {
			t.recycle(p)
		}
		return nil, err
	}
	return p, nil
}

// acquire returns an idle place, or a new one.
func (t *callTable) acquire(ctx context.Context, b bound) (*pending, *Error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for waits := false; ; {
		if err := t.closed.Load(); err != nil {
			return nil, err
		}
		if n := len(t.idle); n > 0 {
			p := t.idle[n-1]
			t.idle = t.idle[:n-1]
			t.kept -= p.len()
			return p, nil
		}
		if p := t.spare.Swap(nil); p != nil {
			return p, nil
		}
		if p := t.add(); p != nil {
			return p, nil
		}
		if t.room == nil {
			t.room = make(chan struct{})
			t.waiting.Store(true)
			continue // look once more: recycle looks at waiting after it has put a place back
		}
		room := t.room
		t.mu.Unlock()
		if !waits {
			var stop func()
			ctx, stop = b.context(ctx)
			defer stop()
			waits = true
		}
		select {
		case <-room:
			t.mu.Lock()
		case <-ctx.Done():
			t.mu.Lock()
			e := contextError(ctx)
			e.Msg, e.Outcome = "waiting for one of the calls in flight to end", NotSent
			return nil, e
		}
	}
}

// all returns the places that exist. There are none before the first call.
func (t *callTable) all() []*pending {
	if all := t.places.Load(); all != nil {
		return *all
	}
	return nil
}

// add makes a new place, or returns nil at the limit. The caller must hold t.mu.
func (t *callTable) add() *pending {
	old := t.all()
	if len(old) >= t.limit {
		return nil
	}
	place := uint64(len(old)) << placeShift
	p := &pending{id: place, ready: make(chan struct{}, 1)}
	p.builder = flatbuffers.NewBuilder(256)
	p.state.Store(callDone)
	all := append(old[:len(old):len(old)], p)
	t.places.Store(&all)
	return p
}

// find returns the place that the id belongs to, or nil. The call may have ended; claim tells.
func (t *callTable) find(id uint64) *pending {
	all := t.all()
	at := id >> placeShift & (maxPlaces - 1)
	if at >= uint64(len(all)) || id&phaseMask != 0 {
		return nil
	}
	return all[at]
}

// recycle makes the place of a completed call idle.
func (t *callTable) recycle(p *pending) {
	p.bound.end()
	p.strip()
	if t.spare.CompareAndSwap(nil, p) {
		if t.waiting.Load() {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.wake()
		}
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.kept+p.len() > keepIdle {
		p.yield()
	}
	t.kept += p.len()
	t.idle = append(t.idle, p)
	t.wake()
}

// wake wakes the callers that wait for a place. The caller must hold t.mu.
func (t *callTable) wake() {
	if t.room != nil {
		close(t.room)
		t.room = nil
		t.waiting.Store(false)
	}
}

// refuse makes register fail with err. It does not affect calls in flight.
func (t *callTable) refuse(err *Error) {
	t.closed.CompareAndSwap(nil, err)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wake()
}

// claimAll claims the calls in flight and returns them.
func (t *callTable) claimAll() []*pending {
	var claimed []*pending
	for _, p := range t.all() {
		if p.claim(p.state.Load() &^ phaseMask) {
			claimed = append(claimed, p)
		}
	}
	return claimed
}

// inFlight returns the number of calls that have a place.
func (t *callTable) inFlight() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(t.all()) - len(t.idle)
	if t.spare.Load() != nil {
		n--
	}
	return n
}
