package ipc_test

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// slowConsumers shows that a consumer that takes nothing holds up its own call only, and that what
// is kept for it is bounded.
func slowConsumers(t *testing.T, v ipc.RendezvousOption) {
	const window = 16 << 10
	e := newEndless()
	hold := streamingMethod("Hold", ipc.ClientStreaming)
	held := make(chan struct{})
	host(t, v, streamingService(e.Route(), ipc.HandleClientStream(hold, func(context.Context,
		iter.Seq2[*blob, error]) (*blob, error) {
		<-held
		return &blob{}, nil
	})), echoService(), ipc.WithStreamingWindow(window))
	c := dial(t, v, ipc.WithStreamingWindow(window))
	var sent atomic.Int64
	uploaded := make(chan error, 1)
	go func() {
		_, err := ipc.InvokeClientStream(t.Context(), c, hold, func(yield func(*blob, error) bool) {
			for yield(&blob{}, nil) {
				sent.Add(1)
			}
		})
		uploaded <- err
	}()
	n := 0
	for range e.Call(t.Context(), c) {
		if n++; n > 1 {
			break
		}
		for range 20 {
			still(t, c)
			expectCounted(t, count(t.Context(), c, 2000), 2000)
		}
		// Both go on until their windows are full.
		for e.Yielded.Load() < window/200 || sent.Load() < window/200 {
			runtime.Gosched()
		}
	}
	if n := e.Yielded.Load(); n > window/64+2 {
		t.Errorf("%d items were sent to a client that has taken two", n)
	}
	if n := sent.Load(); n > window/64+1 {
		t.Errorf("%d items were sent to a handler that takes none", n)
	}
	<-e.Taken
	<-e.Ended
	close(held)
	if err := <-uploaded; err != nil {
		t.Error(err)
	}
	still(t, c)
}

// itemsOfEverySize has items up to the limit, and beyond it, in both directions.
func itemsOfEverySize(t *testing.T, v ipc.RendezvousOption) {
	const window = 64 << 10
	large := streamingMethod("Large", ipc.ServerStreaming)
	host(t, v, streamingService(ipc.HandleServerStream(large, func(context.Context,
		*blob) iter.Seq2[*blob, error] {
		return func(yield func(*blob, error) bool) {
			yield(&blob{Data: make([]byte, 10)}, nil)
			yield(&blob{Data: make([]byte, window/2)}, nil)
		}
	})), echoService(), ipc.WithStreamingWindow(window))
	c := dial(t, v, ipc.WithRings(8<<10, 8<<10), ipc.WithStreamingWindow(window))
	sizes := []int{0, 1, 100, 5000, window/2 - 100, window/2 - 100, 3, window/2 - 100}
	in := func(yield func(*blob, error) bool) {
		for _, n := range sizes {
			if !yield(&blob{Data: bytes.Repeat([]byte{byte(n)}, n)}, nil) {
				return
			}
		}
	}
	n := 0
	for item, err := range ipc.InvokeBidiStream(t.Context(), c, methodJam, in) {
		if err != nil {
			t.Fatal(err)
		}
		if len(item.Data) != sizes[n] {
			t.Errorf("item %d has %d bytes", n, len(item.Data))
		}
		n++
	}
	if n != len(sizes) {
		t.Errorf("%d items", n)
	}
	_, err := ipc.InvokeClientStream(t.Context(), c, methodUpload, func(yield func(*blob,
		error) bool) {
		yield(&blob{Data: make([]byte, window/2)}, nil)
	})
	want(t, err, ipc.CodeTooLarge, ipc.OutcomeUnknown, "WithStreamingWindow",
		fmt.Sprint(window/2-64))
	n = 0
	for _, err := range ipc.InvokeServerStream(t.Context(), c, large, &blob{}) {
		if n++; n == 2 {
			want(t, err, ipc.CodeTooLarge, ipc.Executed, "WithStreamingWindow")
		}
	}
	if n != 2 {
		t.Errorf("the loop ran %d times", n)
	}
	still(t, c)
}

