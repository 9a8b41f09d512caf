package conformance

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
	"github.com/ipcgen/ipcgen/internal/echo"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

func callsOfEverySize(t *testing.T, v *venue) {
	v.host(echo.Service())
	c := v.dial(t)
	for _, n := range []int{0, 1, 64, 4 << 10, 60 << 10, v.longest(64 << 10), v.longest(300 << 10),
		v.longest(5 << 20)} {
		data := bytes.Repeat([]byte{byte(n), 7, 1}, n/3+1)[:n]
		got, err := echo.Call(t.Context(), c, data)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes: %d came back, %v", n, len(got), err)
		}
	}
}

// repliesInAnyOrder answers calls of one connection in the opposite order.
func repliesInAnyOrder(t *testing.T, v *venue) {
	const calls = 20
	arrived := make(chan struct{}, calls)
	var turns [calls + 1]chan struct{}
	for i := range turns {
		turns[i] = make(chan struct{})
	}
	over := t.Context()
	v.host(echo.Of(ipc.Handle(echo.Echo, func(_ context.Context, m *echo.Blob) (*echo.Blob, error) {
		i := m.Data[0]
		arrived <- struct{}{}
		select {
		case <-turns[i+1]: // after the next one
		case <-over.Done():
		}
		defer close(turns[i])
		return m, nil
	})))
	c := v.dial(t)
	var wg sync.WaitGroup
	failed := make(chan error, calls)
	for i := range calls {
		wg.Go(func() {
			if got, err := echo.Call(t.Context(), c, []byte{byte(i)}); err != nil ||
				got[0] != byte(i) {
				failed <- fmt.Errorf("call %d: %v, %w", i, got, err)
			}
		})
	}
	for range calls {
		await(t, arrived, failed)
	}
	if stats, ok := statsOf(c); ok && stats.CallsInFlight != calls {
		t.Errorf("%d calls in flight, want %d", stats.CallsInFlight, calls)
	}
	close(turns[calls])
	wg.Wait()
	for len(failed) > 0 {
		t.Error(<-failed)
	}
}

func manyCallers(t *testing.T, v *venue) {
	v.host(echo.Service())
	c := v.dial(t)
	const callers, calls = 16, 300
	var wg sync.WaitGroup
	for g := range callers {
		wg.Go(func() {
			for i := range calls {
				data := bytes.Repeat([]byte{byte(g), byte(i)}, i*(g+1))
				if got, err := echo.Call(t.Context(), c, data); err != nil ||
					!bytes.Equal(got, data) {
					t.Errorf("caller %d, call %d: %v", g, i, err)
					return
				}
			}
		})
	}
	wg.Wait()
	if s, ok := statsOf(c); ok && (s.Dropped != 0 || s.CallsInFlight != 0 ||
		s.Sent != callers*calls || s.Received != callers*calls) {
		t.Errorf("stats %+v", s)
	}
}

// slowCallDelaysNoOther makes calls while others of the connection are being
// handled.
func slowCallDelaysNoOther(t *testing.T, v *venue) {
	svc, entered, release := waiting(t)
	v.host(svc)
	c := v.dial(t)
	var slow [3]<-chan error
	for i := range slow {
		slow[i] = echo.Invoke(t.Context(), c, echo.Block, "")
		await(t, entered, slow[i])
		for range 10 {
			echo.Still(t, c)
		}
	}
	release()
	for _, result := range slow {
		if err := <-result; err != nil {
			t.Error(err)
		}
	}
}

