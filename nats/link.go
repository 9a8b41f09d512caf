package natsipc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// frameCost is what a frame counts for in a window, beside its body.
const frameCost = 64

// leastWindow is the least window that a side takes from the other.
const leastWindow = 4 << 10

// A link is what the two sides of a call have in common: numbered frames both ways, of which those
// with items, or pieces of them, go under credit.
//
// Lock order: sending, mu. Callbacks of NATS hold neither while they wait.
type link struct {
	nc      *nats.Conn
	longest int    // body that this side takes
	window  uint64 // of this side

	sending sync.Mutex
	number  uint32 // of the last frame that was sent

	mu      sync.Mutex
	to      string        // the other side's subject for frames; empty until it is known
	gone    string        // where NATS says that nobody listens there; may be empty
	accepts string        // what the other side's subject begins with, if that comes in a frame
	stirred chan struct{} // receives a value when there is something to take; see stirring
	room    chan struct{} // receives one when what is sent may go on; see await
	known   atomic.Uint64 // items that it has taken; stored under mu
	over    bool

	silent   atomic.Int32 // beats since the other side was heard
	got      uint32       // number of the last frame that came
	complete bool         // no more items will come
	failed   *ipc.Error   // why nothing comes any more
	flow     *flow        // nil until it is needed; see flowing
}

// A flow is what a link has for items and pieces. Most calls have none.
type flow struct {
	buf []byte // for a frame; guarded by sending

	theirs  uint64 // the window of the other side
	spent   uint64 // of it, in all
	granted uint64 // what the other side has taken, in all

	arrived uint64 // cost of items, in all
	taken   uint64 // of them, what this side has taken
	told    uint64 // of that, what the other side knows
	items   uint64 // that this side has taken
	parts   []byte // of the item that arrives
	inParts bool
	queue   []arrival
}

// flowing returns the flow. The caller must hold l.mu.
func (l *link) flowing() *flow {
	if l.flow == nil {
		l.flow = new(flow)
	}
	return l.flow
}

// An arrival is an item that waits to be taken.
type arrival struct {
	body []byte
	cost uint64
}

func (l *link) init(nc *nats.Conn, limits ipc.Limits) {
	l.nc, l.longest, l.window = nc, limits.MaxMessage, uint64(limits.StreamingWindow)
}

func (l *link) hear() { l.silent.Store(0) }

// missed counts a beat in which the other side was not heard. It reports whether those in a row are
// too many.
func (l *link) missed() bool { return l.silent.Add(1) > patience }

// wakeups are channels of stirring, to be used again. What a call has left in one wakes the next
// call once too often, which looks, and waits on.
var wakeups = sync.Pool{New: func() any { return make(chan struct{}, 1) }}

// stir wakes what waits at c, which is nil if nothing has waited yet.
func stir(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it will wake
	}
}

// open says where the other side takes frames, and how large its window is.
func (l *link) open(to, gone string, window uint64) {
	l.mu.Lock()
	l.to, l.gone = to, gone
	l.flowing().theirs = max(window, leastWindow)
	stir(l.room)
	l.mu.Unlock()
}

// finish ends the call for this side. It reports whether it was open.
func (l *link) finish() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return false
	}
	l.over = true
	stir(l.room)
	return true
}

// spare gives up the channel of stirring. No goroutine takes any more.
func (l *link) spare() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stirred != nil {
		wakeups.Put(l.stirred)
		l.stirred = nil
	}
}

// fail ends what comes from the other side with an error, behind the items that have come, unless
// all has come.
func (l *link) fail(err *ipc.Error) {
	l.mu.Lock()
	if l.failed == nil && !l.complete {
		l.failed = err
	}
	stir(l.stirred)
	stir(l.room)
	l.mu.Unlock()
}

// send sends a frame.
func (l *link) send(kind frameKind, more bool, body []byte) error {
	l.sending.Lock()
	defer l.sending.Unlock()
	l.mu.Lock()
	to, gone, over, flow := l.to, l.gone, l.over, l.flowing()
	l.mu.Unlock()
	if over || to == "" {
		return errOver
	}
	f := frame{kind: kind, more: more, number: l.number + 1}
	flow.buf = append(f.appendHead(flow.buf[:0]), body...)
	err := l.publish(to, gone, flow.buf)
	if err == nil {
		l.number++
	}
	if cap(flow.buf) > longestKept {
		flow.buf = nil
	}
	return err
}

