package ipc_test

import (
	"context"
	"iter"
	"runtime"
	"testing"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/ipctest"
)

// TestItemsLeaveNoGarbage receives many items, with pauses in which all that came was taken. What
// both sides allocate is hardly more than the items themselves.
func TestItemsLeaveNoGarbage(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector makes pools forget")
	}
	const (
		burst  = 8
		bursts = 300
		length = 5000
	)
	echoed := streamingMethod("Echoed", ipc.BidiStreaming)
	n := ipctest.NewNetwork()
	host(t, n, streamingService(ipc.HandleBidiStream(echoed, func(_ context.Context,
		in iter.Seq2[*blob, error]) iter.Seq2[*blob, error] {
		item := &blob{Data: make([]byte, length)}
		return func(yield func(*blob, error) bool) {
			for range in {
				for range burst {
					if !yield(item, nil) {
						return
					}
				}
			}
		}
	})))
	c := dial(t, n)
	s := ipc.OpenBidiStream(t.Context(), func(ctx context.Context,
		in iter.Seq2[*blob, error]) iter.Seq2[*blob, error] {
		return ipc.InvokeBidiStream(ctx, c, echoed, in)
	})
	defer s.Close()
	take := func(bursts int) {
		for range bursts {
			if err := s.Send(&blob{}); err != nil {
				t.Fatal(err)
			}
			for range burst {
				if _, err := s.Receive(); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	take(20)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	take(bursts)
	runtime.ReadMemStats(&after)
	const items = bursts * burst
	perItem := float64(after.TotalAlloc-before.TotalAlloc) / items
	t.Logf("%.0f bytes for an item of %d", perItem, length)
	if perItem > 1.5*length {
		t.Errorf("%.0f bytes were allocated for each item of %d", perItem, length)
	}
}
