package natsipc_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/ipcgen/ipcgen/internal/echo"
	"github.com/ipcgen/ipcgen/nats"
	"github.com/ipcgen/ipcgen/nats/internal/natstest"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// TestSlowConsumer has a NATS server that gives up clients that do not keep up. Calls end with the
// whole reply, or say that the connection was lost, and the client goes on.
func TestSlowConsumer(t *testing.T) {
	echo.ExpectNothingLeft(t)
	broker := natstest.Start(t, natstest.MaxPayload(16<<10), func(o *server.Options) {
		o.MaxPending = 32 << 10
	})
	serve(t, broker.Connect(t), echo.Service())
	c := dial(t, broker.Connect(t))
	long := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	for broker.NumSlowConsumers() == 0 {
		got, err := echo.Call(t.Context(), c, long)
		switch {
		case err == nil && !bytes.Equal(got, long):
			t.Fatal("the reply is not whole")
		case err != nil && (ipc.CodeOf(err) != ipc.CodeUnavailable ||
			ipc.OutcomeOf(err) == ipc.Executed):
			t.Fatal(err)
		}
		if t.Context().Err() != nil {
			return
		}
	}
	soon(t, "client and server are connected again", func() error {
		_, err := echo.Call(t.Context(), c, []byte("short"))
		return err
	})
}

// TestGatewayOverRestart restarts the NATS server under both sides of a gateway: the local channel
// stays, calls meanwhile say that no server is there, or that the outcome is unknown, and later
// ones succeed.
func TestGatewayOverRestart(t *testing.T) {
	echo.ExpectNothingLeft(t)
	broker := natstest.Start(t)
	there, here := domain(t), domain(t)
	l, err := ipc.Listen("echo", ipc.WithDomain(there))
	if err != nil {
		t.Fatal(err)
	}
	local := ipc.NewServer(ipc.NewService(relayed, ipc.Handle(relayedEcho,
		func(_ context.Context, m *echo.Blob) (*echo.Blob, error) { return m, nil })))
	go local.Serve(t.Context(), l)
	defer local.Close()
	opts := []ipc.Option{natsipc.WithBeat(beat)}
	out := &natsipc.Gateway{Channel: "echo", Domain: there, NATS: opts}
	in := &natsipc.Gateway{Channel: "echo", Local: "far", Domain: here, NATS: opts}
	theirs, ours := broker.Connect(t), broker.Connect(t)
	run(t, func(ctx context.Context) error { return out.Export(ctx, theirs) })
	run(t, func(ctx context.Context) error { return in.Import(ctx, ours) })
	var c *ipc.Conn
	soon(t, "the import serves", func() (err error) {
		c, err = ipc.Dial(t.Context(), "far", ipc.WithDomain(here))
		return err
	})
	defer c.Close()
	call := func() error {
		_, err := ipc.Invoke(t.Context(), c, relayedEcho, &echo.Blob{Data: []byte("x")})
		return err
	}
	soon(t, "calls pass", call)
	for range 2 {
		broker.Stop()
		if err := call(); ipc.CodeOf(err) != ipc.CodeUnavailable ||
			ipc.OutcomeOf(err) == ipc.Executed {
			t.Errorf("without NATS: %v", err)
		}
		broker.Restart(t)
		soon(t, "calls pass again", func() error {
			err := call()
			if err != nil && (ipc.CodeOf(err) != ipc.CodeUnavailable ||
				ipc.OutcomeOf(err) == ipc.Executed) {
				t.Errorf("a call has failed: %v", err)
			}
			return err
		})
	}
}
