package ipc_test

import (
	"context"
	"testing"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/ipctest"
)

// An ending transport is one whose clients lose their connection at the moment in which a goroutine
// that waits finds what it waits for.
type endingTransport struct{ ipc.WatchableTransport }

type endingLink struct{ ipc.Link }

func (t endingTransport) Dial(ctx context.Context, channel string) (ipc.Link, error) {
	l, err := t.WatchableTransport.Dial(ctx, channel)
	if err != nil {
		return nil, err
	}
	return endingLink{l}, nil
}

func (l endingLink) Wait(recheck func() bool) error {
	return l.Link.Wait(func() bool {
		done := recheck()
		if done {
			l.Close()
		}
		return done
	})
}

// TestReplyWithTheEndOfTheConnection shows that a call that finds its reply while the connection
// ends returns the reply. Once it never returned: a server that shuts down answers and closes the
// connection at nearly the same moment.
func TestReplyWithTheEndOfTheConnection(t *testing.T) {
	inner := ipc.TransportOf(ipctest.NewNetwork().RendezvousOption)
	network := ipc.WithTransport(endingTransport{inner.(ipc.WatchableTransport)})
	srv := ipc.NewServer(echoes(ipc.Handle(methodEcho,
		func(_ context.Context, m *blob) (*blob, error) { return m, nil })))
	l, err := ipc.Listen("echo", network)
	if err != nil {
		t.Fatal(err)
	}
	go srv.Serve(context.Background(), l)
	defer srv.Close()
	for range 1000 {
		c, err := ipc.Dial(t.Context(), "echo", network)
		if err != nil {
			t.Fatal(err)
		}
		returned := make(chan error, 1)
		go func() {
			_, err := echo(t.Context(), c, nil)
			returned <- err
		}()
		select {
		case err := <-returned:
			if err != nil {
				t.Errorf("call: %v", err)
			}
		case <-time.After(time.Minute):
			t.Fatal("a call does not return")
		}
		c.Close()
	}
}
