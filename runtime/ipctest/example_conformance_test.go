package ipctest_test

import (
	"testing"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/ipctest/conformance"
)

// TestCarrier is how the tests of a carrier use the suite. This one takes calls straight to a
// handler, which is a carrier itself.
func TestCarrier(t *testing.T) {
	conformance.TestCaller(t, conformance.Subject{
		Connect: func(t *testing.T, server []ipc.ServerOption,
			client ...ipc.DialOption) conformance.Connection {
			handler, err := ipc.NewHandler(server...)
			if err != nil {
				t.Fatal(err)
			}
			c, err := ipc.NewCarrierClient(handler, client...)
			if err != nil {
				t.Fatal(err)
			}
			return conformance.Connection{Client: c}
		},
		Lacks: conformance.Ends | conformance.Health | conformance.Leaving,
	})
}
