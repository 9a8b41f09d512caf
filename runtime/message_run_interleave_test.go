//go:build ipcinterleave

package ipc

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/internal/interleave"
	"github.com/ipcgen/ipcgen/internal/record"
	"github.com/ipcgen/ipcgen/runtime/shm"
)

// A runVariant is what goes on while a client sends one-way messages, and the watchdog checks
// their handlers.
type runVariant struct {
	name     string
	switches int // of goroutines that could go on, in one execution
	messages int
	checks   int  // of the watchdog
	panics   bool // the second handler panics
	full     bool // one message fills the inbox
	cancels  bool // a cancellation comes behind the first message
	leaves   bool // the client leaves behind its messages
	closes   bool // the connection is closed meanwhile
}

// runVariants have as many switches as CI has time for.
var runVariants = []runVariant{
	{name: "messages", messages: 3, checks: 4, switches: 2},
	{name: "messages, and the handler of one panics", messages: 3, checks: 2, switches: 2,
		panics: true},
	{name: "messages that fill the inbox", messages: 3, checks: 2, switches: 2, full: true},
	{name: "messages that come while others wait", messages: 3, checks: 2, switches: 3},
	{name: "messages and a cancellation", messages: 2, checks: 2, switches: 2, cancels: true},
	{name: "messages, and the client leaves", messages: 3, checks: 2, switches: 2, leaves: true},
	{name: "messages, and the connection is closed", messages: 2, checks: 2, switches: 2,
		closes: true},
}

// TestInterleaveMessageRun runs the readers, the watchdog and the inbox of a server in every order
// of their accesses to the words by which they pass one-way messages on. Each message is handled
// once, in order, and one at a time, even if the watchdog takes the role in the midst of a run.
// None is lost, unless the server closes the connection, and no goroutine waits while there is one.
func TestInterleaveMessageRun(t *testing.T) {
	for _, v := range runVariants {
		v.switches = longer(v.switches)
		explore(t, v.name, v.start)
	}
}

// A runScene is one execution of a variant.
type runScene struct {
	v        *runVariant
	run      *interleave.Run
	c        *serverConn
	w        *modelWire
	client   *shm.Producer
	route    *boundRoute
	call     *job // that is cancelled
	handlers interleave.Section
	handled  uint64
	checked  int
}

const modelMessage, modelCallID = 4, 7

func (v *runVariant) start(t *testing.T, r *interleave.Run) {
	s := &runScene{v: v, run: r, w: new(modelWire)}
	s.connect(t)
	c := s.c
	ring := c.rx.ring.Words()
	r.Share(&c.inline, &c.mu, &c.inbox.mu, &c.inbox.running)
	r.ShareWith("client", ring.Tail, ring.Sleep)
	r.Sense(ring.Sleep, s.client.Sense)
	r.Quiet(ring.Head, ring.Starve, ring.Taken, ring.Revoke, &c.tx.waiting, &c.tx.mu)
	if v.closes || v.leaves {
		r.Share(&c.down)
	} else {
		r.Quiet(&c.down)
	}
	if v.closes {
		r.Go("closer", c.cut)
	}
	r.Go("client", s.send)
	r.Go("reader", c.serve)
	r.Go("watchdog", s.watch)
	r.State, r.Check = s.state, s.check
	r.Switches = v.switches
}

