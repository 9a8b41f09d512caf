package ipc

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/ipcgen/ipcgen/runtime/shm"
)

// A StreamInfo identifies a stream of structs. A block of it is a struct of a schema, followed by
// raw bytes. Generated code declares it.
type StreamInfo struct {
	// Protocol describes the struct; its name is the stream's. As a struct can
	// never change, both sides must have the same fingerprint.
	Protocol *Protocol
	// HeaderSize is the size of the struct, in bytes.
	HeaderSize int
}

// A StreamPolicy determines what a writer does while the stream is full.
type StreamPolicy uint8

const (
	// StreamBlock waits until the reader has made room.
	StreamBlock StreamPolicy = iota
	// StreamFail refuses the new block with CodeResourceExhausted.
	StreamFail
	// StreamOverwrite drops the oldest block; the reader learns how many it
	// lost.
	StreamOverwrite
)

// checkPolicy refuses a policy that does not exist.
func checkPolicy(p uint32) error {
	if p > uint32(StreamOverwrite) {
		return fmt.Errorf("a stream has no policy %d", p)
	}
	return nil
}

// StreamOptions determine the size of a stream. The client that opens the stream chooses them.
type StreamOptions struct {
	Depth   int // blocks that are kept; 0: 16
	Payload int // longest payload of a block, in bytes; 0: 64 KiB
	Policy  StreamPolicy
}

const (
	defaultStreamDepth   = 16
	defaultStreamPayload = 64 << 10
	// maxStreamMemory is what a client may make a server allocate.
	maxStreamMemory = 64 << 20
)

func (o StreamOptions) geometry(info *StreamInfo) shm.BlockGeometry {
	return shm.BlockGeometry{
		Depth: orDefault(o.Depth, defaultStreamDepth),
		Block: info.HeaderSize + orDefault(o.Payload, defaultStreamPayload),
	}
}

// A stream is what the writer and the reader of a stream have in common: memory, and a session.
type stream struct {
	*session
	op   string
	info *StreamInfo
	log  *slog.Logger // of callbacks that panic
	left error        // why the context of a handler is done when the other side is gone

	mu     sync.Mutex // held while the memory is in use
	mem    []byte
	unmap  func([]byte) error
	ends   ends
	ended  bool // this side has said how it ends the stream
	closed atomic.Bool
}

// ends has how each side learns why the other one has ended the stream.
type ends interface {
	End(shm.End)
	peerEnd() (e shm.End, ok bool, err error)
}

// endReason returns the reason for which the peer, which is gone, has ended the stream: complete if
// the stream is complete, and otherwise the peer's error or the error of its death. The caller must
// hold s.mu.
func (s *stream) endReason(complete error, peer string) error {
	e, ok, err := s.ends.peerEnd()
	switch {
	case err != nil:
		return &Error{Code: CodeCorrupt, Op: s.op, Msg: "the " + peer +
			" broke the protocol", Err: err}
	case !ok:
		return &Error{Code: CodeUnavailable, Op: s.op, Msg: "the " + peer +
			" is gone without having closed the stream", Err: io.ErrUnexpectedEOF}
	case e.Failed:
		return remoteError(Code(e.Code), OutcomeUnknown, e.Text).at(s.op)
	}
	return complete
}

func newStream(info *StreamInfo, log *slog.Logger, l Link, peer Peer, mem []byte,
	unmap func([]byte) error) *stream {
	s := &stream{session: newSession(l, peer), op: "stream " + info.Protocol.Name, info: info,
		log: log, mem: mem, unmap: unmap}
	s.left = &Error{Code: CodeUnavailable, Op: s.op, Msg: "the other side is gone"}
	go s.waitNotified()
	go s.readWire()
	return s
}

// wait waits for a notification from the peer. It returns io.EOF when the peer is gone.
func (s *stream) wait(ctx context.Context) error {
	err := s.session.wait(ctx)
	if _, ok := err.(*Error); !ok {
		return err
	}
	if e := s.late(ctx); e != nil {
		return e
	}
	return io.EOF
}

// late is like ended. The context of a handler whose other side is gone does not end
// operations of the stream: they never block then, and say what there is to read and how the stream
// has ended.
func (s *stream) late(ctx context.Context) *Error {
	err := ended(ctx)
	if err == nil || ctx != nil && context.Cause(ctx) == s.left {
		return nil
	}
	return err.at(s.op)
}

// whilePeerStays returns a context for the handler of a stream, and a function that ends it. The
// context is done when the other side is gone, as a handler that neither reads nor writes would not
// learn of that. An exception is a reader whose stream is complete: there may be work left.
func (s *stream) whilePeerStays(ctx context.Context, reads bool) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-s.down:
			if !reads || !s.complete() {
				cancel(s.left)
			}
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// complete reports whether the peer, which is gone, has closed the stream as complete. It waits for
// the callback of an operation in progress.
func (s *stream) complete() bool {
	if s.begin() != nil {
		return false // this side has closed it
	}
	defer s.end()
	e, ok, err := s.ends.peerEnd()
	return ok && err == nil && !e.Failed
}

// Peer returns the process at the other end.
func (s *stream) Peer() Peer { return s.peer }

// Close ends the stream as complete. It must not be called from a callback of the same stream, and
// blocks while a callback runs on another goroutine. Operations in progress and later ones fail.
// Close may be called again.
func (s *stream) Close() error { return s.CloseWithError(nil) }

// CloseWithError ends the stream with an error: the other side gets its code and text in place of
// io.EOF. With nil, it is Close.
func (s *stream) CloseWithError(why error) error {
	s.closed.Store(true)
	s.mu.Lock()
	if s.mem != nil && s.ends != nil && !s.ended {
		s.ended = true
		s.ends.End(endOf(why))
	}
	s.mu.Unlock()
	s.wire.Close()
	<-s.down
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mem == nil {
		return nil
	}
	mem := s.mem
	s.mem = nil
	return s.unmap(mem)
}

// begin locks the memory for one operation; end unlocks it. It fails if the stream is closed.
func (s *stream) begin() *Error {
	s.mu.Lock()
	if s.mem == nil || s.closed.Load() {
		s.mu.Unlock()
		return &Error{Code: CodeUnavailable, Op: s.op, Outcome: NotSent,
			Msg: "the stream is closed"}
	}
	return nil
}

func (s *stream) end() { s.mu.Unlock() }
