package ipc_test

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

func newDomain(t testing.TB) ipc.RendezvousOption {
	return ipc.WithDomain(filepath.Join(t.TempDir(), "domain"))
}

// serve runs a server of the echo protocol until the test ends.
func serve(t testing.TB, domain ipc.RendezvousOption, opts ...ipc.ServerOption) *ipc.Server {
	t.Helper()
	l, err := ipc.Listen("echo", domain)
	if err != nil {
		t.Fatal(err)
	}
	srv := ipc.NewServer(append([]ipc.ServerOption{echoService()}, opts...)...)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(context.Background(), l) }()
	t.Cleanup(func() {
		srv.Close()
		<-done
	})
	return srv
}

func dial(t testing.TB, domain ipc.RendezvousOption, opts ...ipc.DialOption) *ipc.Conn {
	t.Helper()
	c, err := ipc.Dial(context.Background(), "echo", append([]ipc.DialOption{domain}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestCallsOfEverySize(t *testing.T) {
	d := newDomain(t)
	serve(t, d)
	c := dial(t, d)
	for _, n := range []int{0, 1, 64, 4096, 60 << 10, 64 << 10, 300 << 10, 5 << 20} {
		data := bytes.Repeat([]byte{byte(n), 7}, n/2+1)[:n]
		got, err := echo(t.Context(), c, data)
		if err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		if !bytes.Equal(got, data) {
			t.Fatalf("%d bytes came back as other %d bytes", n, len(got))
		}
	}
	_, err := echo(t.Context(), c, make([]byte, ipc.DefaultMaxMessage))
	if ipc.CodeOf(err) != ipc.CodeTooLarge || ipc.OutcomeOf(err) != ipc.NotSent || !strings.Contains(err.Error(), "16777216") {
		t.Errorf("too large: %v", err)
	}
}

func TestManyCallers(t *testing.T) {
	d := newDomain(t)
	serve(t, d)
	c := dial(t, d)
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			for i := range 2000 {
				data := bytes.Repeat([]byte{byte(g), byte(i)}, i%300)
				got, err := echo(t.Context(), c, data)
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("caller %d, call %d: %v", g, i, err)
					return
				}
			}
		})
	}
	wg.Wait()
	if s := c.Stats(); s.Dropped != 0 || s.CallsInFlight != 0 || s.Received != 16*2000 {
		t.Errorf("stats %+v", s)
	}
}

func TestHandlerErrors(t *testing.T) {
	d := newDomain(t)
	serve(t, d)
	c := dial(t, d)
	_, err := ipc.Invoke(t.Context(), c, methodFail, &blob{[]byte("no such thing")})
	if ipc.CodeOf(err) != ipc.CodeNotFound || ipc.OutcomeOf(err) != ipc.Executed || !strings.Contains(err.Error(), "no such thing") {
		t.Errorf("error of a handler: %v", err)
	}
	_, err = ipc.Invoke(t.Context(), c, methodPanic, &blob{})
	if ipc.CodeOf(err) != ipc.CodeInternal || !strings.Contains(err.Error(), "on purpose") {
		t.Errorf("panic of a handler: %v", err)
	}
	_, err = ipc.Invoke(t.Context(), c, methodCrash, &blob{})
	if ipc.CodeOf(err) != ipc.CodeUnimplemented || ipc.OutcomeOf(err) != ipc.NotExecuted {
		t.Errorf("unknown method: %v", err)
	}
	if _, err := echo(t.Context(), c, nil); err != nil {
		t.Errorf("after the errors: %v", err)
	}
}

// TestSlowHandler shows that a call that takes long holds up neither the other
// calls of its connection nor its own cancellation.
func TestSlowHandler(t *testing.T) {
	d := newDomain(t)
	serve(t, d)
	c := dial(t, d)
	ctx, cancel := context.WithCancel(t.Context())
	blocked := make(chan error)
	for range 3 {
		go func() {
			_, err := ipc.Invoke(ctx, c, methodBlock, &blob{})
			blocked <- err
		}()
	}
	for range 100 {
		if _, err := echo(t.Context(), c, []byte("quick")); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	for range 3 {
		if err := <-blocked; ipc.CodeOf(err) != ipc.CodeCanceled {
			t.Errorf("cancelled call: %v", err)
		}
	}
	ctx, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := ipc.Invoke(ctx, c, methodBlock, &blob{}); ipc.CodeOf(err) != ipc.CodeDeadlineExceeded {
		t.Errorf("call with a deadline: %v", err)
	}
}

func TestMessagesBothWays(t *testing.T) {
	d := newDomain(t)
	got := make(chan string, 1000)
	note := ipc.Receive(messageNote, func(_ context.Context, m *blob) error {
		got <- string(m.data)
		return nil
	})
	l, err := ipc.Listen("echo", d)
	if err != nil {
		t.Fatal(err)
	}
	srv := ipc.NewServer(echoService(note))
	done := make(chan error)
	go func() { done <- srv.Serve(t.Context(), l) }()
	c := dial(t, d, ipc.NewService(echoProtocol, note))
	for _, s := range []string{"a", "b", "c"} {
		if err := ipc.Send(t.Context(), c, messageNote, &blob{[]byte(s)}); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range []string{"a", "b", "c"} {
		if m := <-got; m != s {
			t.Errorf("server got %q, want %q", m, s)
		}
	}
	if _, err := ipc.Invoke(t.Context(), c, methodNews, &blob{[]byte("news")}); err != nil {
		t.Fatal(err)
	}
	if m := <-got; m != "news" {
		t.Errorf("client got %q", m)
	}
	if err := srv.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-done; err != ipc.ErrServerClosed {
		t.Errorf("Serve: %v", err)
	}
	<-c.Done()
	if n := c.Receivers(); n != 0 {
		t.Errorf("%d receivers after Shutdown", n)
	}
	if _, err := echo(t.Context(), c, nil); ipc.CodeOf(err) != ipc.CodeUnavailable || ipc.OutcomeOf(err) != ipc.NotSent {
		t.Errorf("call after Shutdown: %v", err)
	}
}

func BenchmarkCall(b *testing.B) {
	d := newDomain(b)
	serve(b, d)
	c := dial(b, d)
	req := &blob{make([]byte, 64)}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ipc.Invoke(context.Background(), c, methodEcho, req); err != nil {
			b.Fatal(err)
		}
	}
}
