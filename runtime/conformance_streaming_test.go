package ipc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

func streamingMethod(name string, kind ipc.Streaming) *ipc.Method[blob, blob] {
	spec := echoSpec(name)
	spec.Streaming = kind
	return ipc.NewMethod(echoProtocol, spec)
}

var (
	methodCount  = streamingMethod("Count", ipc.ServerStreaming)
	methodUpload = streamingMethod("Upload", ipc.ClientStreaming)
	methodJam    = streamingMethod("Jam", ipc.BidiStreaming)
)

// items yields blobs with these texts.
func items(texts ...string) iter.Seq2[*blob, error] {
	return func(yield func(*blob, error) bool) {
		for _, text := range texts {
			if !yield(&blob{[]byte(text)}, nil) {
				return
			}
		}
	}
}

// counted yields the numbers from 0, as texts, n of them, or without an end if n is negative.
func counted(n int) iter.Seq2[*blob, error] {
	return func(yield func(*blob, error) bool) {
		for i := 0; i != n; i++ {
			if !yield(&blob{fmt.Append(nil, i)}, nil) {
				return
			}
		}
	}
}

// streamingService counts to the number in the request, joins what is uploaded, and sends back what
// comes.
func streamingService(more ...ipc.Route) *ipc.Service {
	return echoes(append([]ipc.Route{
		ipc.HandleServerStream(methodCount, func(_ context.Context,
			req *blob) iter.Seq2[*blob, error] {
			var n int
			fmt.Sscan(string(req.data), &n)
			return counted(n)
		}),
		ipc.HandleClientStream(methodUpload, func(_ context.Context,
			in iter.Seq2[*blob, error]) (*blob, error) {
			var all blob
			for item, err := range in {
				if err != nil {
					return nil, err
				}
				all.data = append(all.data, item.data...)
			}
			return &all, nil
		}),
		ipc.HandleBidiStream(methodJam, func(_ context.Context,
			in iter.Seq2[*blob, error]) iter.Seq2[*blob, error] {
			return in
		}),
	}, more...)...)
}

func count(ctx context.Context, c ipc.Caller, n int) iter.Seq2[*blob, error] {
	return ipc.InvokeServerStream(ctx, c, methodCount, &blob{fmt.Append(nil, n)})
}

// expectCounted checks that a sequence has the numbers from 0, n of them, and no error.
func expectCounted(t *testing.T, seq iter.Seq2[*blob, error], n int) {
	t.Helper()
	i := 0
	for item, err := range seq {
		if err != nil {
			t.Errorf("after %d items: %v", i, err)
			return
		}
		if string(item.data) != fmt.Sprint(i) {
			t.Fatalf("item %d is %q", i, item.data)
		}
		i++
	}
	if i != n {
		t.Errorf("%d items, want %d", i, n)
	}
}

func streamingCalls(t *testing.T, v ipc.RendezvousOption) {
	host(t, v, streamingService(), echoService())
	c := dial(t, v)
	for _, n := range []int{0, 1, 100, 20_000} {
		expectCounted(t, count(t.Context(), c, n), n)
		expectCounted(t, ipc.InvokeBidiStream(t.Context(), c, methodJam, counted(n)), n)
	}
	rep, err := ipc.InvokeClientStream(t.Context(), c, methodUpload, items("a", "b", "c"))
	if err != nil || string(rep.data) != "abc" {
		t.Errorf("upload: %v, %v", rep, err)
	}
	rep, err = ipc.InvokeClientStream(t.Context(), c, methodUpload, counted(100_000))
	if err != nil || len(rep.data) != 488890 {
		t.Errorf("upload: %d bytes, %v", len(rep.data), err)
	}
	rep, err = ipc.InvokeClientStream(t.Context(), c, methodUpload, nil)
	if err != nil || len(rep.data) != 0 {
		t.Errorf("upload of nothing: %v, %v", rep, err)
	}
	still(t, c)
	if n := c.Stats().CallsInFlight; n != 0 {
		t.Errorf("%d calls in flight", n)
	}
}

