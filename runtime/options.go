package ipc

import (
	"log/slog"
	"math"
	"math/bits"
	"time"

	"github.com/ipcgen/ipcgen/internal/userlog"
	"github.com/ipcgen/ipcgen/runtime/shm"
)

// A ServerOption configures [NewServer]. A [*Service] is a ServerOption: the server serves it.
type ServerOption interface{ applyServer(*serverConfig) }

// A ListenOption configures [Listen] and [Server.Run].
type ListenOption interface{ applyListen(*listenConfig) }

// A DialOption configures [Dial], and each connection of a [Client]. A [*Service] is a DialOption:
// it handles the one-way messages that the server sends to this client.
type DialOption interface {
	ClientOption
	applyDial(*dialConfig)
}

// A ClientOption configures [Connect] and [NewClient]. Every [DialOption] is a ClientOption.
type ClientOption interface{ applyClient(*clientConfig) }

// An Option configures clients and servers.
type Option interface {
	ServerOption
	DialOption
}

// A RendezvousOption determines where clients and servers meet. It configures [Listen] and [Dial].
type RendezvousOption interface {
	ListenOption
	DialOption
}

// Defaults of the options.
const (
	// DefaultRingCapacity is the capacity of each of the two rings of a connection. A ring of this
	// size, and the messages on their way through it, stay in a processor's second-level cache.
	DefaultRingCapacity = 64 << 10
	// DefaultMaxMessage is the longest message, in bytes.
	DefaultMaxMessage = 16 << 20
	// DefaultMaxCalls is how many calls of one connection may be in flight.
	DefaultMaxCalls = 1024
	// DefaultMaxConns is how many connections a server has at a time.
	DefaultMaxConns = 1024
	// DefaultHandshakeTimeout bounds the time that connecting takes.
	DefaultHandshakeTimeout = 5 * time.Second
)

// common is what both sides configure.
type common struct {
	logger             *slog.Logger
	toServer, toClient int
	maxMessage         int
	spin               time.Duration
	yield              bool
	failFast           bool
	recycle            bool
	window             int
	handshake          time.Duration
	allow              func(Peer) error
	services           []*Service
	invalid            *Error // the first option that cannot be applied
}

func commonDefaults() common {
	return common{
		logger: userlog.Silent, spin: defaultSpin, handshake: DefaultHandshakeTimeout,
		window: DefaultStreamingWindow,
	}
}

// longest is the limit of a message's body.
func (c *common) longest() int {
	return min(orDefault(c.maxMessage, DefaultMaxMessage), math.MaxInt32)
}

type serverConfig struct {
	common
	fence        Fence
	guard        Guard
	streams      []*streamRoute
	kinds        []*LinkKind
	trusted      bool // requests may be read in place
	interceptors gate
	introspect   func(Peer) error // nil: no client may
	health       *HealthState
	maxCalls     int
	maxStreaming int // calls
	maxConns     int
	maxStreams   int           // bytes of memory
	maxMemory    int           // likewise, of messages
	grace        time.Duration // of Run
}

func serverDefaults() serverConfig {
	return serverConfig{common: commonDefaults(), maxCalls: DefaultMaxCalls,
		maxStreaming: DefaultMaxStreamingCalls, grace: DefaultGrace, introspect: ownUser,
		health: new(HealthState)}
}

// apply applies the options.
func (c *serverConfig) apply(opts []ServerOption) {
	for i, o := range opts {
		if o == nil {
			c.refuse(nilOption(i))
			continue
		}
		o.applyServer(c)
	}
	c.containPlugins()
}

type listenConfig struct {
	domain, reply string
	transport     Transport // nil: the domain
}

type dialConfig struct {
	common
	domain, reply string
	transport     Transport // nil: the domain
	protocols     []*Protocol
	epoch         EpochSource
	interceptors  []ClientInterceptor
	timeouts      timeouts
	retry         *RetryPolicy // nil: none
}

type clientConfig struct {
	dial     dialConfig
	patience time.Duration
}

type option func(*common)

func (o option) applyServer(c *serverConfig) { o(&c.common) }
func (o option) applyDial(c *dialConfig)     { o(&c.common) }
func (o option) applyClient(c *clientConfig) { o.applyDial(&c.dial) }

type serverOption func(*serverConfig)

func (o serverOption) applyServer(c *serverConfig) { o(c) }

type dialOption func(*dialConfig)

func (o dialOption) applyDial(c *dialConfig)     { o(c) }
func (o dialOption) applyClient(c *clientConfig) { o.applyDial(&c.dial) }

type clientOption func(*clientConfig)

func (o clientOption) applyClient(c *clientConfig) { o(c) }

