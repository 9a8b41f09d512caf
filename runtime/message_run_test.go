package ipc_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/ipctest"
)

// held is v for a server whose reader, when it is about to sleep for the first time, says so by
// closing asleep, and waits until come is closed. So it takes what has come out of the ring
// together.
func held(v ipc.RendezvousOption, asleep, come chan struct{}) ipc.RendezvousOption {
	inner := ipc.TransportOf(v).(ipc.WatchableTransport)
	var once sync.Once
	return ipc.WithTransport(hookedTransport{inner, hookedFence{"Expect", func() {
		once.Do(func() {
			close(asleep)
			<-come
		})
	}}})
}

// A numbersFence knows messages by their epochs, and refuses one.
type numbersFence struct {
	sent   atomic.Uint64 // the epoch of the client
	refuse uint64
}

func (f *numbersFence) Epoch() uint64 { return 0 }

func (f *numbersFence) Admit(epoch uint64) error {
	if epoch == f.refuse {
		return errors.New("on purpose")
	}
	return nil
}

type numbersSource struct{ *numbersFence }

func (f numbersSource) Epoch() uint64 { return f.sent.Load() }

// TestRunOfMessages has the handler of one of many messages, which the reader takes out of the ring
// together, end its goroutine, panic, or wait for a call, and the fence refuse one. The others are
// handled all the same, in order, and one at a time; then calls are answered.
func TestRunOfMessages(t *testing.T) {
	const messages, special, behind, none = 40, 5, 7, -2
	nothing := func(*ipc.Conn) {}
	waits := func(c *ipc.Conn) {
		if _, err := echo(context.Background(), c, []byte("x")); err != nil {
			t.Error(err)
		}
	}
	exits := func(*ipc.Conn) { runtime.Goexit() }
	waitsAndExits := func(c *ipc.Conn) {
		waits(c)
		runtime.Goexit()
	}
	for name, run := range map[string]struct {
		act    func(c *ipc.Conn)
		refuse int
	}{
		"exits":                         {exits, none},
		"panics":                        {func(*ipc.Conn) { panic("on purpose") }, none},
		"waits":                         {waits, none},
		"waits and exits":               {waitsAndExits, none},
		"is refused":                    {nothing, special},
		"exits before one is refused":   {exits, behind},
		"waits before one is refused":   {waits, behind},
		"waits and exits, then refused": {waitsAndExits, behind},
	} {
		t.Run(name, func(t *testing.T) {
			fence := &numbersFence{refuse: uint64(run.refuse + 1)}
			var (
				mu   sync.Mutex
				got  []string
				runs atomic.Int32
			)
			conn, last := make(chan *ipc.Conn, 1), make(chan struct{})
			asleep, come := make(chan struct{}), make(chan struct{})
			network := ipctest.NewNetwork()
			host(t, held(network, asleep, come), ipc.WithFence(fence), echoes(
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
						run.act(<-conn)
					case fmt.Sprint(messages - 1):
						close(last)
					}
					return nil
				})))
			c := dial(t, network, ipc.WithEpoch(numbersSource{fence}))
			conn <- c
			<-asleep
			for i := range messages {
				fence.sent.Store(uint64(i + 1))
				if err := note(t.Context(), c, fmt.Sprint(i)); err != nil {
					t.Fatal(err)
				}
			}
			fence.sent.Store(messages + 1)
			close(come)
			<-last
			if _, err := echo(t.Context(), c, []byte("x")); err != nil {
				t.Error(err)
			}
			var all []string
			for i := range messages {
				if i != run.refuse {
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

// TestSlowMessageIsForgotten has a handler keep the reader role for too long with a long message,
// which keeps the memory that the message was received in. When the handler has returned, and
// nothing else comes, the connection does not keep that memory.
func TestSlowMessageIsForgotten(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	forgotten := make(chan struct{})
	v := ipctest.NewNetwork()
	host(t, v, echoes(
		ipc.Handle(methodEcho, func(_ context.Context, m *blob) (*blob, error) { return m, nil }),
		ipc.Receive(messageNote, func(_ context.Context, m *blob) error {
			runtime.AddCleanup(&m.Data[0], func(forgotten chan struct{}) { close(forgotten) },
				forgotten)
			close(entered)
			<-leave
			return nil
		})))
	c := dial(t, v)
	if err := note(t.Context(), c, strings.Repeat("x", 1<<20)); err != nil {
		t.Fatal(err)
	}
	<-entered
	// Another goroutine has the role when it answers.
	if _, err := echo(t.Context(), c, []byte("x")); err != nil {
		t.Fatal(err)
	}
	close(leave)
	for {
		runtime.GC()
		select {
		case <-forgotten:
			return
		case <-t.Context().Done():
			t.Fatal("it is still there")
		case <-time.After(time.Millisecond):
		}
	}
}
