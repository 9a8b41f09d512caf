//go:build ipcinterleave

package shm

import "github.com/ipcgen/ipcgen/internal/interleave"

// Words are the control words of a ring that the two sides wait by.
type Words struct{ Tail, Sleep, Head, Starve, Taken, Revoke *interleave.Uint64 }

// Words returns the ring's control words.
func (c *Consumer) Words() Words {
	return Words{c.w.tail, c.w.sleep, c.w.head, c.w.starve, c.w.taken, c.w.revoke}
}

// Sense is what the producer can tell from the word of the consumer's sleep: 0 that the consumer
// is awake, 1 that it was woken, 2 that it must be woken.
func (p *Producer) Sense(sleep uint64) uint64 {
	switch sleep {
	case 0:
		return 0
	case p.woken:
		return 1
	}
	return 2
}

// Sense is what the consumer can tell from the word of the producer's wait: 0 that there is none, 1
// that it was answered, 2 that it must be answered.
func (c *Consumer) Sense(starve uint64) uint64 {
	switch starve {
	case 0:
		return 0
	case c.fed:
		return 1
	}
	return 2
}

// State returns what decides about the producer's next steps beside the words.
func (p *Producer) State() [2]uint64 { return [2]uint64{p.pos, p.headSeen} }

// State returns what decides about the consumer's next steps beside the words.
func (c *Consumer) State() [3]uint64 { return [3]uint64{c.pos, c.given, c.tailSeen} }
