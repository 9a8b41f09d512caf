//go:build ipcinterleave

package ipc

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"testing"

	"github.com/ipcgen/ipcgen/internal/interleave"
	"github.com/ipcgen/ipcgen/internal/record"
	"github.com/ipcgen/ipcgen/runtime/shm"
)

// A writerVariant is what goes on while a ring is full that the peer begins to read.
type writerVariant struct {
	name     string
	switches int    // of goroutines that could go on, in one execution; 0: no bound
	lengths  []int  // of the bodies, one for each writer
	tries    bool   // the last writer writes only if it need not wait
	failFast bool   // and so does every writer, but for the first, which must not fail
	cancels  int    // calls that are cancelled meanwhile
	ends     bool   // the context of the first writer ends
	closes   bool   // the connection is closed meanwhile
	spins    int    // how often a writer polls
	left     int    // bytes of the ring that are free at first, a multiple of 8
	gathers  int    // so many of the writers gather two messages each
	drained  bool   // the ring is empty at first
	sleeps   bool   // the peer waits for notifications, and reads only what they tell it of
	reader   reader // which goroutine waits for notifications
}

// A reader is the goroutine of the writers' side that waits for notifications.
type reader int

const (
	// The reader of a server, which waits at once. Its loop is that of serverConn.serve, reduced
	// to what concerns the writers.
	waitingReader reader = iota
	busyReader           // the same, while it reads two messages first
	clientWaiter         // the goroutine that a client starts because a writer waits
)

// The lengths of bodies, for a ring of shm.MinCapacity.
const (
	short  = 8
	pieces = 2100 // three records, which do not fit into half a ring
)

// aPiece is the number of bytes that a piece takes in the ring.
var aPiece = longestRecord(shm.MinCapacity) + 8

