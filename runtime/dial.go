package ipc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/ipcgen/ipcgen/internal/domain"
	"github.com/ipcgen/ipcgen/internal/sys"
	"github.com/ipcgen/ipcgen/runtime/shm"
)

// Dial connects to the server of a channel. It fails with CodeUnavailable when there
// is none, CodeIncompatible when the two sides cannot talk, and otherwise as
// the server says.
func Dial(ctx context.Context, channel string, opts ...DialOption) (*Conn, error) {
	cfg := dialConfig{common: commonDefaults()}
	for _, o := range opts {
		o.applyDial(&cfg)
	}
	c, err := dial(ctx, channel, cfg)
	if err != nil {
		return nil, asError(err, "dial "+channel)
	}
	return c, nil
}

func dial(ctx context.Context, channel string, cfg dialConfig) (*Conn, error) {
	if err := checkNames(channel, cfg.reply); err != nil {
		return nil, err
	}
	dir, err := domain.Open(cfg.domain)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	d, err := dir.Root().Open(".")
	if err != nil {
		return nil, err
	}
	defer d.Close()
	s, err := sys.Dial(d, socketName(channel))
	if err != nil {
		if sys.ConnectionRefused(err) {
			return nil, &Error{Code: CodeUnavailable, Outcome: NotSent,
				Msg: fmt.Sprintf("nobody serves this channel in domain %s; start the server first, or check the domain", dir.Path())}
		}
		return nil, err
	}
	c, err := shake(ctx, s, channel, cfg)
	if err != nil {
		s.Close()
		return nil, err
	}
	return c, nil
}

// shake is the client's side of the handshake.
func shake(ctx context.Context, s *sys.Socket, channel string, cfg dialConfig) (*Conn, error) {
	peer, err := peerOf(s)
	if err != nil {
		return nil, err
	}
	if err := authorize(cfg.allow, peer); err != nil {
		return nil, err
	}
	deadline := time.Now().Add(cfg.handshake)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	if err := s.SetDeadline(deadline); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = s.SetDeadline(time.Unix(1, 0)) })
	hello, seg, err := exchange(s, clientHelloOf(channel, cfg))
	if !stop() || ctx.Err() != nil {
		if seg != nil {
			seg.Close()
		}
		e := contextError(ctx)
		e.Msg, e.Outcome = "the server does not answer", NotSent
		return nil, e
	}
	if err != nil {
		return nil, err
	}
	c, err := newConn(cfg, hello, peer, socketWire{s}, seg, sharedClock())
	verdict := verdictOf(err)
	if _, werr := s.Write(verdict.encode()); err == nil && werr != nil {
		err = werr
	}
	if err == nil {
		err = s.SetDeadline(time.Time{})
	}
	if err != nil {
		seg.Close()
		return nil, err
	}
	go c.listen()
	return c, nil
}

func clientHelloOf(channel string, cfg dialConfig) *clientHello {
	h := &clientHello{version: helloVersion, layout: shm.Version, channel: channel, reply: cfg.reply,
		toServer: uint32(max(cfg.toServer, 0)), toClient: uint32(max(cfg.toClient, 0)), maxMessage: uint32(max(cfg.maxMessage, 0))}
	for _, p := range cfg.protocols {
		h.protocols = append(h.protocols, protocolID{name: p.Name, fingerprint: p.Fingerprint})
	}
	return h
}

// exchange sends the client's hello, and receives the server's with the memory.
func exchange(s *sys.Socket, h *clientHello) (*serverHello, *shm.Segment, error) {
	if _, err := s.Write(h.encode()); err != nil {
		return nil, nil, noAnswer(err)
	}
	r := &fileReader{s: s}
	b, err := readHello(r, maxHelloReply)
	if r.file != nil {
		defer r.file.Close()
	}
	if err != nil {
		return nil, nil, noAnswer(err)
	}
	var hello serverHello
	if err := hello.decode(b); err != nil {
		return nil, nil, &Error{Code: CodeIncompatible, Outcome: NotSent, Err: err}
	}
	if hello.code != CodeOK {
		return nil, nil, &Error{Code: hello.code, Outcome: NotSent, Remote: true, Msg: hello.msg}
	}
	if err := incompatibleVersion(hello.version, hello.layout); err != nil {
		return nil, nil, err
	}
	if r.file == nil {
		return nil, nil, &Error{Code: CodeCorrupt, Outcome: NotSent, Msg: "the server sent no memory"}
	}
	seg, err := shm.MapSegment(r.file, hello.geo)
	if err != nil {
		return nil, nil, &Error{Code: CodeCorrupt, Outcome: NotSent, Msg: "the server's memory", Err: err}
	}
	hello.text = string(seg.Text())
	return &hello, seg, nil
}

