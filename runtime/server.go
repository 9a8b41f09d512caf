package ipc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipcgen/ipcgen/runtime/shm"
)

// A Server handles the calls and messages of the clients of one or more
// listeners.
type Server struct {
	cfg       serverConfig
	routes    routeTable
	protocols []protocolID
	text      string
	invalid   error // why Serve fails at once

	mu          sync.Mutex
	listeners   map[*Listener]struct{}
	conns       map[*serverConn]struct{}
	accepted    int  // connections, and sockets that still shake hands
	closed      bool // Shutdown or Close was called
	empty       chan struct{}
	refused     atomic.Uint64
	corrupted   atomic.Uint64
	spinners    atomic.Int32 // readers that look for requests without sleeping
	maxSpinners int32

	closing context.Context // done when Shutdown or Close is called
	close   context.CancelFunc
}

// NewServer makes a server of services and other options. Two services of one
// protocol are an error, which Serve returns.
func NewServer(opts ...ServerOption) *Server {
	s := &Server{
		cfg:       serverConfig{common: commonDefaults(), maxCalls: DefaultMaxCalls, maxConns: DefaultMaxConns, grace: DefaultGrace},
		listeners: map[*Listener]struct{}{},
		conns:     map[*serverConn]struct{}{},
	}
	s.maxSpinners = int32(max(1, runtime.GOMAXPROCS(0)/2))
	s.closing, s.close = context.WithCancel(context.Background())
	for _, o := range opts {
		o.applyServer(&s.cfg)
	}
	if s.cfg.maxMessage <= 0 {
		s.cfg.maxMessage = DefaultMaxMessage
	}
	s.cfg.toServer = ringCapacity(orDefault(s.cfg.toServer, DefaultRingCapacity), shm.MaxCapacity)
	s.cfg.toClient = ringCapacity(orDefault(s.cfg.toClient, DefaultRingCapacity), shm.MaxCapacity)
	s.cfg.maxCalls = min(max(s.cfg.maxCalls, 1), maxPlaces)
	s.routes, s.invalid = bindRoutes(s.cfg.services, &s.text)
	at := 0
	for _, svc := range s.cfg.services {
		p := svc.protocol
		s.protocols = append(s.protocols, protocolID{p.Name, p.Fingerprint, uint32(at), uint32(len(p.Schema))})
		at += len(p.Schema)
	}
	return s
}

func orDefault(v, d int) int {
	if v <= 0 {
		return d
	}
	return v
}

// ErrServerClosed is what Serve returns after Shutdown or Close.
var ErrServerClosed = errors.New("ipc: the server is closed")

// Serve accepts clients on l and serves them until ctx is done, or Shutdown or
// Close is called; then it closes l and returns ErrServerClosed, or for a ctx
// that is done its error, after a Close of the whole server. So it does when l has
// lost its name to another process: then the error wraps ErrDisplaced. The
// contexts of handlers carry the values of ctx.
func (s *Server) Serve(ctx context.Context, l *Listener) error {
	if s.invalid != nil {
		l.Close()
		return s.invalid
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		l.Close()
		return ErrServerClosed
	}
	s.listeners[l] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.listeners, l)
		s.mu.Unlock()
	}()
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	if r, ok := l.links.(interface{ onRepair(func(string)) }); ok {
		r.onRepair(func(news string) { s.cfg.logger.Warn("the channel's files", "channel", l.channel, "news", news) })
	}
	for {
		link, err := l.links.Accept()
		if err != nil {
			cerr := l.Close()
			s.mu.Lock()
			closed := s.closed
			s.mu.Unlock()
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case closed && cerr == nil:
				return ErrServerClosed
			case closed:
				return fmt.Errorf("%w; %w", ErrServerClosed, cerr)
			}
			if errors.Is(err, ErrDisplaced) {
				s.cfg.logger.Error("the channel is lost", "channel", l.channel, "err", err)
				s.Close() // so that no client is served under a name that is another's
			}
			return asError(err, "serve "+l.channel)
		}
		if !s.admit() {
			s.refused.Add(1)
			s.turnAway(link)
			continue
		}
		go s.welcome(ctx, l, link)
	}
}

