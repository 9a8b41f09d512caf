package conformance_test

import (
	"errors"
	"path/filepath"
	"testing"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/ipctest"
	"github.com/ipcgen/ipcgen/runtime/ipctest/conformance"
)

// over returns clients that meet their servers where open says.
func over(open func(*testing.T) ipc.RendezvousOption) conformance.Connect {
	return func(t *testing.T, server []ipc.ServerOption, client ...ipc.DialOption) ipc.Caller {
		t.Helper()
		where := open(t)
		ipctest.Serve(t, where, "echo", server...)
		return ipctest.Dial(t, where, "echo", client...)
	}
}

func TestNetwork(t *testing.T) {
	conformance.TestCaller(t, over(func(*testing.T) ipc.RendezvousOption {
		return ipctest.NewNetwork()
	}))
}

func TestRelay(t *testing.T) {
	conformance.TestCaller(t, over(func(*testing.T) ipc.RendezvousOption {
		return ipctest.NewNetwork().Faulty()
	}))
}

func TestSharedMemory(t *testing.T) {
	domain := func(t *testing.T) ipc.RendezvousOption {
		return ipc.WithDomain(filepath.Join(t.TempDir(), "domain"))
	}
	l, err := ipc.Listen("probe", domain(t))
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	conformance.TestCaller(t, over(domain))
}

// TestHandler carries calls straight to a handler, with nothing in between.
func TestHandler(t *testing.T) {
	conformance.TestCaller(t, func(t *testing.T, server []ipc.ServerOption,
		client ...ipc.DialOption) ipc.Caller {
		t.Helper()
		h, err := ipc.NewHandler(server...)
		if err != nil {
			t.Fatal(err)
		}
		c, err := ipc.NewCarrierClient(h, client...)
		if err != nil {
			t.Fatal(err)
		}
		return c
	})
}
