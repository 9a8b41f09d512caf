package ipc

import (
	"bytes"
	"math"
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/ipcgen/ipcgen/internal/record"
)

// TestShelf shows what a shelf gives back, and when it drops what it has.
func TestShelf(t *testing.T) {
	var s shelf[string]
	s.ticking = true // the periods of this test are its own
	take := func(least, most int, want string) {
		t.Helper()
		if got, ok := s.take(least, most); got != want || ok != (want != "") {
			t.Errorf("take(%d, %d) gives %q, %v; want %q", least, most, got, ok, want)
		}
	}
	take(0, 1<<30, "")
	s.give("short", 100, true)
	s.give("long", 1000, true)
	take(101, 999, "")
	take(50, 150, "short")
	take(0, 1<<30, "long")
	take(0, 1<<30, "")

	s.give("of use", 100, true)
	s.give("of no use", 100, false)
	s.tick()
	take(0, 100, "of use")
	take(0, 100, "")
	s.give("of use", 100, true)
	s.tick()
	s.ticking = true
	s.tick()
	take(0, 100, "")
	if s.bytes != 0 || s.ticking {
		t.Errorf("%d bytes in an empty shelf, which ticks: %v", s.bytes, s.ticking)
	}

	s.ticking = true
	s.give("the only one", keepOne, true)
	s.give("too much", 1, true)
	take(0, 1<<30, "the only one")
	s.give("longer than any", keepOne+1, true)
	take(0, 1<<30, "")

	// A longer one takes the place of as many shorter ones as it must, and of no other.
	s.give("first", keepLong/4, true)
	s.give("second", keepLong/2, true)
	s.give("third", keepLong/8, true)
	s.give("fourth", keepLong*3/8, true)
	take(keepLong/4, keepLong/4, "")
	take(0, keepLong/8, "third")
	s.give("fifth", keepLong/2, true)
	take(0, keepLong*3/8, "")
	if s.give("sixth", keepLong/4, true) {
		t.Error("a shorter buffer takes the place of a longer one")
	}
	s.give("long", keepLong+1, true)
	take(0, 1<<30, "long")
	take(0, 1<<30, "")
}

// TestBallast shows what brings the ballast, that it goes when no such messages come any more, and
// that a process with a limit of memory has none.
func TestBallast(t *testing.T) {
	const size = 1 << 20
	b := ballast{len: size}
	var short, some, one garbage
	for range 100 {
		short.add(someGarbage-1, &b)
	}
	if b.there.Load() {
		t.Error("short messages bring a ballast")
	}
	for n := 0; n < longGarbage; n += someGarbage {
		if b.there.Load() {
			t.Errorf("%d bytes bring a ballast", n)
		}
		some.add(someGarbage, &b)
	}
	if len(b.mem) != size {
		t.Errorf("after some messages, the ballast has %d bytes", len(b.mem))
	}
	b.tick()
	b.tick()
	one.add(longGarbage, &b)
	if len(b.mem) != size {
		t.Errorf("the ballast has %d bytes", len(b.mem))
	}
	b.tick()
	if b.mem == nil {
		t.Error("the ballast went though a message came")
	}
	b.tick()
	if b.mem != nil || b.there.Load() {
		t.Error("the ballast stays")
	}
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(math.MaxInt64 - 1))
	b.carry()
	if b.mem != nil {
		t.Error("a process with a limit of memory has a ballast")
	}
}

// TestBallastOf shows which ballast a message brings, as docs/runtime.md says.
func TestBallastOf(t *testing.T) {
	for _, c := range []struct {
		kind uint32
		n    int
		want int // MiB
	}{
		{record.Request, longGarbage - 1, 4},
		{record.Reply, longGarbage - 1, 4},
		{record.Request, longGarbage, 16},
		{record.Message, someGarbage, 16},
		{record.Item, someGarbage, 16},
		{record.Request, hugeGarbage - 1, 16},
		{record.Item, hugeGarbage - 1, 16},
		{record.Request, hugeGarbage, 32},
		{record.Message, hugeGarbage, 32},
	} {
		if got := ballastOf(c.kind, c.n).len; got != c.want<<20 {
			t.Errorf("a message of kind %d and %d bytes brings a ballast of %d bytes, not %d MiB",
				c.kind, c.n, got, c.want)
		}
	}
}

// TestBodiesComeBack has bodies, of which parts are kept for a while, as objects keep them. Each
// comes back once nothing refers to it, and not before; and only while much is received.
func TestBodiesComeBack(t *testing.T) {
	const size = 1 << 20
	var s bodyShelf
	var b ballast
	s.ticking = true // the periods of this test are its own
	b.there.Store(true)
	part := func(text string) []byte { // of a body to which nothing else refers
		body := append(s.newBody(size, &b), make([]byte, 1000)...)
		return append(body[:1000], text...)[1000:]
	}
	comeBack := func(see func(text string)) { // what comes back is dropped, and may come again
		runtime.GC()
		runtime.Gosched() // the collector calls finalizers on a goroutine
		for body, ok := s.take(0, math.MaxInt); ok; body, ok = s.take(0, math.MaxInt) {
			see(string(body[1000:1004]))
		}
	}
	for _, name := range []string{"kept", "held"} { // the one comes again while there is the other
		kept, gone, free := part(name), false, false
		for part("gone"); !gone; {
			comeBack(func(text string) {
				gone = gone || text == "gone"
				if text == name {
					t.Error("a body comes back while a part of it is in use")
				}
			})
		}
		if !bytes.Equal(kept, []byte(name)) {
			t.Errorf("what is kept changes to %q", kept)
		}
		for runtime.KeepAlive(kept); !free; {
			comeBack(func(text string) { free = free || text == name })
		}
	}

	b.there.Store(false)
	for part("late"); s.returning.Load() != 0; {
		comeBack(func(text string) {
			if text == "late" {
				t.Fatal("a body comes back to a process that receives little")
			}
		})
	}

	var full [][]byte
	for s.returning.Load()+size <= keepLong {
		full = append(full, part("full"))
	}
	all := s.returning.Load()
	full = append(full, part("more"))
	if n := s.returning.Load(); n != all {
		t.Errorf("%d bytes come back, and %d at most", n, keepLong)
	}
	runtime.KeepAlive(full)
	for s.returning.Load() != 0 {
		comeBack(func(string) {})
	}

	defer debug.SetMemoryLimit(debug.SetMemoryLimit(math.MaxInt64 - 1))
	s.newBody(size, &b)
	if n := s.returning.Load(); n != 0 {
		t.Errorf("%d bytes come back in a process with a limit of memory", n)
	}
}
