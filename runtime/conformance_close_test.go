package ipc_test

import (
	"context"
	"runtime"
	"sync"
	"testing"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// expectOver checks that a connection is at its end.
func expectOver(t *testing.T, c *ipc.Conn) {
	t.Helper()
	<-c.Done()
	want(t, c.Err(), ipc.CodeUnavailable, ipc.OutcomeUnknown)
	_, err := echo(t.Context(), c, nil)
	want(t, err, ipc.CodeUnavailable, ipc.NotSent)
	want(t, note(t.Context(), c, ""), ipc.CodeUnavailable, ipc.NotSent)
	if err := c.Close(); err != nil {
		t.Errorf("Close at the end: %v", err)
	}
}

func closeOfTheClient(t *testing.T, v ipc.RendezvousOption) {
	svc, entered, left := blocking()
	srv := host(t, v, svc)
	c := dial(t, v)
	if err := c.Err(); err != nil {
		t.Errorf("error of a live connection: %v", err)
	}
	result := invoke(t.Context(), c, methodBlock, "")
	<-entered
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	want(t, <-result, ipc.CodeUnavailable, ipc.OutcomeUnknown, "closed by this side")
	<-left
	wg.Wait()
	expectOver(t, c)
	for srv.Conns() > 0 {
		runtime.Gosched()
	}
	still(t, dial(t, v))
}

// closeDeliversWhatWasSent closes a connection while its ring has messages that the server has not
// read, because their handler is slow. The server handles all of them.
func closeDeliversWhatWasSent(t *testing.T, v ipc.RendezvousOption) {
	got := make(chan string)
	host(t, v, echoService(notes(got)))
	c := dial(t, v, small()...)
	n := fill(t, c)
	c.Close()
	expectNumbers(t, got, n)
}

func closeOfTheServer(t *testing.T, v ipc.RendezvousOption) {
	svc, entered, left := blocking()
	srv := host(t, v, svc)
	c := dial(t, v)
	result := invoke(t.Context(), c, methodBlock, "")
	<-entered
	for range 2 {
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
	}
	<-left
	want(t, <-result, ipc.CodeUnavailable, ipc.OutcomeUnknown)
	expectOver(t, c)
	_, err := ipc.Dial(t.Context(), "echo", v)
	want(t, err, ipc.CodeUnavailable, ipc.NotSent)
	host(t, v, echoService()) // the name is free
	still(t, dial(t, v))
}

func shutdownLetsCallsFinish(t *testing.T, v ipc.RendezvousOption) {
	entered, gate := make(chan struct{}), make(chan struct{})
	srv := host(t, v, echoService(ipc.Handle(methodCrash,
		func(_ context.Context, m *blob) (*blob, error) {
			close(entered)
			<-gate
			return m, nil
		})))
	c := dial(t, v)
	result := invoke(t.Context(), c, methodCrash, "")
	<-entered
	down := make(chan error, 1)
	go func() { down <- srv.Shutdown(t.Context()) }()
	for {
		_, err := echo(t.Context(), c, nil)
		if err == nil {
			continue // the client does not know yet
		}
		want(t, err, ipc.CodeUnavailable, ipc.NotSent, "shutting down")
		break
	}
	if _, err := ipc.Dial(t.Context(), "echo", v); ipc.OutcomeOf(err) != ipc.NotSent {
		t.Errorf("a new client: %v", err)
	}
	select {
	case err := <-down:
		t.Errorf("Shutdown returned %v while a call was being handled", err)
	default:
	}
	close(gate)
	if err := <-result; err != nil {
		t.Errorf("the call in flight: %v", err)
	}
	if err := <-down; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	expectOver(t, c)
	if err := srv.Shutdown(t.Context()); err != nil {
		t.Errorf("second Shutdown: %v", err)
	}
}

func endOfServe(t *testing.T, v ipc.RendezvousOption) {
	type key struct{}
	svc, entered, left := blocking()
	values := make(chan any, 1)
	srv := ipc.NewServer(svc, ipc.WithServerInterceptor(
		func(ctx context.Context, _ *ipc.ServerCall, next func(context.Context) error) error {
			values <- ctx.Value(key{})
			return next(ctx)
		}))
	l, err := ipc.Listen("echo", v)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithValue(context.Background(), key{}, "value"))
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ctx, l) }()
	c := dial(t, v)
	result := invoke(t.Context(), c, methodBlock, "")
	<-entered
	if v := <-values; v != "value" {
		t.Errorf("the handler's context has value %v", v)
	}
	cancel()
	if err := <-served; err != context.Canceled {
		t.Errorf("Serve: %v", err)
	}
	<-left
	want(t, <-result, ipc.CodeUnavailable, ipc.OutcomeUnknown)
	expectOver(t, c)
	if l, err = ipc.Listen("echo", v); err != nil {
		t.Fatal(err)
	}
	if err := srv.Serve(context.Background(), l); err != ipc.ErrServerClosed {
		t.Errorf("Serve after the end: %v", err)
	}
}
