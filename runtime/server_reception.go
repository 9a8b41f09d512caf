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

// This file is how a server lets clients in. A socket costs a peer nothing, so those that
// connect and are silent get a bounded number of places, and lose the oldest of them to
// who comes later: first those whose process has the most. A client that connects says
// at once what it wants, and is through before that.

// A guest is a socket that a server has accepted, with its client.
type guest struct {
	link   Link
	peer   Peer
	placed bool      // the limit of connections counts it
	asked  time.Time // when it was told what the server offers; zero before

	through func() // called when its handshake has ended, one way or the other
}

const (
	// mostGuests is how many sockets shake hands with a server at a time.
	mostGuests = 256
	// mostLeaving is how many more goroutines there are for those that have been turned away.
	mostLeaving = 16
	// silence is after how long a client that has not answered may lose its place to another.
	silence = 250 * time.Millisecond
	// leastShared is from which limit of connections on the last ones are shared out.
	leastShared = 16
	// longestPause is how long Serve waits at most before it tries again to accept.
	longestPause = 500 * time.Millisecond
)

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
	for {
		link, err := l.links.Accept()
		switch {
		case err == nil:
			pause = 0
			s.arrive(ctx, l, link)
		case sys.Passes(err):
			if pause == 0 {
				s.cfg.logger.Warn("cannot accept clients at the moment", "channel",
					l.channel, "err", err)
				pause = time.Millisecond
			}
			s.expel()
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

// endOf closes a listener that accepts no more, and returns why.
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

// arrive begins to shake hands with a client.
func (s *Server) arrive(ctx context.Context, l *Listener, link Link) {
	peer, err := link.Peer()
	log := s.cfg.logger.With("channel", l.channel, "peer_pid", peer.PID)
	if err != nil {
		s.refused.Add(1)
		log.Warn("client refused", "err", err)
		link.Close()
		return
	}
	g := &guest{link: link, peer: peer, through: func() {}}
	s.mu.Lock()
	closed := s.closed
	var loser *guest
	if !closed {
		if len(s.guests) >= cap(s.lobby)-mostLeaving {
			loser = s.heaviest(peer.PID, func(*guest) bool { return true })
			s.evict(loser)
		}
		s.guests = append(s.guests, g)
		s.accepted++
	}
	s.mu.Unlock()
	switch {
	case closed:
		s.refused.Add(1)
		turnAway(link, "the server is closing")
		return
	case loser != nil:
		turnAway(loser.link, "too many clients connect at once and say nothing")
	}
	select { // who comes later waits in the kernel's queue, in order
	case s.lobby <- struct{}{}:
		g.through = sync.OnceFunc(func() { <-s.lobby })
	case <-s.closing.Done():
	}
	go s.welcome(ctx, l, g, log)
}

// heaviest returns who has to go for a guest of process pid: of those that may, the oldest one of
// the process that has most guests. It is nil where all may belong to processes that have
// fewer than pid. It needs mu.
func (s *Server) heaviest(pid int, may func(*guest) bool) (oldest *guest) {
	count := map[int]int{}
	for _, g := range s.guests {
		count[g.peer.PID]++
	}
	most := count[pid]
	for _, g := range s.guests {
		if n := count[g.peer.PID]; may(g) && (n > most || n == most && oldest == nil) {
			oldest, most = g, n
		}
	}
	return oldest
}

// evict takes the place of a guest away. It needs mu; the caller closes the link.
func (s *Server) evict(g *guest) {
	s.forget(g)
	s.displace(g)
}

// displace takes back the place of a guest that has one. It needs mu.
func (s *Server) displace(g *guest) {
	if !g.placed {
		return
	}
	g.placed = false
	s.placed--
	if s.placedBy[g.peer.PID]--; s.placedBy[g.peer.PID] == 0 {
		delete(s.placedBy, g.peer.PID)
	}
}

// full reports whether there is no place for another connection of a process. The last eighth of
// many places is for processes that have less than an eighth, so that one which takes all
// that it gets keeps no other out. It needs mu.
func (s *Server) full(pid int) bool {
	limit := s.cfg.maxConns
	if limit >= leastShared && s.placedBy[pid] >= limit/8 {
		limit -= limit / 8
	}
	return s.placed >= limit
}

// forget takes a guest off the list. It needs mu.
func (s *Server) forget(g *guest) {
	for i := range s.guests {
		if s.guests[i] == g {
			s.guests = append(s.guests[:i], s.guests[i+1:]...)
			return
		}
	}
}

// silent reports whether a guest has not answered the server's offer for long.
func (g *guest) silent() bool { return !g.asked.IsZero() && time.Since(g.asked) > silence }

// whyFull says why a process gets no place.
func (s *Server) whyFull(pid int) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.placed < s.cfg.maxConns {
		return fmt.Sprintf("this process has %d of %d connections of the server, and the last "+
			"ones are for others; share connections, or raise WithMaxConns",
			s.placedBy[pid], s.cfg.maxConns)
	}
	return fmt.Sprintf("the server has its limit of %d connections", s.cfg.maxConns)
}

// place gives a guest a place among the connections; if there is none, that of one that has
// been silent for long. It returns false when the server is full.
func (s *Server) place(g *guest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.full(g.peer.PID) {
		loser := s.heaviest(g.peer.PID, func(o *guest) bool { return o.placed && o.silent() })
		if loser == nil {
			return false
		}
		s.evict(loser)
		loser.link.Close()
		if s.full(g.peer.PID) {
			return false
		}
	}
	g.placed, g.asked = true, time.Now()
	s.placed++
	s.placedBy[g.peer.PID]++
	return true
}

// expel closes the socket of the oldest guest, when there are no descriptors.
func (s *Server) expel() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.heaviest(0, func(*guest) bool { return true }); g != nil {
		s.evict(g)
		g.link.Close()
	}
}