func manyStreamingCalls(t *testing.T, v ipc.RendezvousOption) {
	host(t, v, streamingService(), echoService())
	c := dial(t, v)
	const calls, n = 1000, 100
	var wg, open sync.WaitGroup
	open.Add(calls)
	for range calls {
		wg.Go(func() {
			i := 0
			for item, err := range count(t.Context(), c, n) {
				if err != nil || string(item.data) != fmt.Sprint(i) {
					t.Errorf("item %d: %v, %v", i, item, err)
				}
				if i++; i == 1 { // all of them are open at a time
					open.Done()
					open.Wait()
				}
			}
			if i != n {
				t.Errorf("%d items", i)
			}
		})
	}
	wg.Wait()
	still(t, c)
}

// endless is a handler that counts without an end, and tells how it ended: with how many items it
// yielded, and how many of them the client is known to have taken.
type endless struct {
	yielded atomic.Int64
	ended   chan error // of the handler's context
	taken   chan uint64
}

func newEndless() *endless {
	return &endless{ended: make(chan error, 1), taken: make(chan uint64, 1)}
}

func (e *endless) route() ipc.Route {
	return ipc.HandleServerStream(methodEndless, func(ctx context.Context,
		_ *blob) iter.Seq2[*blob, error] {
		return func(yield func(*blob, error) bool) {
			counted(-1)(func(item *blob, err error) bool {
				more := yield(item, err)
				if more {
					e.yielded.Add(1)
				}
				return more
			})
			yield(nil, errors.New("ignored")) // nothing happens after the end
			<-ctx.Done()
			taken, _ := ipc.TakenFromContext(ctx)
			e.taken <- taken
			e.ended <- ctx.Err()
		}
	})
}

var methodEndless = streamingMethod("Endless", ipc.ServerStreaming)

func (e *endless) call(ctx context.Context, c ipc.Caller) iter.Seq2[*blob, error] {
	return ipc.InvokeServerStream(ctx, c, methodEndless, &blob{})
}

// leavingEndsTheCall leaves loops early, in every way.
func leavingEndsTheCall(t *testing.T, v ipc.RendezvousOption) {
	e := newEndless()
	host(t, v, streamingService(e.route()), echoService())
	c := dial(t, v)
	expectEnd := func(taken uint64) {
		t.Helper()
		if n := <-e.taken; n != taken {
			t.Errorf("the server knows of %d items that were taken, want %d", n, taken)
		}
		if err := <-e.ended; err != context.Canceled {
			t.Errorf("the handler's context ended with %v", err)
		}
	}
	n := 0
	for range e.call(t.Context(), c) {
		if n++; n == 3 {
			break
		}
	}
	expectEnd(3)
	func() {
		defer func() {
			if r := recover(); r != "on purpose" {
				t.Errorf("recovered %v", r)
			}
		}()
		for range e.call(t.Context(), c) {
			panic("on purpose")
		}
	}()
	expectEnd(1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range e.call(t.Context(), c) {
			runtime.Goexit()
		}
	}()
	<-done
	expectEnd(1)
	still(t, c)
}