func deadlinesReachTheServer(t *testing.T, v *venue) {
	type seen struct {
		deadline time.Time
		ok       bool
		err      error
	}
	handled := make(chan seen, 32)
	v.host(echo.Of(
		ipc.Handle(echo.Echo, func(ctx context.Context, m *echo.Blob) (*echo.Blob, error) {
			d, ok := ctx.Deadline()
			handled <- seen{d, ok, ctx.Err()}
			return m, nil
		}),
		ipc.Handle(echo.Block, func(ctx context.Context, _ *echo.Blob) (*echo.Blob, error) {
			<-ctx.Done()
			handled <- seen{err: ctx.Err()}
			return nil, ctx.Err()
		})))
	c := v.dial(t)
	if _, err := echo.Call(context.Background(), c, nil); err != nil {
		t.Fatal(err)
	}
	if s := <-handled; s.ok || s.err != nil {
		t.Errorf("handler of a call without a deadline saw %+v", s)
	}

	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	if _, err := echo.Call(ctx, c, nil); err != nil {
		t.Fatal(err)
	}
	d, _ := ctx.Deadline()
	if s := <-handled; !s.ok || s.deadline.Sub(d).Abs() > time.Minute || s.err != nil {
		t.Errorf("handler of a call with deadline %v saw %+v", d, s)
	}

	// On a busy machine a deadline may pass before the handler is called, which it then is not.
	for limit := 20 * time.Millisecond; ; limit *= 2 {
		ctx, cancel = context.WithTimeout(t.Context(), limit)
		defer cancel()
		_, err := ipc.Invoke(ctx, c, echo.Block, &echo.Blob{})
		if ipc.CodeOf(err) != ipc.CodeDeadlineExceeded ||
			!errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("call whose deadline passed: %v", err)
		}
		select {
		case s := <-handled:
			if s.err == nil {
				t.Error("the handler's context did not end")
			}
		case <-time.After(limit):
			continue
		}
		break
	}
	<-ctx.Done()
	_, err := echo.Call(ctx, c, nil)
	echo.Want(t, err, ipc.CodeDeadlineExceeded, ipc.NotSent)
}

// distantDeadlines makes calls with deadlines farther away than a time.Duration reaches.
func distantDeadlines(t *testing.T, v *venue) {
	v.host(echo.Service())
	c := v.dial(t)
	for _, year := range []int{2300, 3000, 9999} {
		ctx, cancel := context.WithDeadline(t.Context(),
			time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC))
		if _, err := echo.Call(ctx, c, nil); err != nil {
			t.Errorf("a call with a deadline in the year %d: %v", year, err)
		}
		cancel()
	}
	ctx, cancel := context.WithDeadline(t.Context(), time.Time{})
	defer cancel()
	_, err := echo.Call(ctx, c, nil)
	echo.Want(t, err, ipc.CodeDeadlineExceeded, ipc.NotSent)
}

func cancellationReachesTheServer(t *testing.T, v *venue) {
	entered, left := make(chan struct{}), make(chan error)
	v.host(echo.Service(), ipc.WithServerInterceptor(
		func(ctx context.Context, call *ipc.ServerCall, next func(context.Context) error) error {
			if call.Method.Name != "Block" {
				return next(ctx)
			}
			close(entered)
			err := next(ctx)
			left <- ctx.Err()
			return err
		}))
	c := v.dial(t)
	ctx, cancel := context.WithCancel(t.Context())
	result := echo.Invoke(ctx, c, echo.Block, "")
	await(t, entered, result)
	cancel()
	if err := <-left; err != context.Canceled {
		t.Errorf("the handler's context ended with %v", err)
	}
	err := <-result
	echo.Want(t, err, ipc.CodeCanceled, ipc.OutcomeUnknown)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v is no context.Canceled", err)
	}
	_, err = echo.Call(ctx, c, nil)
	echo.Want(t, err, ipc.CodeCanceled, ipc.NotSent)
	echo.Still(t, c)
}

func errorsOfHandlers(t *testing.T, v *venue) {
	plain := errors.New("plain")
	v.host(echo.Of(ipc.Handle(echo.Fail, func(_ context.Context, m *echo.Blob) (*echo.Blob, error) {
		switch string(m.Data) {
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
	}), ipc.Handle(echo.Echo, func(_ context.Context, m *echo.Blob) (*echo.Blob, error) {
		return m, nil
	})))
	c := v.dial(t)
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
		_, err := ipc.Invoke(t.Context(), c, echo.Fail, &echo.Blob{Data: []byte(tt.request)})
		echo.Want(t, err, tt.code, ipc.Executed, tt.text, "call test.Echo/Fail")
		var e *ipc.Error
		if !errors.As(err, &e) || !e.Remote {
			t.Errorf("%s: %#v does not come from the peer", tt.request, err)
		}
	}
	_, err := ipc.Invoke(t.Context(), c, echo.Crash, &echo.Blob{})
	echo.Want(t, err, ipc.CodeUnimplemented, ipc.NotExecuted)
	echo.Still(t, c)
}

