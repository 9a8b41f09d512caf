//go:build !ipcinterleave

package interleave

import (
	"context"
	"sync"
	"sync/atomic"
)

// Bool is atomic.Bool.
type Bool = atomic.Bool

// Uint64 is atomic.Uint64.
type Uint64 = atomic.Uint64

// Pointer is atomic.Pointer.
type Pointer[T any] = atomic.Pointer[T]

// Mutex is sync.Mutex.
type Mutex = sync.Mutex

// Go starts a goroutine.
func Go(f func()) { go f() }

// Point is where another goroutine may go on, beside the accesses to shared words.
func Point() {}

// Until stands before an operation that blocks until ready reports true.
func Until(ready func() bool) {}

// A Section is code that one goroutine at a time may be in.
type Section struct{}

// Enter begins the section.
func (*Section) Enter() {}

// Leave ends the section.
func (*Section) Leave() {}

// Settled declares that what the goroutine does from here on depends on where it is, on the
// shared words and on values, and on nothing that it has seen before.
func Settled(values ...bool) {}

// AfterFunc is context.AfterFunc.
func AfterFunc(ctx context.Context, f func()) (stop func() bool) {
	return context.AfterFunc(ctx, f)
}

// SettledAt is Settled where values are numbers.
func SettledAt(values ...int) {}
