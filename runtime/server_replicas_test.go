package ipc_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// passOn is an interceptor that does nothing.
func passOn(ctx context.Context, _ *ipc.ServerCall, next func(context.Context) error) error {
	return next(ctx)
}

// goEcho makes a call on another goroutine.
func goEcho(c *ipc.Conn, data string) <-chan error {
	result := make(chan error, 1)
	go func() {
		rep, err := ipc.Invoke(context.Background(), c, methodEcho, &blob{Data: []byte(data)})
		if err == nil && string(rep.Data) != data {
			err = fmt.Errorf("the answer to %q is %q", data, rep.Data)
		}
		result <- err
	}()
	return result
}

// TestAnswerAfterInside has a call whose interceptor is not the outermost one wait until another
// one of the same client is handled. When wait is called, the other one is read by another
// goroutine, and the place of a spinner is taken until both have ended.
func TestAnswerAfterInside(t *testing.T) {
	d := newDomain(t)
	var calls atomic.Int32
	second := make(chan struct{})
	var srv *ipc.Server
	srv = serve(t, d, ipc.WithServerInterceptor(passOn), ipc.WithServerInterceptor(
		func(ctx context.Context, call *ipc.ServerCall, next func(context.Context) error) error {
			if call.Kind != ipc.KindCall {
				return next(ctx)
			}
			if err := next(ctx); err != nil {
				return err
			}
			if calls.Add(1) == 2 {
				return call.AnswerAfter(func() error { close(second); return nil })
			}
			reading := call.Reading()
			detached, more := reading()
			for ; !detached && !more; detached, more = reading() {
				runtime.Gosched()
			}
			waited := false
			err := call.AnswerAfter(func() error {
				waited = true
				if detached, _ = reading(); !detached {
					t.Error("the reader waits with the handler")
				}
				if srv.Spinners() == 0 {
					t.Error("a call that waits for another process has not the place of a spinner")
				}
				<-second
				return nil
			})
			if !waited {
				t.Error("the answer is put off, and the outer interceptor does not know")
			}
			return err
		}))
	c := dial(t, d)
	first := goEcho(c, "first")
	for calls.Load() == 0 {
		runtime.Gosched()
	}
	if err := <-goEcho(c, "second"); err != nil {
		t.Error(err)
	}
	if err := <-first; err != nil {
		t.Error(err)
	}
	for srv.Spinners() != 0 { // until the reader sleeps, too
		runtime.Gosched()
	}
}

// TestAnswerAfterTheCall has an interceptor return while those further in go on, of which one has
// the answer wait. The call has been answered, and its memory is for other calls.
func TestAnswerAfterTheCall(t *testing.T) {
	inside, answered, over := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	waited := false
	d := newDomain(t)
	srv := serve(t, d, ipc.WithServerInterceptor(
		func(ctx context.Context, call *ipc.ServerCall, next func(context.Context) error) error {
			if call.Kind != ipc.KindCall {
				return next(ctx)
			}
			go func() { over <- next(context.WithoutCancel(ctx)) }()
			<-inside
			return ipc.Errorf(ipc.CodeResourceExhausted, "it takes too long")
		}), ipc.WithServerInterceptor(
		func(ctx context.Context, call *ipc.ServerCall, next func(context.Context) error) error {
			if call.Kind != ipc.KindCall {
				return next(ctx)
			}
			if err := next(ctx); err != nil {
				return err
			}
			close(inside)
			<-answered
			return call.AnswerAfter(func() error { waited = true; return nil })
		}))
	c := dial(t, d)
	if err := <-goEcho(c, "first"); ipc.CodeOf(err) != ipc.CodeResourceExhausted {
		t.Error(err)
	}
	close(answered)
	if err := <-over; err != nil || !waited {
		t.Errorf("%v, waited: %v", err, waited)
	}
	for srv.Spinners() != 0 { // until the reader sleeps; no call waits for another process
		runtime.Gosched()
	}
}

// TestAnswerAfter has the reader find a second call when it has run the first one. It runs the
// second one, too, before it waits for the answers, and it waits for the last one first. The wait
// of one call may fail.
func TestAnswerAfter(t *testing.T) {
	for !answersTogether(t) { // the watchdog may find the first call slow
	}
}

// answersTogether reports whether the reader has run both calls.
func answersTogether(t *testing.T) (together bool) {
	d := newDomain(t)
	var ran atomic.Int32
	var apart atomic.Bool
	waits := make(chan string, 2)
	serve(t, d, ipc.WithServerInterceptor(
		func(ctx context.Context, call *ipc.ServerCall, next func(context.Context) error) error {
			if call.Kind != ipc.KindCall {
				return next(ctx)
			}
			n := ran.Add(1)
			reading := call.Reading()
			detached, more := reading()
			for n == 1 && !detached && !more {
				runtime.Gosched()
				detached, more = reading()
			}
			if err := next(ctx); err != nil {
				return err
			}
			return call.AnswerAfter(func() error {
				if detached, _ := reading(); detached {
					apart.Store(true)
				}
				waits <- fmt.Sprintf("call %d after %d were run", n, ran.Load())
				if n == 1 {
					return errors.New("the first change is lost")
				}
				return nil
			})
		}))
	c := dial(t, d)
	first := goEcho(c, "first")
	for ran.Load() == 0 {
		runtime.Gosched()
	}
	if err := <-goEcho(c, "second"); err != nil {
		t.Error(err)
	}
	if err := <-first; err == nil {
		t.Error("the first call succeeds although its wait fails")
	}
	if apart.Load() {
		return false
	}
	for _, want := range []string{"call 2 after 2 were run", "call 1 after 2 were run"} {
		if got := <-waits; got != want {
			t.Errorf("a wait for %s, want %s", got, want)
		}
	}
	return true
}

// TestAnswerAfterTakesLong has the answer of a call wait until another call of the same client is
// answered. The server reads the other one meanwhile, counts the first one as one in flight, and
// does not shut down without it.
func TestAnswerAfterTakesLong(t *testing.T) {
	d := newDomain(t)
	var calls atomic.Int32
	began, over := make(chan struct{}), make(chan struct{})
	var peer *ipc.Peer
	srv := serve(t, d, ipc.WithServerInterceptor(
		func(ctx context.Context, call *ipc.ServerCall, next func(context.Context) error) error {
			err := next(ctx)
			if err != nil || call.Kind != ipc.KindCall || calls.Add(1) > 1 {
				return err
			}
			peer = call.Peer
			return call.AnswerAfter(func() error { close(began); <-over; return nil })
		}))
	c := dial(t, d)
	first := goEcho(c, "first")
	<-began
	if err := <-goEcho(c, "second"); err != nil {
		t.Error(err)
	}
	for peer.Stats().CallsInFlight != 1 { // the second call ends after its answer
		runtime.Gosched()
	}
	down := make(chan error, 1)
	go func() { down <- srv.Shutdown(context.Background()) }()
	for ipc.CodeOf(<-goEcho(c, "third")) != ipc.CodeUnavailable {
	}
	select {
	case err := <-down:
		t.Errorf("the server is down before the call is answered: %v", err)
	default:
	}
	close(over)
	if err := <-first; err != nil {
		t.Error(err)
	}
	if err := <-down; err != nil {
		t.Error(err)
	}
}
