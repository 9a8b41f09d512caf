//go:build ipcinterleave

package ipc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/ipcgen/ipcgen/internal/interleave"
	"github.com/ipcgen/ipcgen/internal/record"
	"github.com/ipcgen/ipcgen/runtime/shm"
)

// A roleVariant is what goes on while callers wait for a reply each, and a server sends
// messages and the replies.
type roleVariant struct {
	name     string
	callers  int
	switches int  // of goroutines that could go on, in one execution; 0: no bound
	writer   bool // a writer waits for room in the ring
	messages int  // messages that the server sends before the replies
	room     bool // messages fit into the inbox
	closes   bool // the connection is closed meanwhile
	inPlace  bool // the first caller reads its reply in the ring
	cancels  bool // the context of the first caller ends
}

// roleVariants are those with few goroutines in every order, and those with more of them with as
// many switches as CI has time for.
var roleVariants = []roleVariant{
	{name: "a call", callers: 1},
	{name: "a call and a writer that waits", callers: 1, writer: true},
	{name: "a call in place", callers: 1, inPlace: true},
	{name: "a call that is cancelled", callers: 1, cancels: true},
	{name: "messages", messages: 2, room: true},
	{name: "messages that fill the inbox", messages: 2},
	{name: "a call, closed", callers: 1, closes: true},
	{name: "a call and a writer, closed", callers: 1, switches: 3, closes: true, writer: true},
	{name: "a call in place, closed", callers: 1, closes: true, inPlace: true},
	{name: "a call that is cancelled, closed", callers: 1, closes: true, cancels: true},
	{name: "a message, closed", closes: true, messages: 1, room: true},
	{name: "messages that fill the inbox, closed", switches: 4, closes: true, messages: 2},

	{name: "two calls", callers: 2, switches: 2},
	{name: "two calls and a writer", callers: 2, switches: 1, writer: true},
	{name: "two calls, one in place", callers: 2, switches: 2, inPlace: true},
	{name: "two calls, one cancelled", callers: 2, switches: 1, cancels: true},
	{name: "a call and messages", callers: 1, switches: 1, messages: 1, room: true},
	{name: "a call and a full inbox", callers: 1, switches: 1, messages: 2},
	{name: "two calls, closed", callers: 2, switches: 1, closes: true},
	{name: "two calls and a full inbox, closed", callers: 2, switches: 1, closes: true,
		messages: 1},
}

// TestInterleaveReaderRole runs callers, the listener and the inbox of a client in every order
// of their accesses to the words by which they wait for each other. Never do two goroutines read
// the ring or wait for the doorbell, and never do all wait while a reply or a message is unread,
// or the connection is closed.
func TestInterleaveReaderRole(t *testing.T) {
	for _, v := range roleVariants {
		v.switches = longer(v.switches)
		explore(t, v.name, v.start)
	}
}

// A roleScene is one execution of a variant.
type roleScene struct {
	v       *roleVariant
	run     *interleave.Run
	c       *Conn
	w       *modelWire
	server  *shm.Producer
	calls   []*pending
	ctx     modelContext
	seq     uint64 // of the next message
	handled uint64
}

