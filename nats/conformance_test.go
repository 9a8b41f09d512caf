package natsipc_test

import (
	"context"
	"log/slog"
	"testing"

	"github.com/ipcgen/ipcgen/nats"
	"github.com/ipcgen/ipcgen/nats/internal/natstest"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/ipctest/conformance"
)

// longest is the limit of messages in the conformance suite.
const longest = 1 << 20

// TestConformance runs the whole suite of package conformance over NATS.
func TestConformance(t *testing.T) {
	broker := natstest.Start(t)
	conformance.TestCaller(t, conformance.Subject{Longest: longest, Connect: func(t *testing.T,
		server []ipc.ServerOption, client ...ipc.DialOption) conformance.Connection {
		t.Helper()
		srv, err := natsipc.Serve(context.Background(), broker.Connect(t), "echo",
			append(server, ipc.WithMaxMessage(longest),
				ipc.WithLogger(slog.New(slog.DiscardHandler)))...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { srv.Close() })
		c, err := natsipc.Dial(context.Background(), broker.Connect(t), "echo", client...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return conformance.Connection{Client: c, Close: c.Close, Shutdown: srv.Shutdown,
			Abort: srv.Close}
	}})
}
