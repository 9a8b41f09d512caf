package ipc

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/ipcgen/ipcgen/internal/sys"
	"github.com/ipcgen/ipcgen/runtime/shm"
)

type writerEnds struct{ *shm.BlockWriter }

func (w writerEnds) peerEnd() (shm.End, bool, error) { return w.ReaderEnd() }

// A StreamWriter writes the blocks of a stream. It must not be used by several goroutines at the
// same time, except for Close and CloseWithError.
type StreamWriter struct {
	*stream
	w      *shm.BlockWriter
	policy StreamPolicy
	block  int // length of the longest one
	depth  int // how many are kept
}

// Write calls fill to write the next block in shared memory: the struct, and n bytes of payload.
// fill must set all bytes of both slices, which hold an older block, and must not keep them. If it
// returns an error, no block is written and Write returns that error.
//
// While the stream is full, Write does what the [StreamPolicy] says. After the reader has ended the
// stream, Write fails with the error that the reader gave, or with [CodeUnavailable]. The error
// matches [io.ErrUnexpectedEOF] if the reader died.
func (w *StreamWriter) Write(ctx context.Context, n int,
	fill func(header, payload []byte) error) error {
	size := w.info.HeaderSize + n
	if n < 0 || size > w.block {
		return &Error{Code: CodeTooLarge, Op: w.op, Outcome: NotSent,
			Msg: fmt.Sprintf("payload of %d bytes; this stream's limit is %d", n,
				w.block-w.info.HeaderSize)}
	}
	if err := w.late(ctx); err != nil {
		return err
	}
	for {
		done, err := w.tryWrite(size, fill)
		if done || err != nil {
			return err
		}
		start := time.Now()
		err = w.wait(ctx)
		w.spin.slept(time.Since(start))
		if err != nil && err != io.EOF {
			return err
		}
	}
}

// readerEnded returns the error of a write after the reader has ended the stream. The caller must
// hold w.mu.
func (w *StreamWriter) readerEnded() error {
	meant := &Error{Code: CodeUnavailable, Op: w.op, Msg: "the reader has closed the stream"}
	err := w.endReason(meant, "reader").(*Error)
	err.Outcome = NotSent
	return err
}

// tryWrite writes the block, or declares that this side waits for room and reports false.
func (w *StreamWriter) tryWrite(size int,
	fill func(header, payload []byte) error) (done bool, err error) {
	if err := w.begin(); err != nil {
		return false, err
	}
	defer w.end()
	select {
	case <-w.down:
		return false, w.readerEnded()
	default:
	}
	s := spin{p: &w.spin}
	for w.policy == StreamBlock && !w.w.Room(w.ahead(&s)) && s.more() {
	}
	block, ok := w.w.Reserve()
	if ok {
		s.paid()
	} else {
		if w.policy == StreamFail {
			return false,
				&Error{Code: CodeResourceExhausted, Op: w.op, Outcome: NotSent,
					Msg: "the stream is full"}
		}
		w.wire.Expect()
		if w.w.Starve() {
			return false, nil
		}
		block, _ = w.w.Reserve()
	}
	h := w.info.HeaderSize
	if err := protect(w.log, "StreamWriter.Write", func() error {
		return fill(block[:h:h], block[h:size:size])
	}); err != nil {
		return false, err
	}
	if w.w.Commit(size) {
		w.wire.Notify()
	}
	return true, nil
}

// ahead is how much room a writer that spins looks for: for one block at first, and then for a
// quarter of the stream, as each look takes the cache line from a reader that has enough to read.
func (w *StreamWriter) ahead(s *spin) int {
	if s.polls == 0 {
		return 1
	}
	return max(1, w.depth/4)
}

// Close ends the stream as complete: the reader reads what was written before, and then io.EOF. If
// a process ends without calling Close, its reader gets an error instead. Close does not wait for
// the reader. It returns the reader's error if the reader has failed or died before.
//
// Close must not be called from a callback of the same stream. It blocks while a callback runs on
// another goroutine. Writes in progress and later ones fail. Close may be called again.
func (w *StreamWriter) Close() error {
	err := w.failure()
	return sys.JoinErrors(err, w.CloseWithError(nil))
}

// failure returns the reader's error, or nil if the reader lives or has closed the stream.
func (w *StreamWriter) failure() error {
	select {
	case <-w.down:
	default:
		return nil
	}
	if w.begin() != nil {
		return nil // this side has closed it before
	}
	defer w.end()
	return w.endReason(nil, "reader")
}
