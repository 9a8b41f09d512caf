package ipc_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/ipctest"
)

// A mute transport is one whose servers cannot tell their clients that they shut down.
type muteTransport struct{ ipc.WatchableTransport }

type muteListener struct{ ipc.LinkListener }

type muteLink struct{ ipc.Link }

func (t muteTransport) Listen(channel string) (ipc.LinkListener, error) {
	l, err := t.WatchableTransport.Listen(channel)
	return muteListener{l}, err
}

func (l muteListener) Accept() (ipc.Link, error) {
	link, err := l.LinkListener.Accept()
	if err != nil {
		return nil, err
	}
	return muteLink{link}, nil
}

func (muteLink) Write(p []byte) (int, error) { return len(p), nil }

// TestDrainEndsDespiteClients shows that a client that goes on to send calls, since it does not
// know that the server shuts down, or does not care, cannot keep the server from its end. Its calls
// until then are answered, or are known not to be executed.
func TestDrainEndsDespiteClients(t *testing.T) {
	inner := ipc.TransportOf(ipctest.NewNetwork().RendezvousOption)
	network := ipc.WithTransport(muteTransport{inner.(ipc.WatchableTransport)})
	var executed atomic.Int64
	srv := ipc.NewServer(echoes(ipc.Handle(methodEcho,
		func(_ context.Context, m *blob) (*blob, error) {
			// Until the next call begins, so that one is in flight all the time.
			n, late := executed.Add(1), time.Now().Add(2*time.Second)
			for executed.Load() == n && time.Now().Before(late) {
				time.Sleep(time.Millisecond)
			}
			return m, nil
		})))
	l, err := ipc.Listen("echo", network)
	if err != nil {
		t.Fatal(err)
	}
	go srv.Serve(context.Background(), l)
	c, err := ipc.Dial(t.Context(), "echo", network)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var callers sync.WaitGroup
	var answered atomic.Int64
	for range 8 {
		callers.Go(func() {
			for {
				switch _, err := echo(t.Context(), c, nil); {
				case err == nil:
					answered.Add(1)
				case ipc.CodeOf(err) == ipc.CodeUnavailable &&
					ipc.OutcomeOf(err) != ipc.OutcomeUnknown:
					if c.Err() != nil {
						return
					}
				default:
					t.Errorf("call: %v (%v)", err, ipc.OutcomeOf(err))
					return
				}
			}
		})
	}
	for answered.Load() < 100 {
		time.Sleep(time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := srv.Shutdown(ctx); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	callers.Wait()
	if executed.Load() != answered.Load() {
		t.Errorf("%d calls were executed, %d answered", executed.Load(), answered.Load())
	}
}
