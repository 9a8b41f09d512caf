package shm_test

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"github.com/ipcgen/ipcgen/runtime/shm"
)

var topicGeometry = shm.TopicGeometry{Depth: 4, Longest: 250, Claims: 2}

// A topicFixture is a topic in memory of this process.
type topicFixture struct {
	mem []byte
	w   *shm.TopicWriter
}

func newTopic(t testing.TB) *topicFixture {
	t.Helper()
	mem := []byte(shm.NewHeapMemory(topicGeometry.Size()))
	w, err := shm.NewTopicWriter(mem, topicGeometry, 7)
	if err != nil {
		t.Fatal(err)
	}
	return &topicFixture{mem, w}
}

// join adds a reader that begins with the next message.
func (f *topicFixture) join(t testing.TB, lossless bool) (*shm.TopicReader, *shm.TopicPage,
	[]byte) {
	t.Helper()
	mem := []byte(shm.NewHeapMemory(shm.TopicPageSize))
	page, err := shm.NewTopicPage(mem, f.w.Next(), f.w.Gaps(f.w.Next()))
	if err != nil {
		t.Fatal(err)
	}
	r, err := shm.NewTopicReader(f.mem, mem, lossless)
	if err != nil {
		t.Fatal(err)
	}
	return r, page, mem
}

// put publishes a message that has its number everywhere.
func (f *topicFixture) put(t testing.TB, claimants ...*shm.TopicPage) {
	number := f.w.Next()
	if err := f.w.Reserve(claimants); err != nil {
		t.Fatal(err)
	}
	message := make([]byte, 8+number*8%240)
	fill(message, number)
	f.w.Set(message)
	f.w.Commit(len(message), number+1000, int64(number+2000))
}

func TestTopicLossIsExact(t *testing.T) {
	f := newTopic(t)
	r, _, _ := f.join(t, false)
	seen := uint64(0)
	var buf []byte
	for round := range 20 {
		for range round {
			f.put(t)
		}
		for {
			b, m, ok, err := r.Next(buf, false)
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			buf = b
			if seen+m.Lost != m.Number || m.Epoch != m.Number+1000 ||
				m.Published != int64(m.Number+2000) {
				t.Fatalf("message %+v after %d", m, seen)
			}
			check(t, b, m.Number)
			seen = m.Number + 1
			r.Release()
		}
		if seen != f.w.Next() {
			t.Fatalf("read up to %d of %d", seen, f.w.Next())
		}
	}
}

// TestTopicClaims reads in place while the writer goes round: what is claimed does not change, and
// the writer has room nevertheless.
func TestTopicClaims(t *testing.T) {
	f := newTopic(t)
	a, pageA, _ := f.join(t, false)
	b, pageB, _ := f.join(t, false)
	for round := range 50 {
		f.put(t, pageA, pageB)
		ma, na, ok, err := a.Claim(false)
		if !ok || err != nil {
			t.Fatal(ok, err)
		}
		f.put(t, pageA, pageB)
		mb, nb, ok, err := b.Claim(true)
		if !ok || err != nil {
			t.Fatal(ok, err)
		}
		for range 3 * topicGeometry.Depth * (round%3 + 1) {
			f.put(t, pageA, pageB)
		}
		check(t, ma, na.Number)
		check(t, mb, nb.Number)
		a.Release()
		b.Release()
	}
}

// TestTopicConcurrent has readers of all kinds read from a writer that never waits. No message is
// torn, and each reader knows exactly what it lost.
func TestTopicConcurrent(t *testing.T) {
	const messages = 20_000
	f := newTopic(t)
	var claimants []*shm.TopicPage
	var readers sync.WaitGroup
	for i := range 4 {
		r, page, _ := f.join(t, false)
		inPlace := i < topicGeometry.Claims
		if inPlace {
			claimants = append(claimants, page)
		}
		readers.Go(func() {
			var buf, b []byte
			var m shm.TopicMessage
			var ok bool
			var err error
			for seen := uint64(0); seen < messages; {
				if inPlace {
					b, m, ok, err = r.Claim(false)
				} else {
					b, m, ok, err = r.Next(buf, false)
				}
				if err != nil {
					t.Error(err)
					return
				}
				if !ok {
					runtime.Gosched()
					continue
				}
				if seen += m.Lost; seen != m.Number {
					t.Errorf("message %+v after %d", m, seen)
					return
				}
				for i := 0; i+8 <= len(b); i += 8 {
					if got := binary.NativeEndian.Uint64(b[i:]); got != m.Number {
						t.Errorf("message %d is torn: %d at byte %d", m.Number, got, i)
						return
					}
				}
				if !inPlace {
					buf = b
				}
				seen++
				r.Release()
			}
		})
	}
	for n := range messages {
		f.put(t, claimants...)
		if n%16 == 0 {
			runtime.Gosched()
		}
	}
	readers.Wait()
}

