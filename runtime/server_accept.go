package ipc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ipcgen/ipcgen/internal/sys"
	"github.com/ipcgen/ipcgen/runtime/shm"
)

// This file is how a server admits clients. A socket costs a peer nothing, so the number of
// handshakes in progress is bounded. When there are too many, a new one takes the place of the
// oldest one of the process that has the most. A client of this package sends its hello at once,
// and so ends its handshake before that.

// An admission is a link that a server has accepted, with the process behind it.
type admission struct {
	link    Link
	peer    Peer
	account *account  // of a connection, for its messages
	counted bool      // the limit of connections counts it
	asked   time.Time // when it was told what the server offers; zero before

	handshakeDone func() // called when its handshake has ended, one way or the other
}

const (
	// maxHandshakes limits the handshakes that are in progress at a server.
	maxHandshakes = 256
	// maxRejections limits the further goroutines, which reject clients.
	maxRejections = 16
	// silence is the time after which a client that has not answered may lose its place to another.
	silence = 250 * time.Millisecond
	// leastShared is the least limit of connections of which the last eighth is shared out.
	leastShared = 16
	// longestPause is the longest time for which Serve waits before it tries again to accept.
	longestPause = 500 * time.Millisecond
)

// noDescriptors is the text of the error that clients get when there are no descriptors.
const noDescriptors = "the server's process has as many files open as it may; it must close " +
	"some, or have a higher limit (RLIMIT_NOFILE: ulimit -n)"

// defaultConns is the limit of connections where none is set. Each takes two descriptors, and
// at least half of those that the process may have stay free for other things.
func defaultConns() int {
	if n := sys.DescriptorLimit(); n > 0 {
		return max(1, min(DefaultMaxConns, n/4))
	}
	return DefaultMaxConns
}

// accept lets clients in until l is closed or breaks.
func (s *Server) accept(ctx context.Context, l *Listener) error {
	var pause time.Duration
	var spare sys.SpareDescriptor
	defer spare.Release()
	spare.Hold()
	for {
		link, err := l.links.Accept()
		switch {
		case err == nil && !spare.Hold():
			s.refused.Add(1)
			reject(link, noDescriptors)
			spare.Hold()
		case err == nil:
			pause = 0
			s.startHandshake(ctx, l, link)
		case sys.Passes(err):
			if pause == 0 {
				s.cfg.logger.Warn("cannot accept clients at the moment", "channel",
					l.channel, "err", err)
				pause = time.Millisecond
			}
			if sys.OutOfDescriptors(err) {
				p, ok := l.links.(interface{ pending() bool })
				if ok && p.pending() && !s.evictOldest() && spare.Release() {
					continue // the client that waits is told
				}
			}
			pause = min(2*pause, longestPause)
			select {
			case <-time.After(pause):
			case <-s.closing.Done():
			}
		default:
			return s.endOf(ctx, l, err)
		}
	}
}

