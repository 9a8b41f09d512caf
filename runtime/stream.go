package ipc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipcgen/ipcgen/runtime/shm"
)

// A StreamInfo identifies a stream of blocks, each a struct of a schema with
// raw bytes behind it. Generated code declares it.
type StreamInfo struct {
	// Protocol describes the struct; its name is the stream's. As a struct can
	// never change, both sides must have the same fingerprint.
	Protocol *Protocol
	// HeaderSize is the size of the struct, in bytes.
	HeaderSize int
}

// A StreamPolicy says what a writer does while the stream is full.
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

// StreamOptions say how large a stream is. The client that opens it chooses.
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

// A stream is what both ends have in common: memory, and a wire whose notes and end
// goroutines of its own wait for.
type stream struct {
	op   string
	info *StreamInfo
	wire wire
	peer Peer

	notes chan struct{} // the peer sent a note
	down  chan struct{} // the peer closed its end, or died
	spin  spinPolicy

	mu     sync.Mutex // held while the memory is in use
	mem    []byte
	unmap  func([]byte) error
	closed atomic.Bool
}

func newStream(info *StreamInfo, l Link, peer Peer, mem []byte, unmap func([]byte) error) *stream {
	s := &stream{op: "stream " + info.Protocol.Name, info: info, wire: l, peer: peer, mem: mem, unmap: unmap,
		notes: make(chan struct{}, 1), down: make(chan struct{})}
	s.spin.init(defaultSpin, l, peer)
	go s.listen()
	go s.hear()
	return s
}

// listen passes the peer's notes on. One may be passed on that was none: who waits
// looks again.
func (s *stream) listen() {
	look := func() bool {
		select {
		case s.notes <- struct{}{}:
		default:
		}
		return false
	}
	for s.wire.Wait(look) == nil {
	}
}

// hear waits for the peer's end.
func (s *stream) hear() {
	defer close(s.down)
	buf := make([]byte, 64)
	for {
		if _, err := s.wire.Read(buf); err != nil {
			s.wire.Close() // ends listen, too
			return
		}
	}
}

// wait waits for a note from the peer. It returns io.EOF when the peer is gone.
func (s *stream) wait(ctx context.Context) error {
	select {
	case <-s.notes:
		return nil
	case <-s.down:
		return io.EOF
	case <-ctx.Done():
		return contextError(ctx).at(s.op)
	}
}

// at returns e with the operation that failed.
func (e *Error) at(op string) *Error {
	c := *e
	c.Op = op
	return &c
}

// Peer says who is at the other end.
func (s *stream) Peer() Peer { return s.peer }