// outcomesOfHandlers shows that an error that a handler passes on says nothing of the call that it
// handles: an answer means that the handler has run, unless it says itself that it has not.
func outcomesOfHandlers(t *testing.T, v *venue) {
	nested := &ipc.Error{Code: ipc.CodeUnavailable, Op: "call other/Thing", Outcome: ipc.NotSent}
	answers := map[string]struct {
		err     error
		code    ipc.Code
		outcome ipc.Outcome
	}{
		"not sent": {nested, ipc.CodeUnavailable, ipc.Executed},
		"not executed": {&ipc.Error{Code: ipc.CodeFenced, Remote: true, Outcome: ipc.NotExecuted},
			ipc.CodeFenced, ipc.Executed},
		"wrapped": {ipc.Errorf(ipc.CodeUnavailable, "the store: %w", nested), ipc.CodeUnavailable,
			ipc.Executed},
		"refused": {&ipc.Error{Code: ipc.CodeFailedPrecondition, Outcome: ipc.NotExecuted},
			ipc.CodeFailedPrecondition, ipc.NotExecuted},
		"unimplemented": {ipc.Unimplemented("test.Echo/Echo"), ipc.CodeUnimplemented,
			ipc.NotExecuted},
	}
	v.host(echo.Of(ipc.Handle(echo.Echo, func(_ context.Context,
		m *echo.Blob) (*echo.Blob, error) {
		return m, answers[string(m.Data)].err
	})))
	c := v.dial(t)
	for text, answer := range answers {
		_, err := echo.Call(t.Context(), c, []byte(text))
		echo.Want(t, err, answer.code, answer.outcome)
	}
	echo.Still(t, c)
}

func panicEndsItsCallAlone(t *testing.T, v *venue) {
	svc, entered, release := waiting(t)
	v.host(echo.Of(ipc.Handle(echo.Panic, func(context.Context, *echo.Blob) (*echo.Blob, error) {
		panic("on purpose")
	})), svc)
	c := v.dial(t)
	blocked := echo.Invoke(t.Context(), c, echo.Block, "")
	await(t, entered, blocked)
	for range 3 {
		_, err := ipc.Invoke(t.Context(), c, echo.Panic, &echo.Blob{})
		echo.Want(t, err, ipc.CodeInternal, ipc.Executed, "on purpose")
	}
	echo.Still(t, c)
	select {
	case err := <-blocked:
		t.Errorf("another call ended: %v", err)
	default:
	}
	release()
	if err := <-blocked; err != nil {
		t.Error(err)
	}
}

// garbage encodes what cannot be decoded.
func garbage(b *flatbuffers.Builder, _ uint64, _ *echo.Blob) error {
	b.Finish(b.CreateByteVector([]byte("shorter than it says")))
	b.FinishedBytes()[0] = 0xff
	return nil
}

func malformedMessages(t *testing.T, v *venue) {
	same := &echo.Blob{}
	bad := ipc.NewMethod(echo.Protocol, ipc.MethodSpec[echo.Blob, echo.Blob]{
		Name: "Echo", ID: echo.Echo.Info().ID, EncodeRequest: garbage, DecodeReply: echo.Decode})
	badReply := ipc.NewMethod(echo.Protocol, ipc.MethodSpec[echo.Blob, echo.Blob]{
		Name: "News", ID: echo.News.Info().ID, DecodeRequest: echo.Decode,
		EncodeReply: func(b *flatbuffers.Builder, _, _ uint64, m *echo.Blob) error {
			return garbage(b, 0, m)
		}})
	unencodable := ipc.NewMethod(echo.Protocol, ipc.MethodSpec[echo.Blob, echo.Blob]{
		Name: "Echo", ID: echo.Echo.Info().ID,
		EncodeRequest: func(*flatbuffers.Builder, uint64, *echo.Blob) error {
			return errors.New("a required field is missing")
		}})
	handle := func(_ context.Context, m *echo.Blob) (*echo.Blob, error) { return m, nil }
	v.host(echo.Of(ipc.Handle(echo.Echo, handle), ipc.Handle(badReply, handle)))
	c := v.dial(t)

	_, err := ipc.Invoke(t.Context(), c, bad, same)
	echo.Want(t, err, ipc.CodeInvalidArgument, ipc.NotExecuted, "malformed request")
	_, err = ipc.Invoke(t.Context(), c, echo.News, same)
	echo.Want(t, err, ipc.CodeCorrupt, ipc.Executed, "malformed reply")
	if stats, ok := statsOf(c); ok && stats.Malformed != 1 {
		t.Errorf("%d malformed messages counted, want 1", stats.Malformed)
	}
	_, err = ipc.Invoke(t.Context(), c, unencodable, same)
	echo.Want(t, err, ipc.CodeInvalidArgument, ipc.NotSent, "a required field is missing")
	echo.Still(t, c)
}