func noAnswer(err error) *Error {
	return &Error{Code: CodeUnavailable, Outcome: NotSent, Msg: "the server does not answer", Err: err}
}

// A fileReader reads from a socket and keeps the file that comes along.
type fileReader struct {
	s    *sys.Socket
	file *os.File
}

func (r *fileReader) Read(p []byte) (int, error) {
	n, f, err := r.s.ReadWithFile(p)
	if f != nil && r.file != nil {
		f.Close()
		return n, errBadHello
	}
	if f != nil {
		r.file = f
	}
	return n, err
}

// newConn makes the client's side over memory and a wire that the handshake has
// agreed on.
func newConn(cfg dialConfig, hello *serverHello, peer Peer, w wire, seg *shm.Segment, clk clock) (*Conn, error) {
	if hello.maxMessage > 1<<31-1 {
		return nil, &Error{Code: CodeCorrupt, Outcome: NotSent, Msg: "the server's limits are out of range"}
	}
	for _, p := range cfg.protocols {
		if err := hello.compare(p); err != nil {
			return nil, err
		}
	}
	out, err := shm.NewProducer(seg.ToServer(), hello.geo.ToServer)
	if err != nil {
		return nil, err
	}
	in, err := shm.NewConsumer(seg.ToClient(), hello.geo.ToClient)
	if err != nil {
		return nil, err
	}
	c := &Conn{cfg: cfg, hello: *hello, peer: peer, wire: w, seg: seg, clock: clk, done: make(chan struct{})}
	limit := int(hello.maxMessage)
	c.tx = transmitter{wire: w, limit: limit, piece: longestRecord(hello.geo.ToServer), failFast: cfg.failFast, ring: out}
	c.rx = receiver{wire: w, ring: in, limit: limit}
	c.calls.limit = int(min(max(hello.maxCalls, 1), maxPlaces))
	c.spin.init(cfg.spin)
	c.peer.done, c.peer.send = c.done, c.Send
	if c.routes, err = bindRoutes(cfg.services, nil); err != nil {
		return nil, err
	}
	c.inbox = &inbox{run: c.receive, room: c.resume, limit: limit}
	if len(cfg.interceptors) > 0 {
		c.chain = chainClient(direct{c}, cfg.interceptors)
	}
	return c, nil
}

// receive runs the handler of a message that the server sent.
func (c *Conn) receive(method uint32, body []byte) {
	r := c.routes[method]
	if r == nil || r.receive == nil {
		c.stats.dropped.Add(1)
		return
	}
	ctx := context.WithValue(context.Background(), peerKey{}, &c.peer)
	if err := protect(c.cfg.logger, func() error { return r.receive(ctx, body) }); err != nil {
		c.cfg.logger.Warn("message handler failed", "message", r.name, "err", err)
	}
}

// resume goes on reading after the inbox was full.
func (c *Conn) resume() {
	if c.takeRole() {
		c.leaveRole()
	}
}

func verdictOf(err error) verdict {
	if err == nil {
		return verdict{}
	}
	return verdict{CodeOf(err), err.Error()}
}

// sharedClock relates this process's clock to the one that all share.
func sharedClock() clock { return clock{local: time.Now(), shared: sys.Monotonic()} }

// authorize applies the policy of who may be at the other end.
func authorize(allow func(Peer) error, p Peer) error {
	if allow == nil {
		allow = sameUser
	}
	err := allow(p)
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Code: CodePermissionDenied, Outcome: NotSent, Err: err}
}