// endOf closes a listener that accepts no more, and returns the reason.
func (s *Server) endOf(ctx context.Context, l *Listener, err error) error {
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

// startHandshake starts the handshake with a client.
func (s *Server) startHandshake(ctx context.Context, l *Listener, link Link) {
	peer, err := link.Peer()
	log := s.cfg.logger.With("channel", l.channel, "peer_pid", peer.PID)
	if err != nil {
		s.refused.Add(1)
		log.Warn("client refused", "err", err)
		link.Close()
		return
	}
	g := &admission{link: link, peer: peer, handshakeDone: func() {}}
	s.mu.Lock()
	closed := s.closed
	var loser *admission
	if !closed {
		if len(s.handshakes) >= cap(s.handshakeSlots)-maxRejections {
			loser = s.evictionVictim(peer.PID, func(*admission) bool { return true })
			s.evict(loser)
		}
		s.handshakes = append(s.handshakes, g)
		s.accepted++
	}
	s.mu.Unlock()
	switch {
	case closed:
		s.refused.Add(1)
		reject(link, "the server is closing")
		return
	case loser != nil:
		reject(loser.link, "too many clients connect at once and say nothing")
	}
	select { // who comes later waits in the kernel's queue, in order
	case s.handshakeSlots <- struct{}{}:
		g.handshakeDone = sync.OnceFunc(func() { <-s.handshakeSlots })
	case <-s.closing.Done():
	}
	go s.serveClient(ctx, l, g, log)
}

// evictionVictim returns the admission that must give way to one of process pid: among those that
// may be evicted, the oldest one of the process that has the most handshakes in progress. It
// returns nil if all of these belong to processes that have fewer than pid. The caller must hold
// s.mu.
func (s *Server) evictionVictim(pid int, may func(*admission) bool) (oldest *admission) {
	count := map[int]int{}
	for _, g := range s.handshakes {
		count[g.peer.PID]++
	}
	most := count[pid]
	for _, g := range s.handshakes {
		if n := count[g.peer.PID]; may(g) && (n > most || n == most && oldest == nil) {
			oldest, most = g, n
		}
	}
	return oldest
}

// evict takes the slot of an admission away. The caller must hold s.mu, and close the link.
func (s *Server) evict(g *admission) {
	s.removeHandshake(g)
	s.unreserve(g)
}

// unreserve returns the reserved connection of an admission, if it has one. The caller must hold
// s.mu.
func (s *Server) unreserve(g *admission) {
	if !g.counted {
		return
	}
	g.counted = false
	s.reserved--
	if s.reservedBy[g.peer.PID]--; s.reservedBy[g.peer.PID] == 0 {
		delete(s.reservedBy, g.peer.PID)
	}
}

// full reports whether there is no connection left for a process. If there are many connections,
// the last eighth is for processes that have less than an eighth, so that a process that takes all
// connections it gets does not keep others out. The caller must hold s.mu.
func (s *Server) full(pid int) bool {
	limit := s.cfg.maxConns
	if limit >= leastShared && s.reservedBy[pid] >= limit/8 {
		limit -= limit / 8
	}
	return s.reserved >= limit
}

// removeHandshake removes an admission from the handshakes in progress. The caller must hold s.mu.
func (s *Server) removeHandshake(g *admission) {
	for i := range s.handshakes {
		if s.handshakes[i] == g {
			s.handshakes = append(s.handshakes[:i], s.handshakes[i+1:]...)
			return
		}
	}
}

// silent reports whether a client has not answered the server's offer for long.
func (g *admission) silent() bool { return !g.asked.IsZero() && time.Since(g.asked) > silence }

// fullReason returns the reason why a process gets no connection.
func (s *Server) fullReason(pid int) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reserved < s.cfg.maxConns {
		return fmt.Sprintf("this process has %d of %d connections of the server, and the last "+
			"ones are for others; share connections, or raise WithMaxConns",
			s.reservedBy[pid], s.cfg.maxConns)
	}
	return fmt.Sprintf("the server has its limit of %d connections", s.cfg.maxConns)
}

// reserve reserves a connection for an admission. If none is left, it takes that of an admission
// that has been silent for long, of a process that has no fewer connections. It reports false if
// the server is full.
func (s *Server) reserve(g *admission) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.full(g.peer.PID) {
		loser := s.evictionVictim(g.peer.PID,
			func(o *admission) bool {
				return o.counted && o.silent() &&
					s.reservedBy[o.peer.PID] >= s.reservedBy[g.peer.PID]
			})
		if loser == nil {
			return false
		}
		s.evict(loser)
		loser.link.Close()
		if s.full(g.peer.PID) {
			return false
		}
	}
	g.counted, g.asked = true, time.Now()
	s.reserved++
	s.reservedBy[g.peer.PID]++
	return true
}

// evictOldest refuses the client whose handshake has lasted longest, when there are no descriptors
// for another one. It returns false if there is none.
func (s *Server) evictOldest() bool {
	s.mu.Lock()
	g := s.evictionVictim(0, func(*admission) bool { return true })
	if g != nil {
		s.evict(g)
	}
	s.mu.Unlock()
	if g != nil {
		reject(g.link, noDescriptors)
	}
	return g != nil
}

// endHandshake removes an admission from the handshakes in progress when its handshake has ended.
func (s *Server) endHandshake(g *admission) {
	g.handshakeDone()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.removeHandshake(g)
}

