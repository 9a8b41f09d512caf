package ipc

import (
	"cmp"
	"log/slog"
	"math"
	"math/bits"
	"time"

	"github.com/ipcgen/ipcgen/runtime/shm"
)

// A ServerOption configures NewServer. A *Service is one: the server serves it.
type ServerOption interface{ applyServer(*serverConfig) }

// A ListenOption configures Listen.
type ListenOption interface{ applyListen(*listenConfig) }

// A DialOption configures Dial, and each connection of a Client. A *Service is one: it
// handles the one-way messages that the server sends to this client.
type DialOption interface {
	ClientOption
	applyDial(*dialConfig)
}

// A ClientOption configures Connect and NewClient. Every DialOption is one.
type ClientOption interface{ applyClient(*clientConfig) }

// An Option serves clients and servers alike.
type Option interface {
	ServerOption
	DialOption
}

// A RendezvousOption says where the two sides meet, and so serves Listen and Dial.
type RendezvousOption interface {
	ListenOption
	DialOption
}

// Defaults of the options.
const (
	// DefaultRingCapacity is the capacity of each of the two rings of a
	// connection. It stays within a processor's second-level cache.
	DefaultRingCapacity = 256 << 10
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
	failFast           bool
	handshake          time.Duration
	allow              func(Peer) error
	services           []*Service
	invalid            *Error // the first option that cannot be applied
}

func commonDefaults() common {
	return common{
		logger: silent, spin: defaultSpin, handshake: DefaultHandshakeTimeout,
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
	trusted      bool // requests may be read in place
	interceptors gate
	maxCalls     int
	maxConns     int
	grace        time.Duration // of Run
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

// WithDomain chooses the domain in which channels are looked up: a name, or
// the path of a directory. The default is $IPCGEN_DOMAIN, or "default".
func WithDomain(domain string) RendezvousOption { return domainOption(domain) }

// WithReplyChannel names the channel that carries the replies. A server
// announces it, and a client that names one is refused by a server that announces another.
func WithReplyChannel(name string) RendezvousOption { return replyOption(name) }

// WithLogger makes the connection or server log what happens to its
// connections. By default nothing is logged, except for callbacks that panic or end their
// goroutine: those go to slog.Default, with the stack. A nil l is the default.
func WithLogger(l *slog.Logger) Option {
	return option(func(c *common) { c.logger = cmp.Or(l, silent) })
}

// WithRings sets the capacities of the rings, in bytes, rounded up to a power
// of two. A client asks for them; a server caps what clients ask for. 0 leaves the default: the
// server's, and for the server DefaultRingCapacity.
func WithRings(toServer, toClient int) Option {
	return option(func(c *common) { c.toServer, c.toClient = toServer, toClient })
}

// WithMaxMessage limits the length of messages, in bytes: of a connection, to the lower one of
// what its client and its server say, which is DefaultMaxMessage for a side that says nothing.
// So messages that are longer than that need it on both sides. A longer message is refused with
// CodeTooLarge. Messages longer than the ring travel in pieces.
func WithMaxMessage(bytes int) Option { return option(func(c *common) { c.maxMessage = bytes }) }

// WithSpin sets how long a side that waits looks for the other's message
// before it sleeps, at most; the actual time adapts. 0 makes it sleep at once.
func WithSpin(longest time.Duration) Option {
	return option(func(c *common) { c.spin = max(longest, 0) })
}

// WithFailFast makes messages that find the ring full fail with
// CodeResourceExhausted (not sent), instead of waiting for room until the deadline.
func WithFailFast() Option { return option(func(c *common) { c.failFast = true }) }

// WithHandshakeTimeout bounds the time for connecting.
func WithHandshakeTimeout(d time.Duration) Option {
	return option(func(c *common) { c.handshake = d })
}

// WithAuthorize decides who may be at the other end. By default it is this
// process's user only. The error is logged, and told to a refused client.
func WithAuthorize(allow func(Peer) error) Option {
	return option(func(c *common) { c.allow = allow })
}

// WithFence guards the server against requests of other epochs.
func WithFence(f Fence) ServerOption { return serverOption(func(c *serverConfig) { c.fence = f }) }

// WithServerInterceptor puts i around the handlers of everything that a client can start:
// calls, one-way messages and streams. The first one given is the outermost.
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

// WithMaxConns limits the connections that a server has at a time, and so its memory. Further
// clients are refused with CodeResourceExhausted. From 16 on, the last eighth is for processes
// that have less than an eighth of the connections.
func WithMaxConns(n int) ServerOption {
	return serverOption(func(c *serverConfig) { c.maxConns = n })
}

// WithProtocol compares p with the server's when connecting, instead of at its
// first use.
func WithProtocol(p *Protocol) DialOption {
	return dialOption(func(c *dialConfig) {
		if p == nil {
			c.refuse(invalid("WithProtocol was given nil; give it the generated XProtocol"))
			return
		}
		c.protocols = append(c.protocols, p)
	})
}

// WithEpoch makes calls carry the epoch of s, and refuses replies of older
// ones.
func WithEpoch(s EpochSource) DialOption { return dialOption(func(c *dialConfig) { c.epoch = s }) }

// WithClientInterceptor puts i around the calls. The first one given is the
// outermost.
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