// writerVariants are those with few goroutines in every order, and the others with as many switches
// as CI has time for.
var writerVariants = []writerVariant{
	{name: "a writer", lengths: []int{short}},
	{name: "a writer that polls", lengths: []int{short}, spins: 2},
	{name: "a cancellation", cancels: 1},
	{name: "a writer, closed", lengths: []int{short}, switches: 4, closes: true},
	{name: "a writer that gives up", lengths: []int{short}, switches: 5, ends: true},
	{name: "a message in pieces", lengths: []int{pieces}, switches: 5},
	{name: "a message in pieces that is given up", lengths: []int{pieces}, switches: 3,
		ends: true},
	{name: "a message in pieces that fills the ring and is given up", lengths: []int{pieces},
		switches: 3, ends: true, left: aPiece},
	{name: "a message in pieces, closed", lengths: []int{pieces}, switches: 3, closes: true},

	{name: "two writers", lengths: []int{short, short}, switches: 3},
	{name: "a message in pieces, and another", lengths: []int{pieces, short}, switches: 2},
	{name: "two messages in pieces", lengths: []int{pieces, pieces}, switches: 2},
	{name: "cancellations", cancels: 2, switches: 3},
	{name: "a writer and a cancellation", lengths: []int{short}, switches: 4, cancels: 1},
	{name: "a message in pieces and a cancellation", lengths: []int{pieces}, switches: 2,
		cancels: 1},
	{name: "a writer that gives up, and another", lengths: []int{short, short}, switches: 2,
		ends: true},
	{name: "a message in pieces that is given up, and another", lengths: []int{pieces, short},
		switches: 1, ends: true},
	{name: "a writer that does not wait", lengths: []int{short, short}, switches: 3, tries: true},
	{name: "writers that fail fast", lengths: []int{short, short}, switches: 3, failFast: true},
	{name: "two writers, closed", lengths: []int{short, short}, switches: 1, closes: true},
	{name: "a message in pieces and a cancellation, closed", lengths: []int{pieces}, switches: 1,
		cancels: 1, closes: true},

	{name: "a busy reader: a writer", lengths: []int{short}, reader: busyReader},
	{name: "a busy reader: a message in pieces, and another", lengths: []int{pieces, short},
		switches: 2, reader: busyReader},
	{name: "a busy reader: a cancellation", cancels: 1, reader: busyReader},
	{name: "a busy reader: a writer, closed", lengths: []int{short}, switches: 3, closes: true,
		reader: busyReader},

	{name: "a client: a writer", lengths: []int{short}, reader: clientWaiter},
	{name: "a client: two writers", lengths: []int{short, short}, switches: 2,
		reader: clientWaiter},
	{name: "a client: a message in pieces", lengths: []int{pieces}, switches: 3,
		reader: clientWaiter},
	{name: "a client: a writer and a cancellation", lengths: []int{short}, switches: 3,
		cancels: 1, reader: clientWaiter},
	{name: "a client: a writer that gives up, and another", lengths: []int{short, short},
		switches: 1, ends: true, reader: clientWaiter},
	{name: "a client: a writer, closed", lengths: []int{short}, switches: 2, closes: true,
		reader: clientWaiter},

	{name: "a peer that sleeps: two writers", lengths: []int{short, short}, switches: 3,
		drained: true, sleeps: true},
	{name: "gathered", lengths: []int{short}, gathers: 1, drained: true, sleeps: true},
	{name: "gathered, and another writer", lengths: []int{short, short}, gathers: 1, switches: 3,
		drained: true, sleeps: true},
	{name: "gathered by two", lengths: []int{short, short}, gathers: 2, switches: 2,
		drained: true, sleeps: true},
	{name: "gathered, and a cancellation", lengths: []int{short}, gathers: 1, switches: 3,
		cancels: 1, drained: true, sleeps: true},
	{name: "gathered, closed", lengths: []int{short}, gathers: 1, switches: 3, closes: true,
		drained: true, sleeps: true},
	{name: "gathered by a writer that gives up, and by another", lengths: []int{short, short},
		gathers: 2, switches: 1, ends: true, sleeps: true},
	{name: "gathered until the ring is full", lengths: []int{short}, gathers: 1, switches: 4,
		sleeps: true},
	{name: "gathered until the ring is full, by writers that poll", lengths: []int{short, short},
		gathers: 2, switches: 2, spins: 1, sleeps: true},
	{name: "gathered until the ring is full, and another writer", lengths: []int{short, short},
		gathers: 1, switches: 2, sleeps: true},
	{name: "gathered until the ring is full, and one that does not wait",
		lengths: []int{short, short}, gathers: 1, switches: 2, tries: true, sleeps: true},
	{name: "gathered until the ring is full, closed", lengths: []int{short}, gathers: 1,
		switches: 2, closes: true, sleeps: true},
	{name: "gathered in pieces", lengths: []int{pieces}, gathers: 1, switches: 2, drained: true,
		sleeps: true},
	{name: "gathered in pieces, and another writer", lengths: []int{pieces, short}, gathers: 1,
		switches: 1, drained: true, sleeps: true},
	{name: "gathered beside a message in pieces", lengths: []int{short, pieces}, gathers: 1,
		switches: 1, drained: true, sleeps: true},
}

// TestInterleaveWriterRole runs writers, cancellations and the goroutine that waits for
// notifications in every order of their accesses to the words by which they and the peer wait for
// each other. No writer waits while there is space, or after the connection is closed. The peer
// gets every message whose write succeeds, whole, no message whose write fails, and each
// cancellation once. No goroutine uses the ring's memory after close has returned. A peer that
// sleeps is notified of what it has not read once no goroutine gathers, and no notification stays
// owed.
func TestInterleaveWriterRole(t *testing.T) {
	for _, v := range writerVariants {
		v.switches = longer(v.switches)
		explore(t, v.name, v.start)
	}
}

// A writerScene is one execution of a variant.
type writerScene struct {
	v       *writerVariant
	run     *interleave.Run
	c       *Conn // with clientWaiter
	tx      *transmitter
	w       *modelWire // of the writers' side
	peer    modelWire
	rx      receiver // of the peer
	mem     []byte   // of the ring
	ctx     modelContext
	working int      // writers and others that have not ended
	written []uint64 // the messages whose write succeeded
	read    []uint64 // what the peer has read: messages, and cancelledCall more than a call
	closed  bool
}

// cancelledCall is added to the number of a call, where that stands for its cancellation.
const cancelledCall = 100

// fillers is how many messages fill the ring at first.
const fillers = 2

