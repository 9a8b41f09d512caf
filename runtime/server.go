package ipc

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipcgen/ipcgen/runtime/shm"
)

// A Server handles the calls, messages and streams of the clients of one or more listeners. Its
// methods are safe for concurrent use.
type Server struct {
	cfg       serverConfig
	handler   Handler
	own       routeTable // of health and introspection
	started   time.Time
	lookout   lookout
	protocols []protocolID
	text      string
	invalid   error // why Serve fails at once

	mu             sync.Mutex
	listeners      map[*Listener]struct{}
	conns          map[*serverConn]struct{}
	handshakeSlots chan struct{}    // holds one for each handshake under way
	handshakes     []*admission     // in the order of their arrival
	accepted       int              // admissions: handshakes, connections and streams
	reserved       int              // those of them that the limit of connections counts
	reservedBy     map[int]int      // likewise, by process
	ended          Stats            // the sum over the connections that have ended
	accounts       map[int]*account // by process
	accountsLimit  int              // the number of accounts at which unused ones are removed
	streamBytes    int              // memory of all streams
	streamBytesBy  map[int]int      // likewise, by process
	closed         bool             // Shutdown or Close was called
	cut            bool             // Close was called
	empty          chan struct{}
	messageBytes   atomic.Int64 // of all accounts
	refused        atomic.Uint64
	corrupted      atomic.Uint64
	spinners       spinners

	closing context.Context // done when Shutdown or Close is called
	close   context.CancelFunc
}

// NewServer returns a server of services and other options. If an option is invalid, such as a nil
// service or handler, or two services of one protocol, Serve returns the error.
func NewServer(opts ...ServerOption) *Server {
	s := &Server{
		cfg:        serverDefaults(),
		started:    time.Now(),
		listeners:  map[*Listener]struct{}{},
		conns:      map[*serverConn]struct{}{},
		reservedBy: map[int]int{}, streamBytesBy: map[int]int{},
		accounts: map[int]*account{},
	}
	s.spinners.init(runtime.GOMAXPROCS(0))
	s.closing, s.close = context.WithCancel(context.Background())
	s.cfg.apply(opts)
	for _, k := range s.cfg.kinds {
		if k.Fenced != nil && s.cfg.fence != nil {
			k.Fenced(s.cfg.fence)
		}
	}
	s.cfg.toServer = ringCapacity(orDefault(s.cfg.toServer, DefaultRingCapacity), shm.MaxCapacity)
	s.cfg.toClient = ringCapacity(orDefault(s.cfg.toClient, DefaultRingCapacity), shm.MaxCapacity)
	if s.cfg.maxConns <= 0 {
		s.cfg.maxConns = defaultConns()
	}
	if s.cfg.maxStreams <= 0 {
		s.cfg.maxStreams = defaultStreamMemory()
	}
	s.cfg.maxMemory = max(orDefault(s.cfg.maxMemory, defaultMessageMemory()), s.cfg.longest())
	slots := min(maxHandshakes, max(8, s.cfg.maxConns/4)) + maxRejections
	s.handshakeSlots = make(chan struct{}, slots)
	s.cfg.maxCalls = min(max(s.cfg.maxCalls, 1), maxPlaces)
	s.cfg.maxStreaming = min(max(s.cfg.maxStreaming, 1), maxPlaces)
	s.invalid = s.handler.init(&s.cfg, &s.text)
	s.own = ownRoutes(s.cfg.interceptors, s.cfg.introspect != nil)
	at := 0
	for _, svc := range s.cfg.services {
		p := svc.protocol
		s.protocols = append(s.protocols,
			protocolID{p.Name, p.Fingerprint, uint32(at), uint32(len(p.Schema))})
		at += len(p.Schema)
	}
	if s.invalid == nil {
		s.invalid = s.checkHelloSize()
	}
	if s.invalid == nil {
		s.invalid = s.cfg.health.serve(s.allProtocols())
	}
	if s.cfg.invalid != nil {
		s.invalid = s.cfg.invalid
	}
	return s
}

// checkHelloSize returns an error if no client would listen to what the server says of itself.
func (s *Server) checkHelloSize() error {
	refuse := func(what string, n, limit int) error {
		return &Error{Code: CodeInvalidArgument, Outcome: NotSent, Msg: fmt.Sprintf(
			"%s of a server's protocols take %d bytes, the limit is %d; serve some of them at a "+
				"channel of their own", what, n, limit)}
	}
	hello := serverHello{protocols: s.protocols}
	if len(s.text) > maxText {
		return refuse("the descriptions", len(s.text), maxText)
	}
	if n := len(hello.encode()) + longestText; n > maxHelloReply {
		return refuse("the names", n, maxHelloReply)
	}
	return nil
}

func orDefault(v, d int) int {
	if v <= 0 {
		return d
	}
	return v
}

// ErrServerClosed is returned by [Server.Serve] after [Server.Shutdown] or [Server.Close].
var ErrServerClosed = errors.New("ipc: the server is closed")

// Serve accepts clients on l and serves them. It blocks until ctx is done, or Shutdown or Close is
// called, and closes l before it returns. It returns [ErrServerClosed] after Shutdown or Close.
// When ctx is done, it closes the whole server and returns ctx's error. If another process has
// taken l's name, it closes the server and returns an error that wraps [ErrDisplaced].
//
// The contexts of handlers carry the values of ctx.
func (s *Server) Serve(ctx context.Context, l *Listener) error {
	if l == nil {
		return invalid("Serve was given a nil Listener; look at the error of Listen")
	}
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
		r.onRepair(func(news string) {
			s.cfg.logger.Warn("the channel's files", "channel", l.channel, "news", news)
		})
	}
	return s.accept(ctx, l)
}

// Conns returns the number of connected clients.
func (s *Server) Conns() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Shutdown ends the server gracefully. It accepts no more clients, tells connected clients to send
// no more calls, and blocks until everything that was sent has been handled and answered. A call
// that a client sends more than a second after it was told is refused, with outcome [NotExecuted].
// If ctx is done before the end, Shutdown closes the server as Close does and returns ctx's error.
func (s *Server) Shutdown(ctx context.Context) error {
	conns := s.stopAccepting(false)
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

// Close ends the server at once. It cancels the contexts of running handlers and closes the
// connections, and does not wait for handlers. At the clients, calls in flight end with
// [CodeUnavailable]: with outcome [NotExecuted] if the server had not looked at the call, and
// otherwise with [OutcomeUnknown]. Close may be called again.
func (s *Server) Close() error {
	for _, c := range s.stopAccepting(true) {
		c.cut()
	}
	return nil
}

// stopAccepting closes the listeners and returns the connections. cut says that those which are
// still in their handshake are to end at once, too, instead of when they have been answered.
func (s *Server) stopAccepting(cut bool) []*serverConn {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.cut = s.cut || cut
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
