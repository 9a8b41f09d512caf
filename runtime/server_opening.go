package ipc

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/ipcgen/ipcgen/runtime/introspect"
	"github.com/ipcgen/ipcgen/runtime/shm"
)

// This file and client_opening.go are the seam for connections that carry something other than
// calls and have a package of their own, such as runtime/topic: they share rendezvous, handshake,
// authorisation, limits and interceptors with all others.

// A LinkKind is what a server does with connections without calls to one protocol. It is of use
// to packages that add such connections, as runtime/topic.
type LinkKind struct {
	// Protocol is what clients ask for by its name. If it has a Schema, clients decide whether
	// their version is compatible; otherwise they must have the same fingerprint.
	Protocol *Protocol
	// Invalid, if it is not nil, is why the server cannot serve.
	Invalid error
	// Fenced, if it is not nil, is told of the fence of each server that has one, when the server
	// is made.
	Fenced func(Fence)
	// Describe returns what the server tells tools of the topic; see [WithIntrospection].
	Describe func() *introspect.TopicT
	// Open decides on a client, behind the interceptors of the server. An error refuses it.
	Open func(LinkRequest) (*LinkOffer, error)
}

// A LinkRequest is what a client asks for.
type LinkRequest struct {
	// Words are numbers whose meaning is that of the kind.
	Words [4]uint32
	Peer  Peer
	// NewMemory makes memory that can be handed to the client.
	NewMemory func(size int) (shm.Memory, error)
}

// A LinkOffer is what a client gets.
type LinkOffer struct {
	// Memory is handed to the client, which is told of the sizes. The first one ends with the
	// Schema of the protocol.
	Memory []shm.Memory
	Sizes  [2]uint32
	// Run is the life of the connection, from the client's consent on. The connection ends when
	// it returns. Its context is done when the server shuts down.
	Run func(context.Context, *LinkEnd) error
	// Close is called in the end, also without Run.
	Close func()
}

// ServeLinks adds a kind of connection to a server, for the packages that implement one.
func ServeLinks(k *LinkKind) ServerOption {
	return serverOption(func(c *serverConfig) {
		if k.Invalid != nil {
			c.refuse(asError(k.Invalid, "topic "+k.Protocol.Name))
			return
		}
		for _, other := range c.kinds {
			if other.Protocol.Name == k.Protocol.Name {
				c.refuse(invalid("two publishers of topic %s; a server has one", k.Protocol.Name))
			}
		}
		c.kinds = append(c.kinds, k)
	})
}

// findKind looks for the kind of what a client opens.
func (s *Server) findKind(h *clientHello) (*LinkKind, error) {
	if len(h.protocols) != 1 {
		return nil, errBadHello
	}
	want := h.protocols[0]
	for _, k := range s.cfg.kinds {
		if k.Protocol.Name != want.name {
			continue
		}
		if k.Protocol.Schema == "" && k.Protocol.Fingerprint != want.fingerprint {
			return nil, otherMessages(want.name)
		}
		return k, nil
	}
	return nil, &Error{Code: CodeUnimplemented, Outcome: NotSent,
		Msg: "the server has no such topic: " + want.name}
}

// otherMessages is the error of versions of a protocol without descriptions that could be compared.
func otherMessages(name string) *Error {
	return &Error{Code: CodeIncompatible, Outcome: NotSent,
		Msg: fmt.Sprintf("the messages of topic %s have another layout on the server; build both "+
			"from the same schema", name)}
}

// serveKind is the life of a connection of a kind, behind the gate.
func (s *Server) serveKind(ctx context.Context, k *LinkKind, h *clientHello, g *admission,
	reply *serverHello, log *slog.Logger) {
	call := &ServerCall{Kind: KindSubscription, Protocol: k.Protocol}
	s.serveOpening(ctx, call, g, log, func() (func(context.Context) error, error) {
		offer, err := k.Open(LinkRequest{Words: h.stream.words(), Peer: g.peer,
			NewMemory: g.link.NewMemory})
		if err != nil {
			s.refuse(g.link, err, log)
			return nil, err
		}
		reply.geo = shm.Geometry{ToServer: int(offer.Sizes[0]), ToClient: int(offer.Sizes[1]),
			Text: len(k.Protocol.Schema)}
		id := k.Protocol.id()
		id.len = uint32(len(k.Protocol.Schema))
		reply.protocols = []protocolID{id}
		hastened := s.interruptOnClose(g.link)
		if err = sendMemory(g.link, reply, offer.Memory...); err == nil {
			err = g.link.SetDeadline(time.Time{})
		}
		hastened()
		if err != nil {
			if s.closing.Err() != nil {
				// The client may have agreed, and read, before this side has seen it.
				_, _ = g.link.Write(verdictOf(&Error{Code: CodeUnavailable,
					Msg: "the server is shutting down"}).encode())
			}
			offer.Close()
			return nil, err
		}
		s.endHandshake(g)
		return func(ctx context.Context) error {
			defer offer.Close()
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			defer context.AfterFunc(s.closing, cancel)()
			end := newLinkEnd(g.link, g.peer)
			defer end.Leave(nil)
			return offer.Run(ctx, end)
		}, nil
	})
}

// serveOpening is the life of a connection without calls, behind the gate. open ends the
// handshake, tells the client if it cannot, and returns the rest of the life.
func (s *Server) serveOpening(ctx context.Context, call *ServerCall, g *admission, log *slog.Logger,
	open func() (run func(context.Context) error, err error)) {
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
	call.Name, call.Peer = call.Protocol.Name, &peer
	call.Method = &MethodInfo{Protocol: call.Protocol, Name: call.Name}
	err := protect(log, call.Name, func() error {
		return s.cfg.interceptors.pass(context.WithValue(ctx, peerKey{}, &peer), call,
			func(ctx context.Context) error {
				if tried {
					return Errorf(CodeInternal, "an interceptor opened the %v twice", call.Kind)
				}
				tried = true
				run, err := open()
				if err != nil {
					return err
				}
				opened = true
				log.Debug("opened", "kind", call.Kind, "name", call.Name)
				return run(ctx)
			})
	})
	returned = true
	if !tried {
		if err == nil {
			err = Errorf(CodePermissionDenied, "the server does not open the %v", call.Kind)
		}
		s.refuse(g.link, err, log)
	}
	if err != nil {
		log.Warn(call.Kind.String()+" ended", "err", err)
	}
}

// sendMemory sends the server's hello with memory, and waits for the client to agree.
func sendMemory(link Link, reply *serverHello, memory ...shm.Memory) error {
	if err := link.Send(reply.encode(), memory...); err != nil {
		// What goes along with the memory may be what cannot be made.
		_ = link.Send(refusalOf(&Error{Code: CodeResourceExhausted, Outcome: NotSent,
			Msg: "the server cannot hand over the memory", Err: err}).encode())
		return err
	}
	return readVerdict(link)
}

// words are the numbers of a hello whose meaning is that of the kind.
func (h streamHello) words() [4]uint32 { return [4]uint32{h.read, h.depth, h.block, h.policy} }
