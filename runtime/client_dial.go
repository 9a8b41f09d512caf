package ipc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/ipcgen/ipcgen/internal/sys"
	"github.com/ipcgen/ipcgen/runtime/shm"
)

// Dial connects to the server of a channel. It blocks until the handshake is complete, ctx is done,
// or the time of [WithHandshakeTimeout] has passed. It does not wait for a server to start; see
// [Connect] for that.
//
// The error is an [*Error]: [CodeUnavailable] if there is no server, [CodeIncompatible] if the two
// sides cannot communicate, [CodeDeadlineExceeded] if the server does not answer in time, or the
// error with which the server refuses the client.
func Dial(ctx context.Context, channel string, opts ...DialOption) (*Conn, error) {
	cfg, err := dialConfigOf(opts)
	if err != nil {
		return nil, asError(err, "dial "+channel)
	}
	return dialChannel(ctx, channel, cfg)
}

// dialChannel is Dial with the options that cfg holds.
func dialChannel(ctx context.Context, channel string, cfg dialConfig) (*Conn, error) {
	c, err := dial(ctx, channel, cfg)
	if err != nil {
		return nil, asError(err, "dial "+channel)
	}
	return c, nil
}

func dial(ctx context.Context, channel string, cfg dialConfig) (*Conn, error) {
	l, peer, err := connect(ctx, channel, cfg)
	if err != nil {
		return nil, err
	}
	c, err := clientHandshake(ctx, l, peer, channel, cfg)
	if err != nil {
		l.Close()
		return nil, err
	}
	return c, nil
}

// connect opens a link to the server of a channel and returns the link and the server's process.
func connect(ctx context.Context, channel string, cfg dialConfig) (Link, Peer, error) {
	if err := checkNames(channel, cfg.reply); err != nil {
		return nil, Peer{}, err
	}
	if err := ended(ctx); err != nil {
		return nil, Peer{}, err
	}
	if cfg.transport == nil {
		cfg.transport = socketTransport{cfg.domain}
	}
	short, cancel := context.WithTimeout(ctx, cfg.handshake)
	defer cancel()
	l, err := cfg.transport.Dial(short, channel)
	if err != nil {
		return nil, Peer{}, err
	}
	peer, err := l.Peer()
	if err == nil {
		err = authorize(cfg.logger, cfg.allow, peer)
	}
	if err != nil {
		l.Close()
		return nil, Peer{}, err
	}
	return l, peer, nil
}

// clientHandshake is the client's side of the handshake.
func clientHandshake(ctx context.Context, l Link, peer Peer, channel string,
	cfg dialConfig) (*Conn, error) {
	hello, memory, err := negotiate(ctx, l, cfg, clientHelloOf(channel, cfg))
	if err != nil {
		return nil, err
	}
	defer memory.Close()
	if err := hello.within(cfg.common); err != nil {
		return nil, err
	}
	seg, err := shm.MapSegment(memory, hello.geo)
	if err != nil {
		return nil, badMemory(err)
	}
	if err := memory.Seal(hello.geo.Size()); err != nil {
		seg.Close()
		return nil, badMemory(err)
	}
	hello.text = string(seg.Text())
	c, err := newConn(cfg, hello, peer, l, seg)
	if werr := l.Send(verdictOf(err).encode()); err == nil && werr != nil {
		err = noAnswer(werr)
	}
	if err == nil {
		err = l.SetDeadline(time.Time{})
	}
	if err != nil {
		seg.Close()
		return nil, err
	}
	go c.readWire()
	if c.waiterNeeded() {
		c.ensureWaiter()
	}
	return c, nil
}

// negotiate exchanges hellos with the server, until the deadline of the handshake
// or of ctx. The deadline stays set.
func negotiate(ctx context.Context, l Link, cfg dialConfig, h *clientHello) (*serverHello,
	shm.Memory, error) {
	hello, memory, err := negotiateFor(ctx, l, cfg, h, 1)
	if err != nil {
		return nil, nil, err
	}
	return hello, memory[0], nil
}

// negotiateFor is negotiate with a server that is to hand over n memories.
func negotiateFor(ctx context.Context, l Link, cfg dialConfig, h *clientHello,
	n int) (*serverHello, []shm.Memory, error) {
	deadline := time.Now().Add(cfg.handshake)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	if err := l.SetDeadline(deadline); err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = l.SetDeadline(time.Unix(1, 0)) })
	hello, memory, err := exchange(l, h, n)
	if !stop() || ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded) {
		closeAll(memory)
		e := &Error{Code: CodeDeadlineExceeded} // of the handshake, unless ctx says other
		if ctx.Err() != nil {
			e = contextError(ctx)
		}
		e.Msg, e.Outcome = "the server does not answer", NotSent
		return nil, nil, e
	}
	return hello, memory, err
}

// closeAll closes memory that is of no use.
func closeAll(memory []shm.Memory) {
	for _, m := range memory {
		m.Close()
	}
}

func clientHelloOf(channel string, cfg dialConfig) *clientHello {
	h := &clientHello{version: helloVersion, layout: shm.Version, channel: channel,
		reply:    cfg.reply,
		toServer: uint32(max(cfg.toServer, 0)), toClient: uint32(max(cfg.toClient, 0)),
		maxMessage: uint32(cfg.longest()), window: uint32(cfg.window)}
	for _, p := range cfg.protocols {
		h.protocols = append(h.protocols, protocolID{name: p.Name, fingerprint: p.Fingerprint})
	}
	return h
}

