package ipc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/ipcgen/ipcgen/runtime/shm"
)

type readerEnds struct{ *shm.BlockReader }

func (r readerEnds) peerEnd() (shm.End, bool, error) { return r.WriterEnd() }

// A StreamReader reads the blocks of a stream. It must not be used by several goroutines at the
// same time, except for Close and CloseWithError.
type StreamReader struct {
	*stream
	r      *shm.BlockReader
	broken bool // the writer broke the protocol
}

// Read blocks until there is a block, calls f with it, and returns f's error. f receives the struct
// and the payload in shared memory, and the number of blocks that were overwritten before this one.
// It must not keep or change the slices. A writer that follows the protocol does not change the
// block meanwhile; use [StreamReader.ReadInto] if the writer is not trusted.
//
// When all blocks have been read, Read returns io.EOF if the writer has closed the stream. If the
// writer failed, as a handler does that returns an error or panics, Read returns an [*Error] with
// its code and text. If the writer died without closing the stream, Read returns an [*Error] with
// [CodeUnavailable] that matches [io.ErrUnexpectedEOF]; blocks may then be missing.
func (r *StreamReader) Read(ctx context.Context,
	f func(header, payload []byte, lost uint64) error) error {
	if err := r.late(ctx); err != nil {
		return err
	}
	gone := false
	for {
		step, err := r.tryRead(ctx, f, gone)
		if step == readDone || err != nil {
			return err
		}
		if step == readLapped {
			err = r.pause(ctx)
		} else {
			start := time.Now()
			err = r.wait(ctx)
			r.spin.slept(time.Since(start))
		}
		if errors.Is(err, io.EOF) {
			gone = true // look once more
		} else if err != nil {
			return err
		}
	}
}

// A readStep is how far tryRead came.
type readStep uint8

const (
	readDone   readStep = iota // a block was read, or the stream is at its end
	readSleeps                 // there is no block; the reader has declared that it sleeps
	readLapped                 // the writer has overwritten each block before it could be claimed
)

const (
	// lapTries is how often a reader looks for a block of a writer that overwrites all of them,
	// before it pauses for lapPause. A hostile writer can overwrite without end.
	lapTries = 4
	lapPause = time.Millisecond
)

// pause lets a writer that overwrites faster than this side reads get ahead, without a processor.
// It returns io.EOF when the writer is gone.
func (s *stream) pause(ctx context.Context) error {
	t := time.NewTimer(lapPause)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-s.down:
		return io.EOF
	case <-ctx.Done():
		if err := s.late(ctx); err != nil {
			return err
		}
		return io.EOF
	}
}

// tryRead reads a block, or declares that this side sleeps. When the writer is gone and no block is
// left, it returns the reason for the end.
func (r *StreamReader) tryRead(ctx context.Context,
	f func(header, payload []byte, lost uint64) error, gone bool) (step readStep, err error) {
	if err := r.begin(); err != nil {
		return readDone, err
	}
	defer r.end()
	block, lost, step, err := r.next(ctx, gone)
	if block == nil || err != nil {
		return step, err
	}
	defer r.release()
	h := r.info.HeaderSize
	if len(block) < h {
		return readDone, r.breakOff(nil)
	}
	return readDone, protect(r.log, "StreamReader.Read", func() error {
		return f(block[:h:h], block[h:], lost)
	})
}

// next returns the next block, or nil and what tryRead returns then. The caller must hold r.mu.
func (r *StreamReader) next(ctx context.Context, gone bool) (block []byte, lost uint64,
	step readStep, err error) {
	if r.broken {
		return nil, 0, readDone, r.corrupt(nil)
	}
	s := spin{p: &r.spin}
	for !gone && !r.r.Ready() && s.more() {
	}
	block, lost, ok, err := r.r.Next()
	for tries := 0; !ok && err == nil; tries++ {
		if err := r.late(ctx); err != nil {
			return nil, 0, readDone, err
		}
		if r.closed.Load() {
			return nil, 0, readSleeps, nil // the next attempt finds it closed
		}
		if gone && !r.r.Ready() {
			return nil, 0, readDone, r.endReason(io.EOF, "writer")
		}
		if gone { // nothing changes any more, so Next had to find a block or none
			return nil, 0, readDone, r.breakOff(nil)
		}
		if tries == lapTries {
			return nil, 0, readLapped, nil
		}
		r.wire.Expect()
		if r.r.Sleep() {
			return nil, 0, readSleeps, nil
		}
		block, lost, ok, err = r.r.Next()
	}
	s.paid()
	r.r.Awake()
	if err != nil {
		return nil, 0, readDone, r.breakOff(err)
	}
	return block, lost, readDone, nil
}

// release gives the block that was read back to the writer.
func (r *StreamReader) release() {
	if r.r.Release() {
		r.wire.Notify()
	}
}

// breakOff ends the stream of a writer that broke the protocol.
func (r *StreamReader) breakOff(why error) *Error {
	r.broken = true
	r.wire.Close()
	return r.corrupt(why)
}

func (r *StreamReader) corrupt(why error) *Error {
	return &Error{Code: CodeCorrupt, Op: r.op, Msg: "the writer broke the protocol", Err: why}
}

// ReadInto is like [StreamReader.Read], but copies the struct and the payload to dst. n is their
// length. A block that is longer than dst is lost, and the error has [CodeTooLarge].
func (r *StreamReader) ReadInto(ctx context.Context, dst []byte) (n int, lost uint64, err error) {
	err = r.Read(ctx, func(header, payload []byte, l uint64) error {
		if n = len(header) + len(payload); n > len(dst) {
			return &Error{Code: CodeTooLarge, Op: r.op,
				Msg: fmt.Sprintf("block of %d bytes; there is room for %d", n, len(dst))}
		}
		lost = l
		copy(dst[copy(dst, header):], payload)
		return nil
	})
	return n, lost, err
}
