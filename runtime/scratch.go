package ipc

import (
	"context"
	"reflect"
	"sync"
	"sync/atomic"
)

// This file is the memory that handlers lease for the time of a call.

// Scratch returns a T for the use of a handler, mostly its reply. It belongs to the call, or the
// one-way message, of ctx until the handler has returned and its reply is encoded. For a handler
// that streams, that is when its sequence has ended. Then another call gets it. So a handler that
// answers with it allocates no reply:
//
//	func (s *store) Get(ctx context.Context, req *GetT) (*ItemsT, error) {
//		rep := ipc.Scratch[ItemsT](ctx)
//		*rep = ItemsT{Names: append(rep.Names[:0], s.names...)}
//		return rep, nil
//	}
//
// It comes as the call before has left it, of whatever client and method, so that its slices can be
// used again. The handler must set all of it that it sends: assign a whole object, as above. A
// slice that a handler leaves in it may be written by the next one: append only where every handler
// that uses a T leaves slices of the T's own, or declare a type for one handler. When the handler
// has returned, neither its goroutines nor interceptors may use it. Each call of Scratch returns
// another T.
//
// It is a new T if ctx does not come from such a handler. After a handler that panics it is
// not used again. The garbage collector takes what is not in use.
func Scratch[T any](ctx context.Context) *T {
	with, _ := ctx.Value(scratchKey{}).(*leases)
	if with == nil {
		return new(T)
	}
	key := reflect.TypeFor[T]()
	pool, ok := scratchPools.Load(key)
	if !ok {
		pool, _ = scratchPools.LoadOrStore(key, new(sync.Pool))
	}
	l, _ := pool.(*sync.Pool).Get().(*lease[T])
	if l == nil {
		l = new(lease[T])
		l.put = func() { pool.(*sync.Pool).Put(l) }
	}
	with.add(&l.leased)
	return &l.value
}

type scratchKey struct{}

// scratchPools has what is with no call, by its type.
var scratchPools sync.Map // reflect.Type to *sync.Pool of *lease[T]

// A lease is a T that can be with a call.
type lease[T any] struct {
	leased
	value T
}

type leased struct {
	next *leased // of the same call
	put  func()  // puts the lease into its pool
}

// leases are what is with a call. They are in its context, which is never reused: what a goroutine
// asks for that the handler has left behind goes to no other call.
type leases struct{ last atomic.Pointer[leased] }

func (s *leases) add(l *leased) {
	for {
		l.next = s.last.Load()
		if s.last.CompareAndSwap(l.next, l) {
			return
		}
	}
}

// end gives everything back. s may be nil.
func (s *leases) end() {
	if s == nil || s.last.Load() == nil {
		return
	}
	for l := s.last.Swap(nil); l != nil; {
		next := l.next
		l.next = nil
		l.put()
		l = next
	}
}
