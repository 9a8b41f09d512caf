package ipc

import (
	"context"
	"io"
	"time"

	"github.com/ipcgen/ipcgen/runtime/shm"
)

// A Transport is what brings clients and servers together and carries what is
// not in shared memory. By default a domain's directory, Unix sockets and memory
// files do; package ipctest has one within a process, for tests on any platform.
type Transport interface {
	// Listen claims a channel, until the listener is closed. It fails with
	// CodeAlreadyExists while another has it.
	Listen(channel string) (LinkListener, error)
	// Dial reaches the listener of a channel. It fails with CodeUnavailable
	// when there is none.
	Dial(ctx context.Context, channel string) (Link, error)
}

// A LinkListener yields the server's ends of links, one per Dial.
type LinkListener interface {
	// Accept waits for the next link, and fails after Close.
	Accept() (Link, error)
	io.Closer
}

// A Link is one end of a fresh connection: it carries the handshake, hands the memory
// over, and from then on wakes the two sides and tells each when the other is gone. One
// goroutine at a time reads, and one waits; everything else is safe for concurrent use.
type Link interface {
	wire

	// Send and Receive carry the handshake: bytes, of which some have memory attached. m
	// is nil where there is none. What Send is given stays the caller's to
	// close, and what Receive returns becomes it.
	Send(p []byte, m shm.Memory) error
	Receive(p []byte) (n int, m shm.Memory, err error)
	// SetDeadline bounds Send and Receive. The zero time takes the bound away.
	SetDeadline(time.Time) error
	// NewMemory makes zero memory of that many bytes, to be sent.
	NewMemory(size int) (shm.Memory, error)

	// Peer says who is at the other end.
	Peer() (Peer, error)
	// Clock reads a clock that both ends share, in nanoseconds.
	Clock() int64
	// SpinPays reports whether a side that waits should look for a while before
	// it sleeps, because waking it costs a trip through the kernel.
	SpinPays() bool
}

// A wire is the part of a link that is in use after the handshake has handed over memory.
type wire interface {
	// Notify ends the peer's Wait. It never blocks.
	Notify()
	// Expect must be called before this side declares, in the memory, that the peer may
	// call Notify once.
	Expect()
	// Wait calls look and, unless that returns true, waits until the peer calls Notify
	// or this side Poke. It may return without a reason, and fails once this side has
	// closed the link.
	//
	// A Notify from before look was called is forgotten. As the peer calls it once for
	// each declaration that this side sleeps or waits for room, and may do so although what it
	// tells of has been taken meanwhile, it is not enough that look looks at
	// the memory: it must declare anew, or have done whatever a Notify may be about.
	Wait(recheck func() bool) error
	// Poke makes the current or the next Wait of this side return.
	Poke()

	// Read waits for bytes that the peer has written, and fails when either side
	// has closed the link or died.
	Read(p []byte) (int, error)
	// Write sends bytes.
	Write(p []byte) (int, error)
	// Close ends the connection; both sides' Reads fail once they have read
	// what was sent before, and so does this side's Wait. It may be called from within look.
	Close() error
}

type transportOption struct{ t Transport }

func (o transportOption) applyListen(c *listenConfig) { c.transport = o.t }
func (o transportOption) applyDial(c *dialConfig)     { c.transport = o.t }
func (o transportOption) applyClient(c *clientConfig) { o.applyDial(&c.dial) }

// WithTransport makes the two sides meet through t instead of a domain.
func WithTransport(t Transport) RendezvousOption { return transportOption{t} }

// clockOf relates this process's clock to the one that the two ends share. The two
// cannot be read at once. The order makes a deadline, by what is lost in between, earlier
// for the server than it is for the client's caller: a deadline that has passed here has
// passed there.
func clockOf(l Link, server bool) (c clock) {
	if server {
		c.local = time.Now()
		c.shared = l.Clock()
		return c
	}
	c.shared = l.Clock()
	c.local = time.Now()
	return c
}
