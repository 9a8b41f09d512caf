package ipc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/ipcgen/ipcgen/internal/sys"
	"github.com/ipcgen/ipcgen/runtime/shm"
)

// A streamRoute is a kind of stream that a server accepts, with its handler.
type streamRoute struct {
	info  *StreamInfo
	read  func(context.Context, *StreamReader) error
	write func(context.Context, *StreamWriter) error
}

// HandleStreamReader makes a server accept the streams that clients write. f reads one stream, on a
// goroutine of its own; the stream ends when f returns. Later writes of the client fail, with the
// code and text of f's error if it is not nil. The context of f is done when the server shuts down,
// and when the client died or closed the stream with an error; what it has written before can be
// read with that context nevertheless. f must not keep the reader.
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

// HandleStreamWriter makes a server accept the streams that clients read. f writes one stream, on a
// goroutine of its own; the stream ends when f returns. If f returns nil, the stream is complete,
// and the client reads io.EOF at its end; otherwise the client reads the code and text of f's
// error. The context of f is done when the server shuts down; f should return its error then. It is
// also done when the client has ended the stream or died, so that an f that has nothing to write
// learns of that. f must not keep the writer.
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

// findStream returns the route of the stream that a client asks for.
func (s *Server) findStream(h *clientHello) (*streamRoute, error) {
	if len(h.protocols) != 1 {
		return nil, malformedHello(errBadHello)
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

// serveStream runs a stream, from the end of the handshake to the end of the stream, behind the
// gate.
func (s *Server) serveStream(ctx context.Context, r *streamRoute, h *clientHello, g *admission,
	reply *serverHello, log *slog.Logger) {
	call := &ServerCall{Kind: KindStream, Protocol: r.info.Protocol}
	size := h.stream.geometry().Size()
	s.serveOpening(ctx, call, g, log, func() (func(context.Context) error, error) {
		if err := s.reserveStream(size, g.peer.PID); err != nil {
			s.refuse(g.link, err, log)
			return nil, err
		}
		st, use, err := s.openStream(r, h, g, reply, log)
		if err != nil {
			s.releaseStream(size, g.peer.PID)
			return nil, err
		}
		return func(ctx context.Context) error {
			defer s.releaseStream(size, g.peer.PID)
			return s.runStream(ctx, st, use)
		}, nil
	})
}

// defaultStreamMemory is a quarter of the memory, and on a small machine that of one stream.
func defaultStreamMemory() int { return quarterOfMemory(maxStreamMemory) }

// reserveStream counts the memory of a stream of a process, or refuses the stream. The last eighth
// of the memory is for processes that have less than an eighth, as for connections.
func (s *Server) reserveStream(size, pid int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	limit := s.cfg.maxStreams
	if s.streamBytesBy[pid] >= limit/8 {
		limit -= limit / 8
	}
	if s.streamBytes+size > limit {
		return &Error{Code: CodeResourceExhausted, Outcome: NotSent,
			Msg: fmt.Sprintf("the server's streams have %d bytes of memory, %d of them of this "+
				"process; %d more would exceed the limit; close streams, make them smaller, or "+
				"raise WithMaxStreamMemory", s.streamBytes, s.streamBytesBy[pid], size)}
	}
	s.streamBytes += size
	s.streamBytesBy[pid] += size
	return nil
}

// releaseStream takes back what reserveStream has counted.
func (s *Server) releaseStream(size, pid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streamBytes -= size
	if s.streamBytesBy[pid] -= size; s.streamBytesBy[pid] == 0 {
		delete(s.streamBytesBy, pid)
	}
}

// openStream makes the memory of a stream and completes the handshake. use runs the handler.
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

// runStream runs the handler of an open stream, and ends the stream with its error.
func (s *Server) runStream(ctx context.Context, st *stream,
	use func(context.Context, *stream) error) (err error) {
	ctx, cancel := context.WithCancel(context.WithValue(ctx, peerKey{}, &st.peer))
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

// bind returns a function that runs the handler over the memory of a stream.
func (r *streamRoute) bind(mem []byte, g shm.BlockGeometry,
	policy StreamPolicy) (func(context.Context, *stream) error, error) {
	if r.read != nil {
		b, err := shm.NewBlockReader(mem, g, policy == StreamOverwrite)
		return func(ctx context.Context, s *stream) error {
			s.ends = readerEnds{b}
			ctx, stop := s.whilePeerStays(ctx, true)
			defer stop()
			return r.read(ctx, &StreamReader{stream: s, r: b})
		}, err
	}
	b, err := shm.NewBlockWriter(mem, g, policy == StreamOverwrite)
	return func(ctx context.Context, s *stream) error {
		s.ends = writerEnds{b}
		ctx, stop := s.whilePeerStays(ctx, false)
		defer stop()
		return r.write(ctx, &StreamWriter{s, b, policy, g.Block, g.Depth})
	}, err
}
