package ipc

import (
	"math"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipcgen/ipcgen/internal/record"
)

// A shelf keeps buffers that are not in use. It drops those that were not used for one period or
// two, and costs nothing while it is empty.
type shelf[T any] struct {
	some    atomic.Bool // there are any
	mu      sync.Mutex
	buffers []shelved[T] // the one that was given last is last
	bytes   int
	period  uint64
	ticking bool
}

type shelved[T any] struct {
	buffer T
	size   int
	period uint64 // in which it was used last
}

// take takes a buffer of at least least and at most most bytes.
func (s *shelf[T]) take(least, most int) (buffer T, ok bool) {
	if !s.some.Load() {
		return buffer, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.buffers) - 1; i >= 0; i-- {
		if b := s.buffers[i]; least <= b.size && b.size <= most {
			s.remove(i)
			return b.buffer, true
		}
	}
	return buffer, false
}

// give takes a buffer of so many bytes, unless the shelf has enough: then it reports false. A
// buffer whose length was of no use is dropped soon.
func (s *shelf[T]) give(buffer T, size int, useful bool) (given bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if size > keepOne || !s.makeRoom(size) {
		return false
	}
	b := shelved[T]{buffer, size, s.period}
	if useful {
		b.period++
	}
	s.buffers = append(s.buffers, b)
	s.bytes += size
	s.some.Store(true)
	if !s.ticking {
		s.ticking = true
		time.AfterFunc(keepPeriod, s.tick)
	}
	return true
}

// makeRoom makes room for a buffer of so many bytes by dropping shorter ones, the one that was
// given first before the others: a long one costs more to make anew. It reports false if longer
// ones have the room. The caller must hold s.mu.
func (s *shelf[T]) makeRoom(size int) bool {
	longer := 0
	for _, b := range s.buffers {
		if b.size >= size {
			longer += b.size
		}
	}
	if longer > 0 && longer+size > keepLong {
		return false
	}
	for i := 0; s.bytes > 0 && s.bytes+size > keepLong; {
		if s.buffers[i].size < size {
			s.remove(i)
		} else {
			i++
		}
	}
	return true
}

// remove removes a buffer. The caller must hold s.mu.
func (s *shelf[T]) remove(i int) {
	s.bytes -= s.buffers[i].size
	last := len(s.buffers) - 1
	copy(s.buffers[i:], s.buffers[i+1:])
	s.buffers[last] = shelved[T]{}
	s.buffers = s.buffers[:last]
	s.some.Store(last > 0)
}

// tick ends a period.
func (s *shelf[T]) tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.period++
	for i := len(s.buffers) - 1; i >= 0; i-- {
		if s.buffers[i].period < s.period {
			s.remove(i)
		}
	}
	if s.ticking = len(s.buffers) > 0; s.ticking {
		time.AfterFunc(keepPeriod, s.tick)
	}
}

// A ballast is memory that is allocated and never used, so it takes addresses and no pages. Go's
// garbage collector lets the garbage grow up to the size of what is in use. So a process that has
// little in use, and receives much, collects after every few long messages, or few hundred shorter
// ones; the ballast lets it take more before it does. It is there only while much is received.
type ballast struct {
	len   int // the garbage can grow by as much
	there atomic.Bool
	used  atomic.Bool // in this period
	mu    sync.Mutex
	mem   []byte
}

// ballastOf returns the ballast for messages of a kind and n bytes. That for calls of some KiB is
// light: with a larger one, their objects would come from memory that the cache has lost, so that
// each call would take longer. Without any, the collector runs in more than one call of a hundred.
// That for messages of many MiB is heavy, because one of them fills another ballast.
func ballastOf(kind uint32, n int) *ballast {
	switch {
	case n >= hugeGarbage:
		return &long.heavy
	case n >= longGarbage || kind == record.Message || kind == record.Item:
		return &long.ballast
	}
	return &long.light
}

// A garbage counts what one side of a connection receives.
type garbage struct{ bytes int }

// add says that a message of n bytes was received, which becomes garbage.
func (g *garbage) add(n int, b *ballast) {
	if n < someGarbage {
		return
	}
	if g.bytes += n; g.bytes >= longGarbage {
		g.bytes = 0
		b.carry()
	}
}

// carry says that much was received.
func (b *ballast) carry() {
	if !b.used.Load() {
		b.used.Store(true)
	}
	if !b.there.Load() {
		b.load()
	}
}

// load takes the ballast, unless the process has a limit of memory: the collector counts the
// ballast as if it had pages, and would run more often.
func (b *ballast) load() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.there.Swap(true) {
		return
	}
	if !memoryLimited() {
		b.mem = make([]byte, b.len)
	}
	time.AfterFunc(keepPeriod, b.tick)
}

// memoryLimited reports whether the process has a limit of memory, by which the collector decides
// when it runs. What is kept in order that it runs less often is then garbage that it cannot free.
func memoryLimited() bool { return debug.SetMemoryLimit(-1) != math.MaxInt64 }

// tick drops the ballast if little was received in a period.
func (b *ballast) tick() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used.Swap(false) {
		time.AfterFunc(keepPeriod, b.tick)
		return
	}
	b.mem = nil
	b.there.Store(false)
}