// admit takes a place for a connection.
func (s *Server) admit() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.accepted >= s.cfg.maxConns {
		return false
	}
	s.accepted++
	return true
}

// leave gives the place back.
func (s *Server) leave(c *serverConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accepted--
	delete(s.conns, c)
	if s.accepted == 0 && s.empty != nil {
		close(s.empty)
		s.empty = nil
	}
}

// turnAway tells a client, without waiting for it, that there is no room.
func (s *Server) turnAway(link Link) {
	h := serverHello{version: helloVersion, layout: shm.Version, code: CodeResourceExhausted,
		msg: fmt.Sprintf("the server has its limit of %d connections, or is closing", s.cfg.maxConns)}
	_, _ = link.Write(h.encode())
	link.Close()
}

// welcome shakes hands with a client and serves it.
func (s *Server) welcome(ctx context.Context, l *Listener, link Link) {
	peer, err := link.Peer()
	log := s.cfg.logger.With("channel", l.channel, "peer_pid", peer.PID)
	var run func() error
	if err == nil {
		run, err = s.shake(ctx, l, link, peer, log)
	}
	if err != nil {
		s.refused.Add(1)
		log.Warn("client refused", "err", err)
		link.Close()
		s.leave(nil)
		return
	}
	log.Debug("client connected")
	if err := run(); err != nil {
		log.Warn("stream ended", "err", err)
	}
}

// shake is the server's side of the handshake. It returns the rest of the
// connection's life.
func (s *Server) shake(ctx context.Context, l *Listener, link Link, peer Peer, log *slog.Logger) (run func() error, err error) {
	if err := link.SetDeadline(time.Now().Add(s.cfg.handshake)); err != nil {
		return nil, err
	}
	// A drain does not wait for a client that says nothing.
	hurried := make(chan struct{})
	stop := context.AfterFunc(s.closing, func() {
		defer close(hurried)
		_ = link.SetDeadline(time.Unix(1, 0))
	})
	defer func() {
		if stop() {
			return
		}
		<-hurried
		_ = link.SetDeadline(time.Time{})
	}()
	b, err := readWord(link)
	if err != nil {
		return nil, err
	}
	var hello clientHello
	var route *streamRoute
	err = hello.decode(b)
	if err == nil {
		err = s.examine(l, &hello, peer)
	}
	if err == nil && hello.stream.open != 0 {
		route, err = s.findStream(&hello)
	}
	if err != nil {
		s.refuse(link, err, log)
		return nil, err
	}
	reply := s.offer(l, &hello)
	if route != nil {
		run, err := s.openStream(ctx, route, &hello, peer, link, reply)
		return func() error {
			defer s.leave(nil)
			return run()
		}, err
	}
	c, err := s.openConn(ctx, reply, peer, link, log)
	if err != nil {
		return nil, err
	}
	return func() error {
		s.enter(c)
		go c.hear()
		c.serve()
		return nil
	}, nil
}

// refuse tells a client why it may not connect.
func (s *Server) refuse(link Link, err error, log *slog.Logger) {
	e := asError(err, "")
	h := serverHello{version: helloVersion, layout: shm.Version, code: e.Code, msg: shorten(e.text(), longestText)}
	if err := link.Send(h.encode(), nil); err != nil {
		log.Debug("cannot tell the client why it is refused", "err", err)
	}
}

// openConn makes the memory of a connection and ends the handshake.
func (s *Server) openConn(ctx context.Context, reply *serverHello, peer Peer, link Link, log *slog.Logger) (*serverConn, error) {
	memory, err := link.NewMemory(reply.geo.Size())
	if err != nil {
		return nil, err
	}
	defer memory.Close()
	seg, err := shm.NewSegment(memory, reply.geo)
	if err != nil {
		return nil, err
	}
	copy(seg.Text(), s.text)
	c, err := newServerConn(ctx, s, reply, peer, link, seg, log)
	if err == nil {
		err = finishHello(link, reply, memory)
	}
	if err != nil {
		seg.Close()
		return nil, err
	}
	return c, nil
}