type domainOption string

func (o domainOption) applyListen(c *listenConfig) { c.domain = string(o) }
func (o domainOption) applyDial(c *dialConfig)     { c.domain = string(o) }
func (o domainOption) applyClient(c *clientConfig) { o.applyDial(&c.dial) }

type replyOption string

func (o replyOption) applyListen(c *listenConfig) { c.reply = string(o) }
func (o replyOption) applyDial(c *dialConfig)     { c.reply = string(o) }
func (o replyOption) applyClient(c *clientConfig) { o.applyDial(&c.dial) }

func (s *Service) applyServer(c *serverConfig) { s.apply(&c.common) }
func (s *Service) applyDial(c *dialConfig)     { s.apply(&c.common) }

func (s *Service) apply(c *common) {
	switch {
	case s == nil || s.protocol == nil:
		c.refuse(invalid("a Service is nil or empty; make it with the generated NewXService"))
	case s.invalid != nil:
		c.refuse(s.invalid)
	default:
		c.services = append(c.services, s)
	}
}
func (s *Service) applyClient(c *clientConfig) { s.applyDial(&c.dial) }

// WithDomain sets the domain in which channels are looked up: a name, or the path of a directory.
// The default is the value of $IPCGEN_DOMAIN, or "default". A name stands for a directory in
// $XDG_RUNTIME_DIR/ipcgen or, if that variable is not set, in ipcgen-<uid> in the directory for
// temporary files. Both sides must use the same domain.
func WithDomain(domain string) RendezvousOption { return domainOption(domain) }

// WithReplyChannel names the reply channel. A server announces its name to clients. A client that
// names one fails to connect to a server that announces another, with [CodeIncompatible].
func WithReplyChannel(name string) RendezvousOption { return replyOption(name) }

// WithLogger sets the logger of a server or client, and of their connections. By default nothing is
// logged, with one exception: a callback that panics or ends its goroutine is logged to
// [slog.Default], with the stack. A nil l restores the default.
func WithLogger(l *slog.Logger) Option {
	return option(func(c *common) { c.logger = userlog.Contain(l) })
}

// WithRings sets the capacities of the two rings of a connection, in bytes, rounded up to a power
// of two. A client requests capacities, and its server limits them to its own. With 0, a client
// takes the server's capacity, and a server takes [DefaultRingCapacity].
func WithRings(toServer, toClient int) Option {
	return option(func(c *common) { c.toServer, c.toClient = toServer, toClient })
}

// WithMaxMessage limits the length of a message, in bytes. The limit of a connection is the lower
// one of its client and its server; each defaults to [DefaultMaxMessage], so longer messages need
// the option on both sides. A message beyond the limit is refused with [CodeTooLarge]. A message
// may be longer than the ring: it is sent in pieces.
func WithMaxMessage(bytes int) Option { return option(func(c *common) { c.maxMessage = bytes }) }

// WithSpin limits how long a side polls for the next message before it sleeps. The actual time
// adapts to the peer. With 0, it sleeps at once.
func WithSpin(longest time.Duration) Option {
	return option(func(c *common) { c.spin = max(longest, 0) })
}

// WithYield has this side yield its processor to other threads of the machine between two polls,
// once it has polled for about a microsecond. It pays where processes wait for each other in a
// chain and more of them poll than there are processors: each would keep the next one from its
// work. The replicas of a group that keeps a state do so among themselves. Where each side has a
// processor, it makes calls slower. A yield that proves to cost a time slice, because the processor
// goes to a thread that does not wait, makes the waits after it do without.
func WithYield() Option { return option(func(c *common) { c.yield = true }) }

// WithFailFast makes an operation that finds the ring full fail with [CodeResourceExhausted] and
// outcome [NotSent]. By default it blocks until there is room or its context is done.
func WithFailFast() Option { return option(func(c *common) { c.failFast = true }) }

// WithRecycling decodes requests, one-way messages and the items of clients into objects that were
// used before, and leaves strings and vectors of bytes in the received message, which is private
// memory of this side. Other parts use the memory of former ones. So a message of the shape of the
// one before costs no allocation; for large messages, allocations take more time than all the rest.
// A [Recycler] does so for replies.
//
// It is a promise: when a handler of this side has returned, neither goroutines of the handler nor
// interceptors use its request, which does not refer to objects of theirs either. An item is not
// used when the handler has asked for the next one. They must copy the parts that they keep
// (slices.Clone, strings.Clone). A reply may refer to parts of its request. A program that breaks
// the promise reads later messages.
func WithRecycling() Option { return option(func(c *common) { c.recycle = true }) }

