package ipc

import (
	"context"
	"iter"
	"log/slog"
	"slices"
	"sync/atomic"

	flatbuffers "github.com/google/flatbuffers/go"
)

// This file is the seam for other carriers: what executes encoded calls and one-way messages,
// whatever has brought them. A Server executes what its connections bring in the same way.

// A Carrier takes encoded calls and one-way messages to the code that handles them. A [*Handler]
// executes them in this process. [NewCarrierClient] makes calls through a Carrier.
type Carrier interface {
	// Handle carries a call or a one-way message, and blocks until it has ended. Its errors are of
	// type [*Error] and have the outcome. It ranges over in.In once at most, on any goroutine. It
	// calls in.Out from one goroutine at a time, and not after it has returned. It returns soon
	// after in.Out has returned false, or ctx has ended. It must be safe for concurrent use.
	Handle(ctx context.Context, in *Inbound) (Outbound, error)
}

// An Inbound is an encoded call or one-way message. Its deadline, and its cancellation, are those
// of the context that is handled with it.
type Inbound struct {
	Method uint32 // the ID of the method or message
	// OneWay says that this is a one-way message. The client of a [Carrier] sets it.
	OneWay bool
	// Protocol is the client's version of the protocol that the method or message is of, which a
	// [Carrier] compares with the server's before anything is executed. It may be nil.
	Protocol *Protocol
	Seq      uint64   // the number that the client gave
	Epoch    uint64   // the client's, or 0; see [Fence]
	Peer     *Peer    // the client, for [PeerFromContext]; may be nil
	Metadata Metadata // of the request
	// Body is the encoded request or message. It is not changed, and not kept longer than Handle,
	// unless it is Owned.
	Body []byte
	// Owned says that nothing else refers to the memory of Body, now and later. What is decoded
	// from it may keep that memory, which spares a long vector of bytes a copy.
	Owned bool
	// In are the encoded items of the client, for a method with such: nil has none. An item may be
	// used again when yield has returned. In must end, or yield an error, when the context of
	// Handle does.
	In iter.Seq2[[]byte, error]
	// Out takes each encoded item of the handler, and must not keep it. It may block. If it returns
	// false, the client wants no more of them.
	Out func(item []byte) bool
	// Known, if it is not nil, has how many of the items that Out has taken the client's code is
	// known to have taken; see [TakenFromContext]. With nil, those are all of them.
	Known *atomic.Uint64
	// Draining, if it is not nil, is closed when the server begins to shut down; see
	// [DrainingFromContext].
	Draining <-chan struct{}
	// Builder encodes the reply, which lies in its memory. With nil, the reply has new memory.
	Builder *flatbuffers.Builder
}

// An Outbound is the encoded answer to an [Inbound].
type Outbound struct {
	Body     []byte   // of a method with one reply
	Owned    bool     // as that of [Inbound], for the client of a [Carrier]
	Metadata Metadata // what the handler has set, also beside an error
	Epoch    uint64   // the server's, or 0
	Taken    uint64   // how many of the items of Inbound.In the handler has taken
}

// A Handler executes encoded calls and one-way messages of services: decoding, [Fence], [Guard],
// interceptors, handlers, encoding. It has no connections. A [Server] has one for what its clients
// send. One that is made by [NewHandler] serves those who carry calls in another way: over a
// network, from a recording, or between the replicas of a group.
type Handler struct {
	routes routeTable
	fence  Fence // nil: none
	guard  Guard // nil: none
	log    *slog.Logger

	services []*Service
	health   *HealthState
	limits   Limits
}

// Limits are what options say of the size of messages, for carriers: [WithMaxMessage] and
// [WithStreamingWindow], or their defaults.
type Limits struct {
	MaxMessage      int // of a request, reply, item or one-way message, in bytes
	StreamingWindow int // of the items of a streaming call that are not taken yet, in bytes
}

func (c *common) limits() Limits {
	return Limits{MaxMessage: c.longest(), StreamingWindow: c.window}
}

// NewHandler returns a [Handler] of services. The other options are those of [NewServer] that
// concern the execution of a call: [WithServerInterceptor], [WithFence], [WithGuard],
// [WithRecycling] and [WithLogger]. Options that concern connections change nothing. The error
// is an [*Error] with [CodeInvalidArgument], for an option that NewServer would refuse, too.
func NewHandler(opts ...ServerOption) (*Handler, error) {
	cfg := serverDefaults()
	cfg.apply(opts)
	h := new(Handler)
	if err := h.init(&cfg, nil); err != nil {
		return nil, err
	}
	if cfg.invalid != nil {
		return nil, cfg.invalid
	}
	if err := h.health.serve(h.served()); err != nil {
		return nil, err
	}
	return h, nil
}

