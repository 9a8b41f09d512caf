package natsipc_test

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/internal/echo"
	"github.com/ipcgen/ipcgen/nats"
	"github.com/ipcgen/ipcgen/nats/internal/natstest"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// handling starts a server whose handler of Echo is f, and returns a client.
func handling(t *testing.T, f func(ctx context.Context)) (*natsipc.Server, *natsipc.Conn) {
	t.Helper()
	broker := natstest.Start(t)
	srv := serve(t, broker.ConnectInProcess(t), echo.Of(ipc.Handle(echo.Echo,
		func(ctx context.Context, m *echo.Blob) (*echo.Blob, error) {
			f(ctx)
			return m, nil
		})))
	return srv, dial(t, broker.ConnectInProcess(t))
}

type valueKey struct{}

// TestContextIsKept keeps the contexts of handlers, of which one has asked for the end of its
// context and the other has not. Both are over with their calls.
func TestContextIsKept(t *testing.T) {
	echo.ExpectNothingLeft(t)
	kept := make(chan context.Context, 1)
	for name, ask := range map[string]func(context.Context){
		"asked": func(ctx context.Context) { _ = ctx.Done() },
		"not":   func(context.Context) {},
	} {
		t.Run(name, func(t *testing.T) {
			_, c := handling(t, func(ctx context.Context) {
				ask(ctx)
				if err := ctx.Err(); err != nil {
					t.Errorf("the context has ended in the handler: %v", err)
				}
				if _, ok := ctx.Deadline(); ok {
					t.Error("the context has a deadline")
				}
				kept <- ctx
			})
			echo.Still(t, c)
			ctx := <-kept
			<-ctx.Done()
			if err := ctx.Err(); err != context.Canceled {
				t.Errorf("the context has the error %v", err)
			}
			if err := context.Cause(ctx); err != context.Canceled {
				t.Errorf("the context has the cause %v", err)
			}
			derived, stop := context.WithCancel(context.WithValue(ctx, valueKey{}, 1))
			defer stop()
			<-derived.Done()
			if derived.Value(valueKey{}) != 1 || derived.Value(t) != nil {
				t.Error("the context has other values")
			}
		})
	}
}

// TestContextDeadline has handlers that wait for the deadline of their call, by polling and not.
func TestContextDeadline(t *testing.T) {
	echo.ExpectNothingLeft(t)
	for name, wait := range map[string]func(context.Context){
		"polls": func(ctx context.Context) {
			for ctx.Err() == nil {
				runtime.Gosched()
			}
		},
		"waits": func(ctx context.Context) { <-ctx.Done() },
		"waits for another": func(ctx context.Context) {
			ctx, stop := context.WithCancel(ctx)
			defer stop()
			<-ctx.Done()
		},
	} {
		t.Run(name, func(t *testing.T) {
			ended := make(chan error, 100)
			_, c := handling(t, func(ctx context.Context) {
				if _, ok := ctx.Deadline(); !ok {
					t.Error("the context has no deadline")
				}
				wait(ctx)
				<-ctx.Done()
				ended <- ctx.Err()
			})
			// A call whose time is over on the way is not executed.
			for patience := 10 * time.Millisecond; len(ended) == 0; patience *= 2 {
				ctx, stop := context.WithTimeout(t.Context(), patience)
				_, _ = echo.Call(ctx, c, nil) // or the reply comes before the end is seen
				stop()
			}
			// The client's word may be there before the time is over.
			if err := <-ended; err != context.DeadlineExceeded && err != context.Canceled {
				t.Errorf("the context has the error %v", err)
			}
		})
	}
}

// TestContextCause closes servers whose handlers wait.
func TestContextCause(t *testing.T) {
	echo.ExpectNothingLeft(t)
	entered, cause := make(chan struct{}), make(chan error, 1)
	srv, c := handling(t, func(ctx context.Context) {
		close(entered)
		for ctx.Err() == nil {
			runtime.Gosched()
		}
		cause <- context.Cause(ctx)
	})
	result := echo.Invoke(t.Context(), c, echo.Echo, "x")
	<-entered
	srv.Close()
	if err := <-cause; !errors.Is(err, natsipc.ErrServerClosed) {
		t.Errorf("the context has the cause %v", err)
	}
	echo.Want(t, <-result, ipc.CodeUnavailable, ipc.OutcomeUnknown)
}

// TestSlowHandlers has more calls at the same time than a server keeps goroutines for: nobody waits
// for another, and then those goroutines are left, at most.
func TestSlowHandlers(t *testing.T) {
	echo.ExpectNothingLeft(t)
	const calls, most = 200, 64
	entered, leave := make(chan struct{}, calls), make(chan struct{})
	_, c := handling(t, func(context.Context) {
		entered <- struct{}{}
		<-leave
	})
	before := runtime.NumGoroutine()
	for range 2 {
		var results []<-chan error
		for range calls {
			results = append(results, echo.Invoke(t.Context(), c, echo.Echo, "x"))
		}
		for range calls {
			<-entered
		}
		for range calls {
			leave <- struct{}{}
		}
		for _, r := range results {
			if err := <-r; err != nil {
				t.Error(err)
			}
		}
		for runtime.NumGoroutine() > before+most {
			runtime.Gosched()
		}
	}
}
