package ipc_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"sync"
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

// A briefReign is a fence whose reign ends with its last admission. Then next begins.
type briefReign struct {
	left atomic.Int64 // admissions
	next func()
}

func (r *briefReign) Epoch() uint64 {
	if r.left.Load() > 0 {
		return 7
	}
	return 0
}

func (r *briefReign) Admit(uint64) error {
	switch n := r.left.Add(-1); {
	case n < 0:
		return errors.New("a standby")
	case n == 0:
		r.next()
	}
	return nil
}

// reignThatEndsWithAnAnswer ends the reign of a server when its fence has admitted an answer, or an
// item, for the last time. Its client, which knows of the next reign, must not take it.
func reignThatEndsWithAnAnswer(t *testing.T, v ipc.RendezvousOption) {
	client := newReign(7)
	server := &briefReign{next: func() { client.Set(8) }}
	host(t, v, echoService(), streamingService(), ipc.WithFence(server))
	c := dial(t, v, ipc.WithEpoch(client))
	server.left.Store(2) // before the handler, and before the reply
	_, err := echo(t.Context(), c, nil)
	want(t, err, ipc.CodeFenced, ipc.OutcomeUnknown)
	client.Set(7)
	const items = 3
	server.left.Store(1 + items)
	n, failed := 0, 0
	for _, err := range count(t.Context(), c, 10) {
		if err != nil {
			failed++
			want(t, err, ipc.CodeFenced, ipc.OutcomeUnknown)
			continue
		}
		n++
	}
	if n >= items || failed != 1 {
		t.Errorf("%d items and %d errors; item %d is of a reign that was over", n, failed, items)
	}
}

// creditsOfServers, and of clients, show that a credit counts what the user's code has had for
// certain. A credit that is sent when the code gets an item would count the item of a process that
// dies in between.
func creditsOfServers(t *testing.T, v ipc.RendezvousOption) {
	hold := streamingMethod("Hold", ipc.BidiStreaming)
	got, goOn := make(chan struct{}), make(chan struct{})
	host(t, v, streamingService(ipc.HandleBidiStream(hold, func(_ context.Context,
		in iter.Seq2[*blob, error]) iter.Seq2[*blob, error] {
		return func(func(*blob, error) bool) {
			for range in {
				got <- struct{}{}
				<-goOn
			}
		}
	})), ipc.WithStreamingWindow(4096))
	raw, err := ipc.RawDial(t.Context(), "echo", v)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.End()
	raw.Put(ipc.RawFrame{Tag: ipc.RawOpen, ID: 7, Method: hold.Info().ID})
	raw.Put(half(7))
	<-got
	early := hasCredit(raw)
	goOn <- struct{}{}
	if early {
		t.Error("there is a credit while the handler has the first item")
	} else if f := take(t, raw, ipc.RawCredit); f.Seq != 1 || f.Deadline != 2048 {
		t.Errorf("a credit for %d items and %d bytes", f.Seq, f.Deadline)
	}
	raw.Put(ipc.RawFrame{Tag: ipc.RawEnd, ID: 7, Code: ipc.CodeCanceled})
	<-got // the error behind the items
	goOn <- struct{}{}
}

func creditsOfClients(t *testing.T, v ipc.RendezvousOption) {
	l, err := ipc.Listen("echo", v)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := acceptRaw(t, l, 64<<10)
	c := dial(t, v, ipc.WithStreamingWindow(4096))
	raw := <-accepted
	if raw == nil {
		return
	}
	defer raw.End()
	var open ipc.RawFrame
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	call := count(ctx, c, 1)
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		open = take(t, raw, ipc.RawOpen)
		raw.Put(half(open.ID))
	}()
	n := 0
	for _, err := range call {
		if n++; n == 1 && err == nil {
			<-asked
			if hasCredit(raw) {
				t.Error("there is a credit while the loop has the first item")
				cancel()
				continue
			}
			go func() {
				defer cancel()
				if f := take(t, raw, ipc.RawCredit); f.Seq != 1 || f.Deadline != 2048 {
					t.Errorf("a credit for %d items and %d bytes", f.Seq, f.Deadline)
				}
			}()
		}
	}
	if n != 2 { // the item, and the cancellation
		t.Errorf("the loop ran %d times", n)
	}
}