func (v *writerVariant) start(t *testing.T, r *interleave.Run) {
	s := &writerScene{v: v, run: r, w: new(modelWire)}
	s.ctx.done = make(chan struct{})
	s.connect(t)
	s.tx.spins, s.tx.failFast = v.spins, v.failFast
	if !v.drained {
		s.fill(t)
	}
	ring := s.rx.ring.Words()
	r.Share(&s.tx.mu, &s.tx.waiting, ring.Head, ring.Starve)
	r.ShareWith("peer", ring.Tail)
	r.Sense(ring.Starve, s.rx.ring.Sense)
	r.Quiet(ring.Revoke, ring.Taken)
	if v.sleeps {
		s.w.to = &s.peer
		r.Share(ring.Sleep)
		r.Sense(ring.Sleep, s.tx.ring.Sense)
	} else {
		r.Quiet(ring.Sleep)
	}
	for i, n := range v.lengths {
		ctx := context.Background()
		if v.ends && i == 0 {
			ctx = &s.ctx
		}
		s.start(fmt.Sprintf("writer %d", i), func() {
			if i >= v.gathers {
				s.write(ctx, i, n)
				return
			}
			s.tx.gather()
			s.write(ctx, i, n)
			s.write(ctx, len(v.lengths)+i, n)
			s.tx.notify()
		})
	}
	for i := range v.cancels {
		s.start(fmt.Sprintf("canceller %d", i), func() { s.tx.cancel(uint64(i)) })
	}
	if v.ends {
		r.Share(&s.ctx.ended)
		r.Go("end of the context", s.ctx.cancel)
	}
	if v.closes {
		r.Go("closer", s.close)
	}
	if v.sleeps {
		r.Go("peer", s.wakes)
	} else {
		r.Go("peer", s.serve)
	}
	if v.reader != clientWaiter {
		r.Go("reader", s.reads)
	}
	r.State, r.Check = s.state, s.check
	r.Switches = v.switches
}

// fill fills the ring but for what is to be left.
func (s *writerScene) fill(t *testing.T) {
	for i := range uint64(fillers) {
		if !s.tx.tryWriteWhole(messageFrame(i), s.filler(i)) {
			t.Fatal("the ring is smaller than it should be")
		}
	}
}

// filler returns the length of the body of a message that fills the ring. The last one is shorter.
func (s *writerScene) filler(i uint64) int {
	n := shm.MaxPayload(shm.MinCapacity) - record.HeaderLen
	if i == fillers-1 {
		n -= s.v.left
	}
	return n
}

// start runs f while s.working counts it.
func (s *writerScene) start(name string, f func()) {
	s.working++
	s.run.Go(name, func() {
		f()
		s.working--
	})
}

// connect makes both ends of the ring.
func (s *writerScene) connect(t *testing.T) {
	geo := shm.Geometry{ToServer: shm.MinCapacity, ToClient: shm.MinCapacity}
	seg, err := shm.NewSegment(shm.NewHeapMemory(geo.Size()), geo)
	if err != nil {
		t.Fatal(err)
	}
	const limit = 4 << 10
	s.mem = seg.ToServer()
	consumer, err := shm.NewConsumer(s.mem, geo.ToServer)
	if err != nil {
		t.Fatal(err)
	}
	s.peer.to = s.w
	s.rx.init(consumer, &s.peer, geo.ToServer, limit)
	if s.v.reader == clientWaiter {
		hello := &serverHello{geo: geo, maxMessage: limit, maxCalls: 2}
		s.c, err = newConn(dialConfig{common: commonDefaults()}, hello, Peer{}, s.w, seg)
		if err != nil {
			t.Fatal(err)
		}
		s.tx = &s.c.tx
		in := s.c.rx.ring.Words()
		s.run.Share(&s.c.role.word, &s.c.role.waiter)
		s.run.Quiet(in.Tail, in.Sleep, in.Head, in.Starve, in.Taken, in.Revoke, &s.c.down,
			&s.c.inbox.mu, &s.c.inbox.running)
		s.run.Name(listenerCall)
		return
	}
	producer, err := shm.NewProducer(s.mem, geo.ToServer)
	if err != nil {
		t.Fatal(err)
	}
	s.tx = new(transmitter)
	s.tx.init(producer, s.w, geo.ToServer, limit, false)
}

