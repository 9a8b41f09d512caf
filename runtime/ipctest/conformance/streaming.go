package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/internal/echo"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

func streamingCalls(t *testing.T, v *venue) {
	v.host(echo.StreamingService(), echo.Service())
	c := v.dial(t)
	for _, n := range []int{0, 1, 100, 20_000} {
		echo.ExpectCounted(t, echo.CountTo(t.Context(), c, n), n)
		echo.ExpectCounted(t, ipc.InvokeBidiStream(t.Context(), c, echo.Jam, echo.Counted(n)), n)
	}
	rep, err := ipc.InvokeClientStream(t.Context(), c, echo.Upload, echo.Items("a", "b", "c"))
	if err != nil || string(rep.Data) != "abc" {
		t.Errorf("upload: %v, %v", rep, err)
	}
	rep, err = ipc.InvokeClientStream(t.Context(), c, echo.Upload, echo.Counted(100_000))
	if err != nil || len(rep.Data) != 488890 {
		t.Errorf("upload: %d bytes, %v", len(rep.Data), err)
	}
	rep, err = ipc.InvokeClientStream(t.Context(), c, echo.Upload, nil)
	if err != nil || len(rep.Data) != 0 {
		t.Errorf("upload of nothing: %v, %v", rep, err)
	}
	echo.Still(t, c)
	if stats, ok := statsOf(c); ok && stats.CallsInFlight != 0 {
		t.Errorf("%d calls in flight", stats.CallsInFlight)
	}
}

