package ipc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	flatbuffers "github.com/google/flatbuffers/go"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

func callsOfEverySize(t *testing.T, v ipc.RendezvousOption) {
	host(t, v, echoService())
	c := dial(t, v)
	for _, n := range []int{0, 1, 64, 4 << 10, 60 << 10, 64 << 10, 300 << 10, 5 << 20} {
		data := bytes.Repeat([]byte{byte(n), 7, 1}, n/3+1)[:n]
		got, err := echo(t.Context(), c, data)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes: %d came back, %v", n, len(got), err)
		}
	}
}

// repliesInAnyOrder answers calls of one connection in the opposite order.
func repliesInAnyOrder(t *testing.T, v ipc.RendezvousOption) {
	const calls = 20
	arrived := make(chan struct{}, calls)
	var turns [calls + 1]chan struct{}
	for i := range turns {
		turns[i] = make(chan struct{})
	}
	host(t, v, echoes(ipc.Handle(methodEcho, func(_ context.Context, m *blob) (*blob, error) {
		i := m.data[0]
		arrived <- struct{}{}
		<-turns[i+1] // after the next one
		defer close(turns[i])
		return m, nil
	})))
	c := dial(t, v)
	var wg sync.WaitGroup
	for i := range calls {
		wg.Go(func() {
			if got, err := echo(t.Context(), c, []byte{byte(i)}); err != nil || got[0] != byte(i) {
				t.Errorf("call %d: %v, %v", i, got, err)
			}
		})
	}
	for range calls {
		<-arrived
	}
	if n := c.Stats().CallsInFlight; n != calls {
		t.Errorf("%d calls in flight, want %d", n, calls)
	}
	close(turns[calls])
	wg.Wait()
}

func manyCallers(t *testing.T, v ipc.RendezvousOption) {
	host(t, v, echoService())
	c := dial(t, v)
	const callers, calls = 16, 300
	var wg sync.WaitGroup
	for g := range callers {
		wg.Go(func() {
			for i := range calls {
				data := bytes.Repeat([]byte{byte(g), byte(i)}, i*(g+1))
				if got, err := echo(t.Context(), c, data); err != nil || !bytes.Equal(got, data) {
					t.Errorf("caller %d, call %d: %v", g, i, err)
					return
				}
			}
		})
	}
	wg.Wait()
	if s := c.Stats(); s.Dropped != 0 || s.CallsInFlight != 0 || s.Sent != callers*calls ||
		s.Received != callers*calls {
		t.Errorf("stats %+v", s)
	}
}

// slowCallDelaysNoOther makes calls while others of the connection are being
// handled.
func slowCallDelaysNoOther(t *testing.T, v ipc.RendezvousOption) {
	svc, entered, left := blocking()
	host(t, v, svc)
	c := dial(t, v)
	ctx, cancel := context.WithCancel(t.Context())
	var slow [3]<-chan error
	for i := range slow {
		slow[i] = invoke(ctx, c, methodBlock, "")
		<-entered
		for range 10 {
			still(t, c)
		}
	}
	cancel()
	for _, result := range slow {
		<-left
		want(t, <-result, ipc.CodeCanceled, ipc.OutcomeUnknown)
	}
}

// slowCallAfterFastOnes is the same after so many fast calls that the watchdog looks as
// seldom as it ever does.
func slowCallAfterFastOnes(t *testing.T, v ipc.RendezvousOption) {
	svc, entered, left := blocking()
	host(t, v, svc)
	c := dial(t, v)
	for start := time.Now(); time.Since(start) < time.Second; {
		still(t, c)
	}
	ctx, cancel := context.WithCancel(t.Context())
	slow := invoke(ctx, c, methodBlock, "")
	<-entered
	for range 10 {
		still(t, c)
	}
	cancel()
	<-left
	want(t, <-slow, ipc.CodeCanceled, ipc.OutcomeUnknown)
}