func (l *link) publish(to, reply string, data []byte) error {
	if reply == "" {
		return l.nc.Publish(to, data)
	}
	return l.nc.PublishRequest(to, reply, data)
}

// sendLast sends the last message of the call, and tells publish how many frames were before it. No
// frame follows, so sendLast keeps other senders away until the call is over.
func (l *link) sendLast(publish func(frames uint64) error) error {
	l.sending.Lock()
	defer l.sending.Unlock()
	l.mu.Lock()
	over := l.over
	l.mu.Unlock()
	if over {
		return errOver
	}
	err := publish(uint64(l.number))
	if err == nil {
		l.finish()
	}
	return err
}

// errOver ends the sending of a call that is over.
var errOver = errors.New("the call is over")

// sendBody sends an item, or the body of a request or reply, in pieces if it must. It waits for
// credit. A body longer than half a window is taken only if pieces says so.
func (l *link) sendBody(ctx context.Context, body []byte, pieces bool) error {
	if err := l.awaitOpen(ctx); err != nil {
		return err
	}
	l.mu.Lock()
	theirs := l.flowing().theirs
	l.mu.Unlock()
	if most := theirs / 2; !pieces && uint64(len(body)) > most {
		return &ipc.Error{Code: ipc.CodeTooLarge, Msg: fmt.Sprintf("an item of %d bytes; the "+
			"limit is %d, half of the other side's window; see ipc.WithStreamingWindow",
			len(body), most)}
	}
	for {
		n := min(len(body), int(theirs/2)-frameCost, max(int(l.nc.MaxPayload())-frameHead, 1))
		if err := l.spend(ctx, uint64(n)+frameCost); err != nil {
			return err
		}
		if err := l.send(frameItem, n < len(body), body[:n]); err != nil {
			return err
		}
		if body = body[n:]; len(body) == 0 {
			return nil
		}
	}
}

// awaitOpen waits until it is known where the other side takes frames.
func (l *link) awaitOpen(ctx context.Context) error {
	return l.await(ctx, func() bool { return l.to != "" })
}

// spend waits until the window of the other side has room.
func (l *link) spend(ctx context.Context, cost uint64) error {
	return l.await(ctx, func() bool {
		f := l.flowing()
		if f.spent+cost > f.granted+f.theirs {
			return false
		}
		f.spent += cost
		return true
	})
}

// await waits until ready, which is called with l.mu held, returns true. The other side's frames
// can make that so. One goroutine of a call waits at a time. Most calls have none that waits, so
// the first one makes the channel.
func (l *link) await(ctx context.Context, ready func() bool) error {
	for {
		l.mu.Lock()
		if ready() {
			l.mu.Unlock()
			return nil
		}
		if l.over {
			l.mu.Unlock()
			return errOver
		}
		if why := l.failed; why != nil { // no frame is taken in any more
			l.mu.Unlock()
			return why
		}
		if l.room == nil {
			l.room = make(chan struct{}, 1)
		}
		room := l.room
		l.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return errOver
		}
	}
}

// receive takes in a frame, in a callback of NATS.
func (l *link) receive(data []byte) {
	f, malformed := parseFrame(data)
	if malformed != nil {
		l.fail(malformed.(*ipc.Error))
		return
	}
	l.hear()
	if f.kind == frameBeat {
		return
	}
	credit, err := l.takeIn(f)
	if err != nil {
		l.fail(err)
	}
	if credit {
		l.credit()
	}
}

// takeIn takes in a frame with a number. It reports whether credit must be sent.
func (l *link) takeIn(f frame) (credit bool, err *ipc.Error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over || l.failed != nil {
		return false, nil
	}
	if f.number != l.got+1 {
		return false, lost("frame %d came behind frame %d", f.number, l.got)
	}
	l.got = f.number
	switch f.kind {
	case frameItem:
		return l.takeItem(f)
	case frameClose:
		l.complete = true
		stir(l.stirred)
	case frameCredit:
		flow := l.flowing()
		flow.granted = max(flow.granted, min(binary.LittleEndian.Uint64(f.body), flow.spent))
		l.known.Store(max(l.known.Load(), binary.LittleEndian.Uint64(f.body[8:])))
		stir(l.room)
	case frameAccept:
		to := string(f.body[4:])
		if l.accepts == "" || !strings.HasPrefix(to, l.accepts) ||
			strings.ContainsAny(to, "*> \t\r\n") {
			return false, corrupt("the other side wants frames at %.100q", to)
		}
		l.to = to
		l.flowing().theirs = max(uint64(binary.LittleEndian.Uint32(f.body)), leastWindow)
		stir(l.room)
	}
	return false, nil
}

