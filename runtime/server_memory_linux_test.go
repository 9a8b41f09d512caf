package ipc_test

import (
	"context"
	"fmt"
	"iter"
	"runtime"
	"strconv"
	"testing"
	"time"

	flatbuffers "github.com/google/flatbuffers/go"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// TestShortRepliesAfterLong shows that a method whose last reply was long, or was refused for its
// length, answers with short replies while the memory for messages is nearly used up. The memory
// that a call inherits from a long message does not count as its own either.
func TestShortRepliesAfterLong(t *testing.T) {
	const limit, long = 16 << 20, 6 << 20
	methodInPlace := echoMethod("SizedInPlace")
	entered, release := make(chan struct{}), make(chan struct{})
	// handle reads from a request how long its reply is to be. A request that says so waits.
	handle := func(m *blob) (n int) {
		var wait bool
		if _, err := fmt.Sscan(string(m.Data), &n, &wait); err != nil {
			t.Errorf("%q: %v", m.Data, err)
		}
		if wait {
			entered <- struct{}{}
			<-release
		}
		return n
	}
	d := newDomain(t)
	serve(t, d, ipc.WithMaxMessage(8<<20), ipc.WithMaxMessageMemory(limit),
		ipc.NewService(&ipc.Protocol{Name: "test.Sized"},
			ipc.Handle(methodLong, func(_ context.Context, m *blob) (*blob, error) {
				return &blob{Data: make([]byte, handle(m))}, nil
			}),
			ipc.HandleClientStream(methodUpload, func(_ context.Context,
				in iter.Seq2[*blob, error]) (*blob, error) {
				n := 0
				for m, err := range in {
					if err != nil {
						return nil, err
					}
					n = handle(m)
				}
				return &blob{Data: make([]byte, n)}, nil
			}),
			ipc.HandleInPlace(methodInPlace,
				func(_ context.Context, req []byte, reply *ipc.ReplyBuilder) error {
					var m blob
					if _, err := decodeBlob(req, &m); err != nil {
						return err
					}
					n := handle(&m)
					return reply.Build(n+64, func(b *flatbuffers.Builder, _, _ uint64) {
						_ = encodeBlob(b, 0, &blob{Data: make([]byte, n)})
					})
				})))
	c, other := dial(t, d, ipc.WithMaxMessage(8<<20)), dial(t, d)

	methods := []struct {
		name string
		call func(ctx context.Context, req *blob) (*blob, error)
	}{
		{"plain", func(ctx context.Context, req *blob) (*blob, error) {
			return ipc.Invoke(ctx, c, methodLong, req)
		}},
		{"in place", func(ctx context.Context, req *blob) (*blob, error) {
			return ipc.Invoke(ctx, c, methodInPlace, req)
		}},
		{"streaming", func(ctx context.Context, req *blob) (*blob, error) {
			return ipc.InvokeClientStream(ctx, c, methodUpload, items(string(req.Data)))
		}},
	}
	// calls makes n calls at once, and returns an error that one of them had, or nil.
	calls := func(m func(context.Context, *blob) (*blob, error), n, size int, wait bool) error {
		errs := make(chan error)
		for range n {
			go func() {
				rep, err := m(t.Context(), &blob{Data: fmt.Appendln(nil, size, wait)})
				if err == nil && len(rep.Data) != size {
					err = fmt.Errorf("a reply of %d bytes, want %d", len(rep.Data), size)
				}
				errs <- err
			}()
		}
		if wait {
			for range n {
				<-entered
			}
			still(t, c) // so none of the handlers has the reader role
			for range n {
				release <- struct{}{}
			}
		}
		var failed error
		for range n {
			if err := <-errs; err != nil {
				failed = err
			}
		}
		return failed
	}
	counted := func(what string, ok func(bytes uint64) bool) {
		t.Helper()
		for limit := time.Now().Add(time.Minute); ; runtime.Gosched() {
			n := countersOf(t, other).MessagesMemory
			if ok(n) {
				return
			}
			if time.Now().After(limit) {
				t.Fatalf("%s: %d bytes are counted", what, n)
			}
		}
	}
	for _, m := range methods {
		for _, wait := range []bool{false, true} {
			if err := calls(m.call, 1, long, wait); err != nil {
				t.Fatalf("%s, %t: a long reply: %v", m.name, wait, err)
			}
			// The server may give a reply's memory back after the client has the reply.
			counted("after a long reply", func(bytes uint64) bool { return bytes == 0 })
		}
	}
	for range 2 {
		h := &hoarder{Raw: rawDial(t, d, ipc.WithMaxMessage(8<<20))}
		h.putPart(ipc.RawFrame{Tag: ipc.RawRequest, ID: 8, Method: methodLong.Info().ID},
			5<<20, 4<<20+500<<10)
	}
	counted("of long requests", func(bytes uint64) bool { return bytes >= 8<<20 })
	for _, m := range methods {
		for _, wait := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, detached %t", m.name, wait), func(t *testing.T) {
				for _, n := range []int{1, 8, 1} {
					if err := calls(m.call, n, 100, wait); err != nil {
						t.Errorf("short replies: %v", err)
					}
					err := calls(m.call, 1, long, wait)
					want(t, err, ipc.CodeResourceExhausted, ipc.Executed, "WithMaxMessageMemory",
						strconv.Itoa(limit))
				}
			})
		}
	}
}
