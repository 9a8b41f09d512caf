// Package contest holds the contestants: ways for two processes of one machine
// to exchange messages. Each is in a file of its own and does the same: a
// request of some bytes goes to the server, and a short reply comes back.
package contest

import (
	"os"
	"slices"

	"github.com/ipcgen/ipcgen/bench/internal/peer"
)

// A Session is a client's connection to a server. It is used by one goroutine,
// unless its contestant is Shared.
type Session interface {
	// Call makes one round trip.
	Call() error
	Close() error
}

// A Stream is a client that sends without waiting for an answer. It is used by
// one goroutine.
type Stream interface {
	// Send sends one message.
	Send() error
	// Drain returns when the server has received all that was sent.
	Drain() error
	Close() error
}

// A Flow is a client that a server sends to. It is used by one goroutine.
type Flow interface {
	// Take takes messages, and calls more after each, until more returns false.
	Take(more func() bool) error
	Close() error
}

// A Contestant is one way to exchange messages.
type Contestant struct {
	Key  string // short, for the command line
	Name string // as the tables show it
	Note string // what exactly is measured
	// StreamName replaces Name where messages go one way; "" if it need not.
	StreamName string
	// Sizes are those of Sizes that it can do; nil for all of them.
	Sizes []int
	// Huge is true if it also carries messages of HugeSize.
	Huge bool
	// Ours is true of what this project makes.
	Ours bool
	// Many is true if a server takes several clients.
	Many bool
	// Shared is true if several goroutines may call on one session.
	Shared bool
	// Files makes what the two processes share from the start, for requests of
	// size bytes; nil if they meet in a folder.
	Files func(size int) (mine, theirs []*os.File, err error)
	// Serve starts the server.
	Serve peer.Server
	// Open connects a client; nil if the contestant takes no calls. Where there
	// are Files it is called once per server.
	Open func(peer.Setup) (Session, error)
	// OpenStream connects a client that sends messages; nil if the contestant
	// takes no part in that.
	OpenStream func(peer.Setup) (Stream, error)
	// OpenFlow connects a client that takes messages, in place of OpenStream.
	OpenFlow func(peer.Setup) (Flow, error)
}

// Keys of the contestants that others are compared with, that are chosen for a
// comparison, or that differ from the others in it.
const (
	BareKey   = "bare"
	CallKey   = "call"
	ParkedKey = "parked"
	PipeKey   = "pipe"
	StreamKey = "stream"
)

// Sizes are the lengths of the requests, in bytes.
var Sizes = []int{64, 4 << 10, 64 << 10, 1 << 20}

// MaxSize is the largest of Sizes.
const MaxSize = 1 << 20

// HugeSize is the length of messages that only contestants with Huge carry: for the others it is
// above a limit, or takes minutes.
const HugeSize = 16 << 20

// Carries reports whether the contestant carries messages of size bytes.
func (c *Contestant) Carries(size int) bool {
	if size > MaxSize {
		return c.Huge
	}
	return c.Sizes == nil || slices.Contains(c.Sizes, size)
}

// ReplySize is the length of the replies, in bytes, where the contestant has a
// choice.
const ReplySize = 64

// All are the contestants, in the order of the tables.
func All() []*Contestant {
	return []*Contestant{
		bare(), across(), ring(), call(), recycledCall(), inPlace(), resident(), parkedCall(),
		stream(), items(), itemBack(),
		pipe(), unixSocket(), shmIPC(), netRPC(), grpcUnix(), grpcItems(), natsLoopback(),
		natsCall(),
	}
}

// Find returns the contestant called key, or nil.
func Find(key string) *Contestant {
	for _, c := range append(All(), Replicated()...) {
		if c.Key == key {
			return c
		}
	}
	return nil
}