func deadlinesReachTheServer(t *testing.T, v ipc.RendezvousOption) {
	type seen struct {
		deadline time.Time
		ok       bool
		err      error
	}
	handled := make(chan seen, 1)
	host(t, v, echoes(
		ipc.Handle(methodEcho, func(ctx context.Context, m *blob) (*blob, error) {
			d, ok := ctx.Deadline()
			handled <- seen{d, ok, ctx.Err()}
			return m, nil
		}),
		ipc.Handle(methodBlock, func(ctx context.Context, _ *blob) (*blob, error) {
			<-ctx.Done()
			handled <- seen{err: ctx.Err()}
			return nil, ctx.Err()
		})))
	c := dial(t, v)
	if _, err := echo(context.Background(), c, nil); err != nil {
		t.Fatal(err)
	}
	if s := <-handled; s.ok || s.err != nil {
		t.Errorf("handler of a call without a deadline saw %+v", s)
	}

	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	if _, err := echo(ctx, c, nil); err != nil {
		t.Fatal(err)
	}
	d, _ := ctx.Deadline()
	if s := <-handled; !s.ok || s.deadline.Sub(d).Abs() > time.Minute || s.err != nil {
		t.Errorf("handler of a call with deadline %v saw %+v", d, s)
	}

	ctx, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := ipc.Invoke(ctx, c, methodBlock, &blob{})
	if ipc.CodeOf(err) != ipc.CodeDeadlineExceeded || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("call whose deadline passed: %v", err)
	}
	if s := <-handled; s.err == nil {
		t.Error("the handler's context did not end")
	}
	<-ctx.Done()
	_, err = echo(ctx, c, nil)
	want(t, err, ipc.CodeDeadlineExceeded, ipc.NotSent)
}

// distantDeadlines makes calls with deadlines farther away than a time.Duration reaches.
func distantDeadlines(t *testing.T, v ipc.RendezvousOption) {
	host(t, v, echoService())
	c := dial(t, v)
	for _, year := range []int{2300, 3000, 9999} {
		ctx, cancel := context.WithDeadline(t.Context(),
			time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC))
		if _, err := echo(ctx, c, nil); err != nil {
			t.Errorf("a call with a deadline in the year %d: %v", year, err)
		}
		cancel()
	}
	ctx, cancel := context.WithDeadline(t.Context(), time.Time{})
	defer cancel()
	_, err := echo(ctx, c, nil)
	want(t, err, ipc.CodeDeadlineExceeded, ipc.NotSent)
}

func cancellationReachesTheServer(t *testing.T, v ipc.RendezvousOption) {
	entered, left := make(chan struct{}), make(chan error)
	host(t, v, echoService(), ipc.WithServerInterceptor(
		func(ctx context.Context, call *ipc.ServerCall, next func(context.Context) error) error {
			if call.Method.Name != "Block" {
				return next(ctx)
			}
			close(entered)
			err := next(ctx)
			left <- ctx.Err()
			return err
		}))
	c := dial(t, v)
	ctx, cancel := context.WithCancel(t.Context())
	result := invoke(ctx, c, methodBlock, "")
	<-entered
	cancel()
	if err := <-left; err != context.Canceled {
		t.Errorf("the handler's context ended with %v", err)
	}
	err := <-result
	want(t, err, ipc.CodeCanceled, ipc.OutcomeUnknown)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v is no context.Canceled", err)
	}
	_, err = echo(ctx, c, nil)
	want(t, err, ipc.CodeCanceled, ipc.NotSent)
	still(t, c)
}

func lateRepliesAreDropped(t *testing.T, v ipc.RendezvousOption) {
	entered, release := make(chan struct{}), make(chan struct{})
	host(t, v, echoService(ipc.Handle(methodCrash, func(context.Context, *blob) (*blob, error) {
		close(entered)
		<-release // whatever the context says
		return &blob{[]byte("late")}, nil
	})))
	c := dial(t, v)
	ctx, cancel := context.WithCancel(t.Context())
	result := invoke(ctx, c, methodCrash, "")
	<-entered
	cancel()
	want(t, <-result, ipc.CodeCanceled, ipc.OutcomeUnknown)
	close(release)
	for c.Stats().Dropped == 0 {
		still(t, c) // the late reply is before one of these
	}
	if s := c.Stats(); s.Dropped != 1 || s.CallsInFlight != 0 {
		t.Errorf("stats %+v", s)
	}
}