// enter adds a connection to those that Shutdown and Close end.
func (s *Server) enter(c *serverConn) {
	s.mu.Lock()
	s.conns[c] = struct{}{}
	closed := s.closed
	s.mu.Unlock()
	if closed {
		c.drain()
	}
}

// readWord reads what a client says in the handshake, which comes without
// memory.
func readWord(link Link) ([]byte, error) {
	r := &linkReader{l: link}
	b, err := readHello(r, maxHello)
	if r.memory != nil {
		r.memory.Close()
		return nil, errBadHello
	}
	return b, err
}

// readVerdict waits for the client to agree.
func readVerdict(link Link) error {
	b, err := readWord(link)
	if err != nil {
		return err
	}
	var v verdict
	if err := v.decode(b); err != nil {
		return err
	}
	if v.code != CodeOK {
		return remoteError(v.code, OutcomeUnknown, v.msg)
	}
	return nil
}

// examine decides whether a client may connect.
func (s *Server) examine(l *Listener, h *clientHello, peer Peer) error {
	if err := authorize(s.cfg.allow, peer); err != nil {
		return err
	}
	if err := incompatibleVersion(h.version, h.layout); err != nil {
		return err
	}
	if h.reply != "" && h.reply != l.reply {
		return &Error{Code: CodeIncompatible, Outcome: NotSent,
			Msg: fmt.Sprintf("the client expects reply channel %q, this server uses %q", h.reply, l.reply)}
	}
	return nil
}

// offer settles what the client left open.
func (s *Server) offer(l *Listener, h *clientHello) *serverHello {
	limit := s.cfg.maxMessage
	if h.maxMessage > 0 && int(h.maxMessage) < limit {
		limit = int(h.maxMessage)
	}
	return &serverHello{
		version: helloVersion, layout: shm.Version,
		geo: shm.Geometry{
			ToServer: ringCapacity(int(h.toServer), s.cfg.toServer),
			ToClient: ringCapacity(int(h.toClient), s.cfg.toClient),
			Text:     len(s.text),
		},
		maxMessage: uint32(limit), maxCalls: uint32(s.cfg.maxCalls), reply: l.reply, protocols: s.protocols,
	}
}

// Conns is the number of clients that are connected.
func (s *Server) Conns() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Shutdown ends the server gracefully: it accepts no more clients, tells those
// that are connected to send no more calls, lets what was sent be handled
// and answered, and closes the connections. When ctx is done before that, it
// closes them as Close does and returns ctx's error.
func (s *Server) Shutdown(ctx context.Context) error {
	conns := s.stopAccepting()
	for _, c := range conns {
		c.drain()
	}
	if empty := s.whenEmpty(); empty != nil {
		select {
		case <-empty:
		case <-ctx.Done():
			s.Close()
			return ctx.Err()
		}
	}
	return nil
}

// Close ends the server at once: contexts of running handlers are cancelled,
// and connections are closed. It does not wait for handlers. At their clients, calls in
// flight end with CodeUnavailable, and an outcome that says what is known: NotExecuted of a
// call that the server had not looked at, otherwise OutcomeUnknown, whatever its
// handler returns from then on. Further calls do nothing.
func (s *Server) Close() error {
	for _, c := range s.stopAccepting() {
		c.fail(&Error{Code: CodeUnavailable, Err: ErrServerClosed})
	}
	return nil
}

// stopAccepting closes the listeners and returns the connections.
func (s *Server) stopAccepting() []*serverConn {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.close()
	for l := range s.listeners {
		if err := l.Close(); err != nil {
			s.cfg.logger.Warn("close listener", "channel", l.channel, "err", err)
		}
	}
	var conns []*serverConn
	for c := range s.conns {
		conns = append(conns, c)
	}
	return conns
}

// whenEmpty returns a channel that is closed when the last connection has
// ended, or nil if it has.
func (s *Server) whenEmpty() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.accepted == 0 {
		return nil
	}
	if s.empty == nil {
		s.empty = make(chan struct{})
	}
	return s.empty
}
