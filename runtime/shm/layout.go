// Package shm moves records through memory that two processes share: byte
// rings with one producer and one consumer each, and the segments that hold
// them.
//
// Everything read from the shared memory is hostile input. A word in it is
// loaded once, checked and then used; indices that belong to this side are
// kept in private memory and only ever written to the shared one. Whatever
// the peer writes, a ring at worst ends with ErrCorrupt.
//
// A process may die between any two instructions: a record becomes visible by
// one atomic store, and before it nothing has happened.
package shm

import (
	"errors"
	"fmt"
	"math/bits"
	"sync/atomic"
)

// Version is the version of the layout described in this file. Two processes
// must agree on it.
const Version = 2

// line separates words of different writers. It is two cache lines, since
// processors fetch lines in pairs.
const line = 128

// cacheLine is what processors fetch at least, and fetchLen what a consumer asks
// for at once: enough for a short message with its header.
const (
	cacheLine = 64
	fetchLen  = 4 * cacheLine
)

// Where the words of a ring lie, from its start. Each is a uint64 in the
// machine's byte order and has one writer.
const (
	offTail = 0 * line // producer: bytes ever published
	offHead = 1 * line // consumer: bytes ever given back
	// consumer: bytes ever looked at; differs from head while a record is read in place
	offTaken  = 1*line + 8
	offSleep  = 2 * line // consumer: 0 while it is awake, else the number of its sleep
	offStarve = 3 * line // producer: 0, or the number of its wait for space
	// producer: 1 once it takes back the requests that are not taken; in a line that Release
	// loads anyway
	offRevoke = 3*line + 8
	offData   = 4 * line
)

// A record is a header of 8 bytes, the payload, and padding to a multiple of
// 8. It never wraps: where the end of the ring is too near, a record with the tag
// tagPad fills it.
const (
	headerLen = 8
	// The header is one uint64: the payload's length in the low half, the tag in
	// the high one.
	tagShift = 32
	tagPad   = 1<<32 - 1
)

// The smallest and the largest capacity of a ring, in bytes.
const (
	MinCapacity = 4 << 10
	MaxCapacity = 1 << 30
)

var (
	// ErrCorrupt says that the peer broke the rules of the ring. The ring is
	// of no more use.
	ErrCorrupt = errors.New("shared memory is corrupt")
	// ErrCapacity marks a capacity that no ring can have.
	ErrCapacity = fmt.Errorf("ring capacity must be a power of two from %d to %d",
		MinCapacity, MaxCapacity)
)

// RingSize is the number of bytes of memory that a ring of the given capacity
// takes.
func RingSize(capacity int) int { return offData + capacity }

// MaxPayload is the longest payload that a ring of the given capacity can
// carry: one that fits wherever in the ring it falls, once the ring is empty.
func MaxPayload(capacity int) int { return capacity/2 - headerLen }

// CheckCapacity reports whether a ring can have this capacity.
func CheckCapacity(capacity int) error {
	if capacity < MinCapacity || capacity > MaxCapacity || bits.OnesCount(uint(capacity)) != 1 {
		return fmt.Errorf("%w, not %d", ErrCapacity, capacity)
	}
	return nil
}

// ringWords are the shared words of a ring, and its data.
type ringWords struct {
	tail, head, taken, sleep, starve, revoke *atomic.Uint64
	data                                     []byte
}

// wordsOf lays a ring over mem, which must be RingSize(capacity) long and
// start at a multiple of 8.
func wordsOf(mem []byte, capacity int) (ringWords, error) {
	if err := CheckCapacity(capacity); err != nil {
		return ringWords{}, err
	}
	if len(mem) != RingSize(capacity) {
		return ringWords{},
			fmt.Errorf("ring of capacity %d takes %d bytes, not %d", capacity,
				RingSize(capacity), len(mem))
	}
	if !aligned(mem) {
		return ringWords{}, errors.New("ring memory does not start at a multiple of 8")
	}
	return ringWords{
		tail: word(mem, offTail), head: word(mem, offHead), taken: word(mem, offTaken),
		sleep: word(mem, offSleep), starve: word(mem, offStarve), revoke: word(mem, offRevoke),
		data: mem[offData:],
	}, nil
}

// recordLen is the space that a record with a payload of n bytes takes.
func recordLen(n int) uint64 { return (headerLen + uint64(n) + 7) &^ 7 }

// announce stores v in w before any later load of this goroutine: the first
// half of a Dekker handshake, in which each side writes its word and then looks
// at the other's. atomic.Store promises as much, but in programs built for the race detector
// it is only a release store where the memory is not Go's own, as it is here. An
// exchange is a full barrier everywhere, and on amd64 the same instruction.
func announce(w *atomic.Uint64, v uint64) { w.Swap(v) }