// TestTopicLatest gets the newest message, with whatever has been read before.
func TestTopicLatest(t *testing.T) {
	f := newTopic(t)
	r, _, _ := f.join(t, false)
	if _, _, ok, err := r.Latest(nil); ok || err != nil {
		t.Error("of nothing:", ok, err)
	}
	for n := range uint64(20) {
		f.put(t)
		for range 2 {
			if b, m, ok, err := r.Latest(nil); !ok || err != nil || m.Number != n {
				t.Errorf("%d: %+v, %v, %v", n, m, ok, err)
			} else {
				check(t, b, n)
			}
		}
		if n%5 == 4 {
			if _, m, ok, err := r.Next(nil, true); !ok || err != nil || m.Number != n ||
				m.Lost != 4 {
				t.Errorf("%d: %+v, %v, %v", n, m, ok, err)
			}
			r.Release()
		}
	}
}

// TestTopicLapped: a lossless reader that the writer did not wait for is told, and gets no message
// out of order.
func TestTopicLapped(t *testing.T) {
	f := newTopic(t)
	r, page, _ := f.join(t, true)
	for range topicGeometry.Depth + 1 {
		f.put(t)
	}
	if at, err := page.Position(f.w.Next()); at != 0 || err != nil {
		t.Error(at, err)
	}
	for range 2 {
		if _, _, ok, err := r.Next(nil, false); ok || !errors.Is(err, shm.ErrLapped) {
			t.Error(ok, err)
		}
	}
}

// TestTopicHostileReader: what a reader writes into its page is checked.
func TestTopicHostileReader(t *testing.T) {
	f := newTopic(t)
	_, page, mem := f.join(t, true)
	for range 3 {
		f.put(t)
	}
	for _, next := range []uint64{4, 1 << 63, 1<<64 - 1} {
		binary.NativeEndian.PutUint64(mem, next)
		if _, err := page.Position(f.w.Next()); !errors.Is(err, shm.ErrCorrupt) {
			t.Errorf("position %d: %v", next, err)
		}
	}
	binary.NativeEndian.PutUint64(mem, 2)
	if at, err := page.Position(f.w.Next()); at != 2 || err != nil {
		t.Error(at, err)
	}
	binary.NativeEndian.PutUint64(mem, 1)
	if _, err := page.Position(f.w.Next()); !errors.Is(err, shm.ErrCorrupt) {
		t.Error("a position that decreases:", err)
	}
	for n := range 1000 { // claims of all kinds leave the writer room
		binary.NativeEndian.PutUint64(mem[8:], f.w.Next()-uint64(rand.IntN(10))+uint64(n%3))
		f.put(t, page)
	}
}

// FuzzTopicReader lets the writer write arbitrary data anywhere, before the reader begins or at any
// step of it. What the reader returns keeps to the limits and counts all messages, whatever the
// writer says.
func FuzzTopicReader(f *testing.F) {
	f.Add([]byte{1}, uint16(0), uint8(0), false)
	f.Add(make([]byte, 900), uint16(0), uint8(7), true)
	for at := uint16(0); at < 600; at += 8 {
		for _, when := range []uint8{0, 10} {
			f.Add([]byte{255, 255, 255, 255, 255, 255, 255, 255}, at, when, at%16 == 0)
			f.Add([]byte{3, 0, 1, 0, 0, 0, 0, 0}, at, when, at%16 == 8)
		}
	}
	f.Fuzz(func(t *testing.T, garbage []byte, at uint16, when uint8, lossless bool) {
		for _, joinFirst := range []bool{false, true} {
			x := newTopic(t)
			lie := func() { copy(x.mem[min(int(at), len(x.mem)):], garbage) }
			page := []byte(shm.NewHeapMemory(shm.TopicPageSize))
			var r *shm.TopicReader
			if joinFirst {
				r, _, page = x.join(t, lossless)
			}
			for range 6 {
				x.put(t)
			}
			if !joinFirst {
				lie()
				copy(page, garbage)
				var err error
				if r, err = shm.NewTopicReader(x.mem, page, lossless); err != nil {
					if !errors.Is(err, shm.ErrCorrupt) {
						t.Fatal(err)
					}
					continue
				}
			}
			longest := topicGeometry.Longest
			if !joinFirst { // the constants may be other ones that fit the segment
				longest = topicGeometry.Size()
			}
			readHostile(t, r, longest, func(step int) {
				if joinFirst && step == int(when) {
					lie()
					copy(page, garbage)
				}
			})
		}
	})
}

