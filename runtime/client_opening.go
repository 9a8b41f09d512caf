package ipc

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/ipcgen/ipcgen/runtime/shm"
)

// What a client's hello opens, beside a connection for calls.
const (
	openBlocks = 1 // a stream of blocks
	openTopic  = 2 // a subscription to a topic
)

// openLink is the client's side of opening a connection without calls. take maps the n memories
// that come from the server, which are closed when it returns.
func openLink(ctx context.Context, channel string, cfg dialConfig, h *clientHello, n int,
	take func(*serverHello, []shm.Memory) error) (Link, Peer, error) {
	link, peer, err := connect(ctx, channel, cfg)
	if err != nil {
		return nil, Peer{}, err
	}
	hello, memory, err := negotiateFor(ctx, link, cfg, h, n)
	if err != nil {
		link.Close()
		return nil, Peer{}, err
	}
	defer closeAll(memory)
	if err = take(hello, memory); err != nil {
		if _, ok := err.(*Error); !ok {
			err = badMemory(err)
		}
		_ = link.Send(verdictOf(err).encode())
	} else if err = link.Send(verdictOf(nil).encode()); err != nil {
		err = noAnswer(err)
	} else {
		err = link.SetDeadline(time.Time{})
	}
	if err != nil {
		link.Close()
		return nil, Peer{}, err
	}
	return link, peer, nil
}

// A LinkSource opens connections without calls to the server of a channel, or to the one that a
// [Client] follows.
type LinkSource struct {
	resolver Resolver
	client   *Client // nil for a channel
	cfg      dialConfig
}

// NewLinkSource returns the source for a channel.
func NewLinkSource(channel string, opts ...DialOption) (*LinkSource, error) {
	cfg, err := dialConfigOf(opts)
	if err == nil {
		err = checkNames(channel, cfg.reply)
	}
	if err != nil {
		return nil, asError(err, "subscribe to "+channel)
	}
	if cfg.transport == nil {
		cfg.transport = socketTransport{cfg.domain}
	}
	return &LinkSource{resolver: channelResolver{Endpoint{Channel: channel}, cfg.transport},
		cfg: cfg}, nil
}

// LinkSource returns a source that opens connections to the server that the client follows. It
// makes clients a source of topics, see package topic. The connections have the options of the
// client's, and end when another process becomes the server; they do not end with the client.
func (c *Client) LinkSource() (*LinkSource, error) {
	if c == nil {
		return nil, invalid("the client is nil")
	}
	return &LinkSource{resolver: follower{c}, client: c, cfg: c.cfg.dial}, nil
}

// A follower is the Resolver of what a client knows.
type follower struct{ c *Client }

// Resolve implements Resolver.
func (f follower) Resolve() Target {
	f.c.resolve()
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	return f.c.target
}

// Watch implements Resolver.
func (f follower) Watch(ctx context.Context, changed func()) error {
	for {
		f.c.mu.Lock()
		next := f.c.changed
		f.c.mu.Unlock()
		changed()
		select {
		case <-next:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-f.c.ctx.Done():
			return errClientClosed
		}
	}
}

// Open opens a connection to what the server has of protocol p. take maps the two memories that
// come from the server, of the sizes that the server says, and returns the first one. The third
// number is the length of the description at its end. take is called once or not at all, and what
// it has mapped must be released when Open fails.
func (s *LinkSource) Open(ctx context.Context, p *Protocol, words [4]uint32,
	take func(memory []shm.Memory, sizes [3]int) (first []byte, err error)) (*LinkEnd, error) {
	at, err := s.find()
	if err != nil {
		return nil, asError(err, "open "+p.Name)
	}
	cfg := s.cfg
	if cfg.reply == "" {
		cfg.reply = at.Reply
	}
	h := clientHelloOf(at.Channel, cfg)
	h.protocols = []protocolID{p.id()}
	h.stream = streamHello{open: openTopic, read: words[0], depth: words[1], block: words[2],
		policy: words[3]}
	link, peer, err := openLink(ctx, at.Channel, cfg, h, 2,
		func(hello *serverHello, memory []shm.Memory) error {
			first, err := take(memory,
				[3]int{hello.geo.ToServer, hello.geo.ToClient, hello.geo.Text})
			if err != nil {
				return err
			}
			return hello.compareOpened(p, first)
		})
	if err != nil {
		return nil, asError(err, "open "+p.Name)
	}
	e := newLinkEnd(link, peer)
	if s.client != nil {
		go s.leaveReplaced(e, at)
	}
	return e, nil
}

// find returns where the server is.
func (s *LinkSource) find() (Endpoint, error) {
	if s.client != nil && s.client.ctx.Err() != nil {
		return Endpoint{}, &Error{Code: CodeFailedPrecondition, Outcome: NotSent,
			Err: errClientClosed}
	}
	t := s.resolver.Resolve()
	switch {
	case t.Channel != "":
		return t.Endpoint, nil
	case t.Down != nil:
		return Endpoint{}, &Error{Code: CodeUnavailable, Outcome: NotSent, Err: t.Down}
	}
	return Endpoint{}, &Error{Code: CodeUnavailable, Outcome: NotSent, Msg: "there is no server",
		Err: t.Absent}
}

// leaveReplaced closes a connection when another process than that at an endpoint is the server.
func (s *LinkSource) leaveReplaced(e *LinkEnd, at Endpoint) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		<-e.Down()
		cancel()
	}()
	_ = s.resolver.Watch(ctx, func() {
		if t := s.resolver.Resolve(); t.Name != "" && t.Channel != "" && t.Endpoint != at {
			e.replaced.Store(&Error{Code: CodeUnavailable, Msg: fmt.Sprintf(
				"the server %s (pid %d) was lost, and another has taken its place", at.Name,
				e.s.peer.PID), Err: io.ErrUnexpectedEOF})
			e.Leave(nil)
		}
	})
}

// Watch calls changed once it watches, and each time there may be another server, until ctx is
// done. The error wraps errors.ErrUnsupported where nothing tells of servers.
func (s *LinkSource) Watch(ctx context.Context, changed func()) error {
	return s.resolver.Watch(ctx, changed)
}

// id is how the handshake names a protocol.
func (p *Protocol) id() protocolID { return protocolID{name: p.Name, fingerprint: p.Fingerprint} }

// compareOpened compares a protocol with the one that the server opens, whose description stands at
// the end of a memory.
func (h *serverHello) compareOpened(p *Protocol, memory []byte) error {
	for _, id := range h.protocols {
		switch {
		case id.name != p.Name || id.fingerprint == p.Fingerprint:
			continue
		case h.geo.Text == 0 || p.Schema == "":
			return otherMessages(p.Name)
		case h.geo.Text > min(maxText, len(memory)):
			return &Error{Code: CodeCorrupt, Outcome: NotSent,
				Msg: "the server's description of " + p.Name + " is too long"}
		}
		h.text = string(memory[len(memory)-h.geo.Text:])
	}
	if err := h.compare(p); err != nil {
		return err
	}
	return nil
}
