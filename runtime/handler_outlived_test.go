package ipc_test

import (
	"context"
	"iter"
	"runtime"
	"sync/atomic"
	"testing"

	flatbuffers "github.com/google/flatbuffers/go"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// hasty returns an interceptor that leaves its handler behind when it receives from leave.
func hasty(leave <-chan struct{}, over chan<- error) ipc.ServerOption {
	return ipc.WithServerInterceptor(func(ctx context.Context, _ *ipc.ServerCall,
		next func(context.Context) error) error {
		go func() { over <- next(context.WithoutCancel(ctx)) }()
		<-leave
		return ipc.Errorf(ipc.CodeResourceExhausted, "the handler takes too long")
	})
}

// TestHandleEndsWithoutItsHandler has a Handler's call end while its handler has an item of the
// client, whose memory is used again then.
func TestHandleEndsWithoutItsHandler(t *testing.T) {
	for _, opts := range [][]ipc.ServerOption{nil, {ipc.WithRecycling()}} {
		leave, ended, over := make(chan struct{}), make(chan struct{}), make(chan error, 1)
		got := ""
		m := streamingMethod("Up", ipc.ClientStreaming)
		h, err := ipc.NewHandler(append(opts, hasty(leave, over), echoes(ipc.HandleClientStream(m,
			func(_ context.Context, in iter.Seq2[*blob, error]) (*blob, error) {
				for item, err := range in {
					if err != nil {
						return nil, err
					}
					close(leave)
					<-ended
					got = string(item.Data)
					break
				}
				return &blob{}, nil
			})))...)
		if err != nil {
			t.Fatal(err)
		}
		_, err = h.Handle(t.Context(), &ipc.Inbound{Method: m.Info().ID,
			In: func(yield func([]byte, error) bool) {
				item := encodedBlob(t, "an item")
				yield(item, nil)
				clear(item)
			}})
		if ipc.CodeOf(err) != ipc.CodeResourceExhausted {
			t.Error(err)
		}
		close(ended)
		if err := <-over; err != nil || got != "an item" {
			t.Errorf("the handler has the item %q, %v", got, err)
		}
	}
}

// TestHandleEndsWithItsOut has a Handler's call end while its handler sends an item. What takes the
// item has returned when Handle returns.
func TestHandleEndsWithItsOut(t *testing.T) {
	leave, over := make(chan struct{}), make(chan error, 1)
	m := streamingMethod("Down", ipc.ServerStreaming)
	h, err := ipc.NewHandler(hasty(leave, over), echoes(ipc.HandleServerStream(m,
		func(_ context.Context, req *blob) iter.Seq2[*blob, error] {
			return func(yield func(*blob, error) bool) {
				for yield(req, nil) {
				}
			}
		})))
	if err != nil {
		t.Fatal(err)
	}
	var taking atomic.Bool
	once := 0
	_, err = h.Handle(t.Context(), &ipc.Inbound{Method: m.Info().ID, Body: encodedBlob(t, "x"),
		Out: func([]byte) bool {
			taking.Store(true)
			if once++; once == 1 {
				close(leave)
			}
			for range 100 {
				runtime.Gosched()
			}
			taking.Store(false)
			return true
		}})
	if taking.Load() {
		t.Error("Handle has returned before Out")
	}
	if ipc.CodeOf(err) != ipc.CodeResourceExhausted {
		t.Error(err)
	}
	if err := <-over; err != nil {
		t.Error(err)
	}
}

// encodedBlob returns a blob as it travels.
func encodedBlob(t *testing.T, data string) []byte {
	t.Helper()
	b := flatbuffers.NewBuilder(64)
	if err := encodeBlob(b, 0, &blob{Data: []byte(data)}); err != nil {
		t.Fatal(err)
	}
	return b.FinishedBytes()
}