// acceptRaw accepts the next client with rings of the given length, as a server that tests play. It
// sends nil if that fails.
func acceptRaw(t *testing.T, l *ipc.Listener, ring int) <-chan *ipc.Raw {
	accepted := make(chan *ipc.Raw, 1)
	go func() {
		raw, err := ipc.RawAccept(l, ipc.RawHello{ToServer: ring, ToClient: ring,
			MaxMessage: 1 << 20, MaxCalls: 10}, echoProtocol)
		if err != nil {
			t.Error(err)
		}
		accepted <- raw
	}()
	return accepted
}

// endInAFullRing cancels streaming calls while the ring has room for shorter frames than those of
// the ends. Other calls end by their deadline, and the ends arrive as soon as the server reads.
func endInAFullRing(t *testing.T, v ipc.RendezvousOption) {
	l, err := ipc.Listen("echo", v)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	// What is left of the ring depends on the length of the messages that fill it.
	for size := 0; size < 256; size += 8 {
		accepted := acceptRaw(t, l, 4<<10)
		c := dial(t, v)
		raw := <-accepted
		if raw == nil {
			return
		}
		ctx, cancel := context.WithCancel(t.Context())
		var calls sync.WaitGroup
		for range 4 {
			calls.Go(func() {
				for range count(ctx, c, 1) {
				}
			})
			take(t, raw, ipc.RawOpen)
		}
		for err = nil; err == nil; {
			short, stop := context.WithTimeout(t.Context(), time.Millisecond)
			err = ipc.Send(short, c, messageNote, &blob{Data: make([]byte, size)})
			stop()
		}
		cancel()
		calls.Wait()
		for range 3 {
			short, stop := context.WithTimeout(t.Context(), 5*time.Millisecond)
			if _, err := echo(short, c, nil); ipc.CodeOf(err) != ipc.CodeDeadlineExceeded {
				t.Errorf("messages of %d bytes: a call ends with %v", size, err)
			}
			stop()
		}
		for range 4 {
			take(t, raw, ipc.RawEnd)
		}
		c.Close()
		raw.End()
	}
}

// half is an item that costs half of a window of 4 KiB.
func half(id uint64) ipc.RawFrame {
	body := make([]byte, 2048-64)
	body[0] = 4
	binary.LittleEndian.PutUint32(body[4:], uint32(len(body)-8))
	return ipc.RawFrame{Tag: ipc.RawItem, ID: id, Body: body}
}

// hasCredit reports whether a credit has come.
func hasCredit(raw *ipc.Raw) bool {
	for f, ok := raw.Get(); ok; f, ok = raw.Get() {
		if f.Tag == ipc.RawCredit {
			return true
		}
	}
	return false
}

// limitsOfStreamingCalls shows that calls beyond the limit wait, and that others go on.
func limitsOfStreamingCalls(t *testing.T, v ipc.RendezvousOption) {
	e := newEndless()
	host(t, v, streamingService(e.Route()), echoService(), ipc.WithMaxStreamingCalls(1))
	c := dial(t, v)
	waited := make(chan error, 1)
	for range e.Call(t.Context(), c) {
		ended(t, ipc.CodeDeadlineExceeded, "waiting for one of the open",
			func(ctx context.Context) (err error) {
				for _, err = range count(ctx, c, 1) {
				}
				return err
			})
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

// take returns the next frame of a raw peer with one of these tags.
func take(t *testing.T, r *ipc.Raw, tags ...uint32) ipc.RawFrame {
	t.Helper()
	for limit := time.Now().Add(time.Minute); time.Now().Before(limit); runtime.Gosched() {
		f, ok := r.Get()
		for _, tag := range tags {
			if ok && f.Tag == tag {
				return f
			}
		}
	}
	t.Fatalf("no frame with one of the tags %v", tags)
	return ipc.RawFrame{}
}