func (v *roleVariant) start(t *testing.T, r *interleave.Run) {
	s := &roleScene{v: v, run: r, w: new(modelWire), seq: 1}
	s.ctx.done = make(chan struct{})
	s.connect(t)
	c := s.c
	ring := c.rx.ring.Words()
	r.Share(&c.role.word, &c.role.waiter)
	r.ShareWith("server", ring.Tail, ring.Sleep)
	r.Sense(ring.Sleep, s.server.Sense)
	r.Quiet(ring.Head, ring.Starve, &c.tx.waiting, &c.tx.mu, &c.inbox.running)
	if v.closes {
		r.Share(&c.down)
	} else {
		r.Quiet(&c.down)
	}
	r.Name(listenerCall)
	for i := range v.callers {
		p, err := c.calls.register(context.Background(), bound{})
		if err != nil {
			t.Fatal(err)
		}
		p.sent.done = true
		s.calls = append(s.calls, p)
		r.Share(&p.state)
		r.Name(p)
		ctx := context.Background()
		if v.cancels && i == 0 {
			ctx, s.ctx.ready = &s.ctx, p.ready
		}
		r.Go(fmt.Sprintf("caller %d", i), func() { s.call(ctx, i) })
	}
	if v.cancels {
		r.Share(&s.ctx.ended, &c.tx.mu)
		r.Go("canceller", s.ctx.cancel)
	}
	r.Go("server", s.serve)
	if v.messages == 0 {
		r.Quiet(&c.inbox.mu)
	}
	if v.messages > 0 {
		r.Share(&c.inbox.mu)
		c.role.keepNeeded()
	}
	c.tx.waiting.Store(v.writer)
	if c.waiterNeeded() {
		c.role.becomeWaiter(listenerCall)
		r.Go("listener", c.listen)
	}
	if v.closes {
		r.Go("closer", func() { c.fail(&Error{Code: CodeUnavailable, Err: errClosed}) })
	}
	r.State, r.Check = s.state, s.check
	r.Switches = v.switches
}

// connect makes the client over memory of its own.
func (s *roleScene) connect(t *testing.T) {
	geo := shm.Geometry{ToServer: shm.MinCapacity, ToClient: shm.MinCapacity}
	seg, err := shm.NewSegment(shm.NewHeapMemory(geo.Size()), geo)
	if err != nil {
		t.Fatal(err)
	}
	hello := &serverHello{geo: geo, maxMessage: 1 << 10, maxCalls: 2}
	s.c, err = newConn(dialConfig{common: commonDefaults()}, hello, Peer{}, s.w, seg)
	if err != nil {
		t.Fatal(err)
	}
	s.c.inbox.run = s.handle
	if !s.v.room {
		s.c.inbox.limit = 1
	}
	if s.server, err = shm.NewProducer(seg.ToClient(), geo.ToClient); err != nil {
		t.Fatal(err)
	}
}

// call waits for a reply, as Invoke does.
func (s *roleScene) call(ctx context.Context, i int) {
	p := s.calls[i]
	if !s.v.inPlace || i > 0 {
		s.c.await(ctx, p)
		s.replied(p, p.body)
		return
	}
	var f frame
	err, _ := s.c.awaitInPlace(ctx, p, &f, &inPlaceArgs{read: func(reply []byte) error {
		s.replied(p, reply)
		return nil
	}})
	if err != nil {
		s.replied(p, nil)
	}
}

// replied checks the end of a call.
func (s *roleScene) replied(p *pending, reply []byte) {
	switch {
	case p.err != nil && !s.v.closes && !(s.v.cancels && p == s.calls[0]):
		s.run.Fail("a call fails: " + p.err.Error())
	case p.err == nil && string(reply) != fmt.Sprint(p.id):
		s.run.Fail(fmt.Sprintf("call %d has the reply %q", p.id, reply))
	}
}

// serve sends the messages and the replies.
func (s *roleScene) serve() {
	for i := range s.v.messages {
		interleave.SettledAt(i)
		s.send(&frame{kind: record.Message, id: uint64(i) + 1}, "message")
	}
	for i, p := range s.calls {
		interleave.SettledAt(i, i)
		s.send(&frame{kind: record.Reply, id: p.id}, fmt.Sprint(p.id))
	}
}

func (s *roleScene) send(f *frame, body string) {
	dst, ok, err := s.server.Reserve(record.HeaderLen + len(body))
	if !ok || err != nil {
		s.run.Fail("the ring is full")
		return
	}
	f.put(dst)
	copy(dst[record.HeaderLen:], body)
	if s.server.Commit(f.kind, len(dst)) {
		interleave.Point()
		s.w.come |= wireRung
	}
}

// handle is the handler of messages.
func (s *roleScene) handle(n *delivery, _ []byte) {
	if n.seq != s.handled+1 {
		s.run.Fail("messages change places")
	}
	s.handled = n.seq
	if s.v.closes { // as a handler may, it waits for the end of the connection
		interleave.Until(func() bool { return s.c.life.Err() != nil })
	}
	interleave.Point()
}

