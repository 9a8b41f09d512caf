package ipc_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	flatbuffers "github.com/google/flatbuffers/go"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/ipctest"
)

// TestKeptContext uses the context of a call for the first time after the call has ended. The
// context is cancelled for ever, and is not affected by later calls.
func TestKeptContext(t *testing.T) {
	kept := make(chan context.Context, 1)
	keep := func(ctx context.Context, m *blob) (*blob, error) {
		kept <- ctx
		return m, nil
	}
	inPlace := func(ctx context.Context, _ []byte, reply *ipc.ReplyBuilder) error {
		kept <- ctx
		return reply.Build(64, func(b *flatbuffers.Builder, _, _ uint64) {
			_ = encodeBlob(b, 0, &blob{})
		})
	}
	for name, route := range map[string]ipc.Route{
		"plain": ipc.Handle(methodEcho, keep), "in place": ipc.HandleInPlace(methodEcho, inPlace),
	} {
		t.Run(name, func(t *testing.T) {
			v := ipctest.NewNetwork()
			host(t, v, echoes(route))
			c := dial(t, v)
			call := func(timeout time.Duration) context.Context {
				ctx := t.Context()
				if timeout > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, timeout)
					defer cancel()
				}
				if _, err := echo(ctx, c, nil); err != nil {
					t.Fatal(err)
				}
				return <-kept
			}
			old := call(0)
			call(0) // its request was sent after the first call had ended on the server
			for range 200 {
				last := call(time.Hour)
				if last == old {
					t.Fatal("two calls share a context")
				}
				if _, ok := last.Deadline(); !ok {
					t.Fatal("a call has lost its deadline")
				}
			}
			if d, ok := old.Deadline(); ok {
				t.Errorf("a later call's deadline: %v", d)
			}
			if err := old.Err(); err != context.Canceled {
				t.Errorf("the call is over, and its context says %v", err)
			}
			select {
			case <-old.Done():
			default:
				t.Error("the call is over, and its context is not done")
			}
			if p, ok := ipc.PeerFromContext(old); !ok || p.PID == 0 {
				t.Error("the context has forgotten its peer")
			}
		})
	}
}

// TestContextOfCall checks all methods of a handler's context during the life of a call.
func TestContextOfCall(t *testing.T) {
	v := ipctest.NewNetwork()
	entered, seen := make(chan struct{}, 100), make(chan error, 100)
	host(t, v, echoes(ipc.Handle(methodEcho, func(ctx context.Context, m *blob) (*blob, error) {
		entered <- struct{}{}
		if _, ok := ctx.Deadline(); !ok {
			seen <- errors.New("no deadline")
			return m, nil
		}
		for string(m.Data) == "look" && ctx.Err() == nil {
		}
		if string(m.Data) == "wait" {
			<-ctx.Done()
		}
		first := ctx.Err()
		<-ctx.Done()
		if ctx.Err() != first {
			first = fmt.Errorf("%w, and later %w", first, ctx.Err())
		}
		seen <- first
		return nil, ctx.Err()
	})))
	c := dial(t, v)
	for _, how := range []string{"look", "wait"} {
		for limit := 5 * time.Millisecond; len(entered) == 0; limit *= 2 {
			// On a busy machine, the deadline may pass before the handler is called.
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			_, err := echo(ctx, c, []byte(how))
			cancel()
			if ipc.CodeOf(err) != ipc.CodeDeadlineExceeded {
				t.Fatalf("%s: %v", how, err)
			}
		}
		<-entered
		// The client's cancelling may come before the server looks at the deadline.
		if err := <-seen; err != context.DeadlineExceeded && err != context.Canceled {
			t.Errorf("%s: the handler saw %v", how, err)
		}
	}
}