// Limits returns the limits that the options of h set. Handle does not check them.
func (h *Handler) Limits() Limits { return h.limits }

// Protocols returns the protocols of the services of h.
func (h *Handler) Protocols() []*Protocol {
	all := make([]*Protocol, len(h.services))
	for i, svc := range h.services {
		all[i] = svc.protocol
	}
	return all
}

// served returns the protocols of the services, as those of a server.
func (h *Handler) served() (all []servedProtocol) {
	for _, svc := range h.services {
		all = append(all, servedProtocol{Protocol: svc.protocol})
	}
	return all
}

// Health returns what a server would answer to [Conn.Health], with the state of [WithHealth].
func (h *Handler) Health(protocol string) (Health, error) {
	if protocol != "" && !slices.ContainsFunc(h.services, func(svc *Service) bool {
		return svc.protocol.Name == protocol
	}) {
		return HealthNotServing, unservedHealth(protocol, Executed)
	}
	return h.health.of(protocol), nil
}

// init prepares h for what cfg says, and appends the descriptions of protocols to text, if that is
// not nil.
func (h *Handler) init(cfg *serverConfig, text *string) (err error) {
	h.fence, h.guard, h.log = cfg.fence, cfg.guard, cfg.logger
	h.services, h.health, h.limits = cfg.services, cfg.health, cfg.limits()
	h.routes, err = bindRoutes(cfg.services, cfg.interceptors, text)
	if h.guard != nil {
		h.routes.numberRoutes()
	}
	if cfg.recycle {
		h.routes.recycle()
	}
	return err
}

// Handle implements [Carrier]. It runs the handler on the caller's goroutine. An error says with
// its code, outcome and text what a [Server] would answer. A handler that panics is an error with
// [CodeInternal]. One that ends its goroutine ends the caller's, so a caller must release what it
// holds in deferred functions.
//
// A method that h does not have is an error with [CodeUnimplemented] and outcome [NotExecuted], and
// so is one whose kind of streaming is not that of in. A call whose context has ended is not
// executed. The context of the handler is ctx with the peer and the metadata of in.
func (h *Handler) Handle(ctx context.Context, in *Inbound) (Outbound, error) {
	if h == nil || in == nil {
		return Outbound{}, invalid("the Handler or the Inbound is nil; NewHandler makes a Handler")
	}
	inner := &carriedContext{Context: ctx, peer: in.Peer, draining: in.Draining}
	inner.incoming.metadata, inner.reply.limit = in.Metadata, MaxMetadata
	out, err := h.carry(inner, in)
	if err != nil {
		told := answered(err)
		told.Msg = shorten(told.Msg, longestText)
		out.Body, err = nil, told
	}
	out.Metadata = inner.reply.get()
	if h.fence != nil && out.Epoch == 0 {
		out.Epoch = h.fence.Epoch()
	}
	return out, err
}

// carry is Handle without what all its results have in common.
func (h *Handler) carry(inner *carriedContext, in *Inbound) (out Outbound, err error) {
	if err := ended(inner.Context); err != nil {
		return out, err.with(NotExecuted)
	}
	r := h.routes.find(in.Method)
	if r != nil && r.receive != nil {
		if err := h.admit(in.Epoch, r); err != nil {
			return out, err.with(NotExecuted)
		}
		n := delivery{method: in.Method, seq: in.Seq, epoch: in.Epoch, metadata: in.Metadata,
			adoptFrom: adoptFrom(in.Owned), leases: &inner.scratch}
		return out, h.deliver(inner, h.log, r, in.Peer, &n, in.Body)
	}
	x := &carried{in: in}
	x.execution = execution{handler: h, carrier: x, log: h.log,
		context: inner, leases: &inner.scratch, route: r,
		method: in.Method, seq: in.Seq, epoch: in.Epoch, peer: in.Peer,
		adoptFrom: adoptFrom(in.Owned), scratch: scratch{builder: in.Builder, body: in.Body}}
	if x.builder == nil {
		x.builder = flatbuffers.NewBuilder(256)
	}
	inner.incoming.reply = &inner.reply
	if x.streams() {
		x.items, inner.call = x, x
	}
	defer x.end()
	name := ""
	if r != nil {
		name = r.name
	}
	err = protect(h.log, name, func() (err error) {
		out.Body, out.Epoch, err = h.execute(&x.execution)
		return err
	})
	if x.reply.sent {
		out.Body, out.Epoch = x.sentReply, x.sentEpoch
	}
	out.Taken = x.takenItems.Load()
	return out, err
}

// with returns a copy of e with another outcome.
func (e *Error) with(o Outcome) *Error {
	told := *e
	told.Outcome = o
	return &told
}
