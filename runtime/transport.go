package ipc

import (
	"context"
	"io"
	"time"

	"github.com/ipcgen/ipcgen/runtime/shm"
)

// A Transport connects clients with servers, and carries everything that does not travel through
// shared memory. The default transport consists of a domain's directory, Unix sockets and memory
// files. Package ipctest has one within a process, for tests on any platform. For the tests of
// another one, package ipctest/conformance has TestTransport. A Transport must be safe for
// concurrent use.
type Transport interface {
	// Listen claims a channel until the listener is closed. It fails with [CodeAlreadyExists] while
	// another listener has the channel.
	Listen(channel string) (LinkListener, error)
	// Dial connects to the listener of a channel. It fails with [CodeUnavailable] if there is none.
	Dial(ctx context.Context, channel string) (Link, error)
}

// A LinkListener returns the server's ends of links, one for each Dial.
type LinkListener interface {
	// Accept waits for the next link, and fails after Close.
	Accept() (Link, error)
	io.Closer
}

// A Link is one end of a new connection. It carries the handshake and hands the memory over. After
// that it wakes the two sides, and tells each of them when the other is gone. One goroutine at a
// time may call Read, and one Wait; all other methods are safe for concurrent use.
type Link interface {
	// Send and Receive carry the handshake: bytes, and up to two memories that are attached to
	// some of them. The caller of Send keeps the memories that it sends, and must close them. The
	// caller of Receive owns the memories that it receives.
	Send(p []byte, m ...shm.Memory) error
	Receive(p []byte) (n int, m []shm.Memory, err error)
	// SetDeadline limits Send and Receive. The zero time removes the limit.
	SetDeadline(time.Time) error
	// NewMemory returns zeroed memory of size bytes, for Send. The caller owns it.
	NewMemory(size int) (shm.Memory, error)

	// Peer returns the process at the other end.
	Peer() (Peer, error)
	// Clock returns the time, in nanoseconds, of a clock that both ends share.
	Clock() int64
	// SpinPays reports whether a side that waits should poll before it sleeps, because waking it
	// takes a system call.
	SpinPays() bool

	// Notify ends the peer's Wait. It never blocks.
	Notify()
	// Expect must be called before this side declares, in the shared memory, that the peer may call
	// Notify once.
	Expect()
	// Wait calls recheck. If recheck returns false, Wait blocks until the peer calls Notify or this
	// side calls Poke. It may return early for no reason. It fails when this side has closed the
	// link, also if that was after recheck had returned true.
	//
	// Wait forgets notifications that arrived before it called recheck. The peer sends one
	// notification for each declaration of this side that it sleeps or waits for room, possibly
	// after the reason has passed. So it does not suffice that recheck looks at the memory: recheck
	// must repeat the declaration, or act on everything that a forgotten notification may have been
	// about.
	Wait(recheck func() bool) error
	// Poke makes the current or the next Wait of this side return.
	Poke()

	// Read blocks until the peer has written bytes. It fails when either side has closed the link
	// or died.
	Read(p []byte) (int, error)
	// Write sends bytes to the peer. It does not wait for a peer that does not read.
	Write(p []byte) (int, error)
	// Close closes the link. Reads of both sides fail once they have returned what was sent before,
	// and so does Wait on this side. Close may be called from within recheck.
	Close() error
}

// A wire is the part of a link that is used after the handshake. Link describes the methods.
type wire interface {
	Notify()
	Expect()
	Wait(recheck func() bool) error
	Poke()
	Read(p []byte) (int, error)
	Write(p []byte) (int, error)
	Close() error
}

type transportOption struct{ t Transport }

func (o transportOption) applyListen(c *listenConfig) { c.transport = o.t }
func (o transportOption) applyDial(c *dialConfig)     { c.transport = o.t }
func (o transportOption) applyClient(c *clientConfig) { o.applyDial(&c.dial) }

// WithTransport makes clients and servers meet through t instead of a domain.
func WithTransport(t Transport) RendezvousOption { return transportOption{t} }

// clockOf relates this process's clock to the clock that both ends share. It cannot read both at
// the same time. It reads them in an order that makes deadlines, by the time in between, earlier at
// the server than at the client: a deadline that has passed at the client has passed at the server.
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
