package ipc

import (
	"context"
	"io"
	"iter"
	"sync/atomic"
)

// This file is for generated adapters, by which one implementation also serves a framework whose
// streams send and receive one item at a time.

// SendItems calls send with each item that a handler yields, and returns the error with which the
// call ends: that of the handler or of send. After an error of send, yield returns false.
func SendItems[T any](items iter.Seq2[*T, error], send func(*T) error) error {
	var failed error
	err := sendItems(items, func(item any) bool {
		failed = send(item.(*T))
		return failed == nil
	})
	if failed != nil {
		return failed
	}
	return err
}

// ReceiveItems returns the items that receive returns until [io.EOF], under the rules of
// [HandleBidiStream]. An error of receive is that of ctx if ctx has ended. The adapter calls end
// when the handler has returned.
func ReceiveItems[M, T any](ctx context.Context, receive func() (M, error),
	convert func(M) *T) (in iter.Seq2[*T, error], end func()) {
	var ended atomic.Bool
	var failed error // behind the items that have come
	in = func(yield func(*T, error) bool) {
		for {
			var item M
			if failed == nil && !ended.Load() {
				item, failed = receive()
				if failed != nil && failed != io.EOF && ctx.Err() != nil {
					failed = contextError(ctx)
				}
			}
			switch {
			case ended.Load():
				yield(nil, errCallEnded)
				return
			case failed == io.EOF:
				return
			case failed != nil:
				yield(nil, failed)
				return
			}
			if !yield(convert(item), nil) {
				return
			}
		}
	}
	return in, func() { ended.Store(true) }
}
