package ipc

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipcgen/ipcgen/internal/sys"
)

// A session is one end of a connection without calls: its memory belongs to others, and
// goroutines of its own wait for the peer's notifications and for its end.
type session struct {
	wire wire
	peer Peer
	spin spinPolicy
	// awaited is the number of the last call of Await, among those of all links of the process.
	awaited atomic.Uint64

	notified chan struct{} // the peer has notified
	down     chan struct{} // the peer closed its end, or died

	said []byte // by the peer beside the memory; complete when down is closed
}

// mostSaid is how many bytes of what the peer says beside the memory are kept.
const mostSaid = longestText + 64

func newSession(l Link, peer Peer) *session {
	s := &session{wire: l, peer: peer, notified: make(chan struct{}, 1),
		down: make(chan struct{})}
	s.peer.done = s.down
	s.spin.init(defaultSpin, false, l, peer)
	return s
}

// waitNotified passes the peer's notifications on. One may be passed on that was none: the
// receiver checks again.
func (s *session) waitNotified() {
	recheck := func() bool {
		select {
		case s.notified <- struct{}{}:
		default:
		}
		return false
	}
	for s.wire.Wait(recheck) == nil {
	}
}

// readWire waits for the peer's end.
func (s *session) readWire() {
	defer close(s.down)
	buf := make([]byte, 64)
	for {
		n, err := s.wire.Read(buf)
		s.said = append(s.said, buf[:min(n, mostSaid-len(s.said))]...)
		if err != nil {
			s.wire.Close() // ends waitNotified, too
			return
		}
	}
}

// wait waits for a notification of the peer. It returns io.EOF when the peer is gone.
func (s *session) wait(ctx context.Context) error {
	select {
	case <-s.notified:
		return nil
	case <-s.down:
		return io.EOF
	case <-ctx.Done():
		return contextError(ctx)
	}
}

// A LinkEnd is one end of a connection without calls, as [LinkKind] adds them, from the end of
// its handshake on.
type LinkEnd struct {
	s        *session
	listen   sync.Once
	leave    sync.Once
	replaced atomic.Pointer[Error] // why this side has left a peer that is not the server any more
}

func newLinkEnd(l Link, peer Peer) *LinkEnd {
	e := &LinkEnd{s: newSession(l, peer)}
	go e.s.readWire()
	return e
}

// Notify ends the peer's wait. It must be called only when the peer has declared in the memory that
// it waits, once for each declaration.
func (e *LinkEnd) Notify() { e.s.wire.Notify() }

// Notified receives a value after a notification of the peer, and now and then without one: the
// receiver checks the memory, and declares anew that it waits. From the first call on, a goroutine
// waits for notifications.
func (e *LinkEnd) Notified() <-chan struct{} {
	e.listen.Do(func() { go e.s.waitNotified() })
	return e.s.notified
}

// awaits counts the calls of Await in this process.
var awaits atomic.Uint64

// mayPoll reports whether there is a processor for this side to poll on. If as many other links of
// the process have waited since this one did last as there are processors beside the peer's, all of
// them are in use, and a side that polls keeps the others from what they were woken for: on two
// processors, a message to 4 readers that poll took three times as long as to 4 that sleep.
func (s *session) mayPoll() bool {
	now := awaits.Add(1)
	return now-s.awaited.Swap(now) < s.spin.pollers
}

// Await waits until ready reports true. It polls for a while, and then calls sleep, which declares
// in the memory that this side waits for a notification, and returns false if there is no reason to
// wait any more. Await may return early without an error. It returns io.EOF once the peer is gone.
func (e *LinkEnd) Await(ctx context.Context, ready, sleep func() bool) error {
	e.Notified()
	spins := spin{p: &e.s.spin}
	for polls := e.s.mayPoll(); !ready() && polls && spins.more(); {
	}
	if ready() {
		spins.paid()
		return nil
	}
	start := time.Now()
	for !ready() {
		e.s.wire.Expect()
		if !sleep() {
			return nil
		}
		if err := e.s.wait(ctx); err != nil {
			return err
		}
	}
	e.s.spin.slept(time.Since(start))
	return nil
}

// Expect must be called before this side declares in the memory that it waits for a notification,
// unless Await does.
func (e *LinkEnd) Expect() { e.s.wire.Expect() }

// Down is closed when the peer has closed its end, has died, or this side has left.
func (e *LinkEnd) Down() <-chan struct{} { return e.s.down }

// DownWithin waits until Down is closed, and reports whether it is. It gives up after d, of which
// time in which this process stood still counts little: what the peer has said or done meanwhile is
// not missed.
func (e *LinkEnd) DownWithin(d time.Duration) bool { return sys.Within(d, e.s.down) }

// Leave says why this side closes the connection, and closes it. Further calls do nothing.
func (e *LinkEnd) Leave(why error) {
	e.leave.Do(func() {
		if why != nil {
			_, _ = e.s.wire.Write(verdictOf(why).encode())
		}
		e.s.wire.Close()
	})
}

// DisconnectReason returns why the peer has left: what it gave to Leave, with its code, or an error
// with CodeUnavailable that matches io.ErrUnexpectedEOF if it said nothing, as a process that was
// killed. It may be called when Down is closed.
func (e *LinkEnd) DisconnectReason() error {
	if why := e.replaced.Load(); why != nil {
		return why
	}
	var v verdict
	if len(e.s.said) < 4 || v.decode(e.s.said[4:]) != nil {
		return &Error{Code: CodeUnavailable, Msg: "the peer is gone without a word",
			Err: io.ErrUnexpectedEOF}
	}
	return remoteError(v.code, OutcomeUnknown, v.msg)
}