// lost is the error of frames that NATS has not delivered.
func lost(format string, args ...any) *ipc.Error {
	return &ipc.Error{Code: ipc.CodeUnavailable, Msg: "NATS has lost a part of the call: " +
		fmt.Sprintf(format, args...)}
}

// takeItem takes in an item or a piece. The caller must hold l.mu.
func (l *link) takeItem(f frame) (credit bool, err *ipc.Error) {
	cost, flow := uint64(len(f.body))+frameCost, l.flowing()
	if l.complete {
		return false, corrupt("the other side has sent an item behind its end")
	}
	if flow.arrived += cost; flow.arrived > flow.taken+l.window {
		return false, corrupt("the other side has sent more than its credit")
	}
	if len(flow.parts)+len(f.body) > l.longest {
		return false, &ipc.Error{Code: ipc.CodeTooLarge,
			Msg: fmt.Sprintf("a message of more than %d bytes, the limit of this side", l.longest)}
	}
	if f.more || flow.inParts {
		flow.parts, flow.inParts = append(flow.parts, f.body...), true
	}
	if f.more { // it is not counted until it is whole, and must become so
		flow.taken += cost
		return flow.taken-flow.told >= l.window/2, nil
	}
	body := f.body
	if flow.inParts {
		body, flow.parts, flow.inParts = flow.parts, nil, false
	}
	flow.queue = append(flow.queue, arrival{body, cost})
	stir(l.stirred)
	return false, nil
}

// state is what take finds.
type state int

const (
	nothing   state     = iota // yet
	item                       // which must be passed to took
	noMore                     // the other side has sent all
	broken                     // nothing comes any more
	oversized = 1 << 20        // capacity beyond which an empty queue is given up
)

// take returns the next item.
func (l *link) take() (a arrival, s state) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch f := l.flow; {
	case f != nil && len(f.queue) > 0:
		a = f.queue[0]
		f.queue[0] = arrival{}
		if f.queue = f.queue[1:]; len(f.queue) == 0 && cap(f.queue) > oversized {
			f.queue = nil
		}
		return a, item
	case l.failed != nil:
		return a, broken
	case l.complete:
		return a, noMore
	}
	return a, nothing
}

// stirring returns a channel that receives a value when there may be something to take since it was
// called. Only one goroutine takes.
func (l *link) stirring() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stirred == nil {
		l.stirred = wakeups.Get().(chan struct{})
	}
	if l.flow != nil && len(l.flow.queue) > 0 || l.failed != nil || l.complete {
		stir(l.stirred)
	}
	return l.stirred
}

// took says that this side's code has taken an item.
func (l *link) took(a arrival) {
	l.mu.Lock()
	f := l.flowing()
	f.taken += a.cost
	f.items++
	credit := f.taken-f.told >= l.window/2
	l.mu.Unlock()
	if credit {
		l.credit()
	}
}

// credit tells the other side what this side has taken.
func (l *link) credit() {
	l.mu.Lock()
	f := l.flowing()
	body := binary.LittleEndian.AppendUint64(nil, f.taken)
	body = binary.LittleEndian.AppendUint64(body, f.items)
	f.told = f.taken
	l.mu.Unlock()
	_ = l.send(frameCredit, false, body) // the loss of the connection ends the call
}

// takenItems returns how many items this side's code has taken.
func (l *link) takenItems() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.flowing().items
}

// why returns the error of a link that is broken.
func (l *link) why() *ipc.Error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed
}

// sendFailed returns the error of a message that NATS has not taken.
func sendFailed(err error) *ipc.Error {
	e := &ipc.Error{Code: ipc.CodeUnavailable, Outcome: ipc.NotSent, Err: err}
	switch {
	case errors.Is(err, nats.ErrMaxPayload):
		e.Code = ipc.CodeTooLarge
		e.Msg = "the headers alone are longer than the max_payload of the NATS server; send less " +
			"metadata, or raise max_payload"
	case errors.Is(err, nats.ErrReconnectBufExceeded):
		e.Err, e.Msg = nats.ErrDisconnected, "NATS is reconnecting"
	}
	return e
}
