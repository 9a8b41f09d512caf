package ipc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipcgen/ipcgen/internal/sys"
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

// checkPolicy refuses a policy that does not exist.
func checkPolicy(p uint32) error {
	if p > uint32(StreamOverwrite) {
		return fmt.Errorf("a stream has no policy %d", p)
	}
	return nil
}

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
	log  *slog.Logger // of callbacks that panic

	notified chan struct{} // the peer sent a note
	down     chan struct{} // the peer closed its end, or died
	spin     spinPolicy

	mu     sync.Mutex // held while the memory is in use
	mem    []byte
	unmap  func([]byte) error
	ends   ends
	ended  bool // this side has said how it ends the stream
	closed atomic.Bool
}

// ends is how each side learns why the other has ended the stream.
type ends interface {
	End(shm.End)
	peerEnd() (e shm.End, ok bool, err error)
}

type writerEnds struct{ *shm.BlockWriter }

func (w writerEnds) peerEnd() (shm.End, bool, error) { return w.ReaderEnd() }

type readerEnds struct{ *shm.BlockReader }

func (r readerEnds) peerEnd() (shm.End, bool, error) { return r.WriterEnd() }

// endOf is the end of a stream for a reason: as it was meant, for nil and for io.EOF,
// which handlers pass on from what they read.
func endOf(why error) shm.End {
	if why == nil || why == io.EOF {
		return shm.End{}
	}
	code, msg := CodeOf(why), why.Error()
	if e, ok := why.(*Error); ok {
		msg = e.text()
	}
	if code == CodeOK {
		code = CodeUnknown
	}
	return shm.End{Failed: true, Code: uint16(code), Text: shorten(msg, shm.MaxEndText)}
}

// endReason returns why the peer, which is gone, has ended the stream: meant, where it has
// as it was to, and else an error of its own or that of its death. It needs mu.
func (s *stream) endReason(meant error, peer string) error {
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
	return meant
}

func newStream(info *StreamInfo, log *slog.Logger, l Link, peer Peer, mem []byte,
	unmap func([]byte) error) *stream {
	s := &stream{op: "stream " + info.Protocol.Name, info: info, log: log, wire: l, peer: peer,
		mem: mem, unmap: unmap,
		notified: make(chan struct{}, 1), down: make(chan struct{})}
	s.spin.init(defaultSpin, l, peer)
	go s.waitNotified()
	go s.readWire()
	return s
}

// waitNotified passes the peer's notes on. One may be passed on that was none: who waits
// looks again.
func (s *stream) waitNotified() {
	recheck := func() bool {
		select {
		case s.notified <- struct{}{}:
		default:
		}
		return false
	}
	for s.wire.Wait(recheck) == nil {
	}
}

// readWire waits for the peer's end.
func (s *stream) readWire() {
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
	case <-s.notified:
		return nil
	case <-s.down:
		return io.EOF
	case <-ctx.Done():
		return contextError(ctx).at(s.op)
	}
}

// Peer says who is at the other end.
func (s *stream) Peer() Peer { return s.peer }

// Close ends the stream as it is meant to end. It must not be called from within a
// callback of the same stream, and waits for one that runs. Operations in progress, and
// later ones, fail. Further calls do nothing.
func (s *stream) Close() error { return s.CloseWithError(nil) }

// CloseWithError ends the stream because of why: the other side gets its code and text
// in place of io.EOF. With nil, it is Close.
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

// begin takes the memory for one operation; end gives it back.
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

// A StreamWriter writes the blocks of a stream. One goroutine at a time may
// use it.
type StreamWriter struct {
	*stream
	w      *shm.BlockWriter
	policy StreamPolicy
	block  int // length of the longest one
	depth  int // how many are kept
}