func errorsOfHandlers(t *testing.T, v ipc.RendezvousOption) {
	plain := errors.New("plain")
	host(t, v, echoes(ipc.Handle(methodFail, func(_ context.Context, m *blob) (*blob, error) {
		switch string(m.data) {
		case "coded":
			return nil, ipc.Errorf(ipc.CodeNotFound, "no such %s", "thing")
		case "wrapped":
			return nil, fmt.Errorf("while reading: %w",
				ipc.Errorf(ipc.CodeFailedPrecondition, "not open"))
		case "plain":
			return nil, plain
		case "context":
			return nil, context.Canceled
		case "long":
			return nil, errors.New(strings.Repeat("x", 1<<20))
		}
		return nil, nil
	}), ipc.Handle(methodEcho, func(_ context.Context, m *blob) (*blob, error) { return m, nil })))
	c := dial(t, v)
	for _, tt := range []struct {
		request string
		code    ipc.Code
		text    string
	}{
		{"coded", ipc.CodeNotFound, "no such thing"},
		{"wrapped", ipc.CodeFailedPrecondition, "while reading"},
		{"plain", ipc.CodeUnknown, "plain"},
		{"context", ipc.CodeCanceled, ""},
		{"long", ipc.CodeUnknown, "1048576 bytes in all"},
		{"neither", ipc.CodeInternal, "neither a reply nor an error"},
	} {
		_, err := ipc.Invoke(t.Context(), c, methodFail, &blob{[]byte(tt.request)})
		want(t, err, tt.code, ipc.Executed, tt.text, "call test.Echo/Fail")
		var e *ipc.Error
		if !errors.As(err, &e) || !e.Remote {
			t.Errorf("%s: %#v does not come from the peer", tt.request, err)
		}
	}
	_, err := ipc.Invoke(t.Context(), c, methodCrash, &blob{})
	want(t, err, ipc.CodeUnimplemented, ipc.NotExecuted)
	still(t, c)
}

func panicEndsItsCallAlone(t *testing.T, v ipc.RendezvousOption) {
	host(t, v, echoService())
	c := dial(t, v)
	ctx, cancel := context.WithCancel(t.Context())
	blocked := invoke(ctx, c, methodBlock, "")
	for range 3 {
		_, err := ipc.Invoke(t.Context(), c, methodPanic, &blob{})
		want(t, err, ipc.CodeInternal, ipc.Executed, "on purpose")
	}
	still(t, c)
	select {
	case err := <-blocked:
		t.Errorf("another call ended: %v", err)
	default:
	}
	cancel()
	<-blocked
}

func malformedMessages(t *testing.T, v ipc.RendezvousOption) {
	garbage := func(b *flatbuffers.Builder, _ uint64, m *blob) error {
		b.Finish(b.CreateByteVector([]byte("shorter than it says")))
		b.FinishedBytes()[0] = 0xff
		return nil
	}
	same := &blob{}
	bad := ipc.NewMethod(echoProtocol, ipc.MethodSpec[blob, blob]{
		Name: "Echo", ID: methodEcho.Info().ID, EncodeRequest: garbage, DecodeReply: decodeBlob})
	badReply := ipc.NewMethod(echoProtocol, ipc.MethodSpec[blob, blob]{
		Name: "News", ID: methodNews.Info().ID, DecodeRequest: decodeBlob,
		EncodeReply: func(b *flatbuffers.Builder, _, _ uint64, m *blob) error {
			return garbage(b, 0, m)
		}})
	unencodable := ipc.NewMethod(echoProtocol, ipc.MethodSpec[blob, blob]{
		Name: "Echo", ID: methodEcho.Info().ID,
		EncodeRequest: func(*flatbuffers.Builder, uint64, *blob) error {
			return errors.New("a required field is missing")
		}})
	handle := func(_ context.Context, m *blob) (*blob, error) { return m, nil }
	host(t, v, echoes(ipc.Handle(methodEcho, handle), ipc.Handle(badReply, handle)))
	c := dial(t, v)

	_, err := ipc.Invoke(t.Context(), c, bad, same)
	want(t, err, ipc.CodeInvalidArgument, ipc.NotExecuted, "malformed request")
	_, err = ipc.Invoke(t.Context(), c, methodNews, same)
	want(t, err, ipc.CodeCorrupt, ipc.Executed, "malformed reply")
	if n := c.Stats().Malformed; n != 1 {
		t.Errorf("%d malformed messages counted, want 1", n)
	}
	_, err = ipc.Invoke(t.Context(), c, unencodable, same)
	want(t, err, ipc.CodeInvalidArgument, ipc.NotSent, "a required field is missing")
	still(t, c)
}

func sequenceNumbers(t *testing.T, v ipc.RendezvousOption) {
	seqs := make(chan uint64, 4)
	host(t, v, echoService(), ipc.WithServerInterceptor(
		func(ctx context.Context, call *ipc.ServerCall, next func(context.Context) error) error {
			seqs <- call.Seq
			return next(ctx)
		}))
	c := dial(t, v)
	for _, tt := range []struct{ given, want uint64 }{{0, 1}, {0, 2}, {4711, 4711}, {0, 3}} {
		call := ipc.Call{Method: methodEcho.Info(), Seq: tt.given, Request: &blob{}, Reply: &blob{}}
		if err := c.Invoke(t.Context(), call); err != nil {
			t.Fatal(err)
		}
		if seq := <-seqs; seq != tt.want {
			t.Errorf("call with number %d has number %d at the server, want %d",
				tt.given, seq, tt.want)
		}
	}
}