func messageFrame(id uint64) *frame { return &frame{kind: record.Message, id: id} }

// tryWriteWhole writes a message with n bytes as one record, however long.
func (t *transmitter) tryWriteWhole(f *frame, n int) bool {
	dst, _ := t.tryTake(f.size() + n)
	if dst == nil {
		return false
	}
	t.writeRecord(dst, f, modelBody(f.id, n), nil)
	return true
}

func modelBody(id uint64, n int) []byte { return slices.Repeat([]byte{byte(id)}, n) }

// write writes message i, of writer i, or the second one of a writer that gathers.
func (s *writerScene) write(ctx context.Context, i, n int) {
	f := messageFrame(fillers + uint64(i))
	if s.v.tries && i == len(s.v.lengths)-1 {
		if s.tx.tryWrite(f, modelBody(f.id, n)) && !s.v.closes {
			s.written = append(s.written, f.id)
		}
		return
	}
	var block func()
	if i == 0 {
		block = func() {}
	}
	err := s.tx.write(ctx, f, modelBody(f.id, n), nil, block)
	switch {
	case err == nil:
		s.written = append(s.written, f.id)
	case err.Outcome != NotSent:
		s.run.Fail("a write fails without saying that nothing was sent: " + err.Error())
	case err.Code == CodeCanceled && s.v.ends && i%len(s.v.lengths) == 0:
	case err.Code == CodeUnavailable && s.v.closes:
	case err.Code == CodeResourceExhausted && s.v.failFast && i > 0:
	default:
		s.run.Fail("a write fails: " + err.Error())
	}
}

// close closes the connection.
func (s *writerScene) close() {
	err := &Error{Code: CodeUnavailable, Outcome: NotSent, Err: errClosed}
	if s.c != nil {
		s.c.fail(err)
		interleave.Until(func() bool { return isClosed(s.c.done) })
	} else {
		s.tx.close(err)
		s.w.Close()
		s.peer.come |= wireClosed
	}
	s.tx.ring, s.closed = nil, true // the memory is gone
}

// serve reads messages until no more will come.
func (s *writerScene) serve() {
	for {
		interleave.Settled()
		interleave.Until(func() bool { return s.rx.ring.Ready() || s.allSent() })
		if !s.rx.ring.Ready() {
			return
		}
		s.readOne()
	}
}

// wakes reads messages, and sleeps between them, until the connection is closed.
func (s *writerScene) wakes() {
	recheck := func() bool { return !s.rx.sleep() }
	for closed := false; !closed; {
		interleave.Settled()
		closed = s.peer.Wait(recheck) != nil
		s.rx.ring.Awake()
		for s.rx.ring.Ready() {
			s.readOne()
			interleave.Settled(closed)
		}
	}
}

// readOne reads a record.
func (s *writerScene) readOne() {
	var f frame
	body, _, ok, err := s.rx.next(&f)
	if err != nil {
		s.run.Fail("the peer reads " + err.Error())
		return
	}
	if !ok {
		return
	}
	switch f.kind {
	case record.Message:
		s.read = append(s.read, f.id)
		want := 0
		if f.id < fillers {
			want = s.filler(f.id)
		} else {
			want = s.v.lengths[int(f.id-fillers)%len(s.v.lengths)]
		}
		if string(body) != string(modelBody(f.id, want)) {
			s.run.Fail(fmt.Sprintf("message %d has another body", f.id))
		}
	case record.Cancel:
		s.read = append(s.read, cancelledCall+f.id)
	}
	s.rx.release()
}

// allSent reports whether nothing more will be written.
func (s *writerScene) allSent() bool {
	return s.working == 0 && (s.closed || !s.tx.abort && len(s.tx.controls) == 0)
}

// reads is the reader of a server.
func (s *writerScene) reads() {
	if s.v.reader == busyReader {
		for range 2 {
			if s.tx.hasWaiters() {
				s.tx.recheckSpaceBusy(2 * s.tx.piece)
			}
		}
	}
	recheck := func() bool {
		s.tx.recheckSpace()
		return false
	}
	for {
		interleave.Settled()
		if s.w.Wait(recheck) != nil {
			return
		}
		interleave.Settled()
		s.tx.recheckSpace()
	}
}

var seed = maphash.MakeSeed()