// state stands for what the goroutines share beside the words.
func (s *roleScene) state() uint64 {
	c, h := s.c, s.handled
	add := func(v uint64) { h = h*31 + v }
	flag := func(b bool) {
		if b {
			add(1)
		} else {
			add(2)
		}
	}
	add(c.rx.tally.messages)
	add(s.w.come)
	flag(c.rx.ring.Batch())
	flag(c.inbox.full)
	if len(c.inbox.next.messages) > 1 && !s.v.room && c.down.Load() == nil {
		s.run.Fail("messages are read although the inbox is full")
	}
	flag(c.inbox.running.Load())
	add(uint64(len(c.inbox.next.messages)))
	for _, p := range s.calls {
		add(uint64(len(p.ready)))
		flag(p.mine)
		flag(p.err == nil)
	}
	add(uint64(len(c.tx.controls)))
	select {
	case <-c.done:
		add(1)
	default:
		add(2)
	}
	return h
}

// check is called when no goroutine can go on.
func (s *roleScene) check(waiting []string) error {
	w := s.c.role.word.Load()
	for _, name := range waiting {
		if name != "listener" && !strings.HasPrefix(name, "goroutine") || s.v.closes {
			return fmt.Errorf("%s wait, and nothing will wake them", waiting)
		}
	}
	switch {
	case w >= roleParked:
		return fmt.Errorf("%d callers count as parked, and none is", w/roleParked)
	case s.v.closes:
		if s.c.Err() == nil {
			return errors.New("the connection is not buried")
		}
		return nil
	case s.handled != uint64(s.v.messages):
		return fmt.Errorf("%d messages were handled", s.handled)
	case w&rolePaused != 0:
		return errors.New("the role is paused for ever")
	}
	return nil
}

// A modelWire is one end of a wire.
type modelWire struct {
	Link
	come  uint64
	to    *modelWire // the other end; nil if no goroutine waits there
	waits interleave.Section
}

// What has come over a wire.
const (
	wireRung = 1 << iota
	wirePoked
	wireClosed
)

var errModelClosed = errors.New("closed")

// Wait is as that of a doorbell: what came before look is forgotten, and it fails when the wire has
// been closed by its end, whatever recheck has returned.
func (w *modelWire) Wait(recheck func() bool) error {
	w.waits.Enter()
	defer w.waits.Leave()
	interleave.Point()
	before := w.come
	w.come &= wireClosed
	if before&(wireClosed|wirePoked) == 0 {
		if !recheck() {
			interleave.Until(func() bool { return w.come != 0 })
		} else {
			interleave.Point()
		}
		before = w.come
		w.come &= wireClosed | wireRung
	}
	if before&wireClosed != 0 {
		return errModelClosed
	}
	return nil
}

// Notify rings at the other end.
func (w *modelWire) Notify() {
	if w.to != nil {
		interleave.Point()
		w.to.come |= wireRung
	}
}

func (w *modelWire) Poke()        { interleave.Point(); w.come |= wirePoked }
func (w *modelWire) Close() error { interleave.Point(); w.come |= wireClosed; return nil }

func (w *modelWire) Expect()                   {}
func (w *modelWire) Clock() int64              { return 1 }
func (w *modelWire) SpinPays() bool            { return false }
func (w *modelWire) Read([]byte) (int, error)  { return 0, errModelClosed }
func (w *modelWire) Write([]byte) (int, error) { return 0, errModelClosed }

// A modelContext ends when cancel is called.
type modelContext struct {
	context.Context
	ended interleave.Bool
	done  chan struct{}

	ready chan struct{} // of the call
}

func (c *modelContext) cancel() {
	c.ended.Store(true)
	close(c.done)
}

// Done hides the end of the context while the call's reply is ready, so that a select finds one of
// the two: an execution must be the same each time.
func (c *modelContext) Done() <-chan struct{} {
	if len(c.ready) > 0 {
		return make(chan struct{})
	}
	return c.done
}

func (c *modelContext) Value(any) any { return nil }
func (c *modelContext) Err() error {
	if c.ended.Load() {
		return context.Canceled
	}
	return nil
}
