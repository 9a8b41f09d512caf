package ipc_test

import (
	"context"
	"testing"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// TestAnswersFromElsewhere has an interceptor answer calls with what another Handler has encoded,
// without calling the handler. A reply that is malformed is an error.
func TestAnswersFromElsewhere(t *testing.T) {
	elsewhere, err := ipc.NewHandler(echoService())
	if err != nil {
		t.Fatal(err)
	}
	damaged := false
	here, err := ipc.NewHandler(echoService(), ipc.WithServerInterceptor(func(ctx context.Context,
		call *ipc.ServerCall, _ func(context.Context) error) error {
		out, err := elsewhere.Handle(ctx, &ipc.Inbound{Method: call.Method.ID, Body: call.Body})
		if err != nil {
			return err
		}
		if damaged {
			out.Body = out.Body[:2]
		}
		return call.DecodeReply(out.Body)
	}))
	if err != nil {
		t.Fatal(err)
	}
	c, err := ipc.NewCarrierClient(here)
	if err != nil {
		t.Fatal(err)
	}
	rep, err := ipc.Invoke(t.Context(), c, methodEcho, &blob{Data: []byte("x")})
	if err != nil || string(rep.Data) != "x" {
		t.Errorf("reply %v (%v)", rep, err)
	}
	damaged = true
	_, err = ipc.Invoke(t.Context(), c, methodEcho, &blob{Data: []byte("x")})
	if ipc.CodeOf(err) != ipc.CodeCorrupt || ipc.OutcomeOf(err) != ipc.Executed {
		t.Errorf("a malformed reply: %v", err)
	}
}
