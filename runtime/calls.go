package ipc

import (
	"context"
	"sync"
	"sync/atomic"

	flatbuffers "github.com/google/flatbuffers/go"
)

// A pending call belongs to the goroutine that makes it until it is
// registered; from then on whoever takes it out of the table completes it.
type pending struct {
	id      uint64
	builder *flatbuffers.Builder
	sent    sent

	// The completion: err, or the reply's frame and body.
	err   *Error
	frame frame
	body  []byte

	state atomic.Uint32 // callWaiting, callParked, callDone
	ready chan struct{} // receives one value when state was callParked
}

const (
	callWaiting uint32 = iota
	callParked
	callDone
)

// complete hands the call back to its caller. The caller of complete has
// taken it out of the table.
func (p *pending) complete() {
	if p.state.Swap(callDone) == callParked {
		p.ready <- struct{}{}
	}
}

// A callTable holds the calls in flight of one connection. An id is the place in
// the table in its low 16 bits and a count above, so that a late reply to an
// earlier call in the same place is told apart.
type callTable struct {
	mu     sync.Mutex
	places []*pending // nil where no call is in flight
	idle   []*pending // to be used again; each keeps its place
	live   int
	limit  int
	closed *Error
	room   chan struct{} // closed when a place may be free; nil while nobody waits
}

const placeMask = 1<<16 - 1

// keepBuffer is the largest buffer that is kept for the next call.
const keepBuffer = 1 << 20

// register takes a place for a new call, and waits for one while there are as
// many calls as the limit allows.
func (t *callTable) register(ctx context.Context) (*pending, *Error) {
	t.mu.Lock()
	for t.closed == nil && t.live >= t.limit {
		if t.room == nil {
			t.room = make(chan struct{})
		}
		room := t.room
		t.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			e := contextError(ctx)
			e.Msg, e.Outcome = "waiting for one of the calls in flight to end", NotSent
			return nil, e
		}
		t.mu.Lock()
	}
	defer t.mu.Unlock()
	if t.closed != nil {
		return nil, t.closed
	}
	var p *pending
	if n := len(t.idle); n > 0 {
		p = t.idle[n-1]
		t.idle = t.idle[:n-1]
	} else {
		p = &pending{
			id:      uint64(len(t.places)),
			builder: flatbuffers.NewBuilder(256),
			ready:   make(chan struct{}, 1),
		}
		t.places = append(t.places, nil)
	}
	p.id += placeMask + 1
	p.err, p.sent = nil, sent{}
	p.state.Store(callWaiting)
	t.places[p.id&placeMask] = p
	t.live++
	return p, nil
}

// take takes the call out of the table, and with it the right to complete it.
// It returns nil when the call is not in flight (any more).
func (t *callTable) take(id uint64) *pending {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := id & placeMask
	if at >= uint64(len(t.places)) {
		return nil
	}
	p := t.places[at]
	if p == nil || p.id != id {
		return nil
	}
	t.places[at] = nil
	return p
}

// recycle makes the place of a completed call free for another one.
func (t *callTable) recycle(p *pending) {
	if cap(p.builder.Bytes) > keepBuffer {
		p.builder = flatbuffers.NewBuilder(256)
	}
	if cap(p.body) > keepBuffer {
		p.body = nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.idle = append(t.idle, p)
	t.live--
	if t.room != nil {
		close(t.room)
		t.room = nil
	}
}

// close refuses new calls with err and returns those in flight, for the
// caller to complete.
func (t *callTable) close(err *Error) []*pending {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = err
	if t.room != nil {
		close(t.room)
		t.room = nil
	}
	var all []*pending
	for i, p := range t.places {
		if p != nil {
			all = append(all, p)
			t.places[i] = nil
		}
	}
	return all
}

// refuse makes register fail with err, and leaves the calls in flight alone.
func (t *callTable) refuse(err *Error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed == nil {
		t.closed = err
	}
	if t.room != nil {
		close(t.room)
		t.room = nil
	}
}

// inFlight is the number of calls that have a place.
func (t *callTable) inFlight() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.live
}