// Write lets fill write the next block where the reader will read it: the
// struct, and n bytes of payload. fill may not keep the slices, and must set all of
// them: they hold an older block. If it returns an error, there is no block. While the stream
// is full, Write does what the policy says. When the reader has ended the stream, Write
// fails with the error that the reader gave, or with CodeUnavailable; that error
// matches io.ErrUnexpectedEOF when the reader died.
func (w *StreamWriter) Write(ctx context.Context, n int,
	fill func(header, payload []byte) error) error {
	size := w.info.HeaderSize + n
	if n < 0 || size > w.block {
		return &Error{Code: CodeTooLarge, Op: w.op, Outcome: NotSent,
			Msg: fmt.Sprintf("payload of %d bytes; this stream's limit is %d", n,
				w.block-w.info.HeaderSize)}
	}
	if err := ended(ctx); err != nil {
		return err.at(w.op)
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

// readerEnded is the error of a write that no reader waits for. It needs mu.
func (w *StreamWriter) readerEnded() error {
	meant := &Error{Code: CodeUnavailable, Op: w.op, Msg: "the reader has closed the stream"}
	err := w.endReason(meant, "reader").(*Error)
	err.Outcome = NotSent
	return err
}

// tryWrite writes the block, or declares that it waits for room.
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

// Close ends the stream as it is meant to end: the reader gets what was written before,
// and then io.EOF. The end of a process that has not called Close is not meant. Close
// returns why the reader has ended the stream, if it has failed or died by then; it does
// not wait for the reader. It must not be called from within a callback of the same stream,
// and waits for one that runs. Writes in progress, and later ones, fail. Further calls do
// nothing.
func (w *StreamWriter) Close() error {
	err := w.failure()
	return sys.JoinErrors(err, w.CloseWithError(nil))
}

// failure returns why the reader is gone, unless it is not or has closed the stream.
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

// A StreamReader reads the blocks of a stream. One goroutine at a time may use
// it.
type StreamReader struct {
	*stream
	r      *shm.BlockReader
	broken bool // the writer broke the protocol
}

// Read waits for the next block and passes it to f, where it lies: the struct
// and its payload, and how many blocks were overwritten before it. f may
// not keep or change the slices. The writer that follows the protocol leaves
// the block alone meanwhile; where it is not trusted, use ReadInto. Read
// returns f's error.
//
// At the end, when all blocks have been read, Read returns io.EOF if the writer has closed
// the stream. If the writer has failed, as a handler that returns an error or panics, Read
// returns an *Error with that code and text; and if the writer is gone without a word, as a
// process that was killed, an *Error with CodeUnavailable that matches
// io.ErrUnexpectedEOF. Blocks may then be missing.
func (r *StreamReader) Read(ctx context.Context,
	f func(header, payload []byte, lost uint64) error) error {
	if err := ended(ctx); err != nil {
		return err.at(r.op)
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
		return contextError(ctx).at(s.op)
	}
}

// tryRead reads a block, or declares that it sleeps, or, when the writer is gone, returns
// why.
func (r *StreamReader) tryRead(ctx context.Context,
	f func(header, payload []byte, lost uint64) error, gone bool) (step readStep, err error) {
	if err := r.begin(); err != nil {
		return readDone, err
	}
	defer r.end()
	if r.broken {
		return readDone, r.corrupt(nil)
	}
	s := spin{p: &r.spin}
	for !gone && !r.r.Ready() && s.more() {
	}
	block, lost, ok, err := r.r.Next()
	for tries := 0; !ok && err == nil; tries++ {
		if ctx.Err() != nil {
			return readDone, contextError(ctx).at(r.op)
		}
		if r.closed.Load() {
			return readSleeps, nil // the next attempt finds it closed
		}
		if gone && !r.r.Ready() {
			return readDone, r.endReason(io.EOF, "writer")
		}
		if gone { // nothing changes any more, so Next had to find a block or none
			return readDone, r.breakOff(nil)
		}
		if tries == lapTries {
			return readLapped, nil
		}
		r.wire.Expect()
		if r.r.Sleep() {
			return readSleeps, nil
		}
		block, lost, ok, err = r.r.Next()
	}
	s.paid()
	r.r.Awake()
	defer func() {
		if r.r.Release() {
			r.wire.Notify()
		}
	}()
	h := r.info.HeaderSize
	if err != nil || len(block) < h {
		return readDone, r.breakOff(err)
	}
	return readDone, protect(r.log, "StreamReader.Read", func() error {
		return f(block[:h:h], block[h:], lost)
	})
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

// ReadInto is Read with a copy: the block's struct and payload are copied to
// dst, which must be long enough, and n is their length.
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

// A streamRoute is what a server does with a stream that a client opens.
type streamRoute struct {
	info  *StreamInfo
	read  func(context.Context, *StreamReader) error
	write func(context.Context, *StreamWriter) error
}

// HandleStreamReader makes the server accept streams that clients write: f
// reads one, and the stream ends when f returns. The client's writes then fail, with
// the code and text of the error that f returned, if any.
func HandleStreamReader(info *StreamInfo,
	f func(context.Context, *StreamReader) error) ServerOption {
	return serverOption(func(c *serverConfig) {
		if f == nil {
			c.refuse(nilHandler("HandleStreamReader", info))
			return
		}
		c.streams = append(c.streams, &streamRoute{info: info, read: f})
	})
}

// HandleStreamWriter makes the server accept streams that clients read: f
// writes one, and the stream ends when f returns: with io.EOF for the client if f
// returned nil, which says that the stream is complete, and else with the code and text of
// f's error. The context of f is done when the server shuts down; f should return its error
// then.
func HandleStreamWriter(info *StreamInfo,
	f func(context.Context, *StreamWriter) error) ServerOption {
	return serverOption(func(c *serverConfig) {
		if f == nil {
			c.refuse(nilHandler("HandleStreamWriter", info))
			return
		}
		c.streams = append(c.streams, &streamRoute{info: info, write: f})
	})
}

// OpenStreamWriter opens a stream to the server of a channel, for writing.
func OpenStreamWriter(ctx context.Context, channel string, info *StreamInfo, o StreamOptions,
	opts ...DialOption) (*StreamWriter, error) {
	s, mem, err := openStream(ctx, channel, info, o, false, opts)
	if err != nil {
		return nil, asError(err, "open stream "+info.Protocol.Name)
	}
	g := o.geometry(info)
	w, err := shm.NewBlockWriter(mem, g, o.Policy == StreamOverwrite)
	if err != nil {
		return nil, sys.JoinErrors(err, s.Close())
	}
	s.ends = writerEnds{w}
	return &StreamWriter{s, w, o.Policy, g.Block, g.Depth}, nil
}

// OpenStreamReader opens a stream from the server of a channel, for reading.
func OpenStreamReader(ctx context.Context, channel string, info *StreamInfo, o StreamOptions,
	opts ...DialOption) (*StreamReader, error) {
	s, mem, err := openStream(ctx, channel, info, o, true, opts)
	if err != nil {
		return nil, asError(err, "open stream "+info.Protocol.Name)
	}
	r, err := shm.NewBlockReader(mem, o.geometry(info), o.Policy == StreamOverwrite)
	if err != nil {
		return nil, sys.JoinErrors(err, s.Close())
	}
	s.ends = readerEnds{r}
	return &StreamReader{stream: s, r: r}, nil
}

// openStream is the client's side of opening a stream.
func openStream(ctx context.Context, channel string, info *StreamInfo, o StreamOptions, read bool,
	opts []DialOption) (*stream, []byte, error) {
	cfg, err := dialConfigOf(opts)
	if err != nil {
		return nil, nil, err
	}
	g := o.geometry(info)
	if err := sys.JoinErrors(g.Check(), checkPolicy(uint32(o.Policy))); err != nil {
		return nil, nil, &Error{Code: CodeInvalidArgument, Outcome: NotSent, Err: err}
	}
	link, peer, err := connect(ctx, channel, cfg)
	if err != nil {
		return nil, nil, err
	}
	h := clientHelloOf(channel, cfg)
	h.protocols = []protocolID{{name: info.Protocol.Name, fingerprint: info.Protocol.Fingerprint}}
	h.stream = streamHello{open: 1, read: btou(read), depth: uint32(g.Depth),
		block: uint32(g.Block), policy: uint32(o.Policy)}
	_, memory, err := negotiate(ctx, link, cfg, h)
	if err != nil {
		link.Close()
		return nil, nil, err
	}
	defer memory.Close()
	mem, err := memory.Map(g.Size())
	if err != nil {
		link.Close()
		return nil, nil,
			&Error{Code: CodeCorrupt, Outcome: NotSent, Msg: "the server's memory", Err: err}
	}
	if err = memory.Seal(g.Size()); err != nil {
		err = &Error{Code: CodeCorrupt, Outcome: NotSent, Msg: "the server's memory", Err: err}
	} else if err = link.Send(verdictOf(nil).encode(), nil); err != nil {
		err = noAnswer(err)
	} else {
		err = link.SetDeadline(time.Time{})
	}
	if err != nil {
		link.Close()
		if uerr := memory.Unmap(mem); uerr != nil {
			err = sys.JoinErrors(err, uerr)
		}
		return nil, nil, err
	}
	return newStream(info, cfg.logger, link, peer, mem, memory.Unmap), mem, nil
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
				Msg: fmt.Sprintf("struct %s has another layout on the server; a struct can "+
					"never change", want.name)}
		}
		g := h.stream.geometry()
		if err := sys.JoinErrors(g.Check(), checkPolicy(h.stream.policy)); err != nil {
			return nil, &Error{Code: CodeInvalidArgument, Outcome: NotSent, Err: err}
		}
		if g.Size() > maxStreamMemory || g.Block < r.info.HeaderSize {
			return nil, &Error{Code: CodeResourceExhausted, Outcome: NotSent,
				Msg: fmt.Sprintf("a stream of %d bytes; the limit is %d", g.Size(),
					maxStreamMemory)}
		}
		return r, nil
	}
	return nil, &Error{Code: CodeUnimplemented, Outcome: NotSent,
		Msg: "the server has no such stream: " + want.name}
}

