package conformance_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/ipctest"
	"github.com/ipcgen/ipcgen/runtime/ipctest/conformance"
)

// longest is the limit of the messages of connections here.
const longest = 1 << 20

// over has clients that meet their servers where open says. abort ends a server there; nil closes
// it.
func over(open func(*testing.T) ipc.RendezvousOption,
	abort func(ipc.RendezvousOption)) conformance.Subject {
	return conformance.Subject{Longest: longest, Connect: func(t *testing.T,
		server []ipc.ServerOption, client ...ipc.DialOption) conformance.Connection {
		t.Helper()
		where := open(t)
		srv := ipctest.Serve(t, where, "echo", append(server, ipc.WithMaxMessage(longest))...)
		c := ipctest.Dial(t, where, "echo", client...)
		return conformance.Connection{Client: c, Close: c.Close, Shutdown: srv.Shutdown,
			Abort: func() error {
				if abort != nil {
					abort(where)
					return nil
				}
				return srv.Close()
			}}
	}}
}

func TestNetwork(t *testing.T) {
	conformance.TestCaller(t, over(func(*testing.T) ipc.RendezvousOption {
		return ipctest.NewNetwork()
	}, nil))
}

// TestRelay ends servers by the loss of the connection.
func TestRelay(t *testing.T) {
	conformance.TestCaller(t, over(func(*testing.T) ipc.RendezvousOption {
		return ipctest.NewNetwork().Faulty()
	}, func(where ipc.RendezvousOption) { where.(*ipctest.Faults).Cut() }))
}

// domain is a place for servers between processes. The test is skipped where there is none.
func domain(t *testing.T) ipc.RendezvousOption {
	t.Helper()
	where := ipc.WithDomain(filepath.Join(t.TempDir(), "domain"))
	l, err := ipc.Listen("probe", where)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	return where
}

func TestSharedMemory(t *testing.T) { conformance.TestCaller(t, over(domain, nil)) }

// TestClient has clients that look for their servers themselves.
func TestClient(t *testing.T) {
	conformance.TestCaller(t, conformance.Subject{Longest: longest, Lacks: conformance.Health,
		Connect: func(t *testing.T, server []ipc.ServerOption,
			client ...ipc.DialOption) conformance.Connection {
			t.Helper()
			where := ipctest.NewNetwork()
			srv := ipctest.Serve(t, where, "echo", append(server, ipc.WithMaxMessage(longest))...)
			opts := []ipc.ClientOption{where, ipc.WithPatience(0)}
			for _, o := range client {
				opts = append(opts, o)
			}
			c, err := ipc.Connect("echo", opts...)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			if _, err := c.WaitConnected(context.Background()); err != nil {
				t.Fatal(err)
			}
			return conformance.Connection{Client: c, Close: c.Close, Shutdown: srv.Shutdown,
				Abort: srv.Close}
		}})
}

// carried has clients of a carrier that wrap puts in front of a handler. Their calls run the
// handlers, and so end with them.
func carried(wrap func(ipc.Carrier) ipc.Carrier) conformance.Subject {
	return conformance.Subject{
		Lacks: conformance.Ends | conformance.Health | conformance.Leaving,
		Connect: func(t *testing.T, server []ipc.ServerOption,
			client ...ipc.DialOption) conformance.Connection {
			t.Helper()
			h, err := ipc.NewHandler(server...)
			if err != nil {
				t.Fatal(err)
			}
			c, err := ipc.NewCarrierClient(wrap(h), client...)
			if err != nil {
				t.Fatal(err)
			}
			return conformance.Connection{Client: c}
		}}
}
