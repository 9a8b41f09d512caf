package shm

import (
	"encoding/binary"

	"github.com/ipcgen/ipcgen/internal/interleave"
)

// This file is how blocks of a writer that overwrites the oldest ones are published and claimed.
//
// An index with one entry per kept block says which slot holds which block. There are two more
// slots than entries: one for the block that the writer fills, and one for a block that the reader
// is reading although the writer has removed it from the index. The two sides decide by Dekker's
// algorithm whether that is the case. The reader stores its claim and then loads the index entry;
// the writer clears the entry and then loads the claim. At least one of them therefore sees the
// other. A writer that sees the claim leaves that slot alone until the claim changes. A reader that
// sees the cleared entry has lost the block. Neither side ever waits.
//
// A claim stands until the next one. The writer may thus leave a slot alone that the reader has
// done with, for which it has the spare slot, and the reader saves a store for each block.

// overwriting is what a writer that overwrites knows of the slots. The peer cannot change it.
type overwriting struct {
	slotOf     []int // by number modulo the depth
	free       []int
	lent       int    // the reader's slot that is not in the index any more; -1 for none
	lentNumber uint64 // the number of the block in lent
}

func newOverwriting(g BlockGeometry) *overwriting {
	o := &overwriting{slotOf: make([]int, g.Depth), lent: -1}
	for i := range g.Depth + extraSlots {
		o.free = append(o.free, i)
	}
	return o
}

// entry returns the entry of the numbers that are at, modulo the depth.
func (w *blockWords) entry(at int) *interleave.Uint64 {
	return word(w.mem, offBlockIndex+uint64(at)*8)
}

// overwrite returns a free slot. It removes the oldest block if the stream is full.
func (b *BlockWriter) overwrite() (slot int) {
	o := b.over
	if b.next-b.first >= uint64(b.w.geo.Depth) {
		b.remove()
	}
	last := len(o.free) - 1
	slot, o.free = o.free[last], o.free[:last]
	return slot
}

// remove removes the oldest block from the index and takes its slot back, unless the reader reads
// it. The entry of the oldest block of a full stream is that of the next one.
func (b *BlockWriter) remove() {
	o, k := b.over, b.first
	b.first++
	hook("block first")
	b.w.first.Store(b.first)
	hook("block clear")
	announce(b.w.entry(b.at), 0)
	hook("block cleared")
	claim := b.w.claim.Load()
	if o.lent >= 0 && claim != o.lentNumber+1 {
		o.free = append(o.free, o.lent)
		o.lent = -1
	}
	slot := o.slotOf[b.at]
	if claim == k+1 && o.lent < 0 {
		o.lent, o.lentNumber = slot, k
	} else {
		o.free = append(o.free, slot)
	}
}

// publishEntry publishes n bytes of the reserved slot.
func (b *BlockWriter) publishEntry(n int) {
	hook("block length")
	binary.NativeEndian.PutUint64(b.w.slot(b.current), uint64(n))
	b.over.slotOf[b.at] = b.current
	hook("block index")
	b.w.entry(b.at).Store((b.next+1)<<slotBits | uint64(b.current))
	hook("block publish")
	announce(b.w.tail, b.next+1)
}

const (
	// lapTries bounds the number of attempts of Next to claim a block of a writer that overwrites
	// faster than the reader can claim.
	lapTries = 64
	// maxBlockNumber is the number of the last block that an index entry can hold.
	maxBlockNumber = 1<<(64-slotBits) - 2
)

// claimNext is Next for a writer that overwrites.
func (b *BlockReader) claimNext() (block []byte, lost uint64, ok bool, err error) {
	for range lapTries {
		if !b.lookAtTail() {
			return nil, 0, false, b.err
		}
		hook("block claim")
		announce(b.w.claim, b.next+1)
		hook("block claimed")
		e := b.w.entry(int(b.next % uint64(b.w.geo.Depth))).Load()
		if e>>slotBits == b.next+1 {
			slot := int(e & slotMask)
			if slot >= b.w.geo.Depth+extraSlots {
				return nil, 0, false, b.corrupt()
			}
			return b.open(slot, word(b.w.slot(slot), 0).Load())
		}
		// The entry is cleared, or holds a later block already. In both cases the writer has
		// increased first before.
		first := b.w.first.Load()
		if b.lookAtTail(); b.err != nil {
			return nil, 0, false, b.err
		}
		if first <= b.next || first > b.tail {
			return nil, 0, false, b.corrupt()
		}
		b.lost += first - b.next
		b.next = first
	}
	return nil, 0, false, nil
}

// lookAtTail reports whether a block has been published that is not read. The number of published
// blocks never decreases: a writer that could take a promise back would keep the reader from
// sleeping.
func (b *BlockReader) lookAtTail() (ready bool) {
	tail := b.w.tail.Load()
	if tail < b.tail || tail > maxBlockNumber {
		_ = b.corrupt()
		return false
	}
	b.tail = tail
	return tail != b.next
}