// serveStream is a stream's life at the server, behind the gate.
func (s *Server) serveStream(ctx context.Context, r *streamRoute, h *clientHello, g *admission,
	reply *serverHello, log *slog.Logger) error {
	tried, opened, returned := false, false, false
	defer func() {
		if !returned && !tried {
			s.refuse(g.link, errExited, log)
		}
		if !opened {
			s.refused.Add(1)
			g.link.Close()
		}
		s.release(g, nil)
	}()
	peer := g.peer
	p := r.info.Protocol
	call := &ServerCall{Kind: KindStream, Protocol: p, Name: p.Name,
		Method: &MethodInfo{Protocol: p, Name: p.Name}, Peer: &peer}
	err := protect(log, p.Name, func() error {
		return s.cfg.interceptors.pass(context.WithValue(ctx, peerKey{}, &peer), call,
			func(ctx context.Context) error {
				if tried {
					return Errorf(CodeInternal, "an interceptor opened the stream twice")
				}
				tried = true
				st, use, err := s.openStream(r, h, g, reply, log)
				if err != nil {
					return err
				}
				opened = true
				log.Debug("stream opened", "stream", p.Name)
				return s.runStream(ctx, st, use)
			})
	})
	returned = true
	if !tried {
		if err == nil {
			err = Errorf(CodePermissionDenied, "the server does not open the stream")
		}
		s.refuse(g.link, err, log)
	}
	return err
}