// exchange sends the client's hello, and receives the server's with n memories.
func exchange(l Link, h *clientHello, n int) (*serverHello, []shm.Memory, error) {
	b := h.encode()
	if len(b) > maxHello {
		return nil, nil, &Error{Code: CodeInvalidArgument, Outcome: NotSent,
			Msg: fmt.Sprintf("the names of protocols take %d bytes, the limit is %d; name fewer "+
				"with WithProtocol", len(b), maxHello)}
	}
	// A server without room sends its refusal at once, and may have closed its end before the
	// client's hello arrives. The refusal is the error then, so serr is looked at later.
	serr := l.Send(b)
	r := &linkReader{l: l}
	hello, err := readServerHello(r)
	if err == nil && serr != nil {
		err = noAnswer(serr)
	}
	if err == nil && len(r.memory) != n {
		err = &Error{Code: CodeCorrupt, Outcome: NotSent,
			Msg: fmt.Sprintf("the server sent %d memories, not %d", len(r.memory), n)}
	}
	if err != nil {
		closeAll(r.memory)
		return nil, nil, err
	}
	return hello, r.memory, nil
}

func readServerHello(r io.Reader) (*serverHello, error) {
	b, err := readHello(r, maxHelloReply)
	if err != nil {
		return nil, noAnswer(err)
	}
	var hello serverHello
	if err := hello.decode(b); err != nil {
		return nil, malformedHello(err)
	}
	if hello.code != CodeOK {
		return nil, remoteError(hello.code, NotSent, hello.msg)
	}
	if err := incompatibleVersion(hello.version, hello.layout); err != nil {
		return nil, err
	}
	return &hello, nil
}

// badMemory is the error of a client that cannot use the memory that the server has sent.
func badMemory(err error) *Error {
	code := CodeCorrupt
	if sys.Exhausted(err) {
		code = CodeResourceExhausted
	}
	return &Error{Code: code, Outcome: NotSent, Msg: "the server's memory", Err: err}
}

// noAnswer is the error for a server with which a handshake came to no end.
func noAnswer(err error) *Error {
	e := &Error{Code: CodeUnavailable, Outcome: NotSent,
		Msg: "the server does not answer", Err: err}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		e.Code = CodeDeadlineExceeded
	case sys.Exhausted(err): // of this process
		e.Code, e.Msg = CodeResourceExhausted, "the server's answer cannot be taken"
	}
	return e
}

// A linkReader reads a handshake and keeps the memory that comes along.
type linkReader struct {
	l      Link
	memory []shm.Memory
}

func (r *linkReader) Read(p []byte) (int, error) {
	n, m, err := r.l.Receive(p)
	if len(m) > 0 && r.memory != nil {
		closeAll(m)
		return 0, errBadHello
	}
	if len(m) > 0 {
		r.memory = m
	}
	return n, err
}

// newConn makes the client's side over memory and a link that the handshake has
// agreed on.
func newConn(cfg dialConfig, hello *serverHello, peer Peer, l Link,
	seg *shm.Segment) (*Conn, error) {
	for _, p := range cfg.protocols {
		if err := hello.compare(p); err != nil {
			return nil, err
		}
	}
	c := &Conn{cfg: cfg, hello: *hello, leaving: make(chan struct{})}
	limit := int(hello.maxMessage)
	if err := c.open(&cfg.common, l, peer, seg, limit, false); err != nil {
		return nil, err
	}
	c.poke = c.wire.Poke
	c.tx.whenRequested(c.ensureWaiter)
	c.calls.limit = int(min(max(hello.maxCalls, 1), maxPlaces))
	c.streaming.init(int(min(hello.maxStreaming, maxPlaces)))
	c.peer.done, c.peer.send, c.peer.stats = c.done, c.Send, c.Stats
	c.life, c.endLife = context.WithCancel(context.WithValue(context.Background(),
		peerKey{}, &c.peer))
	routes, err := bindRoutes(cfg.services, nil, nil)
	if err != nil {
		return nil, err
	}
	if cfg.recycle {
		routes.recycle()
	}
	if c.routes = routes; !routes.empty() {
		c.role.keepNeeded()
	}
	c.inbox = &inbox{run: c.receive, setPaused: c.pause, resumed: c.resume, limit: limit}
	c.retry = newRetrier(cfg.retry)
	if len(cfg.interceptors) > 0 {
		c.chain = chainClient(direct{c}, cfg.interceptors)
	}
	return c, nil
}

// receive runs the handler of a message that the server sent.
func (c *Conn) receive(n *delivery, body []byte) {
	r := c.routes.find(n.method)
	if r == nil || r.receive == nil {
		c.stats.dropped.Add(1)
		return
	}
	if err := protect(c.cfg.logger, r.name, func() error {
		ctx := c.life
		if n.metadata != (Metadata{}) {
			ctx = context.WithValue(ctx, incomingKey{}, &incoming{metadata: n.metadata})
		}
		return r.receive(ctx, &c.peer, n, body)
	}); err != nil {
		c.cfg.logger.Warn("message handler failed", "message", r.name, "err", err)
	}
}

// authorize applies the policy of who may be at the other end.
func authorize(log *slog.Logger, allow func(Peer) error, p Peer) error {
	if allow == nil {
		allow = sameUser
	}
	err := protect(log, "WithAuthorize", func() error { return allow(p) })
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Code: CodePermissionDenied, Outcome: NotSent, Err: err}
}
