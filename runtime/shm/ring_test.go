package shm_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/ipcgen/ipcgen/runtime/shm"
)

// newRing returns both ends of a ring in a new heap segment.
func newRing(t testing.TB, capacity int) (*shm.Producer, *shm.Consumer, []byte) {
	t.Helper()
	g := shm.Geometry{ToServer: capacity, ToClient: capacity}
	s, err := shm.NewSegment(shm.NewHeapMemory(g.Size()), g)
	if err != nil {
		t.Fatal(err)
	}
	p, err := shm.NewProducer(s.ToServer(), capacity)
	if err != nil {
		t.Fatal(err)
	}
	c, err := shm.NewConsumer(s.ToServer(), capacity)
	if err != nil {
		t.Fatal(err)
	}
	return p, c, s.ToServer()
}

func put(t testing.TB, p *shm.Producer, tag uint32, payload []byte) bool {
	t.Helper()
	dst, ok, err := p.Reserve(len(payload))
	if err != nil {
		t.Fatal(err)
	}
	if ok {
		p.Commit(tag, copy(dst, payload))
	}
	return ok
}

// TestRingCarriesEverySize sends records of every length around the ring many times, and expects
// each of them once, in order and unchanged.
func TestRingCarriesEverySize(t *testing.T) {
	p, c, _ := newRing(t, shm.MinCapacity)
	src := make([]byte, shm.MaxPayload(shm.MinCapacity))
	for i := range src {
		src[i] = byte(i * 7)
	}
	for n := 0; n <= len(src); n++ {
		if !put(t, p, uint32(n), src[:n]) {
			t.Fatalf("no room for %d bytes in an empty ring", n)
		}
		tag, got, ok, err := c.Next()
		if !ok || err != nil || tag != uint32(n) || !bytes.Equal(got, src[:n]) {
			t.Fatalf("n=%d: got tag %d, %d bytes, %v, %v", n, tag, len(got), ok, err)
		}
		c.Release()
	}
	if _, _, ok, err := c.Next(); ok || err != nil {
		t.Errorf("empty ring: %v, %v", ok, err)
	}
	if _, ok, err := p.Reserve(len(src) + 1); ok || err != nil {
		t.Errorf("Reserve beyond MaxPayload: %v, %v", ok, err)
	}
}

// TestRingFillsAndDrains fills the ring with records of random length until it is full, drains a
// random part, and compares the records with a queue.
func TestRingFillsAndDrains(t *testing.T) {
	p, c, _ := newRing(t, shm.MinCapacity)
	rnd := rand.New(rand.NewPCG(1, 2))
	var queue [][]byte
	for range 2000 {
		for {
			b := make([]byte, rnd.IntN(300))
			for i := range b {
				b[i] = byte(rnd.Uint32())
			}
			if !put(t, p, 1, b) {
				break
			}
			queue = append(queue, b)
		}
		for range rnd.IntN(len(queue) + 1) {
			_, got, ok, err := c.Next()
			if !ok || err != nil || !bytes.Equal(got, queue[0]) {
				t.Fatalf("got %d bytes, %v, %v; want %d bytes", len(got), ok, err, len(queue[0]))
			}
			queue = queue[1:]
			if rnd.IntN(3) == 0 {
				c.Release()
			}
		}
		c.Release()
	}
}