// readHostile reads in all ways from a writer that breaks the rules. between is called before each
// step.
func readHostile(t *testing.T, r *shm.TopicReader, longest int, between func(step int)) {
	next := r.Position()
	var buf []byte
	for step := range 60 {
		between(step)
		var b []byte
		var m shm.TopicMessage
		var ok bool
		var err error
		switch step % 6 {
		case 0, 2:
			b, m, ok, err = r.Next(buf, step%4 == 0)
		case 1:
			b, m, ok, err = r.Claim(step%4 == 0)
		case 3:
			buf, _, _, err = r.Latest(buf)
			b = buf
		case 4:
			_ = r.Ready()
			if r.Sleep() {
				r.Awake()
			}
		case 5:
			if step > 40 {
				r.Finish()
			}
		}
		if errors.Is(err, shm.ErrLapped) {
			r.Unawaited()
			continue
		}
		if err != nil && !errors.Is(err, shm.ErrCorrupt) {
			t.Fatal(err)
		}
		if err == nil && len(b) > longest {
			t.Fatalf("a message of %d bytes", len(b))
		}
		if !ok {
			continue
		}
		if m.Number != next+m.Lost {
			t.Fatalf("message %d after %d, and %d lost", m.Number, next, m.Lost)
		}
		next = m.Number + 1
		for i := range b {
			b[i]++
		}
		r.Release()
	}
}

// TestTopicNumbersWithGaps leaves out numbers, before the first message and between others. Readers
// that join anywhere, are lapped, or go on with a further page, count each of them once.
func TestTopicNumbersWithGaps(t *testing.T) {
	f := newTopic(t)
	random := rand.New(rand.NewPCG(1, 2))
	const base = 100
	type reader struct {
		*shm.TopicReader
		seen uint64
	}
	early, _, _ := f.join(t, false) // does not know the base yet
	readers := []*reader{{early, base}}
	if err := f.w.Begin(base); err != nil {
		t.Fatal(err)
	}
	put := func() {
		number := f.w.Number() + max(random.Uint64N(6), 3) - 3
		if err := f.w.Reserve(nil); err != nil {
			t.Fatal(err)
		}
		if err := f.w.Skip(number); err != nil {
			t.Fatal(err)
		}
		message := make([]byte, 16)
		fill(message, number)
		f.w.Set(message)
		f.w.Commit(len(message), 0, 0)
	}
	var buf []byte
	for range 2000 {
		for range random.IntN(4) {
			put()
		}
		if len(readers) < 10 {
			r, _, _ := f.join(t, false)
			readers = append(readers, &reader{r, f.w.Number()})
		}
		x := readers[random.IntN(len(readers))]
		if random.IntN(20) == 0 {
			further, _, _ := f.join(t, false)
			if err := further.Resume(x.Position(), x.Gaps()); err != nil {
				t.Fatal(err)
			}
			x.TopicReader = further
		}
		for range random.IntN(6) {
			b, m, ok, err := x.Next(buf, random.IntN(10) == 0)
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			buf = b
			check(t, b, m.Number)
			if x.seen+m.Lost != m.Number {
				t.Fatalf("message %+v behind %d", m, x.seen)
			}
			x.Release()
			if x.seen = m.Number + 1; x.Number() != x.seen {
				t.Fatalf("the next number is %d behind %d", x.Number(), m.Number)
			}
		}
	}
	if f.w.Number() == f.w.Next()+base {
		t.Error("no number was left out, so nothing was tried")
	}
	if f.w.Skip(f.w.Number()-1) == nil || f.w.Begin(0) == nil {
		t.Error("a number that was there already")
	}
}