// connect makes the server's side of a connection over memory of its own.
func (s *runScene) connect(t *testing.T) {
	geo := shm.Geometry{ToServer: shm.MinCapacity, ToClient: shm.MinCapacity}
	seg, err := shm.NewSegment(shm.NewHeapMemory(geo.Size()), geo)
	if err != nil {
		t.Fatal(err)
	}
	srv := NewServer()
	s.route = newBoundRoute(nil, &codec{id: modelMessage, name: "message"})
	s.route.receive = s.handle
	srv.handler.routes = routeTable{[]*boundRoute{s.route, nil}}
	if srv.handler.routes.find(modelMessage) != s.route {
		t.Fatal("the server does not find the handler")
	}
	hello := &serverHello{geo: geo, maxMessage: 1 << 10, maxCalls: 2}
	g := &admission{link: s.w, handshakeDone: func() {}}
	s.c, err = newServerConn(context.Background(), srv, hello, g, seg,
		slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	c := s.c
	if s.client, err = shm.NewProducer(seg.ToServer(), geo.ToServer); err != nil {
		t.Fatal(err)
	}
	c.watchdog = time.AfterFunc(time.Hour, func() {}) // see watch
	c.inbox.run = s.handleWaiting
	if s.v.full {
		c.inbox.limit = 1
	}
	s.call = &job{ctx: c.contexts.next()}
	c.detached[modelCallID] = s.call
}

// send is the client.
func (s *runScene) send() {
	for i := range uint64(s.v.messages) {
		interleave.SettledAt(int(i))
		s.put(&frame{kind: record.Message, id: i + 1, method: modelMessage})
		if s.v.cancels && i == 0 {
			s.put(&frame{kind: record.Cancel, id: modelCallID})
		}
	}
	if s.v.leaves { // and the server's side learns of it
		interleave.Point()
		s.c.readWire()
	}
}

func (s *runScene) put(f *frame) {
	dst, ok, err := s.client.Reserve(f.size())
	if !ok || err != nil {
		s.run.Fail("the ring is full")
		return
	}
	f.put(dst)
	if s.client.Commit(f.kind, len(dst)) {
		interleave.Point()
		s.w.come |= wireRung
	}
}

// watch is the watchdog, at times that mean nothing.
func (s *runScene) watch() {
	for range s.v.checks {
		interleave.SettledAt(s.checked)
		interleave.Point()
		s.checked++
		s.c.runWatchdog()
	}
}

// handle is the handler of messages.
func (s *runScene) handle(_ context.Context, _ *Peer, n *delivery, _ []byte) error {
	n.passed = true
	s.handlers.Enter()
	if n.seq != s.handled+1 {
		s.run.Fail(fmt.Sprintf("message %d is handled behind message %d", n.seq, s.handled))
	}
	s.handled = n.seq
	others()
	s.handlers.Leave()
	if s.v.panics && n.seq == 2 {
		panic("on purpose")
	}
	return nil
}

// others lets others go on. The end of an execution must not be taken for a panic of the handler,
// which is logged with its stack.
func others() {
	defer func() { _ = recover() }()
	interleave.Point()
}

// handleWaiting is serverConn.deliverWaiting where the handlers have proved to be fast.
func (s *runScene) handleWaiting(n *delivery, body []byte) {
	s.route.pace.owed.Store(0)
	s.c.deliver(s.route, n, body)
}

// state stands for what the goroutines share beside the words.
func (s *runScene) state() uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	c := s.c
	maphash.WriteComparable(&h, c.rx.ring.State())
	maphash.WriteComparable(&h, [...]bool{c.paused.Load(), c.asleep.Load(), c.armed.Load(),
		c.gone.Load(), c.spinning, c.inbox.full, c.final, s.call.givenUp,
		isClosed(c.done)})
	maphash.WriteComparable(&h, [...]uint64{s.w.come, s.handled, uint64(s.checked),
		uint64(c.messages.at), uint64(len(c.messages.messages)),
		uint64(len(c.inbox.next.messages)), uint64(s.route.pace.owed.Load())})
	return h.Sum64()
}

// check is called when no goroutine can go on.
func (s *runScene) check(waiting []string) error {
	c := s.c
	ends := s.v.leaves || s.v.closes
	for _, name := range waiting {
		if name != "reader" && !strings.HasPrefix(name, "goroutine") || ends || len(waiting) > 1 {
			return fmt.Errorf("%s wait, and nothing will wake them", waiting)
		}
	}
	switch {
	case s.handled != uint64(s.v.messages) && !s.v.closes:
		return fmt.Errorf("%d messages were handled", s.handled)
	case len(c.messages.messages) > 0 && !s.v.closes || c.inbox.busy() ||
		len(c.inbox.next.messages) > 0:
		return errors.New("a message is left")
	case s.v.cancels && !s.call.givenUp:
		return errors.New("the cancellation is lost")
	case ends && !isClosed(c.done):
		return errors.New("the connection is not buried")
	}
	return nil
}