// TestPoll checks that Poll and Ready are true when Next would return a record or an error, and
// only then.
func TestPoll(t *testing.T) {
	p, c, _ := newRing(t, shm.MinCapacity)
	check := func(when string, want bool) {
		t.Helper()
		if c.Poll(1) != want || c.Poll(3) != want || c.Ready() != want {
			t.Errorf("%s: Poll %t, %t, Ready %t", when, c.Poll(1), c.Poll(3), c.Ready())
		}
	}
	next := func() {
		if _, _, ok, err := c.Next(); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	check("empty", false)
	put(t, p, 1, nil)
	put(t, p, 2, nil)
	check("two records", true)
	next()
	check("one of a batch", true)
	next()
	check("none", false)
	c.Unread()
	check("unread", true)
	next()
	c.Finish()
	put(t, p, 3, nil)
	check("after Finish", false)

	var mem []byte
	_, c, mem = newRing(t, shm.MinCapacity)
	binary.NativeEndian.PutUint64(mem, 1) // a tail that no producer publishes
	check("corrupt", true)
	if _, _, _, err := c.Next(); !errors.Is(err, shm.ErrCorrupt) {
		t.Fatal(err)
	}
	binary.NativeEndian.PutUint64(mem, 0)
	check("known to be corrupt", true)
}

// TestRingConcurrent runs both sides at the same time. They park on channels by the sleep protocol;
// a lost wake-up would hang the test, and the race detector observes the payloads.
func TestRingConcurrent(t *testing.T) {
	records := 200_000
	if testing.Short() {
		records = 20_000
	}
	p, c, _ := newRing(t, shm.MinCapacity)
	data, space := make(chan struct{}, 1), make(chan struct{}, 1)
	go func() {
		rnd := rand.New(rand.NewPCG(3, 4))
		for i := range records {
			n := 8 + rnd.IntN(400)
			for {
				dst, ok, _ := p.Reserve(n)
				if ok {
					dst[n-1] = byte(i)
					binary.NativeEndian.PutUint64(dst, uint64(i)) // all of a short record
					break
				}
				if p.Starve(n) {
					<-space
				}
			}
			if p.Commit(7, n) {
				notify(data)
			}
			if rnd.IntN(50) == 0 {
				runtime.Gosched()
			}
		}
	}()
	for i := 0; i < records; {
		_, b, ok, err := c.Next()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			if c.Sleep() {
				<-data
				c.Awake()
			}
			continue
		}
		if got := binary.NativeEndian.Uint64(b); got != uint64(i) ||
			len(b) >= 16 && b[len(b)-1] != byte(i) {
			t.Fatalf("record %d of %d bytes: got %d", i, len(b), got)
		}
		i++
		if c.Release() {
			notify(space)
		}
	}
}

func notify(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// FuzzConsumer lets the peer write arbitrary data into the ring's memory. The consumer returns
// records within the ring or ErrCorrupt, and always finishes.
func FuzzConsumer(f *testing.F) {
	f.Add(uint64(16), []byte{8, 0, 0, 0, 1, 0, 0, 0})
	f.Add(uint64(4096), []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Add(uint64(1<<63), []byte{})
	f.Fuzz(func(t *testing.T, tail uint64, data []byte) {
		_, c, mem := newRing(t, shm.MinCapacity)
		binary.NativeEndian.PutUint64(mem, tail)
		copy(mem[512:], data)
		for range shm.MinCapacity {
			_, b, ok, err := c.Next()
			if err != nil {
				if !errors.Is(err, shm.ErrCorrupt) {
					t.Fatal(err)
				}
				return
			}
			if !ok {
				return
			}
			for i := range b {
				b[i]++ // in range, and mapped
			}
			c.Release()
		}
		t.Fatal("the consumer does not come to an end")
	})
}

// FuzzProducer lets the peer write arbitrary data into the words that it owns.
func FuzzProducer(f *testing.F) {
	f.Add(uint64(0), uint64(0))
	f.Add(uint64(4096), uint64(1))
	f.Fuzz(func(t *testing.T, head, sleep uint64) {
		p, _, mem := newRing(t, shm.MinCapacity)
		binary.NativeEndian.PutUint64(mem[128:], head)
		binary.NativeEndian.PutUint64(mem[256:], sleep)
		for range shm.MinCapacity {
			dst, ok, err := p.Reserve(100)
			if err != nil || !ok {
				return
			}
			clear(dst)
			p.Commit(1, len(dst))
		}
		t.Fatal("the ring never fills")
	})
}

func BenchmarkRing(b *testing.B) {
	p, c, _ := newRing(b, 1<<18)
	payload := make([]byte, 64)
	var sink [64]byte
	go func() {
		for range b.N {
			for {
				dst, ok, _ := p.Reserve(64)
				if ok {
					p.Commit(1, copy(dst, payload))
					break
				}
				runtime.Gosched()
			}
		}
	}()
	for i := 0; i < b.N; {
		_, got, ok, _ := c.Next()
		if ok {
			copy(sink[:], got)
			c.Release()
			i++
		}
	}
}