// streamingCallsBegin shows when a call begins, and that its result serves one range.
func streamingCallsBegin(t *testing.T, v ipc.RendezvousOption) {
	host(t, v, streamingService(), echoService())
	c := dial(t, v)
	still(t, c)
	before := c.Stats().Sent
	never := count(t.Context(), c, 10)
	_ = ipc.InvokeBidiStream(t.Context(), c, methodJam, func(func(*blob, error) bool) {
		t.Error("the source has begun")
	})
	if n := c.Stats().Sent; n != before {
		t.Errorf("%d messages were sent for calls that have not begun", n-before)
	}
	expectCounted(t, never, 10)
	for item, err := range never {
		want(t, err, ipc.CodeFailedPrecondition, ipc.NotSent, "one range", "test.Echo/Count")
		if item != nil {
			t.Errorf("item %q", item.data)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range count(ctx, c, 10) {
		want(t, err, ipc.CodeCanceled, ipc.NotSent)
	}
	_, err := ipc.InvokeClientStream(t.Context(), nil, methodUpload, items("a"))
	want(t, err, ipc.CodeInvalidArgument, ipc.NotSent)
}

// streamingCallsFail ends calls from the side of the server.
func streamingCallsFail(t *testing.T, v ipc.RendezvousOption) {
	fails := streamingMethod("Fails", ipc.BidiStreaming)
	rejects := streamingMethod("Rejects", ipc.ClientStreaming)
	panics := streamingMethod("Panics", ipc.ServerStreaming)
	left := make(chan struct{}, 1)
	host(t, v, streamingService(
		ipc.HandleBidiStream(fails, func(_ context.Context,
			in iter.Seq2[*blob, error]) iter.Seq2[*blob, error] {
			return func(yield func(*blob, error) bool) {
				n := 0
				for item, err := range in { // the first two
					if n++; !yield(item, err) || n == 2 {
						break
					}
				}
				for range in { // the third: a second range goes on
					break
				}
				yield(nil, ipc.Errorf(ipc.CodeNotFound, "no more"))
			}
		}),
		ipc.HandleClientStream(rejects, func(_ context.Context,
			in iter.Seq2[*blob, error]) (*blob, error) {
			for range in {
				return nil, ipc.Errorf(ipc.CodePermissionDenied, "not yours")
			}
			return &blob{}, nil
		}),
		ipc.HandleServerStream(panics, func(context.Context, *blob) iter.Seq2[*blob, error] {
			return func(yield func(*blob, error) bool) {
				yield(&blob{[]byte("0")}, nil)
				panic("on purpose")
			}
		})), echoService())
	c := dial(t, v)
	n := 0
	for item, err := range ipc.InvokeBidiStream(t.Context(), c, fails, counted(-1)) {
		if err == nil {
			if string(item.data) != fmt.Sprint(n) {
				t.Errorf("item %d is %q", n, item.data)
			}
			n++
			continue
		}
		want(t, err, ipc.CodeNotFound, ipc.Executed, "no more")
		var e *ipc.Error
		if errors.As(err, &e); e.Taken != 3 || !e.Remote {
			t.Errorf("the server has taken %d items, remote %v; want 3", e.Taken, e.Remote)
		}
	}
	if n != 2 {
		t.Errorf("%d items before the error", n)
	}
	// The source has not ended when the server answers.
	_, err := ipc.InvokeClientStream(t.Context(), c, rejects, func(yield func(*blob, error) bool) {
		for yield(&blob{[]byte("x")}, nil) {
			runtime.Gosched()
		}
		left <- struct{}{}
	})
	<-left
	want(t, err, ipc.CodePermissionDenied, ipc.Executed, "not yours")
	if e, ok := err.(*ipc.Error); !ok || e.Taken != 1 {
		t.Errorf("taken: %+v", err)
	}
	n = 0
	for _, err := range ipc.InvokeServerStream(t.Context(), c, panics, &blob{}) {
		if n++; n == 2 {
			want(t, err, ipc.CodeInternal, ipc.Executed, "panicked")
		}
	}
	if n != 2 {
		t.Errorf("the loop ran %d times", n)
	}
	for _, err := range ipc.InvokeServerStream(t.Context(), c, methodEndless, &blob{}) {
		want(t, err, ipc.CodeUnimplemented, ipc.NotExecuted)
	}
	for _, err := range ipc.InvokeServerStream(t.Context(), c,
		streamingMethod("Echo", ipc.ServerStreaming), &blob{}) {
		want(t, err, ipc.CodeUnimplemented, ipc.NotExecuted)
	}
	still(t, c)
}

// streamingCallsAreCancelled ends calls from the side of the client.
func streamingCallsAreCancelled(t *testing.T, v ipc.RendezvousOption) {
	waits := streamingMethod("Waits", ipc.BidiStreaming)
	seen := make(chan error, 100)
	ctxErr := make(chan error, 100)
	host(t, v, streamingService(ipc.HandleBidiStream(waits, func(ctx context.Context,
		in iter.Seq2[*blob, error]) iter.Seq2[*blob, error] {
		return func(yield func(*blob, error) bool) {
			for item, err := range in {
				if err != nil {
					seen <- err
					<-ctx.Done()
					ctxErr <- ctx.Err()
					yield(nil, err)
					break
				}
				yield(item, nil)
			}
		}
	})), echoService())
	c := dial(t, v)
	stop := make(chan struct{})
	one := func(yield func(*blob, error) bool) {
		yield(&blob{[]byte("x")}, nil)
		<-stop
	}
	// end makes a call whose context ends after the first item. It reports false if it ended
	// before.
	end := func(ctx context.Context, cancel context.CancelFunc, code ipc.Code, why error) bool {
		defer cancel()
		n, failed := 0, 0
		for _, err := range ipc.InvokeBidiStream(ctx, c, waits, one) {
			if err == nil {
				if n++; code == ipc.CodeCanceled {
					cancel()
				}
				continue
			}
			failed++
			if n > 0 {
				want(t, err, code, ipc.OutcomeUnknown)
			}
			if !errors.Is(err, why) {
				t.Errorf("%v is not %v", err, why)
			}
		}
		if failed != 1 {
			t.Errorf("%d errors", failed)
		}
		if n == 0 {
			return false
		}
		if err := <-seen; ipc.CodeOf(err) != code {
			t.Errorf("the handler's items ended with %v, want %v", err, code)
		}
		if err := <-ctxErr; code == ipc.CodeCanceled && err != why || err == nil {
			t.Errorf("the handler's context ended with %v, want %v", err, why)
		}
		return true
	}
	ctx, cancel := context.WithCancel(t.Context())
	end(ctx, cancel, ipc.CodeCanceled, context.Canceled)
	for limit := 200 * time.Millisecond; ; limit *= 2 {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		if end(ctx, cancel, ipc.CodeDeadlineExceeded, context.DeadlineExceeded) {
			break
		}
		for len(seen) > 0 || len(ctxErr) > 0 {
			select {
			case <-seen:
			case <-ctxErr:
			}
		}
	}
	close(stop)
	// A source that fails ends the call.
	cause := errors.New("disk on fire")
	failing := func(yield func(*blob, error) bool) { yield(nil, cause) }
	_, err := ipc.InvokeClientStream(t.Context(), c, methodUpload, failing)
	if !errors.Is(err, cause) {
		t.Errorf("upload: %v", err)
	}
	for _, err := range ipc.InvokeBidiStream(t.Context(), c, waits, failing) {
		if !errors.Is(err, cause) {
			t.Errorf("both ways: %v", err)
		}
	}
	<-seen
	<-ctxErr
	func() {
		defer func() {
			if r := recover(); r != "on purpose" {
				t.Errorf("recovered %v", r)
			}
		}()
		for range ipc.InvokeBidiStream(t.Context(), c, waits, func(func(*blob, error) bool) {
			panic("on purpose")
		}) {
		}
	}()
	<-seen
	<-ctxErr
	for _, err := range ipc.InvokeBidiStream(t.Context(), c, waits, func(func(*blob, error) bool) {
		runtime.Goexit()
	}) {
		want(t, err, ipc.CodeInternal, ipc.OutcomeUnknown, "Goexit")
	}
	<-seen
	<-ctxErr
	still(t, c)
}

// slowConsumers shows that a consumer that takes nothing holds up its own call only, and that what
// is kept for it is bounded.
func slowConsumers(t *testing.T, v ipc.RendezvousOption) {
	const window = 16 << 10
	e := newEndless()
	hold := streamingMethod("Hold", ipc.ClientStreaming)
	held := make(chan struct{})
	host(t, v, streamingService(e.route(), ipc.HandleClientStream(hold, func(context.Context,
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
	for range e.call(t.Context(), c) {
		if n++; n > 1 {
			break
		}
		for range 20 {
			still(t, c)
			expectCounted(t, count(t.Context(), c, 2000), 2000)
		}
		// Both go on until their windows are full.
		for e.yielded.Load() < window/200 || sent.Load() < window/200 {
			runtime.Gosched()
		}
	}
	if n := e.yielded.Load(); n > window/64+2 {
		t.Errorf("%d items were sent to a client that has taken two", n)
	}
	if n := sent.Load(); n > window/64+1 {
		t.Errorf("%d items were sent to a handler that takes none", n)
	}
	<-e.taken
	<-e.ended
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
			yield(&blob{make([]byte, 10)}, nil)
			yield(&blob{make([]byte, window/2)}, nil)
		}
	})), echoService(), ipc.WithStreamingWindow(window))
	c := dial(t, v, ipc.WithRings(8<<10, 8<<10), ipc.WithStreamingWindow(window))
	sizes := []int{0, 1, 100, 5000, window/2 - 100, window/2 - 100, 3, window/2 - 100}
	in := func(yield func(*blob, error) bool) {
		for _, n := range sizes {
			if !yield(&blob{bytes.Repeat([]byte{byte(n)}, n)}, nil) {
				return
			}
		}
	}
	n := 0
	for item, err := range ipc.InvokeBidiStream(t.Context(), c, methodJam, in) {
		if err != nil {
			t.Fatal(err)
		}
		if len(item.data) != sizes[n] {
			t.Errorf("item %d has %d bytes", n, len(item.data))
		}
		n++
	}
	if n != len(sizes) {
		t.Errorf("%d items", n)
	}
	_, err := ipc.InvokeClientStream(t.Context(), c, methodUpload, func(yield func(*blob,
		error) bool) {
		yield(&blob{make([]byte, window/2)}, nil)
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

// limitsOfStreamingCalls shows that calls beyond the limit wait, and that others go on.
func limitsOfStreamingCalls(t *testing.T, v ipc.RendezvousOption) {
	e := newEndless()
	host(t, v, streamingService(e.route()), echoService(), ipc.WithMaxStreamingCalls(1))
	c := dial(t, v)
	waited := make(chan error, 1)
	for range e.call(t.Context(), c) {
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
	<-e.ended
	<-e.taken
	if err := <-waited; err != nil {
		t.Error(err)
	}
}

// interceptorsOfStreamingCalls puts interceptors around the items on both sides.
func interceptorsOfStreamingCalls(t *testing.T, v ipc.RendezvousOption) {
	const n = 100
	var in, out [2]atomic.Int64
	counting := func(side int, items iter.Seq2[any, error]) iter.Seq2[any, error] {
		return func(yield func(any, error) bool) {
			for item, err := range items {
				in[side].Add(1)
				if !yield(item, err) {
					return
				}
			}
		}
	}
	host(t, v, streamingService(), ipc.WithServerInterceptor(func(ctx context.Context,
		call *ipc.ServerCall, next func(context.Context) error) error {
		if call.Kind == ipc.KindStreamingCall {
			call.In = counting(1, call.In)
			send := call.Out
			call.Out = func(item any) bool {
				out[1].Add(1)
				return send(item)
			}
		}
		return next(ctx)
	}))
	c := dial(t, v, ipc.WithClientInterceptor(func(ctx context.Context, call ipc.Call,
		next ipc.Caller) error {
		if call.Method.Streaming == ipc.BidiStreaming {
			call.In = counting(0, call.In)
			take := call.Out
			call.Out = func(item any) bool {
				out[0].Add(1)
				return take(item)
			}
		}
		return next.Invoke(ctx, call)
	}))
	expectCounted(t, ipc.InvokeBidiStream(t.Context(), c, methodJam, counted(n)), n)
	for side := range 2 {
		if a, b := in[side].Load(), out[side].Load(); a != n || b != n {
			t.Errorf("side %d has seen %d and %d items, want %d", side, a, b, n)
		}
	}
}

// streamingCallsAndShutdown drains a server with an open call, which its handler ends.
func streamingCallsAndShutdown(t *testing.T, v ipc.RendezvousOption) {
	news := streamingMethod("News", ipc.ServerStreaming)
	srv := host(t, v, echoes(ipc.HandleServerStream(news, func(ctx context.Context,
		_ *blob) iter.Seq2[*blob, error] {
		return func(yield func(*blob, error) bool) {
			yield(&blob{[]byte("first")}, nil)
			select {
			case <-ipc.DrainingFromContext(ctx):
				yield(&blob{[]byte("last")}, nil)
			case <-ctx.Done():
			}
		}
	})))
	c := dial(t, v)
	down := make(chan error, 1)
	var got []string
	for item, err := range ipc.InvokeServerStream(t.Context(), c, news, &blob{}) {
		if err != nil {
			t.Error(err)
			break
		}
		if got = append(got, string(item.data)); len(got) == 1 {
			go func() { down <- srv.Shutdown(t.Context()) }()
		}
	}
	if len(got) != 2 || got[1] != "last" {
		t.Errorf("items %q", got)
	}
	if err := <-down; err != nil {
		t.Error(err)
	}
	expectOver(t, c)
	for _, err := range ipc.InvokeServerStream(t.Context(), c, news, &blob{}) {
		want(t, err, ipc.CodeUnavailable, ipc.NotSent)
	}
}

// connectionsEndStreamingCalls ends connections in the middle of calls.
func connectionsEndStreamingCalls(t *testing.T, v ipc.RendezvousOption) {
	for _, byServer := range []bool{true, false} {
		e := newEndless()
		srv := ipc.NewServer(streamingService(e.route()))
		l, err := ipc.Listen("ends", v)
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() { served <- srv.Serve(t.Context(), l) }()
		c, err := ipc.Dial(t.Context(), "ends", v)
		if err != nil {
			t.Fatal(err)
		}
		n, failed := 0, 0
		for item, err := range e.call(t.Context(), c) {
			if err != nil {
				failed++
				want(t, err, ipc.CodeUnavailable, ipc.OutcomeUnknown)
				continue
			}
			if string(item.data) != fmt.Sprint(n) {
				t.Fatalf("item %d is %q", n, item.data)
			}
			if n++; n == 10 && byServer {
				srv.Close()
			} else if n == 10 {
				c.Close()
			}
		}
		if failed != 1 || n < 10 {
			t.Errorf("%d items, %d errors", n, failed)
		}
		if taken := <-e.taken; taken > uint64(n) {
			t.Errorf("the server believes that %d items were taken, of %d", taken, n)
		}
		if err := <-e.ended; err != context.Canceled {
			t.Errorf("the handler's context: %v", err)
		}
		c.Close()
		srv.Close()
		<-served
	}
}

// fencesAndItems ends a reign in the middle of calls.
func fencesAndItems(t *testing.T, v ipc.RendezvousOption) {
	server, client := &reign{epoch: 7}, &reign{epoch: 7}
	host(t, v, ipc.WithFence(server), streamingService())
	c := dial(t, v, ipc.WithEpoch(client))
	n := 0
	for _, err := range ipc.InvokeBidiStream(t.Context(), c, methodJam, func(yield func(*blob,
		error) bool) {
		for yield(&blob{}, nil) {
			runtime.Gosched()
		}
	}) {
		if n++; n == 3 {
			server.set(8)
		}
		if err != nil {
			want(t, err, ipc.CodeFenced, ipc.OutcomeUnknown, "epoch 7, this is 8")
		}
	}
	for _, err := range count(t.Context(), c, 3) {
		want(t, err, ipc.CodeFenced, ipc.NotExecuted)
	}
	client.set(8)
	n = 0
	for _, err := range count(t.Context(), c, 300_000) {
		if n++; n == 3 {
			client.set(9)
		}
		if err != nil {
			want(t, err, ipc.CodeFenced, ipc.OutcomeUnknown, "epoch 8, which is over")
		}
	}
	if n == 300_000 {
		t.Error("the client has taken the items of an epoch that is over")
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

// streamingCallsStepByStep uses the forms that own their calls.
func streamingCallsStepByStep(t *testing.T, v ipc.RendezvousOption) {
	host(t, v, streamingService(), echoService())
	c := dial(t, v)
	jam := func(ctx context.Context, in iter.Seq2[*blob, error]) iter.Seq2[*blob, error] {
		return ipc.InvokeBidiStream(ctx, c, methodJam, in)
	}
	upload := func(ctx context.Context, in iter.Seq2[*blob, error]) (*blob, error) {
		return ipc.InvokeClientStream(ctx, c, methodUpload, in)
	}
	b := ipc.OpenBidiStream(t.Context(), jam)
	m := &blob{make([]byte, 1)}
	for i := range byte(100) {
		m.data[0] = i // Send has done with it
		if err := b.Send(m); err != nil {
			t.Fatal(err)
		}
		got, err := b.Receive()
		if err != nil || got.data[0] != i {
			t.Fatalf("%v, %v", got, err)
		}
	}
	for range 2 {
		if err := b.CloseSend(); err != nil {
			t.Error(err)
		}
	}
	want(t, b.Send(m), ipc.CodeFailedPrecondition, ipc.NotSent)
	for range 2 {
		if _, err := b.Receive(); err != io.EOF {
			t.Errorf("after the end: %v", err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
	// One that is closed in the middle.
	b = ipc.OpenBidiStream(t.Context(), jam)
	if err := b.Send(m); err != nil {
		t.Error(err)
	}
	b.Close()
	if err := b.Send(m); err != io.EOF {
		t.Errorf("Send after Close: %v", err)
	}
	for {
		if _, err := b.Receive(); err != nil { // an item may have come before
			if ipc.CodeOf(err) != ipc.CodeCanceled {
				t.Errorf("Receive after Close: %v", err)
			}
			break
		}
	}
	u := ipc.OpenClientStream(t.Context(), upload)
	defer u.Close()
	for range 10 {
		if err := u.Send(m); err != nil {
			t.Error(err)
		}
	}
	if rep, err := u.CloseAndReceive(); err != nil || len(rep.data) != 10 {
		t.Errorf("uploaded %v, %v", rep, err)
	}
	if err := u.Send(nil); ipc.CodeOf(err) != ipc.CodeInvalidArgument {
		t.Errorf("Send of nil: %v", err)
	}
	// One that the server ends.
	f := ipc.OpenClientStream(t.Context(), func(ctx context.Context,
		in iter.Seq2[*blob, error]) (*blob, error) {
		return ipc.InvokeClientStream(ctx, c, streamingMethod("Nothing", ipc.ClientStreaming), in)
	})
	defer f.Close()
	for f.Send(m) != io.EOF {
		runtime.Gosched()
	}
	_, err := f.CloseAndReceive()
	want(t, err, ipc.CodeUnimplemented, ipc.NotExecuted)
	still(t, c)
}

// metadataOfStreamingCalls goes with the opening, and comes with the end.
func metadataOfStreamingCalls(t *testing.T, v ipc.RendezvousOption) {
	traced := streamingMethod("Traced", ipc.ServerStreaming)
	host(t, v, echoes(ipc.HandleServerStream(traced, func(ctx context.Context,
		req *blob) iter.Seq2[*blob, error] {
		return func(yield func(*blob, error) bool) {
			yield(&blob{[]byte(ipc.MetadataFromContext(ctx).Get("trace"))}, nil)
			if err := ipc.SetReplyMetadata(ctx, "seen", "yes"); err != nil {
				t.Error(err)
			}
			if len(req.data) > 0 {
				yield(nil, ipc.Errorf(ipc.CodeNotFound, "on purpose"))
			}
		}
	})))
	c := dial(t, v)
	for _, req := range []string{"", "fail"} {
		var reply ipc.Metadata
		ctx := ipc.WithReplyMetadata(ipc.WithMetadata(t.Context(), "trace", "17"), &reply)
		n := 0
		for item, err := range ipc.InvokeServerStream(ctx, c, traced, &blob{[]byte(req)}) {
			if n++; n == 1 && string(item.data) != "17" {
				t.Errorf("the handler has seen %q, %v", item.data, err)
			}
		}
		if got := reply.Get("seen"); got != "yes" {
			t.Errorf("request %q: the metadata of the end has %q", req, got)
		}
	}
	for _, err := range ipc.InvokeServerStream(ipc.WithMetadata(t.Context(), "A B", ""), c, traced,
		&blob{}) {
		want(t, err, ipc.CodeInvalidArgument, ipc.NotSent)
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