// openStream makes the memory of a stream and ends the handshake. use runs the handler.
func (s *Server) openStream(r *streamRoute, h *clientHello, g *admission, reply *serverHello,
	log *slog.Logger) (st *stream, use func(context.Context, *stream) error, err error) {
	geo := h.stream.geometry()
	memory, err := g.link.NewMemory(geo.Size())
	if err == nil {
		defer memory.Close()
	}
	var mem []byte
	if err == nil {
		mem, err = memory.Map(geo.Size())
	}
	if err != nil {
		s.refuse(g.link,
			&Error{Code: CodeResourceExhausted, Outcome: NotSent,
				Msg: "the server cannot make the memory of a stream", Err: err}, log)
		return nil, nil, err
	}
	use, err = r.bind(mem, geo, StreamPolicy(h.stream.policy))
	if err == nil {
		hastened := s.interruptOnClose(g.link)
		err = finishHello(g.link, reply, memory, geo.Size())
		hastened()
	}
	if err != nil {
		return nil, nil, sys.JoinErrors(err, memory.Unmap(mem))
	}
	s.endHandshake(g)
	return newStream(r.info, s.cfg.logger, g.link, g.peer, mem, memory.Unmap), use, nil
}

// runStream runs the handler of a stream that is open.
func (s *Server) runStream(ctx context.Context, st *stream,
	use func(context.Context, *stream) error) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(s.closing, cancel)
	defer stop()
	returned := false
	defer func() {
		if !returned { // nor will this function
			exited(st.log, st.op)
			err = errExited
		}
		err = sys.JoinErrors(err, st.CloseWithError(err))
	}()
	err = protect(st.log, st.op, func() error { return use(ctx, st) })
	returned = true
	if err == io.EOF {
		err = nil
	}
	if err != nil && s.closing.Err() != nil && errors.Is(err, context.Canceled) {
		err = &Error{Code: CodeUnavailable, Msg: "the server is shutting down"}
	}
	return err
}

// bind returns what runs the handler over the memory of a stream.
func (r *streamRoute) bind(mem []byte, g shm.BlockGeometry,
	policy StreamPolicy) (func(context.Context, *stream) error, error) {
	if r.read != nil {
		b, err := shm.NewBlockReader(mem, g, policy == StreamOverwrite)
		return func(ctx context.Context, s *stream) error {
			s.ends = readerEnds{b}
			return r.read(ctx, &StreamReader{stream: s, r: b})
		}, err
	}
	b, err := shm.NewBlockWriter(mem, g, policy == StreamOverwrite)
	return func(ctx context.Context, s *stream) error {
		s.ends = writerEnds{b}
		return r.write(ctx, &StreamWriter{s, b, policy, g.Block, g.Depth})
	}, err
}

// finishHello sends the server's hello with the memory, and waits for the
// client to agree.
func finishHello(link Link, reply *serverHello, memory shm.Memory, size int) error {
	if err := link.Send(reply.encode(), memory); err != nil {
		// What goes along with the memory may be what cannot be made.
		_ = link.Send(refusalOf(&Error{Code: CodeResourceExhausted, Outcome: NotSent,
			Msg: "the server cannot hand over the memory", Err: err}).encode(), nil)
		return err
	}
	if err := readVerdict(link); err != nil {
		return err
	}
	if err := memory.Seal(size); err != nil {
		return &Error{Code: CodeCorrupt, Msg: "the client has changed the memory", Err: err}
	}
	return link.SetDeadline(time.Time{})
}
