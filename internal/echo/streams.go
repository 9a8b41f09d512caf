package echo

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync/atomic"
	"testing"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// Items yields blobs with these texts.
func Items(texts ...string) iter.Seq2[*Blob, error] {
	return func(yield func(*Blob, error) bool) {
		for _, text := range texts {
			if !yield(&Blob{Data: []byte(text)}, nil) {
				return
			}
		}
	}
}

// Counted yields the numbers from 0, as texts, n of them, or without an end if n is negative.
func Counted(n int) iter.Seq2[*Blob, error] {
	return func(yield func(*Blob, error) bool) {
		for i := 0; i != n; i++ {
			if !yield(&Blob{Data: fmt.Append(nil, i)}, nil) {
				return
			}
		}
	}
}

// Streaming declares a method that streams.
func Streaming(name string, kind ipc.Streaming) *ipc.Method[Blob, Blob] {
	spec := Spec(name)
	spec.Streaming = kind
	return ipc.NewMethod(Protocol, spec)
}

// StreamingService counts to the number in the request, joins what is uploaded, and sends back what
// comes.
func StreamingService(more ...ipc.Route) *ipc.Service {
	return Of(append([]ipc.Route{
		ipc.HandleServerStream(Count, func(_ context.Context,
			req *Blob) iter.Seq2[*Blob, error] {
			var n int
			fmt.Sscan(string(req.Data), &n)
			return Counted(n)
		}),
		ipc.HandleClientStream(Upload, func(_ context.Context,
			in iter.Seq2[*Blob, error]) (*Blob, error) {
			var all Blob
			for item, err := range in {
				if err != nil {
					return nil, err
				}
				all.Data = append(all.Data, item.Data...)
			}
			return &all, nil
		}),
		ipc.HandleBidiStream(Jam, func(_ context.Context,
			in iter.Seq2[*Blob, error]) iter.Seq2[*Blob, error] {
			return in
		}),
	}, more...)...)
}

// CountTo calls Count.
func CountTo(ctx context.Context, c ipc.Caller, n int) iter.Seq2[*Blob, error] {
	return ipc.InvokeServerStream(ctx, c, Count, &Blob{Data: fmt.Append(nil, n)})
}

// ExpectCounted checks that a sequence has the numbers from 0, n of them, and no error.
func ExpectCounted(t *testing.T, seq iter.Seq2[*Blob, error], n int) {
	t.Helper()
	i := 0
	for item, err := range seq {
		if err != nil {
			t.Errorf("after %d items: %v", i, err)
			return
		}
		if string(item.Data) != fmt.Sprint(i) {
			t.Fatalf("item %d is %q", i, item.Data)
		}
		i++
	}
	if i != n {
		t.Errorf("%d items, want %d", i, n)
	}
}

// NewEndless returns an Endless for one call at a time.
func NewEndless() *Endless {
	return &Endless{Ended: make(chan error, 1), Taken: make(chan uint64, 1)}
}

// Route returns the handler.
func (e *Endless) Route() ipc.Route {
	return ipc.HandleServerStream(MethodEndless, func(ctx context.Context,
		_ *Blob) iter.Seq2[*Blob, error] {
		return func(yield func(*Blob, error) bool) {
			Counted(-1)(func(item *Blob, err error) bool {
				more := yield(item, err)
				if more {
					e.Yielded.Add(1)
				}
				return more
			})
			yield(nil, errors.New("ignored")) // nothing happens after the end
			<-ctx.Done()
			taken, _ := ipc.TakenFromContext(ctx)
			e.Taken <- taken
			e.Ended <- ctx.Err()
		}
	})
}

// Call calls the handler.
func (e *Endless) Call(ctx context.Context, c ipc.Caller) iter.Seq2[*Blob, error] {
	return ipc.InvokeServerStream(ctx, c, MethodEndless, &Blob{})
}

// The methods that stream.
var (
	Count  = Streaming("Count", ipc.ServerStreaming)
	Upload = Streaming("Upload", ipc.ClientStreaming)
	Jam    = Streaming("Jam", ipc.BidiStreaming)
)

// An Endless is a handler that counts without an end, and tells how it ended: with how many items
// it yielded, and how many of them the client is known to have taken.
type Endless struct {
	Yielded atomic.Int64
	Ended   chan error // of the handler's context
	Taken   chan uint64
}

// MethodEndless is the method of an Endless.
var MethodEndless = Streaming("Endless", ipc.ServerStreaming)
