package ipc_test

import (
	"context"
	"runtime"
	"sync/atomic"
	"testing"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// TestWillWait has a call wait until another one of the same client is handled. When WillWait has
// returned, the other one is read by another goroutine, and the place of a spinner is taken until
// both have ended.
func TestWillWait(t *testing.T) {
	d := newDomain(t)
	var calls atomic.Int32
	second := make(chan struct{})
	var srv *ipc.Server
	srv = serve(t, d, ipc.WithServerInterceptor(func(ctx context.Context, call *ipc.ServerCall,
		next func(context.Context) error) error {
		if call.Kind != ipc.KindCall {
			return next(ctx)
		}
		if calls.Add(1) == 2 {
			call.WillWait() // nothing follows
			close(second)
			return next(ctx)
		}
		detached, more := call.Reading()
		for ; !detached && !more; detached, more = call.Reading() {
			runtime.Gosched()
		}
		call.WillWait()
		if detached, _ = call.Reading(); !detached {
			t.Error("the reader waits with the handler")
		}
		if srv.Spinners() == 0 {
			t.Error("a handler that waits for another process has not the place of a spinner")
		}
		<-second
		return next(ctx)
	}))
	c := dial(t, d)
	first := make(chan error, 1)
	go func() {
		_, err := ipc.Invoke(context.Background(), c, methodEcho, &blob{})
		first <- err
	}()
	for calls.Load() == 0 {
		runtime.Gosched()
	}
	if _, err := ipc.Invoke(context.Background(), c, methodEcho, &blob{}); err != nil {
		t.Error(err)
	}
	if err := <-first; err != nil {
		t.Error(err)
	}
	for srv.Spinners() != 0 { // until the reader sleeps, too
		runtime.Gosched()
	}
}
