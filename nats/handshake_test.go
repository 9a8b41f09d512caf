package natsipc_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/ipcgen/ipcgen/internal/echo"
	"github.com/ipcgen/ipcgen/nats/internal/natstest"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// version is a protocol test.Echo with a description of its own, and its method Echo.
func version(fingerprint uint64, schema string) (*ipc.Protocol, *ipc.Method[echo.Blob, echo.Blob]) {
	p := &ipc.Protocol{Name: "test.Echo", Fingerprint: fingerprint, Schema: schema}
	return p, ipc.NewMethod(p, echo.Spec("Echo"))
}

const (
	schemaOne   = "service test.Echo\nmethod Echo test.Blob test.Blob\n"
	schemaMore  = schemaOne + "method More test.Blob test.Blob\n"
	schemaOther = "service test.Echo\nmethod Echo test.Blob test.Other\n"
)

// TestHandshake calls servers with the same version, a compatible one and an incompatible one.
// Nothing is executed before the comparison.
func TestHandshake(t *testing.T) {
	echo.ExpectNothingLeft(t)
	broker := natstest.Start(t)
	var executed atomic.Int32
	host := func(fingerprint uint64, schema string) func() {
		p, m := version(fingerprint, schema)
		srv := serve(t, broker.ConnectInProcess(t), ipc.NewService(p, ipc.Handle(m,
			func(_ context.Context, b *echo.Blob) (*echo.Blob, error) {
				executed.Add(1)
				return b, nil
			})))
		return func() { srv.Close() }
	}
	_, method := version(1, schemaOne)
	call := func(c ipc.Caller) error {
		_, err := ipc.Invoke(t.Context(), c, method, &echo.Blob{})
		return err
	}
	end := host(2, schemaMore)
	c := dial(t, broker.ConnectInProcess(t))
	for range 3 {
		if err := call(c); err != nil {
			t.Error(err)
		}
	}
	// Both versions at the same time, as while the servers are being updated.
	host(1, schemaOne)
	for range 20 {
		if err := call(c); err != nil {
			t.Error(err)
		}
	}
	end()
	for range 3 {
		if err := call(c); err != nil {
			t.Error(err)
		}
	}
	if n := executed.Load(); n != 26 {
		t.Errorf("%d calls were executed, not 26", n)
	}
}

// TestIncompatible calls a server with a version that does not fit.
func TestIncompatible(t *testing.T) {
	echo.ExpectNothingLeft(t)
	broker := natstest.Start(t)
	p, m := version(3, schemaOther)
	var executed atomic.Int32
	serve(t, broker.ConnectInProcess(t), ipc.NewService(p, ipc.Handle(m,
		func(_ context.Context, b *echo.Blob) (*echo.Blob, error) {
			executed.Add(1)
			return b, nil
		})))
	c := dial(t, broker.ConnectInProcess(t))
	_, own := version(1, schemaOne)
	for range 2 {
		_, err := ipc.Invoke(t.Context(), c, own, &echo.Blob{})
		echo.Want(t, err, ipc.CodeIncompatible, ipc.NotSent, "test.Other",
			"a method with other types needs another name")
	}
	none := ipc.NewMethod(&ipc.Protocol{Name: "test.None"}, echo.Spec("Echo"))
	_, err := ipc.Invoke(t.Context(), c, none, &echo.Blob{})
	echo.Want(t, err, ipc.CodeUnimplemented, ipc.NotExecuted, "test.None", "it serves test.Echo")
	if executed.Load() != 0 {
		t.Error("a call was executed in spite of the versions")
	}
}