// cancelledCallsAreCounted ends the contexts of calls while items wait to be taken. The handler
// learns how many the loop has got, exactly.
func cancelledCallsAreCounted(t *testing.T, v ipc.RendezvousOption) {
	e := newEndless()
	host(t, v, streamingService(e.Route()), echoService())
	c := dial(t, v)
	for i := range 100 {
		ctx, cancel := context.WithCancel(t.Context())
		n, failed := uint64(0), 0
		for _, err := range e.Call(ctx, c) {
			if err != nil {
				failed++
				want(t, err, ipc.CodeCanceled, ipc.OutcomeUnknown)
				continue
			}
			if n++; n == uint64(1+i%10) {
				go cancel()
			}
		}
		cancel()
		if failed != 1 {
			t.Errorf("%d errors", failed)
		}
		if known := <-e.Taken; known != n {
			t.Errorf("the loop has got %d items, and the handler knows of %d", n, known)
		}
		<-e.Ended
	}
	still(t, c)
}

// limitsOfStreamingCalls shows that calls beyond the limit wait, and that others go on.
func limitsOfStreamingCalls(t *testing.T, v ipc.RendezvousOption) {
	e := newEndless()
	host(t, v, streamingService(e.Route()), echoService(), ipc.WithMaxStreamingCalls(1))
	c := dial(t, v)
	waited := make(chan error, 1)
	for range e.Call(t.Context(), c) {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		for _, err := range count(ctx, c, 1) {
			want(t, err, ipc.CodeDeadlineExceeded, ipc.NotSent, "waiting for one of the open")
		}
		cancel()
		still(t, c)
		go func() {
			for _, err := range count(t.Context(), c, 1) {
				waited <- err
			}
		}()
		break
	}
	<-e.Ended
	<-e.Taken
	if err := <-waited; err != nil {
		t.Error(err)
	}
}

// clientsMakeStreamingCallsAgain shows when a Client makes a call again at another server.
func clientsMakeStreamingCallsAgain(t *testing.T, v ipc.RendezvousOption) {
	var calls atomic.Int64
	c, err := ipc.Connect("echo", v, ipc.WithClientInterceptor(func(ctx context.Context,
		call ipc.Call, next ipc.Caller) error {
		if calls.Add(1) == 1 { // the server was lost before it took the call
			return &ipc.Error{Code: ipc.CodeUnavailable, Outcome: ipc.NotExecuted}
		}
		return next.Invoke(ctx, call)
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	srv := host(t, v, streamingService())
	expectCounted(t, count(t.Context(), c, 10), 10)
	if n := calls.Load(); n != 2 {
		t.Errorf("%d attempts, want 2", n)
	}
	n, failed := 0, 0
	for _, err := range count(t.Context(), c, 1_000_000) {
		if n++; n == 1 {
			srv.Close()
		}
		if err != nil {
			failed++
			want(t, err, ipc.CodeUnavailable, ipc.OutcomeUnknown)
		}
	}
	if failed != 1 || calls.Load() != 3 {
		t.Errorf("%d errors, %d attempts; want 1 and 3", failed, calls.Load())
	}
}

// TestApplicable shows which services a group can replicate.
func TestApplicable(t *testing.T) {
	spec := echoSpec("Watch")
	spec.Streaming, spec.ReadOnly = ipc.ServerStreaming, true
	watch := func(context.Context, *blob) iter.Seq2[*blob, error] { return counted(1) }
	if err := echoes(ipc.HandleServerStream(ipc.NewMethod(echoProtocol, spec),
		watch)).Applicable(); err != nil {
		t.Error(err)
	}
	err := echoes(ipc.HandleServerStream(methodCount, watch)).Applicable()
	want(t, err, ipc.CodeFailedPrecondition, ipc.NotSent, "test.Echo/Count", "read_only")
}
