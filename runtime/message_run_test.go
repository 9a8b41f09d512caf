package ipc_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/ipctest"
)

// A waitingFence keeps the first message from its handler until the others have come, so that the
// server's reader takes them out of the ring together. It refuses one of them.
type waitingFence struct {
	come   chan struct{}
	asked  atomic.Int64
	refuse int64 // the number of the message; -1: none
}

func (*waitingFence) Epoch() uint64 { return 0 }

func (f *waitingFence) Admit(uint64) error {
	n := f.asked.Add(1) - 1
	if n == 0 {
		<-f.come
	}
	if n == f.refuse {
		return errors.New("on purpose")
	}
	return nil
}

// TestRunOfMessages has the handler of one of many messages, which the reader takes out of the ring
// together, end its goroutine, panic, or wait for a call, or the fence refuse it. The others are
// handled all the same, in order, and one at a time; then calls are answered.
func TestRunOfMessages(t *testing.T) {
	const messages, special = 40, 5
	waits := func(c *ipc.Conn) {
		if _, err := echo(context.Background(), c, []byte("x")); err != nil {
			t.Error(err)
		}
	}
	for name, act := range map[string]func(c *ipc.Conn){
		"exits":  func(*ipc.Conn) { runtime.Goexit() },
		"panics": func(*ipc.Conn) { panic("on purpose") },
		"waits":  waits,
		"waits and exits": func(c *ipc.Conn) {
			waits(c)
			runtime.Goexit()
		},
		"is refused": nil,
	} {
		t.Run(name, func(t *testing.T) {
			fence := &waitingFence{come: make(chan struct{}), refuse: -1}
			if act == nil {
				fence.refuse = special
			}
			var (
				mu   sync.Mutex
				got  []string
				runs atomic.Int32
			)
			conn, last := make(chan *ipc.Conn, 1), make(chan struct{})
			v := ipctest.NewNetwork()
			host(t, v, ipc.WithFence(fence), echoes(
				ipc.Handle(methodEcho, func(_ context.Context, m *blob) (*blob, error) {
					return m, nil
				}),
				ipc.Receive(messageNote, func(_ context.Context, m *blob) error {
					if runs.Add(1) != 1 {
						t.Error("two handlers run at a time")
					}
					defer runs.Add(-1)
					mu.Lock()
					got = append(got, string(m.Data))
					mu.Unlock()
					switch string(m.Data) {
					case fmt.Sprint(special):
						act(<-conn)
					case fmt.Sprint(messages - 1):
						close(last)
					}
					return nil
				})))
			c := dial(t, v)
			conn <- c
			for i := range messages {
				if err := note(t.Context(), c, fmt.Sprint(i)); err != nil {
					t.Fatal(err)
				}
			}
			close(fence.come)
			<-last
			if _, err := echo(t.Context(), c, []byte("x")); err != nil {
				t.Error(err)
			}
			var all []string
			for i := range messages {
				if int64(i) != fence.refuse {
					all = append(all, fmt.Sprint(i))
				}
			}
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(got, all) {
				t.Errorf("got %v", got)
			}
		})
	}
}

// TestMessageContextIsAsked ends a connection while the handler of a message asks its context, and
// waits for nothing.
func TestMessageContextIsAsked(t *testing.T) {
	entered, left := make(chan struct{}), make(chan error)
	v := ipctest.NewNetwork()
	host(t, v, echoes(ipc.Receive(messageNote, func(ctx context.Context, _ *blob) error {
		close(entered)
		for ctx.Err() == nil {
			runtime.Gosched()
		}
		left <- ctx.Err()
		return nil
	})))
	c := dial(t, v)
	if err := note(t.Context(), c, "x"); err != nil {
		t.Fatal(err)
	}
	<-entered
	c.Close()
	if err := <-left; err != context.Canceled {
		t.Errorf("the context says %v", err)
	}
}