// state stands for what the goroutines share beside the words.
func (s *writerScene) state() uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	tx, in := s.tx, s.rx.ring.State()
	at := in[0] // where the peer reads next
	if tx.ring != nil {
		end := tx.ring.State()
		for ; at < end[0]; at += 8 {
			i := uint64(len(s.mem)) - shm.MinCapacity + at%shm.MinCapacity
			h.Write(s.mem[i : i+8])
		}
		maphash.WriteComparable(&h, end)
	}
	maphash.WriteComparable(&h, in)
	maphash.WriteComparable(&h, [...]bool{tx.closed == nil, tx.busy, tx.abort, s.closed,
		tx.released == nil, s.rx.active, tx.ring == nil, tx.owed})
	maphash.WriteComparable(&h, [...]uint64{s.w.come, s.peer.come, uint64(tx.want),
		uint64(tx.gathers), uint64(s.working), uint64(len(s.rx.body))})
	for _, list := range [][]uint64{waitingCancels(&tx.writerRole), s.written, s.read} {
		maphash.WriteComparable(&h, len(list))
		for _, v := range list {
			maphash.WriteComparable(&h, v)
		}
	}
	return h.Sum64()
}

// check is called when no goroutine can go on.
func (s *writerScene) check(waiting []string) error {
	for _, name := range waiting {
		if name != "reader" && !strings.HasPrefix(name, "goroutine") &&
			(name != "peer" || !s.v.sleeps) || s.v.closes {
			return fmt.Errorf("%s wait, and nothing will wake them", waiting)
		}
	}
	tx := s.tx
	if tx.gathers != 0 || tx.owed {
		return errors.New("nobody gathers, and a notification is still owed")
	}
	if tx.busy || tx.released != nil {
		return errors.New("a writer still holds the role, or waits for it")
	}
	if s.v.closes {
		for _, id := range s.written {
			if !slices.Contains(s.read, id) {
				return fmt.Errorf("message %d is lost", id)
			}
		}
		return nil
	}
	if tx.waiting.Load() || tx.want != 0 || tx.abort || len(tx.controls) > 0 {
		return errors.New("there is space, but something waits for it")
	}
	if !s.v.drained {
		for i := range uint64(fillers) {
			s.written = append(s.written, i)
		}
	}
	for i := range uint64(s.v.cancels) {
		s.written = append(s.written, cancelledCall+i)
	}
	slices.Sort(s.written)
	slices.Sort(s.read)
	if !slices.Equal(s.written, s.read) {
		return fmt.Errorf("%d were written, %d were read", s.written, s.read)
	}
	return nil
}

// waitingCancels are the calls whose cancellations wait for space.
func waitingCancels(r *writerRole) (ids []uint64) {
	for _, c := range r.controls {
		ids = append(ids, c.frame.id)
	}
	return ids
}

// TestInterleaveControlsOfACall tells the end of a streaming call while the ring is full, or nearly
// so, and a credit of another goroutine behind it. The peer gets the end.
func TestInterleaveControlsOfACall(t *testing.T) {
	size := 8 + record.RequestHeaderLen // of each of them, in the ring
	for left := 0; left <= 3*size; left += 8 {
		s := &writerScene{v: &writerVariant{left: left}, w: new(modelWire)}
		s.connect(t)
		s.fill(t)
		var c control
		for _, kind := range []uint32{record.Credit, record.Credit, record.End, record.Credit} {
			s.tx.tell(&c, frame{kind: kind, id: 7})
		}
		var kinds []uint32
		for s.rx.ring.Ready() {
			var f frame
			if _, _, ok, err := s.rx.next(&f); err != nil {
				t.Fatal(err)
			} else if ok {
				kinds = append(kinds, f.kind)
				s.rx.release()
				s.tx.recheckSpace()
			}
		}
		s.tx.tell(&c, frame{kind: record.Credit, id: 7})
		want := []uint32{record.Message, record.Message}
		for range min(left/size, 2) {
			want = append(want, record.Credit)
		}
		if want = append(want, record.End); !slices.Equal(kinds, want) || s.rx.ring.Ready() {
			t.Errorf("%d bytes left: the peer has got %d, want %d, and nothing else", left, kinds,
				want)
		}
	}
}