// Close ends the stream. The reader still gets what was written before. It
// must not be called from within a callback of the same stream; it waits for one that runs.
func (s *stream) Close() error {
	s.closed.Store(true)
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

// begin takes the memory for one operation; end gives it back.
func (s *stream) begin() *Error {
	s.mu.Lock()
	if s.mem == nil || s.closed.Load() {
		s.mu.Unlock()
		return &Error{Code: CodeUnavailable, Op: s.op, Outcome: NotSent, Msg: "the stream is closed"}
	}
	return nil
}

func (s *stream) end() { s.mu.Unlock() }

// A StreamWriter writes the blocks of a stream. One goroutine at a time may
// use it.
type StreamWriter struct {
	*stream
	w      *shm.BlockWriter
	policy StreamPolicy
	block  int
}

// Write lets fill write the next block where the reader will read it: the
// struct, and n bytes of payload. fill may not keep the slices, and must set all of
// them: they hold an older block. If it returns an error, there is no block. While the stream
// is full, Write does what the policy says. It fails with CodeUnavailable when
// the reader is gone.
func (w *StreamWriter) Write(ctx context.Context, n int, fill func(header, payload []byte) error) error {
	size := w.info.HeaderSize + n
	if n < 0 || size > w.block {
		return &Error{Code: CodeTooLarge, Op: w.op, Outcome: NotSent,
			Msg: fmt.Sprintf("payload of %d bytes; this stream's limit is %d", n, w.block-w.info.HeaderSize)}
	}
	if err := ended(ctx); err != nil {
		return err.at(w.op)
	}
	for {
		done, err := w.tryWrite(size, fill)
		if done || err != nil {
			return err
		}
		if err := w.wait(ctx); err != nil {
			return w.gone(err)
		}
	}
}

func (w *StreamWriter) gone(err error) error {
	if errors.Is(err, io.EOF) {
		return &Error{Code: CodeUnavailable, Op: w.op, Outcome: NotSent, Msg: "the reader is gone"}
	}
	return err
}

// tryWrite writes the block, or declares that it waits for room.
func (w *StreamWriter) tryWrite(size int, fill func(header, payload []byte) error) (done bool, err error) {
	if err := w.begin(); err != nil {
		return false, err
	}
	defer w.end()
	select {
	case <-w.down:
		return false, w.gone(io.EOF)
	default:
	}
	block, ok := w.w.Reserve()
	if !ok {
		if w.policy == StreamFail {
			return false, &Error{Code: CodeResourceExhausted, Op: w.op, Outcome: NotSent, Msg: "the stream is full"}
		}
		w.wire.Expect()
		if w.w.Starve() {
			return false, nil
		}
		block, _ = w.w.Reserve()
	}
	h := w.info.HeaderSize
	if err := fill(block[:h:h], block[h:size:size]); err != nil {
		return false, err
	}
	if w.w.Commit(size) {
		w.wire.Notify()
	}
	return true, nil
}

// A StreamReader reads the blocks of a stream. One goroutine at a time may use
// it.
type StreamReader struct {
	*stream
	r *shm.BlockReader
}

// Read waits for the next block and passes it to f, where it lies: the struct
// and its payload, and how many blocks were overwritten before it. f may
// not keep or change the slices. The writer that follows the protocol leaves
// the block alone meanwhile; where it is not trusted, use ReadInto. Read
// returns f's error, and io.EOF when the writer is gone and all blocks have been read.
func (r *StreamReader) Read(ctx context.Context, f func(header, payload []byte, lost uint64) error) error {
	if err := ended(ctx); err != nil {
		return err.at(r.op)
	}
	gone := false
	for {
		done, err := r.tryRead(f)
		if done || err != nil {
			return err
		}
		if gone {
			return io.EOF
		}
		start := time.Now()
		err = r.wait(ctx)
		r.spin.slept(time.Since(start))
		if errors.Is(err, io.EOF) {
			gone = true // look once more
		} else if err != nil {
			return err
		}
	}
}

// tryRead reads a block, or declares that it sleeps.
func (r *StreamReader) tryRead(f func(header, payload []byte, lost uint64) error) (done bool, err error) {
	if err := r.begin(); err != nil {
		return false, err
	}
	defer r.end()
	s := spin{p: &r.spin}
	for !r.r.Ready() && s.more() {
	}
	block, lost, ok, err := r.r.Next()
	for !ok && err == nil {
		r.wire.Expect()
		if r.r.Sleep() {
			return false, nil
		}
		block, lost, ok, err = r.r.Next()
	}
	s.paid()
	r.r.Awake()
	if err != nil || len(block) < r.info.HeaderSize {
		return false, &Error{Code: CodeCorrupt, Op: r.op, Msg: "the writer broke the protocol", Err: err}
	}
	h := r.info.HeaderSize
	defer func() {
		if r.r.Release() {
			r.wire.Notify()
		}
	}()
	return true, f(block[:h:h], block[h:], lost)
}

// ReadInto is Read with a copy: the block's struct and payload are copied to
// dst, which must be long enough, and n is their length.
func (r *StreamReader) ReadInto(ctx context.Context, dst []byte) (n int, lost uint64, err error) {
	err = r.Read(ctx, func(header, payload []byte, l uint64) error {
		if n = len(header) + len(payload); n > len(dst) {
			return &Error{Code: CodeTooLarge, Op: r.op, Msg: fmt.Sprintf("block of %d bytes; there is room for %d", n, len(dst))}
		}
		lost = l
		copy(dst[copy(dst, header):], payload)
		return nil
	})
	return n, lost, err
}

// A streamRoute is what a server does with a stream that a client opens.
type streamRoute struct {
	info  *StreamInfo
	read  func(context.Context, *StreamReader) error
	write func(context.Context, *StreamWriter) error
}

// HandleStreamReader makes the server accept streams that clients write: f
// reads one, and the stream ends when f returns.
func HandleStreamReader(info *StreamInfo, f func(context.Context, *StreamReader) error) ServerOption {
	return serverOption(func(c *serverConfig) {
		c.streams = append(c.streams, &streamRoute{info: info, read: f})
	})
}

// HandleStreamWriter makes the server accept streams that clients read: f
// writes one, and the stream ends when f returns.
func HandleStreamWriter(info *StreamInfo, f func(context.Context, *StreamWriter) error) ServerOption {
	return serverOption(func(c *serverConfig) {
		c.streams = append(c.streams, &streamRoute{info: info, write: f})
	})
}

// OpenStreamWriter opens a stream to the server of a channel, for writing.
func OpenStreamWriter(ctx context.Context, channel string, info *StreamInfo, o StreamOptions, opts ...DialOption) (*StreamWriter, error) {
	s, mem, err := openStream(ctx, channel, info, o, false, opts)
	if err != nil {
		return nil, asError(err, "open stream "+info.Protocol.Name)
	}
	g := o.geometry(info)
	w, err := shm.NewBlockWriter(mem, g, o.Policy == StreamOverwrite)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return &StreamWriter{s, w, o.Policy, g.Block}, nil
}

// OpenStreamReader opens a stream from the server of a channel, for reading.
func OpenStreamReader(ctx context.Context, channel string, info *StreamInfo, o StreamOptions, opts ...DialOption) (*StreamReader, error) {
	s, mem, err := openStream(ctx, channel, info, o, true, opts)
	if err != nil {
		return nil, asError(err, "open stream "+info.Protocol.Name)
	}
	r, err := shm.NewBlockReader(mem, o.geometry(info))
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return &StreamReader{s, r}, nil
}

// openStream is the client's side of opening a stream.
func openStream(ctx context.Context, channel string, info *StreamInfo, o StreamOptions, read bool, opts []DialOption) (*stream, []byte, error) {
	cfg := dialConfig{common: commonDefaults()}
	for _, opt := range opts {
		opt.applyDial(&cfg)
	}
	g := o.geometry(info)
	if err := g.Check(); err != nil {
		return nil, nil, &Error{Code: CodeInvalidArgument, Outcome: NotSent, Err: err}
	}
	link, peer, err := connect(ctx, channel, cfg)
	if err != nil {
		return nil, nil, err
	}
	h := clientHelloOf(channel, cfg)
	h.protocols = []protocolID{{name: info.Protocol.Name, fingerprint: info.Protocol.Fingerprint}}
	h.stream = streamHello{open: 1, read: btou(read), depth: uint32(g.Depth), block: uint32(g.Block), policy: uint32(o.Policy)}
	_, memory, err := talk(ctx, link, cfg, h)
	if err != nil {
		link.Close()
		return nil, nil, err
	}
	defer memory.Close()
	mem, err := memory.Map(g.Size())
	if err != nil {
		link.Close()
		return nil, nil, err
	}
	if err = link.Send(verdictOf(nil).encode(), nil); err != nil {
		err = noAnswer(err)
	} else {
		err = link.SetDeadline(time.Time{})
	}
	if err != nil {
		link.Close()
		if uerr := memory.Unmap(mem); uerr != nil {
			err = errors.Join(err, uerr)
		}
		return nil, nil, err
	}
	return newStream(info, link, peer, mem, memory.Unmap), mem, nil
}

func btou(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}

// findStream looks for what the server does with the stream a client asks for.
func (s *Server) findStream(h *clientHello) (*streamRoute, error) {
	if len(h.protocols) != 1 {
		return nil, errBadHello
	}
	want := h.protocols[0]
	for _, r := range s.cfg.streams {
		if r.info.Protocol.Name != want.name || (r.write != nil) != (h.stream.read != 0) {
			continue
		}
		if r.info.Protocol.Fingerprint != want.fingerprint {
			return nil, &Error{Code: CodeIncompatible, Outcome: NotSent,
				Msg: fmt.Sprintf("struct %s has another layout on the server; a struct can never change", want.name)}
		}
		g := h.stream.geometry()
		if err := g.Check(); err != nil {
			return nil, &Error{Code: CodeInvalidArgument, Outcome: NotSent, Err: err}
		}
		if g.Size() > maxStreamMemory || g.Block < r.info.HeaderSize {
			return nil, &Error{Code: CodeResourceExhausted, Outcome: NotSent,
				Msg: fmt.Sprintf("a stream of %d bytes; the limit is %d", g.Size(), maxStreamMemory)}
		}
		return r, nil
	}
	return nil, &Error{Code: CodeUnimplemented, Outcome: NotSent, Msg: "the server has no such stream: " + want.name}
}

// openStream is the server's side of opening a stream. It returns the rest of
// the stream's life.
func (s *Server) openStream(ctx context.Context, r *streamRoute, h *clientHello, peer Peer, link Link, reply *serverHello) (run func() error, err error) {
	g := h.stream.geometry()
	memory, err := link.NewMemory(g.Size())
	if err != nil {
		return nil, err
	}
	defer memory.Close()
	mem, err := memory.Map(g.Size())
	if err != nil {
		return nil, err
	}
	use, err := r.bind(mem, g, StreamPolicy(h.stream.policy))
	if err == nil {
		err = finishHello(link, reply, memory)
	}
	if err != nil {
		return nil, errors.Join(err, memory.Unmap(mem))
	}
	return func() error {
		st := newStream(r.info, link, peer, mem, memory.Unmap)
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stop := context.AfterFunc(s.closing, cancel)
		defer stop()
		err := protect(s.cfg.logger, func() error { return use(ctx, st) })
		return errors.Join(err, st.Close())
	}, nil
}

// bind returns what runs the handler over the memory of a stream.
func (r *streamRoute) bind(mem []byte, g shm.BlockGeometry, policy StreamPolicy) (func(context.Context, *stream) error, error) {
	if r.read != nil {
		b, err := shm.NewBlockReader(mem, g)
		return func(ctx context.Context, s *stream) error { return r.read(ctx, &StreamReader{s, b}) }, err
	}
	b, err := shm.NewBlockWriter(mem, g, policy == StreamOverwrite)
	return func(ctx context.Context, s *stream) error {
		return r.write(ctx, &StreamWriter{s, b, policy, g.Block})
	}, err
}

// finishHello sends the server's hello with the memory, and waits for the
// client to agree.
func finishHello(link Link, reply *serverHello, memory shm.Memory) error {
	if err := link.Send(reply.encode(), memory); err != nil {
		return err
	}
	if err := readVerdict(link); err != nil {
		return err
	}
	return link.SetDeadline(time.Time{})
}