func sequenceNumbers(t *testing.T, v *venue) {
	seqs := make(chan uint64, 4)
	v.host(echo.Service(), ipc.WithServerInterceptor(
		func(ctx context.Context, call *ipc.ServerCall, next func(context.Context) error) error {
			seqs <- call.Seq
			return next(ctx)
		}))
	c := v.dial(t)
	for _, tt := range []struct{ given, want uint64 }{{0, 1}, {0, 2}, {4711, 4711}, {0, 3}} {
		call := ipc.Call{Method: echo.Echo.Info(), Seq: tt.given, Request: &echo.Blob{},
			Reply: &echo.Blob{}}
		if err := c.Invoke(t.Context(), call); err != nil {
			t.Fatal(err)
		}
		if seq := <-seqs; seq != tt.want {
			t.Errorf("call with number %d has number %d at the server, want %d",
				tt.given, seq, tt.want)
		}
	}
}

func interceptors(t *testing.T, v *venue) {
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
			if string(call.Request.(*echo.Blob).Data) == "forbidden" {
				return ipc.Errorf(ipc.CodePermissionDenied, "not you")
			}
			err := next(context.WithValue(ctx, key{}, name))
			if err == nil {
				call.Reply.(*echo.Blob).Data = append(call.Reply.(*echo.Blob).Data, name...)
			}
			note("server " + name + " done")
			return err
		})
	}
	client := func(name string) ipc.DialOption {
		return ipc.WithClientInterceptor(func(ctx context.Context, call ipc.Call,
			next ipc.Caller) error {
			note("client " + name)
			if string(call.Request.(*echo.Blob).Data) == "cached" {
				call.Reply.(*echo.Blob).Data = []byte("from the cache")
				return nil
			}
			err := next.Invoke(ctx, call)
			note("client " + name + " done")
			return err
		})
	}
	v.host(server("a"), server("b"),
		echo.Of(ipc.Handle(echo.Echo, func(ctx context.Context, m *echo.Blob) (*echo.Blob, error) {
			note(fmt.Sprint("handler after ", ctx.Value(key{})))
			return m, nil
		})))
	c := v.dial(t, client("x"), client("y"))

	got, err := echo.Call(t.Context(), c, []byte("-"))
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
	_, err = echo.Call(t.Context(), c, []byte("forbidden"))
	echo.Want(t, err, ipc.CodePermissionDenied, ipc.Executed, "not you")
	if got, err := echo.Call(t.Context(), c, []byte("cached")); err != nil ||
		string(got) != "from the cache" {
		t.Errorf("got %q, %v", got, err)
	}
}

func fences(t *testing.T, v *venue) {
	server, client := echo.NewReign(7), echo.NewReign(7)
	var during atomic.Pointer[func()]
	meanwhile := func(f func()) { during.Store(&f) }
	meanwhile(func() {})
	v.host(ipc.WithFence(server),
		echo.Of(ipc.Handle(echo.Echo, func(_ context.Context, m *echo.Blob) (*echo.Blob, error) {
			(*during.Load())()
			return m, nil
		})))
	c, unfenced := v.dial(t, ipc.WithEpoch(client)), v.dial(t)
	echo.Still(t, c)

	client.Set(6)
	_, err := echo.Call(t.Context(), c, nil)
	echo.Want(t, err, ipc.CodeFenced, ipc.NotExecuted, "epoch 6, this is 7")
	echo.Still(t, unfenced)

	client.Set(7)
	meanwhile(func() { server.Set(8) }) // the reign ends while the call is handled
	_, err = echo.Call(t.Context(), c, nil)
	echo.Want(t, err, ipc.CodeFenced, ipc.OutcomeUnknown, "epoch 7, this is 8")

	client.Set(8)
	meanwhile(func() { client.Set(9) }) // the client learns of a later one meanwhile
	_, err = echo.Call(t.Context(), c, nil)
	echo.Want(t, err, ipc.CodeFenced, ipc.OutcomeUnknown, "epoch 8, which is over")
}
