package ipc_test

import (
	"context"
	"errors"
	"io"
	"iter"
	"testing"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// fakeJam greets, and answers each item with two, as a handler does: on the goroutine that ranges
// over its result.
func fakeJam(_ context.Context, in iter.Seq2[*blob, error]) iter.Seq2[*blob, error] {
	return func(yield func(*blob, error) bool) {
		if !yield(&blob{}, nil) {
			return
		}
		for item, err := range in {
			if err != nil {
				yield(nil, err)
				return
			}
			for range 2 {
				if !yield(&blob{Data: item.Data}, nil) {
					return
				}
			}
		}
	}
}

// TestStepsOfAFake calls an implementation of the interface without a connection, step by step, on
// one goroutine: Send does not wait for Receive.
func TestStepsOfAFake(t *testing.T) {
	within(t, "a call step by step", func() {
		s := ipc.OpenBidiStream(t.Context(), fakeJam)
		defer s.Close()
		const count = 100
		for i := range byte(count) {
			if err := s.Send(&blob{Data: []byte{i}}); err != nil {
				t.Fatal(err)
			}
		}
		if first, err := s.Receive(); err != nil || first.Data != nil {
			t.Fatal(first, err)
		}
		next := 0
		for ; next < count; next++ { // the last ones are received after the half-close
			if next == count/2 {
				if err := s.CloseSend(); err != nil {
					t.Error(err)
				}
			}
			for range 2 {
				item, err := s.Receive()
				if err != nil || item.Data[0] != byte(next) {
					t.Fatal(item, err)
				}
			}
		}
		for range 2 {
			if item, err := s.Receive(); err != io.EOF {
				t.Error(item, err)
			}
		}
	})
}

// TestStepsWithoutReceive sends items to a call whose results are not received. It keeps as many
// as it may, then waits, and Close ends the wait.
func TestStepsWithoutReceive(t *testing.T) {
	within(t, "the end of a call step by step", func() {
		full := make(chan struct{})
		yielded := 0
		s := ipc.OpenBidiStream(t.Context(), func(_ context.Context,
			in iter.Seq2[*blob, error]) iter.Seq2[*blob, error] {
			return func(yield func(*blob, error) bool) {
				for range in {
					for more := true; more; more = yield(&blob{}, nil) {
						if yielded++; yielded == 1024 {
							close(full)
						}
					}
					return
				}
			}
		})
		sent := make(chan error)
		go func() { sent <- s.Send(&blob{}) }()
		<-full
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := <-sent; err != nil { // the call has taken the item
			t.Error(err)
		}
		received := 0
		for {
			_, err := s.Receive()
			if err != nil {
				if !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
				break
			}
			received++
		}
		if received > 1025 {
			t.Errorf("%d results were kept", received)
		}
	})
}

// TestStepsOfNothing has a fake yield neither an item nor an error.
func TestStepsOfNothing(t *testing.T) {
	s := ipc.OpenBidiStream(t.Context(), func(context.Context,
		iter.Seq2[*blob, error]) iter.Seq2[*blob, error] {
		return func(yield func(*blob, error) bool) { yield(nil, nil) }
	})
	defer s.Close()
	if item, err := s.Receive(); ipc.CodeOf(err) != ipc.CodeInternal {
		t.Error(item, err)
	}
}