// release ends an admission, and its connection c, which is nil if there is none.
func (s *Server) release(g *admission, c *serverConn) {
	g.handshakeDone()
	var stats Stats
	if c != nil {
		stats = c.readStats()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended.add(&stats)
	s.removeHandshake(g)
	delete(s.conns, c)
	s.unreserve(g)
	if g.account != nil {
		g.account.conns--
	}
	s.accepted--
	if s.accepted == 0 && s.empty != nil {
		close(s.empty)
		s.empty = nil
	}
}

// reject sends a client the reason why there is no room for it. It does not wait for the client.
func reject(link Link, why string) {
	h := serverHello{version: helloVersion, layout: shm.Version,
		code: CodeResourceExhausted, msg: why}
	_, _ = link.Write(h.encode())
	link.Close()
}

// serveClient completes the handshake with a client and serves it.
func (s *Server) serveClient(ctx context.Context, l *Listener, g *admission, log *slog.Logger) {
	begun, decided, left := false, false, false
	defer func() {
		if !decided { // what decides on it ends this goroutine
			s.refuse(g.link, errExited, log)
		}
		if !begun {
			if !left {
				s.refused.Add(1)
			}
			g.link.Close()
			s.release(g, nil)
		}
	}()
	run, err := s.handshake(ctx, l, g, log)
	decided = true
	// Clients that end at once are not refused. An error of the server's own, such as one of
	// WithAuthorize, is a refusal, whatever it wraps.
	if _, said := err.(*Error); !said && sys.PeerGone(err) {
		left = true
		log.Debug("client left during the handshake", "err", err)
		return
	}
	if err != nil {
		log.Warn("client refused", "err", err)
		return
	}
	begun = true
	run()
}

// handshake runs the server's side of the handshake; for a stream, its beginning. It returns a
// function that serves the connection or stream.
func (s *Server) handshake(ctx context.Context, l *Listener, g *admission,
	log *slog.Logger) (run func(), err error) {
	link := g.link
	if err := link.SetDeadline(time.Now().Add(s.cfg.handshake)); err != nil {
		return nil, err
	}
	defer s.interruptOnClose(link)()
	b, err := readClientMessage(link)
	if err != nil {
		return nil, err
	}
	var hello clientHello
	var route *streamRoute
	var kind *LinkKind
	if err = hello.decode(b); err != nil {
		err = malformedHello(err)
	}
	if err == nil {
		err = s.examine(l, &hello, g.peer)
	}
	switch {
	case err != nil || hello.stream.open == 0:
	case hello.stream.open == openTopic:
		kind, err = s.findKind(&hello)
	case hello.stream.open == openBlocks:
		route, err = s.findStream(&hello)
	default:
		err = &Error{Code: CodeUnimplemented, Outcome: NotSent,
			Msg: fmt.Sprintf("the server does not know connections of kind %d", hello.stream.open)}
	}
	if err == nil && !s.reserve(g) {
		err = &Error{Code: CodeResourceExhausted, Outcome: NotSent,
			Msg: s.fullReason(g.peer.PID)}
	}
	if err != nil {
		s.refuse(link, err, log)
		return nil, err
	}
	reply := s.offer(l, &hello)
	if route != nil {
		return func() { s.serveStream(ctx, route, &hello, g, reply, log) }, nil
	}
	if kind != nil {
		return func() { s.serveKind(ctx, kind, &hello, g, reply, log) }, nil
	}
	c, err := s.openConn(ctx, reply, g, log)
	if err != nil {
		return nil, err
	}
	log.Debug("client connected")
	return func() {
		s.register(c)
		go c.readWire()
		c.serve()
	}, nil
}

// interruptOnClose interrupts the reads and writes of a handshake when the server shuts down, so
// that a silent client does not delay the shutdown. The caller must call the returned function
// at the end of the handshake.
func (s *Server) interruptOnClose(link Link) func() {
	hurried := make(chan struct{})
	stop := context.AfterFunc(s.closing, func() {
		defer close(hurried)
		_ = link.SetDeadline(time.Unix(1, 0))
	})
	return func() {
		if !stop() {
			<-hurried
			_ = link.SetDeadline(time.Time{})
		}
	}
}

// refuse tells a client why it may not connect.
func (s *Server) refuse(link Link, err error, log *slog.Logger) {
	if err := link.Send(refusalOf(err).encode()); err != nil {
		log.Debug("cannot tell the client why it is refused", "err", err)
	}
}

// openConn makes the memory of a connection and ends the handshake.
func (s *Server) openConn(ctx context.Context, reply *serverHello, g *admission,
	log *slog.Logger) (*serverConn, error) {
	c, seg, memory, err := s.prepare(ctx, reply, g, log)
	if err != nil {
		s.refuse(g.link,
			&Error{Code: CodeResourceExhausted, Outcome: NotSent,
				Msg: "the server cannot make the memory of a connection", Err: err}, log)
		return nil, err
	}
	defer memory.Close()
	if err := finishHello(g.link, reply, memory, reply.geo.Size()); err != nil {
		seg.Close()
		return nil, err
	}
	return c, nil
}

// prepare makes the memory and the server's side of a connection, without the client.
func (s *Server) prepare(ctx context.Context, reply *serverHello, g *admission,
	log *slog.Logger) (*serverConn, *shm.Segment, shm.Memory, error) {
	memory, err := g.link.NewMemory(reply.geo.Size())
	if err != nil {
		return nil, nil, nil, err
	}
	seg, err := shm.NewSegment(memory, reply.geo)
	if err != nil {
		memory.Close()
		return nil, nil, nil, err
	}
	copy(seg.Text(), s.text)
	s.mu.Lock()
	g.account = s.account(g.peer.PID)
	s.mu.Unlock()
	c, err := newServerConn(ctx, s, reply, g, seg, log)
	if err != nil {
		seg.Close()
		memory.Close()
		return nil, nil, nil, err
	}
	return c, seg, memory, nil
}

// register adds a connection to those that Shutdown and Close end.
func (s *Server) register(c *serverConn) {
	c.admission.handshakeDone()
	s.mu.Lock()
	s.removeHandshake(c.admission)
	s.conns[c] = struct{}{}
	closed, cut := s.closed, s.cut
	s.mu.Unlock()
	switch {
	case cut:
		c.cut()
	case closed:
		c.drain()
	}
}

// readClientMessage reads a message of the client's handshake, which must not have memory attached.
func readClientMessage(link Link) ([]byte, error) {
	r := &linkReader{l: link}
	b, err := readHello(r, maxHello)
	if r.memory != nil {
		closeAll(r.memory)
		return nil, errBadHello
	}
	return b, err
}

// finishHello sends the server's hello with the memory, and waits for the
// client to agree.
func finishHello(link Link, reply *serverHello, memory shm.Memory, size int) error {
	if err := sendMemory(link, reply, memory); err != nil {
		return err
	}
	if err := memory.Seal(size); err != nil {
		return &Error{Code: CodeCorrupt, Msg: "the client has changed the memory", Err: err}
	}
	return link.SetDeadline(time.Time{})
}

// readVerdict reads the client's verdict, which ends the handshake.
func readVerdict(link Link) error {
	b, err := readClientMessage(link)
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

// examine returns an error if a client may not connect.
func (s *Server) examine(l *Listener, h *clientHello, peer Peer) error {
	if err := authorize(s.cfg.logger, s.cfg.allow, peer); err != nil {
		return err
	}
	if err := incompatibleVersion(h.version, h.layout); err != nil {
		return err
	}
	if h.reply != "" && h.reply != l.reply {
		return &Error{Code: CodeIncompatible, Outcome: NotSent,
			Msg: fmt.Sprintf("the client expects reply channel %q, this server uses %q",
				h.reply, l.reply)}
	}
	return nil
}

// offer returns the server's hello, which decides everything that the client left open.
func (s *Server) offer(l *Listener, h *clientHello) *serverHello {
	limit := s.cfg.longest()
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
		maxMessage: uint32(limit), maxCalls: uint32(s.cfg.maxCalls), reply: l.reply,
		protocols: s.protocols,
		window:    uint32(s.cfg.window), maxStreaming: uint32(s.cfg.maxStreaming),
		clientWindow: h.window,
	}
}
