//go:build ipcinterleave

package interleave

import (
	"context"
	"sync"
	"sync/atomic"
)

// Go starts a goroutine.
func Go(f func()) {
	switch r := running; {
	case r == nil:
		go f()
	case !r.over:
		r.Go("", f)
	}
}

// Point is where another goroutine may go on, beside the accesses to shared words.
func Point() {
	if r := running; r != nil && r.now != nil {
		r.now.yield(0)
	}
}

// Until stands before an operation that blocks until ready reports true.
func Until(ready func() bool) {
	if r := running; r != nil && r.now != nil {
		r.now.wait(ready)
	}
}

// Settled declares that what the goroutine does from here on depends on where it is, on the
// shared words and on values, and on nothing that it has seen before.
func Settled(values ...bool) {
	if r := running; r != nil && r.now != nil {
		r.now.settle(values)
	}
}

// A Section is code that one goroutine at a time may be in.
type Section struct{ inside bool }

// Enter begins the section.
func (s *Section) Enter() {
	r := running
	if r == nil || r.now == nil {
		return
	}
	if s.inside {
		r.Fail("two goroutines are where one at a time may be")
	}
	s.inside = true
}

// Leave ends the section.
func (s *Section) Leave() { s.inside = false }

// A Uint64 is an atomic.Uint64 whose accesses are explored. It has the same size, as some
// lie in shared memory.
type Uint64 struct{ v atomic.Uint64 }

// before lets others go on, if the word is shared. It returns nil outside of explorations.
func before(word any, op uint64) *task {
	r := running
	if r == nil || r.now == nil {
		return nil
	}
	t := r.now
	if id, ok := r.shared[word]; ok && !r.alone(word) {
		t.yield(uint64(id)<<8 | op)
	} else if !ok {
		r.private(word)
	}
	return t
}

const (
	opLoad = iota + 1
	opStore
	opSwap
	opCAS
	opAdd
	opOr
	opAnd
	opLock
)

// Load is that of atomic.Uint64.
func (w *Uint64) Load() uint64 {
	t := before(w, opLoad)
	v := w.v.Load()
	t.sawIn(w, v)
	return v
}

// Store is that of atomic.Uint64.
func (w *Uint64) Store(v uint64) {
	before(w, opStore)
	w.v.Store(v)
}

// Swap is that of atomic.Uint64.
func (w *Uint64) Swap(v uint64) uint64 {
	t := before(w, opSwap)
	old := w.v.Swap(v)
	t.sawIn(w, old)
	return old
}

// CompareAndSwap is that of atomic.Uint64.
func (w *Uint64) CompareAndSwap(from, to uint64) bool {
	t := before(w, opCAS)
	ok := w.v.CompareAndSwap(from, to)
	t.saw(bit(ok))
	return ok
}

// Add is that of atomic.Uint64.
func (w *Uint64) Add(d uint64) uint64 {
	t := before(w, opAdd)
	v := w.v.Add(d)
	t.sawIn(w, v)
	return v
}

// Or is that of atomic.Uint64.
func (w *Uint64) Or(mask uint64) uint64 {
	t := before(w, opOr)
	old := w.v.Or(mask)
	t.sawIn(w, old)
	return old
}

// And is that of atomic.Uint64.
func (w *Uint64) And(mask uint64) uint64 {
	t := before(w, opAnd)
	old := w.v.And(mask)
	t.sawIn(w, old)
	return old
}

func (w *Uint64) value(r *Run) uint64 { return r.means(w, w.v.Load()) }

// A Bool is an atomic.Bool whose accesses are explored.
type Bool struct{ v atomic.Bool }

// Load is that of atomic.Bool.
func (w *Bool) Load() bool {
	t := before(w, opLoad)
	v := w.v.Load()
	t.saw(bit(v))
	return v
}

// Store is that of atomic.Bool.
func (w *Bool) Store(v bool) {
	before(w, opStore)
	w.v.Store(v)
}

// Swap is that of atomic.Bool.
func (w *Bool) Swap(v bool) bool {
	t := before(w, opSwap)
	old := w.v.Swap(v)
	t.saw(bit(old))
	return old
}

// CompareAndSwap is that of atomic.Bool.
func (w *Bool) CompareAndSwap(from, to bool) bool {
	t := before(w, opCAS)
	ok := w.v.CompareAndSwap(from, to)
	t.saw(bit(ok))
	return ok
}

func (w *Bool) value(*Run) uint64 { return bit(w.v.Load()) }

// A Pointer is an atomic.Pointer whose accesses are explored.
type Pointer[T any] struct{ v atomic.Pointer[T] }

// Load is that of atomic.Pointer.
func (w *Pointer[T]) Load() *T {
	t := before(w, opLoad)
	v := w.v.Load()
	if t != nil {
		t.saw(t.run.name(v, v == nil))
	}
	return v
}

// Store is that of atomic.Pointer.
func (w *Pointer[T]) Store(v *T) {
	before(w, opStore)
	w.v.Store(v)
}

// Swap is that of atomic.Pointer.
func (w *Pointer[T]) Swap(v *T) *T {
	t := before(w, opSwap)
	old := w.v.Swap(v)
	if t != nil {
		t.saw(t.run.name(old, old == nil))
	}
	return old
}

// CompareAndSwap is that of atomic.Pointer.
func (w *Pointer[T]) CompareAndSwap(from, to *T) bool {
	t := before(w, opCAS)
	ok := w.v.CompareAndSwap(from, to)
	t.saw(bit(ok))
	return ok
}

func (w *Pointer[T]) value(r *Run) uint64 {
	v := w.v.Load()
	return r.name(v, v == nil)
}

// A Mutex is a sync.Mutex whose order of holders is explored.
type Mutex struct {
	mu   sync.Mutex
	held bool // by a goroutine of an exploration
}

// Lock is that of sync.Mutex.
func (m *Mutex) Lock() {
	if t := before(m, opLock); t != nil {
		if m.held {
			t.wait(func() bool { return !m.held })
		}
		m.held = true
		return
	}
	m.mu.Lock()
}

// Unlock is that of sync.Mutex.
func (m *Mutex) Unlock() {
	if m.held {
		m.held = false
		return
	}
	if r := running; r != nil && r.over {
		return // the goroutine unwinds from a Lock
	}
	m.mu.Unlock()
}

func (m *Mutex) value(*Run) uint64 { return bit(m.held) }

func bit(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// AfterFunc is context.AfterFunc.
func AfterFunc(ctx context.Context, f func()) (stop func() bool) {
	r := running
	if r == nil {
		return context.AfterFunc(ctx, f)
	}
	stopped, called := false, false
	r.Go("", func() {
		Until(func() bool { return stopped || ctx.Err() != nil })
		if !stopped {
			called = true
			f()
		}
	})
	return func() bool {
		stopped = true
		return !called
	}
}

// SettledAt is Settled where values are numbers.
func SettledAt(values ...int) {
	if r := running; r != nil && r.now != nil {
		r.now.settle(nil)
		for _, v := range values {
			r.now.saw(uint64(v))
		}
	}
}