func interceptors(t *testing.T, v ipc.RendezvousOption) {
	var mu sync.Mutex
	var trace []string
	note := func(s string) {
		mu.Lock()
		defer mu.Unlock()
		trace = append(trace, s)
	}
	type key struct{}
	server := func(name string) ipc.ServerOption {
		return ipc.WithServerInterceptor(func(ctx context.Context, call *ipc.ServerCall,
			next func(context.Context) error) error {
			note("server " + name)
			if string(call.Request.(*blob).data) == "forbidden" {
				return ipc.Errorf(ipc.CodePermissionDenied, "not you")
			}
			err := next(context.WithValue(ctx, key{}, name))
			if err == nil {
				call.Reply.(*blob).data = append(call.Reply.(*blob).data, name...)
			}
			note("server " + name + " done")
			return err
		})
	}
	client := func(name string) ipc.DialOption {
		return ipc.WithClientInterceptor(func(ctx context.Context, call ipc.Call,
			next ipc.Caller) error {
			note("client " + name)
			if string(call.Request.(*blob).data) == "cached" {
				call.Reply.(*blob).data = []byte("from the cache")
				return nil
			}
			err := next.Invoke(ctx, call)
			note("client " + name + " done")
			return err
		})
	}
	host(t, v, server("a"), server("b"),
		echoes(ipc.Handle(methodEcho, func(ctx context.Context, m *blob) (*blob, error) {
			note(fmt.Sprint("handler after ", ctx.Value(key{})))
			return m, nil
		})))
	c := dial(t, v, client("x"), client("y"))

	got, err := echo(t.Context(), c, []byte("-"))
	if err != nil || string(got) != "-ba" {
		t.Errorf("got %q, %v", got, err)
	}
	mu.Lock()
	all := strings.Join(trace, ", ")
	mu.Unlock()
	if all != "client x, client y, server a, server b, handler after b, server b done, server a "+
		"done, client y done, client x done" {
		t.Errorf("order: %s", all)
	}
	_, err = echo(t.Context(), c, []byte("forbidden"))
	want(t, err, ipc.CodePermissionDenied, ipc.Executed, "not you")
	if got, err := echo(t.Context(), c, []byte("cached")); err != nil ||
		string(got) != "from the cache" {
		t.Errorf("got %q, %v", got, err)
	}
}

// A reign is a fence that admits one epoch.
type reign struct {
	mu    sync.Mutex
	epoch uint64
}

func (r *reign) set(epoch uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.epoch = epoch
}

func (r *reign) Epoch() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.epoch
}

func (r *reign) Admit(epoch uint64) error {
	if now := r.Epoch(); epoch != 0 && epoch != now {
		return fmt.Errorf("epoch %d, this is %d", epoch, now)
	}
	return nil
}

func fences(t *testing.T, v ipc.RendezvousOption) {
	server, client := &reign{epoch: 7}, &reign{epoch: 7}
	var during atomic.Pointer[func()]
	meanwhile := func(f func()) { during.Store(&f) }
	meanwhile(func() {})
	host(t, v, ipc.WithFence(server),
		echoes(ipc.Handle(methodEcho, func(_ context.Context, m *blob) (*blob, error) {
			(*during.Load())()
			return m, nil
		})))
	c, unfenced := dial(t, v, ipc.WithEpoch(client)), dial(t, v)
	still(t, c)

	client.set(6)
	_, err := echo(t.Context(), c, nil)
	want(t, err, ipc.CodeFenced, ipc.NotExecuted, "epoch 6, this is 7")
	still(t, unfenced)

	client.set(7)
	meanwhile(func() { server.set(8) }) // the reign ends while the call is handled
	_, err = echo(t.Context(), c, nil)
	want(t, err, ipc.CodeFenced, ipc.OutcomeUnknown, "epoch 7, this is 8")

	client.set(8)
	meanwhile(func() { client.set(9) }) // the client learns of a later one meanwhile
	_, err = echo(t.Context(), c, nil)
	want(t, err, ipc.CodeFenced, ipc.OutcomeUnknown, "epoch 8, which is over")
}