// settle takes a guest off the list when it is through.
func (s *Server) settle(g *guest) {
	g.through()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(g)
}

// leave gives the place of a guest back, and of its connection, if it has come that far.
func (s *Server) leave(g *guest, c *serverConn) {
	g.through()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(g)
	delete(s.conns, c)
	s.displace(g)
	s.accepted--
	if s.accepted == 0 && s.empty != nil {
		close(s.empty)
		s.empty = nil
	}
}

// turnAway tells a client, without waiting for it, that there is no room.
func turnAway(link Link, why string) {
	h := serverHello{version: helloVersion, layout: shm.Version,
		code: CodeResourceExhausted, msg: why}
	_, _ = link.Write(h.encode())
	link.Close()
}

// welcome shakes hands with a client and serves it.
func (s *Server) welcome(ctx context.Context, l *Listener, g *guest, log *slog.Logger) {
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
			s.leave(g, nil)
		}
	}()
	run, err := s.shake(ctx, l, g, log)
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
	if err := run(); err != nil {
		log.Warn("stream ended", "err", err)
	}
}

// shake is the server's side of the handshake; of a stream, its beginning. It returns the
// rest of the connection's life.
func (s *Server) shake(ctx context.Context, l *Listener, g *guest,
	log *slog.Logger) (run func() error, err error) {
	link := g.link
	if err := link.SetDeadline(time.Now().Add(s.cfg.handshake)); err != nil {
		return nil, err
	}
	defer s.hasten(link)()
	b, err := readWord(link)
	if err != nil {
		return nil, err
	}
	var hello clientHello
	var route *streamRoute
	err = hello.decode(b)
	if err == nil {
		err = s.examine(l, &hello, g.peer)
	}
	if err == nil && hello.stream.open != 0 {
		route, err = s.findStream(&hello)
	}
	if err == nil && !s.place(g) {
		err = &Error{Code: CodeResourceExhausted, Outcome: NotSent,
			Msg: s.whyFull(g.peer.PID)}
	}
	if err != nil {
		s.refuse(link, err, log)
		return nil, err
	}
	reply := s.offer(l, &hello)
	if route != nil {
		return func() error { return s.serveStream(ctx, route, &hello, g, reply, log) }, nil
	}
	c, err := s.openConn(ctx, reply, g, log)
	if err != nil {
		return nil, err
	}
	log.Debug("client connected")
	return func() error {
		s.enter(c)
		go c.hear()
		c.serve()
		return nil
	}, nil
}

// hasten ends the waits of a handshake when the server drains, which does not wait for a client
// that says nothing. What it returns is to be called at the handshake's end.
func (s *Server) hasten(link Link) func() {
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
	if err := link.Send(refusalOf(err).encode(), nil); err != nil {
		log.Debug("cannot tell the client why it is refused", "err", err)
	}
}

// refusalOf is the hello of a server that refuses a client.
func refusalOf(err error) *serverHello {
	e := asError(err, "")
	return &serverHello{version: helloVersion, layout: shm.Version, code: e.Code,
		msg: shorten(e.text(), longestText)}
}

// openConn makes the memory of a connection and ends the handshake.
func (s *Server) openConn(ctx context.Context, reply *serverHello, g *guest,
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

// prepare makes what a connection needs, without the client.
func (s *Server) prepare(ctx context.Context, reply *serverHello, g *guest,
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
	c, err := newServerConn(ctx, s, reply, g, seg, log)
	if err != nil {
		seg.Close()
		memory.Close()
		return nil, nil, nil, err
	}
	return c, seg, memory, nil
}

// enter adds a connection to those that Shutdown and Close end.
func (s *Server) enter(c *serverConn) {
	c.guest.through()
	s.mu.Lock()
	s.forget(c.guest)
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

// offer settles what the client left open.
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
	}
}
