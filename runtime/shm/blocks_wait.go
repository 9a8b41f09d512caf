package shm

// This file is how blocks of a writer that waits for room are published and given back. Block n
// lies in slot n modulo the depth. The header of a slot has the number of its block beside the
// length, so one store publishes both. It lies before the block, in the same cache line: a reader
// that polls it has all of a small block with one transfer, and no index or count tells it where to
// look. The reader gives a block back by storing head, which the writer loads only when the stream
// looks full.

const (
	// numberShift is where the lower half of number + 1 is in the header of a slot.
	numberShift = 32
	lengthMask  = 1<<numberShift - 1
)

// roomFor reports whether the slots of the next n blocks are free. It loads head if it must.
func (b *BlockWriter) roomFor(n uint64) bool {
	depth := uint64(b.w.geo.Depth)
	if b.next-b.first+n <= depth {
		return true
	}
	b.first = max(b.first, min(b.w.head.Load(), b.next)) // a reader that lies harms itself
	return b.next-b.first+n <= depth
}

// publishSlot publishes n bytes of the reserved slot.
func (b *BlockWriter) publishSlot(n int) {
	hook("block publish")
	announce(word(b.w.slot(b.current), 0), (b.next+1)<<numberShift|uint64(n))
}

// prefetch fetches the lines of the next block if its slot is known to be free, as
// [Producer.Prefetch] does for the next record. The next block is probably as long as the last one,
// of n bytes.
func (b *BlockWriter) prefetch(n int) {
	if b.next-b.first >= uint64(b.w.geo.Depth) {
		return
	}
	slot := b.w.slot(b.at)
	for at := 0; at < min(slotHeader+n, ownLines*cacheLine); at += cacheLine {
		ownLine(&slot[at])
	}
}

// lookAtSlot reports whether the slot of the next block has it. A header that has been seen is not
// loaded again: a writer that could take it back would keep the reader from sleeping.
func (b *BlockReader) lookAtSlot() (ready bool) {
	if b.seen {
		return true
	}
	h := word(b.w.slot(b.at), 0).Load()
	number, depth := uint32(h>>numberShift), uint64(b.w.geo.Depth)
	if number == uint32(b.next+1) {
		b.header, b.seen = h, true
		return true
	}
	before := uint32(0) // what the slot has until then
	if b.next >= depth {
		before = uint32(b.next + 1 - depth)
	}
	if number != before {
		_ = b.corrupt()
	}
	return false
}

// giveBack gives the block that was read back to the writer.
func (b *BlockReader) giveBack() (wake bool) {
	b.seen = false
	if b.at++; b.at == b.w.geo.Depth {
		b.at = 0
	}
	hook("block release")
	announce(b.w.head, b.next)
	hook("block released")
	s := b.w.starve.Load()
	if s == 0 || s == b.fed {
		return false
	}
	b.fed = s
	return true
}