func manyStreamingCalls(t *testing.T, v *venue) {
	v.host(echo.StreamingService(), echo.Service())
	c := v.dial(t)
	const calls, n = 1000, 100
	var wg, open sync.WaitGroup
	open.Add(calls)
	for range calls {
		wg.Go(func() {
			i := 0
			for item, err := range echo.CountTo(t.Context(), c, n) {
				if err != nil || string(item.Data) != fmt.Sprint(i) {
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
	echo.Still(t, c)
}

// itemsOfEverySize has items of many sizes, both ways.
func itemsOfEverySize(t *testing.T, v *venue) {
	v.host(echo.StreamingService(), echo.Service())
	c := v.dial(t)
	sizes := []int{0, 1, 100, 5000, v.longest(100_000), v.longest(60_000), 3, v.longest(100_000)}
	in := func(yield func(*echo.Blob, error) bool) {
		for i, n := range sizes {
			if !yield(&echo.Blob{Data: bytes.Repeat([]byte{byte(i)}, n)}, nil) {
				return
			}
		}
	}
	n := 0
	for item, err := range ipc.InvokeBidiStream(t.Context(), c, echo.Jam, in) {
		if err != nil {
			t.Fatal(err)
		}
		if n == len(sizes) ||
			!bytes.Equal(item.Data, bytes.Repeat([]byte{byte(n)}, sizes[n])) {
			t.Fatalf("item %d has %d bytes", n, len(item.Data))
		}
		n++
	}
	if n != len(sizes) {
		t.Errorf("%d items", n)
	}
	all, err := ipc.InvokeClientStream(t.Context(), c, echo.Upload, in)
	want := 0
	for _, n := range sizes {
		want += n
	}
	if v.subject.Longest != 0 && want > v.subject.Longest-overhead {
		echo.Want(t, err, ipc.CodeTooLarge, ipc.Executed)
	} else if err != nil || len(all.Data) != want {
		t.Errorf("upload: %v", err)
	}
	echo.Still(t, c)
}

// slowConsumers has a client and a handler that take nothing: that holds up their own calls alone,
// and what is kept for them is bounded.
func slowConsumers(t *testing.T, v *venue) {
	e := echo.NewEndless()
	hold := echo.Streaming("Hold", ipc.ClientStreaming)
	held := make(chan struct{})
	v.host(echo.StreamingService(e.Route(), ipc.HandleClientStream(hold, func(context.Context,
		iter.Seq2[*echo.Blob, error]) (*echo.Blob, error) {
		<-held
		return &echo.Blob{}, nil
	})), echo.Service())
	c := v.dial(t)
	var sent atomic.Int64
	uploaded := make(chan error, 1)
	go func() {
		_, err := ipc.InvokeClientStream(t.Context(), c, hold, func(yield func(*echo.Blob,
			error) bool) {
			for yield(&echo.Blob{}, nil) {
				sent.Add(1)
			}
		})
		uploaded <- err
	}()
	const most = 100_000
	settled := func(count *atomic.Int64) {
		t.Helper()
		for before, quiet := int64(-1), 0; quiet < 10; {
			for range 20 {
				echo.Still(t, c)
			}
			echo.ExpectCounted(t, echo.CountTo(t.Context(), c, 1000), 1000)
			now := count.Load()
			if now > most {
				t.Errorf("%d items were sent to a side that takes none", now)
				return
			}
			if quiet++; now != before {
				before, quiet = now, 0
			}
		}
	}
	n := 0
	for range e.Call(t.Context(), c) {
		if n++; n > 1 {
			break
		}
		settled(&e.Yielded)
		settled(&sent)
	}
	<-e.Taken
	<-e.Ended
	close(held)
	if err := <-uploaded; err != nil {
		t.Error(err)
	}
	echo.Still(t, c)
}

// leavingEndsTheCall leaves loops early, in every way.
func leavingEndsTheCall(t *testing.T, v *venue) {
	e := echo.NewEndless()
	late, more := echo.Streaming("Late", ipc.ServerStreaming), make(chan bool, 1)
	v.host(echo.StreamingService(e.Route(), ipc.HandleServerStream(late, func(ctx context.Context,
		_ *echo.Blob) iter.Seq2[*echo.Blob, error] {
		return func(yield func(*echo.Blob, error) bool) {
			yield(&echo.Blob{}, nil)
			<-ctx.Done()
			more <- yield(&echo.Blob{}, nil)
		}
	})), echo.Service())
	c := v.dial(t)
	expectEnd := func(taken uint64) {
		t.Helper()
		if n := <-e.Taken; n != taken {
			t.Errorf("the server knows of %d items that were taken, want %d", n, taken)
		}
		if err := <-e.Ended; err != context.Canceled {
			t.Errorf("the handler's context ended with %v", err)
		}
	}
	n := 0
	for range e.Call(t.Context(), c) {
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
		for range e.Call(t.Context(), c) {
			panic("on purpose")
		}
	}()
	expectEnd(1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range e.Call(t.Context(), c) {
			runtime.Goexit()
		}
	}()
	<-done
	expectEnd(1)
	for range ipc.InvokeServerStream(t.Context(), c, late, &echo.Blob{}) {
		break
	}
	if <-more {
		t.Error("yield says that the client, which has left, wants more items")
	}
	echo.Still(t, c)
}

// streamingCallsBegin shows when a call begins, and that its result serves one range.
func streamingCallsBegin(t *testing.T, v *venue) {
	v.host(echo.StreamingService(), echo.Service())
	c := v.dial(t)
	echo.Still(t, c)
	before, counts := statsOf(c)
	never := echo.CountTo(t.Context(), c, 10)
	_ = ipc.InvokeBidiStream(t.Context(), c, echo.Jam, func(func(*echo.Blob, error) bool) {
		t.Error("the source has begun")
	})
	if now, _ := statsOf(c); counts && now.Sent != before.Sent {
		t.Errorf("%d messages were sent for calls that have not begun", now.Sent-before.Sent)
	}
	echo.ExpectCounted(t, never, 10)
	for item, err := range never {
		echo.Want(t, err, ipc.CodeFailedPrecondition, ipc.NotSent, "one range", "test.Echo/Count")
		if item != nil {
			t.Errorf("item %q", item.Data)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range echo.CountTo(ctx, c, 10) {
		echo.Want(t, err, ipc.CodeCanceled, ipc.NotSent)
	}
	_, err := ipc.InvokeClientStream(t.Context(), nil, echo.Upload, echo.Items("a"))
	echo.Want(t, err, ipc.CodeInvalidArgument, ipc.NotSent)
}

// sequencesLeftAlone ranges over neither the results of calls nor, at the server, the client's
// items. That leaves nothing behind, which run checks of every behaviour.
func sequencesLeftAlone(t *testing.T, v *venue) {
	answers := echo.Streaming("Answers", ipc.ClientStreaming)
	ignores := echo.Streaming("Ignores", ipc.BidiStreaming)
	v.host(echo.StreamingService(
		ipc.HandleClientStream(answers, func(context.Context,
			iter.Seq2[*echo.Blob, error]) (*echo.Blob, error) {
			return &echo.Blob{Data: []byte("at once")}, nil
		}),
		ipc.HandleBidiStream(ignores, func(context.Context,
			iter.Seq2[*echo.Blob, error]) iter.Seq2[*echo.Blob, error] {
			return echo.Counted(2)
		})), echo.Service())
	c := v.dial(t)
	for range 100 {
		_ = echo.CountTo(t.Context(), c, 10)
		_ = ipc.InvokeBidiStream(t.Context(), c, echo.Jam, echo.Counted(10))
	}
	for _, n := range []int{0, 3, -1} { // items of the client
		rep, err := ipc.InvokeClientStream(t.Context(), c, answers, echo.Counted(n))
		if err != nil || string(rep.Data) != "at once" {
			t.Errorf("an answer without the %d items: %v, %v", n, rep, err)
		}
		echo.ExpectCounted(t, ipc.InvokeBidiStream(t.Context(), c, ignores, echo.Counted(n)), 2)
	}
	// A call step by step of which nothing is used but its end.
	jam := func(ctx context.Context, in iter.Seq2[*echo.Blob, error]) iter.Seq2[*echo.Blob, error] {
		return ipc.InvokeBidiStream(ctx, c, echo.Jam, in)
	}
	if err := ipc.OpenBidiStream(t.Context(), jam).Close(); err != nil {
		t.Error(err)
	}
	upload := func(ctx context.Context, in iter.Seq2[*echo.Blob, error]) (*echo.Blob, error) {
		return ipc.InvokeClientStream(ctx, c, echo.Upload, in)
	}
	if err := ipc.OpenClientStream(t.Context(), upload).Close(); err != nil {
		t.Error(err)
	}
	echo.Still(t, c)
}

// goroutine identifies the goroutine of its caller.
func goroutine() string {
	buf := make([]byte, 64)
	id, _, _ := strings.Cut(string(buf[:runtime.Stack(buf, false)]), " [")
	return id
}

// A meeting collects the goroutines on which parts of a call run.
type meeting struct {
	mu sync.Mutex
	at map[string][]string // by part; each goroutine once
}

func (m *meeting) here(part string) {
	g := goroutine()
	m.mu.Lock()
	defer m.mu.Unlock()
	if !slices.Contains(m.at[part], g) {
		m.at[part] = append(m.at[part], g)
	}
}

// around returns a sequence that says where its loop runs, and where items does.
func (m *meeting) around(items iter.Seq2[any, error], loop, source string) iter.Seq2[any, error] {
	if items == nil {
		return nil
	}
	return func(yield func(any, error) bool) {
		m.here(source)
		items(func(item any, err error) bool {
			m.here(loop)
			return yield(item, err)
		})
	}
}

// take returns an Out that says where it is called.
func (m *meeting) take(out func(any) bool, part string) func(any) bool {
	if out == nil {
		return nil
	}
	return func(item any) bool {
		m.here(part)
		return out(item)
	}
}

// on checks that parts ran, and on one goroutine: g unless g is "". It returns that.
func (m *meeting) on(t *testing.T, what, g string, parts ...string) string {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, part := range parts {
		if g == "" && len(m.at[part]) > 0 {
			g = m.at[part][0]
		}
		if len(m.at[part]) != 1 || m.at[part][0] != g {
			t.Errorf("%s: %s ran on %q, want %q", what, part, m.at[part], g)
		}
	}
	return g
}

// goroutinesOfStreamingCalls shows which goroutine runs what: at the client the caller's, but for
// the source of a call with items both ways; at the server one for each call.
func goroutinesOfStreamingCalls(t *testing.T, v *venue) {
	var now atomic.Pointer[meeting] // a source may outlive its call
	pour := echo.Streaming("Pour", ipc.ClientStreaming)
	list := echo.Streaming("List", ipc.ServerStreaming)
	relay := echo.Streaming("Relay", ipc.BidiStreaming)
	v.host(echo.StreamingService(
		ipc.HandleClientStream(pour, func(_ context.Context,
			in iter.Seq2[*echo.Blob, error]) (*echo.Blob, error) {
			m := now.Load()
			m.here("handler")
			for range in {
				m.here("handler's loop")
			}
			return &echo.Blob{}, nil
		}),
		ipc.HandleServerStream(list, func(context.Context,
			*echo.Blob) iter.Seq2[*echo.Blob, error] {
			m := now.Load()
			m.here("handler")
			return func(yield func(*echo.Blob, error) bool) {
				m.here("handler's sequence")
				echo.Counted(3)(yield)
			}
		}),
		ipc.HandleBidiStream(relay, func(_ context.Context,
			in iter.Seq2[*echo.Blob, error]) iter.Seq2[*echo.Blob, error] {
			m := now.Load()
			m.here("handler")
			return func(yield func(*echo.Blob, error) bool) {
				m.here("handler's sequence")
				for item, err := range in {
					m.here("handler's loop")
					if !yield(item, err) {
						return
					}
				}
			}
		})), ipc.WithServerInterceptor(func(ctx context.Context, call *ipc.ServerCall,
		next func(context.Context) error) error {
		if call.Kind == ipc.KindStreamingCall {
			m := now.Load()
			m.here("server's interceptor")
			call.Out = m.take(call.Out, "server's Out")
		}
		return next(ctx)
	}))
	c := v.dial(t, ipc.WithClientInterceptor(func(ctx context.Context, call ipc.Call,
		next ipc.Caller) error {
		m := now.Load()
		m.here("client's interceptor")
		call.In = m.around(call.In, "items of the source", "source")
		call.Out = m.take(call.Out, "client's Out")
		return next.Invoke(ctx, call)
	}))
	loop := func(items iter.Seq2[*echo.Blob, error]) {
		for _, err := range items {
			now.Load().here("loop")
			if err != nil {
				t.Error(err)
			}
		}
	}
	me := goroutine()
	begin := func() *meeting {
		now.Store(&meeting{at: make(map[string][]string)})
		return now.Load()
	}
	m := begin()
	if _, err := ipc.InvokeClientStream(t.Context(), c, pour, echo.Counted(3)); err != nil {
		t.Error(err)
	}
	m.on(t, "items of the client", me, "client's interceptor", "source", "items of the source")
	at := m.on(t, "items of the client", "", "handler", "handler's loop", "server's interceptor")
	if at == me {
		t.Error("the handler ran on its caller's goroutine")
	}

	m = begin()
	loop(ipc.InvokeServerStream(t.Context(), c, list, &echo.Blob{}))
	m.on(t, "items of the server", me, "client's interceptor", "client's Out", "loop")
	at = m.on(t, "items of the server", "", "handler", "handler's sequence",
		"server's interceptor", "server's Out")
	if at == me {
		t.Error("the handler ran on its caller's goroutine")
	}

	m = begin()
	loop(ipc.InvokeBidiStream(t.Context(), c, relay, echo.Counted(3)))
	m.on(t, "items both ways", me, "client's interceptor", "client's Out", "loop")
	source := m.on(t, "items both ways", "", "source", "items of the source")
	at = m.on(t, "items both ways", "", "handler", "handler's sequence", "handler's loop",
		"server's interceptor", "server's Out")
	if source == me || source == at || at == me {
		t.Errorf("items both ways: source %s, handler %s, loop %s", source, at, me)
	}

	// Step by step, a goroutine stands for the caller.
	m = begin()
	b := ipc.OpenBidiStream(t.Context(), func(ctx context.Context,
		in iter.Seq2[*echo.Blob, error]) iter.Seq2[*echo.Blob, error] {
		now.Load().here("call")
		return ipc.InvokeBidiStream(ctx, c, relay, in)
	})
	if err := b.Send(&echo.Blob{}); err != nil {
		t.Error(err)
	}
	if _, err := b.Receive(); err != nil {
		t.Error(err)
	}
	b.Close()
	at = m.on(t, "step by step", "", "call", "client's interceptor", "client's Out")
	source = m.on(t, "step by step", "", "source", "items of the source")
	if at == me || source == me || source == at {
		t.Errorf("step by step: call %s, source %s, test %s", at, source, me)
	}
	m = begin()
	u := ipc.OpenClientStream(t.Context(), func(ctx context.Context,
		in iter.Seq2[*echo.Blob, error]) (*echo.Blob, error) {
		now.Load().here("call")
		return ipc.InvokeClientStream(ctx, c, pour, in)
	})
	if err := u.Send(&echo.Blob{}); err != nil {
		t.Error(err)
	}
	if _, err := u.CloseAndReceive(); err != nil {
		t.Error(err)
	}
	if at := m.on(t, "step by step", "", "call", "client's interceptor", "source",
		"items of the source"); at == me {
		t.Error("OpenClientStream has used the goroutine of its caller")
	}
	u.Close()
}

// streamingCallsFail ends calls from the side of the server.
func streamingCallsFail(t *testing.T, v *venue) {
	fails := echo.Streaming("Fails", ipc.BidiStreaming)
	rejects := echo.Streaming("Rejects", ipc.ClientStreaming)
	panics := echo.Streaming("Panics", ipc.ServerStreaming)
	left := make(chan struct{}, 1)
	v.host(echo.StreamingService(
		ipc.HandleBidiStream(fails, func(_ context.Context,
			in iter.Seq2[*echo.Blob, error]) iter.Seq2[*echo.Blob, error] {
			return func(yield func(*echo.Blob, error) bool) {
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
			in iter.Seq2[*echo.Blob, error]) (*echo.Blob, error) {
			for range in {
				return nil, ipc.Errorf(ipc.CodePermissionDenied, "not yours")
			}
			return &echo.Blob{}, nil
		}),
		ipc.HandleServerStream(panics, func(context.Context,
			*echo.Blob) iter.Seq2[*echo.Blob, error] {
			return func(yield func(*echo.Blob, error) bool) {
				yield(&echo.Blob{Data: []byte("0")}, nil)
				panic("on purpose")
			}
		})), echo.Service())
	c := v.dial(t)
	n := 0
	for item, err := range ipc.InvokeBidiStream(t.Context(), c, fails, echo.Counted(-1)) {
		if err == nil {
			if string(item.Data) != fmt.Sprint(n) {
				t.Errorf("item %d is %q", n, item.Data)
			}
			n++
			continue
		}
		echo.Want(t, err, ipc.CodeNotFound, ipc.Executed, "no more")
		var e *ipc.Error
		if errors.As(err, &e); e.Taken != 3 || !e.Remote {
			t.Errorf("the server has taken %d items, remote %v; want 3", e.Taken, e.Remote)
		}
	}
	if n != 2 {
		t.Errorf("%d items before the error", n)
	}
	// The source has not ended when the server answers.
	_, err := ipc.InvokeClientStream(t.Context(), c, rejects, func(yield func(*echo.Blob,
		error) bool) {
		for yield(&echo.Blob{Data: []byte("x")}, nil) {
			runtime.Gosched()
		}
		left <- struct{}{}
	})
	<-left
	echo.Want(t, err, ipc.CodePermissionDenied, ipc.Executed, "not yours")
	if e, ok := err.(*ipc.Error); !ok || e.Taken != 1 {
		t.Errorf("taken: %+v", err)
	}
	n = 0
	for _, err := range ipc.InvokeServerStream(t.Context(), c, panics, &echo.Blob{}) {
		if n++; n == 2 {
			echo.Want(t, err, ipc.CodeInternal, ipc.Executed, "panicked")
		}
	}
	if n != 2 {
		t.Errorf("the loop ran %d times", n)
	}
	for _, err := range ipc.InvokeServerStream(t.Context(), c, echo.MethodEndless, &echo.Blob{}) {
		echo.Want(t, err, ipc.CodeUnimplemented, ipc.NotExecuted)
	}
	for _, err := range ipc.InvokeServerStream(t.Context(), c,
		echo.Streaming("Echo", ipc.ServerStreaming), &echo.Blob{}) {
		echo.Want(t, err, ipc.CodeUnimplemented, ipc.NotExecuted)
	}
	echo.Still(t, c)
}

// streamingCallsAreCancelled ends calls from the side of the client.
func streamingCallsAreCancelled(t *testing.T, v *venue) {
	waits := echo.Streaming("Waits", ipc.BidiStreaming)
	seen := make(chan error, 100)
	ctxErr := make(chan error, 100)
	v.host(echo.StreamingService(ipc.HandleBidiStream(waits, func(ctx context.Context,
		in iter.Seq2[*echo.Blob, error]) iter.Seq2[*echo.Blob, error] {
		return func(yield func(*echo.Blob, error) bool) {
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
	})), echo.Service())
	c := v.dial(t)
	stop := make(chan struct{})
	one := func(yield func(*echo.Blob, error) bool) {
		yield(&echo.Blob{Data: []byte("x")}, nil)
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
				echo.Want(t, err, code, ipc.OutcomeUnknown)
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
	// A source that fails ends the call. Its first item shows that the handler runs.
	cause := errors.New("disk on fire")
	failing := func(yield func(*echo.Blob, error) bool) { yield(nil, cause) }
	_, err := ipc.InvokeClientStream(t.Context(), c, echo.Upload, failing)
	if !errors.Is(err, cause) {
		t.Errorf("upload: %v", err)
	}
	after := func(fail func(yield func(*echo.Blob, error) bool)) iter.Seq2[*echo.Blob, error] {
		return func(yield func(*echo.Blob, error) bool) {
			if yield(&echo.Blob{}, nil) {
				fail(yield)
			}
		}
	}
	for _, err := range ipc.InvokeBidiStream(t.Context(), c, waits, after(failing)) {
		if err != nil && !errors.Is(err, cause) {
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
		for range ipc.InvokeBidiStream(t.Context(), c, waits, after(func(func(*echo.Blob,
			error) bool) {
			panic("on purpose")
		})) {
		}
	}()
	<-seen
	<-ctxErr
	for _, err := range ipc.InvokeBidiStream(t.Context(), c, waits, after(func(func(*echo.Blob,
		error) bool) {
		runtime.Goexit()
	})) {
		if err == nil {
			continue
		}
		echo.Want(t, err, ipc.CodeInternal, ipc.OutcomeUnknown, "Goexit")
	}
	<-seen
	<-ctxErr
	echo.Still(t, c)
}

// interceptorsOfStreamingCalls puts interceptors around the items on both sides.
func interceptorsOfStreamingCalls(t *testing.T, v *venue) {
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
	v.host(echo.StreamingService(), ipc.WithServerInterceptor(func(ctx context.Context,
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
	c := v.dial(t, ipc.WithClientInterceptor(func(ctx context.Context, call ipc.Call,
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
	echo.ExpectCounted(t, ipc.InvokeBidiStream(t.Context(), c, echo.Jam, echo.Counted(n)), n)
	for side := range 2 {
		if a, b := in[side].Load(), out[side].Load(); a != n || b != n {
			t.Errorf("side %d has seen %d and %d items, want %d", side, a, b, n)
		}
	}
}

// fencesAndItems ends a reign in the middle of calls.
func fencesAndItems(t *testing.T, v *venue) {
	server, client := echo.NewReign(7), echo.NewReign(7)
	v.host(ipc.WithFence(server), echo.StreamingService())
	c := v.dial(t, ipc.WithEpoch(client))
	n := 0
	for _, err := range ipc.InvokeBidiStream(t.Context(), c, echo.Jam, func(yield func(*echo.Blob,
		error) bool) {
		for yield(&echo.Blob{}, nil) {
			runtime.Gosched()
		}
	}) {
		if n++; n == 3 {
			server.Set(8)
		}
		if err != nil {
			echo.Want(t, err, ipc.CodeFenced, ipc.OutcomeUnknown, "epoch 7, this is 8")
		}
	}
	for _, err := range echo.CountTo(t.Context(), c, 3) {
		echo.Want(t, err, ipc.CodeFenced, ipc.NotExecuted)
	}
	client.Set(8)
	n = 0
	for _, err := range echo.CountTo(t.Context(), c, 300_000) {
		if n++; n == 3 {
			client.Set(9)
		}
		if err != nil {
			echo.Want(t, err, ipc.CodeFenced, ipc.OutcomeUnknown, "epoch 8, which is over")
		}
	}
	if n == 300_000 {
		t.Error("the client has taken the items of an epoch that is over")
	}
}

// streamingCallsStepByStep uses the forms that own their calls.
func streamingCallsStepByStep(t *testing.T, v *venue) {
	v.host(echo.StreamingService(), echo.Service())
	c := v.dial(t)
	jam := func(ctx context.Context, in iter.Seq2[*echo.Blob, error]) iter.Seq2[*echo.Blob, error] {
		return ipc.InvokeBidiStream(ctx, c, echo.Jam, in)
	}
	upload := func(ctx context.Context, in iter.Seq2[*echo.Blob, error]) (*echo.Blob, error) {
		return ipc.InvokeClientStream(ctx, c, echo.Upload, in)
	}
	b := ipc.OpenBidiStream(t.Context(), jam)
	m := &echo.Blob{Data: make([]byte, 1)}
	for i := range byte(100) {
		m.Data[0] = i // Send has done with it
		if err := b.Send(m); err != nil {
			t.Fatal(err)
		}
		got, err := b.Receive()
		if err != nil || got.Data[0] != i {
			t.Fatalf("%v, %v", got, err)
		}
	}
	for range 2 {
		if err := b.CloseSend(); err != nil {
			t.Error(err)
		}
	}
	echo.Want(t, b.Send(m), ipc.CodeFailedPrecondition, ipc.NotSent)
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
	if rep, err := u.CloseAndReceive(); err != nil || len(rep.Data) != 10 {
		t.Errorf("uploaded %v, %v", rep, err)
	}
	if err := u.Send(nil); ipc.CodeOf(err) != ipc.CodeInvalidArgument {
		t.Errorf("Send of nil: %v", err)
	}
	// One that the server ends.
	f := ipc.OpenClientStream(t.Context(), func(ctx context.Context,
		in iter.Seq2[*echo.Blob, error]) (*echo.Blob, error) {
		return ipc.InvokeClientStream(ctx, c, echo.Streaming("Nothing", ipc.ClientStreaming), in)
	})
	defer f.Close()
	for f.Send(m) != io.EOF {
		runtime.Gosched()
	}
	_, err := f.CloseAndReceive()
	echo.Want(t, err, ipc.CodeUnimplemented, ipc.NotExecuted)
	echo.Still(t, c)
}

// metadataOfStreamingCalls goes with the opening, and comes with the end.
func metadataOfStreamingCalls(t *testing.T, v *venue) {
	traced := echo.Streaming("Traced", ipc.ServerStreaming)
	v.host(echo.Of(ipc.HandleServerStream(traced, func(ctx context.Context,
		req *echo.Blob) iter.Seq2[*echo.Blob, error] {
		return func(yield func(*echo.Blob, error) bool) {
			yield(&echo.Blob{Data: []byte(ipc.MetadataFromContext(ctx).Get("trace"))}, nil)
			if err := ipc.SetReplyMetadata(ctx, "seen", "yes"); err != nil {
				t.Error(err)
			}
			if len(req.Data) > 0 {
				yield(nil, ipc.Errorf(ipc.CodeNotFound, "on purpose"))
			}
		}
	})))
	c := v.dial(t)
	for _, req := range []string{"", "fail"} {
		var reply ipc.Metadata
		ctx := ipc.WithReplyMetadata(ipc.WithMetadata(t.Context(), "trace", "17"), &reply)
		n := 0
		for item, err := range ipc.InvokeServerStream(ctx, c, traced,
			&echo.Blob{Data: []byte(req)}) {
			if n++; n == 1 && string(item.Data) != "17" {
				t.Errorf("the handler has seen %q, %v", item.Data, err)
			}
		}
		if got := reply.Get("seen"); got != "yes" {
			t.Errorf("request %q: the metadata of the end has %q", req, got)
		}
	}
	for _, err := range ipc.InvokeServerStream(ipc.WithMetadata(t.Context(), "A B", ""), c, traced,
		&echo.Blob{}) {
		echo.Want(t, err, ipc.CodeInvalidArgument, ipc.NotSent)
	}
}
