// Package shm moves records through memory that two processes share: rings of records with one
// producer and one consumer each, streams of blocks with one writer and one reader each, and the
// segments that hold them.
//
// A [Producer] and a [Consumer] share a ring, a [BlockWriter] and a [BlockReader] a stream. A
// [Segment] is the memory of one connection, with a ring in each direction. The package does not
// wake processes: functions return wake when the caller must wake the peer.
//
// All data read from shared memory is untrusted. A word is loaded once, checked, and then used.
// Indices that belong to this side are kept in private memory and only ever written to the shared
// memory. Whatever the peer writes, the worst result is [ErrCorrupt].
//
// A process may die between any two instructions. A record becomes visible by one atomic store;
// before that store, the peer sees nothing of the record.
package shm

import (
	"errors"
	"fmt"
	"math/bits"

	"github.com/ipcgen/ipcgen/internal/interleave"
)

// Version is the version of the layout described in this file. Both processes must have the same
// one.
const Version = 3

// line is the distance between words of different writers. It is two cache lines, because
// processors fetch cache lines in pairs.
const line = 128

// cacheLine is the smallest unit that processors fetch. fetchLen is the number of bytes that a
// consumer fetches at once: enough for a short message with its header.
const (
	cacheLine = 64
	fetchLen  = 4 * cacheLine
)

// Offsets of the words of a ring. Each word is a uint64 in the byte order of the machine and has
// one writer.
const (
	offTail = 0 * line // producer: number of bytes published so far
	offHead = 1 * line // consumer: number of bytes given back so far
	// consumer: number of bytes taken so far; differs from head while a record is read in place
	offTaken  = 1*line + 8
	offSleep  = 2 * line // consumer: 0 while awake, otherwise the number of its sleep
	offStarve = 3 * line // producer: 0, or the number of its wait for space
	// producer: 1 once it has revoked the requests that are not taken; in a cache line that Release
	// loads anyway
	offRevoke = 3*line + 8
	offData   = 4 * line
)

// A record is a header of 8 bytes, the payload, and padding to a multiple of 8. A record never
// wraps: if the end of the ring is too near, a record with the tag tagPad fills the rest.
const (
	headerLen = 8
	// The header is one uint64 with the length of the payload in the low half and the tag in the
	// high half.
	tagShift = 32
	tagPad   = 1<<32 - 1
)

// The smallest and the largest capacity of a ring, in bytes.
const (
	MinCapacity = 4 << 10
	MaxCapacity = 1 << 30
)

// ErrCorrupt means that the peer broke the rules of the ring or stream, which cannot be used
// any more.
var ErrCorrupt = errors.New("shared memory is corrupt")

// ringSize returns the number of bytes of memory that a ring of the given capacity needs.
func ringSize(capacity int) int { return offData + capacity }

// MaxPayload returns the length of the longest payload that a ring of the given capacity can carry.
// An empty ring has room for such a payload at every position.
func MaxPayload(capacity int) int { return capacity/2 - headerLen }

// checkCapacity returns an error unless a ring can have this capacity.
func checkCapacity(capacity int) error {
	if capacity < MinCapacity || capacity > MaxCapacity || bits.OnesCount(uint(capacity)) != 1 {
		return fmt.Errorf("ring capacity must be a power of two from %d to %d, not %d", MinCapacity,
			MaxCapacity, capacity)
	}
	return nil
}

// ringWords has the shared words of a ring, and its data.
type ringWords struct {
	tail, head, taken, sleep, starve, revoke *interleave.Uint64
	data                                     []byte
}

// wordsOf returns the words of the ring in mem, which must be ringSize(capacity) bytes long and
// start at a multiple of 8.
func wordsOf(mem []byte, capacity int) (ringWords, error) {
	if err := checkCapacity(capacity); err != nil {
		return ringWords{}, err
	}
	if len(mem) != ringSize(capacity) {
		return ringWords{},
			fmt.Errorf("ring of capacity %d takes %d bytes, not %d", capacity,
				ringSize(capacity), len(mem))
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

// recordLen returns the space that a record with a payload of n bytes takes.
func recordLen(n int) uint64 { return (headerLen + uint64(n) + 7) &^ 7 }

// announce stores v in w before any later load of this goroutine. It is the first half of a Dekker
// handshake, in which each side stores its own word and then loads the other side's word.
// atomic.Store gives the same guarantee; but in programs built for the race detector it is only a
// release store for memory that is not Go's own, as this memory is. An exchange is a full barrier
// everywhere, and on amd64 the same instruction.
func announce(w *interleave.Uint64, v uint64) { w.Swap(v) }
