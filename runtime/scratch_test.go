package ipc_test

import (
	"context"
	"iter"
	"testing"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/ipctest"
)

// A pad is what the handlers of a test ask for. Other tests have no such pools.
type pad struct{ _ int }

// What a handler has is with no other call until its reply is encoded, and not after a panic.
func TestScratch(t *testing.T) {
	held := make(map[*pad]bool) // by the call that waits
	entered, leave := make(chan *pad), make(chan struct{})
	m, flow := echoMethod("Long"), streamingMethod("Flow", ipc.ServerStreaming)
	handle := func(ctx context.Context, req *blob) (*blob, error) {
		a, b := ipc.Scratch[pad](ctx), ipc.Scratch[pad](ctx)
		if a == b {
			t.Error("a call has one object twice")
		}
		switch string(req.Data) {
		case "wait":
			entered <- a
			<-leave
		case "panic":
			entered <- a
			panic("on purpose")
		default:
			if held[a] || held[b] {
				t.Error("two calls have one object")
			}
		}
		return req, nil
	}
	svc := echoes(ipc.Handle(m, handle),
		ipc.HandleServerStream(flow, func(ctx context.Context,
			req *blob) iter.Seq2[*blob, error] {
			return func(yield func(*blob, error) bool) { yield(handle(ctx, req)) }
		}),
		ipc.Receive(messageNote, func(ctx context.Context, req *blob) error {
			_, err := handle(ctx, req)
			return err
		}))
	h, err := ipc.NewHandler(svc)
	if err != nil {
		t.Fatal(err)
	}
	carried, err := ipc.NewCarrierClient(h)
	if err != nil {
		t.Fatal(err)
	}
	conn := ipctest.Pipe(t, svc)
	call := func(c ipc.Caller, data string) error {
		_, err := ipc.Invoke(t.Context(), c, m, &blob{Data: []byte(data)})
		return err
	}
	done := make(chan error)
	go func() { done <- call(conn, "wait") }()
	held[<-entered] = true
	go func() { done <- call(carried, "panic") }()
	panicked := <-entered
	if err := <-done; ipc.CodeOf(err) != ipc.CodeInternal {
		t.Errorf("a panic: %v", err)
	}
	held[panicked] = true
	for range 100 {
		if err := call(conn, ""); err != nil {
			t.Fatal(err)
		}
		if err := call(carried, ""); err != nil {
			t.Fatal(err)
		}
		for _, err := range ipc.InvokeServerStream(t.Context(), conn, flow, &blob{}) {
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := ipc.Send(t.Context(), carried, messageNote, &blob{}); err != nil {
			t.Fatal(err)
		}
	}
	close(leave)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if a, b := ipc.Scratch[pad](t.Context()), ipc.Scratch[pad](t.Context()); a == b || held[a] {
		t.Error("without a call, an object is not new")
	}
}