// WithStreamingWindow sets how many bytes of the items of a streaming call this side keeps that its
// code has not taken; each item counts for 64 bytes more than its message has. An item may take
// half of the window. The buffers of a streaming call may have twice the length of the window. A
// larger window costs more memory if consumers are slow, and lets producers go on for longer. The
// default is [DefaultStreamingWindow], and the least is 4 KiB.
func WithStreamingWindow(bytes int) Option {
	return option(func(c *common) {
		c.window = min(max(orDefault(bytes, DefaultStreamingWindow), leastWindow), math.MaxInt32)
	})
}

// WithHandshakeTimeout limits the duration of a handshake. The default is
// [DefaultHandshakeTimeout].
func WithHandshakeTimeout(d time.Duration) Option {
	return option(func(c *common) { c.handshake = d })
}

// WithAuthorize sets the function that decides which peers may connect: it returns nil to accept a
// peer. By default, only processes of the same user may connect. The error of allow is logged, and
// a server also sends it to the client that it refuses. allow must be safe for concurrent use.
func WithAuthorize(allow func(Peer) error) Option {
	return option(func(c *common) { c.allow = allow })
}

// WithFence makes a server check the epoch of every request with f; see [Fence].
func WithFence(f Fence) ServerOption { return serverOption(func(c *serverConfig) { c.fence = f }) }

// WithServerInterceptor adds an interceptor for everything that a client can start: calls, one-way
// messages and streams. The interceptor that is added first is the outermost.
func WithServerInterceptor(i ServerInterceptor) ServerOption {
	return serverOption(func(c *serverConfig) {
		if i == nil {
			c.refuse(invalid("WithServerInterceptor was given nil; leave it out"))
			return
		}
		c.interceptors = append(c.interceptors, i)
	})
}

// WithMaxCalls limits the calls in flight per connection. Further ones wait at
// the client. A call is in flight until its answer is on its way, or its client has cancelled it.
func WithMaxCalls(n int) ServerOption {
	return serverOption(func(c *serverConfig) { c.maxCalls = n })
}

// WithMaxStreamingCalls limits the streaming calls of a connection that are open at a time. Further
// ones wait at the client. The default is [DefaultMaxStreamingCalls].
func WithMaxStreamingCalls(n int) ServerOption {
	return serverOption(func(c *serverConfig) { c.maxStreaming = n })
}

// WithMaxConns limits the connections that a server has at a time, and so its memory. Further
// clients are refused with CodeResourceExhausted. From 16 on, the last eighth is for processes
// that have less than an eighth of the connections.
func WithMaxConns(n int) ServerOption {
	return serverOption(func(c *serverConfig) { c.maxConns = n })
}

// WithMaxStreamMemory limits the memory of all streams that a server has at a time, in bytes.
// Further streams are refused with CodeResourceExhausted. The last eighth is for processes that
// have less than an eighth of it. The default is a quarter of the machine's memory and at least
// 64 MiB, the memory of one stream, but no more than a quarter of the limit (memory.max) of the
// process's control group.
func WithMaxStreamMemory(n int) ServerOption {
	return serverOption(func(c *serverConfig) { c.maxStreams = n })
}

// WithProtocol compares p with the server's version while connecting. By default, a protocol is
// compared when it is first used.
func WithProtocol(p *Protocol) DialOption {
	return dialOption(func(c *dialConfig) {
		if p == nil {
			c.refuse(invalid("WithProtocol was given nil; give it the generated XProtocol"))
			return
		}
		c.protocols = append(c.protocols, p)
	})
}

// WithEpoch sends the epoch of s with every call, and refuses replies of earlier epochs with
// [CodeFenced].
func WithEpoch(s EpochSource) DialOption { return dialOption(func(c *dialConfig) { c.epoch = s }) }

// WithClientInterceptor adds an interceptor for calls. The interceptor that is added first is the
// outermost. It does not see one-way messages, streams and calls in place.
func WithClientInterceptor(i ClientInterceptor) DialOption {
	return dialOption(func(c *dialConfig) {
		if i == nil {
			c.refuse(invalid("WithClientInterceptor was given nil; leave it out"))
			return
		}
		c.interceptors = append(c.interceptors, i)
	})
}

// ringCapacity rounds a wanted capacity to one that a ring can have.
func ringCapacity(want, limit int) int {
	if want <= 0 || want > limit {
		want = limit
	}
	want = min(max(want, shm.MinCapacity), shm.MaxCapacity)
	return 1 << bits.Len(uint(want-1))
}

// longestRecord is how much of a message goes into one record: little enough
// that the peer can read one piece while the next is written, and that a copy
// stays within the cache.
func longestRecord(capacity int) int { return min(capacity/4, 64<<10) - 64 }
