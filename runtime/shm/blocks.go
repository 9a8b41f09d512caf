package shm

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/ipcgen/ipcgen/internal/interleave"
)

// This file is the memory of a stream: numbered blocks from one writer to one reader. Blocks are
// written and read in place, and the writer may overwrite the oldest ones.
//
// Blocks lie in slots. An index with one entry per kept block says which slot holds which block.
// There are two more slots than entries: one for the block that the writer fills, and one for a
// block that the reader is reading although the writer has removed it from the index. The two sides
// decide by Dekker's algorithm whether that is the case. The reader stores its claim and then loads
// the index entry; the writer clears the entry and then loads the claim. At least one of them
// therefore sees the other. A writer that sees the claim leaves that slot alone until the claim
// changes. A reader that sees the cleared entry has lost the block. Neither side ever waits.
//
// A writer that does not overwrite removes only blocks that the reader has released. Nothing has to
// be decided then: there are no claims, and no entries are cleared, which saves five of the seven
// exchanges per block.

// Offsets of the words of a stream.
const (
	offBlockTail   = 0         // writer: number of blocks published so far
	offBlockFirst  = 8         // writer: number of the oldest block in the index
	offWriterEnd   = 16        // writer: the End of its side; 0 before
	offBlockHead   = line      // reader: number of the next block to read
	offBlockClaim  = line + 8  // reader: number of the block that it reads, plus 1; 0 for none
	offReaderEnd   = line + 16 // reader: the End of its side; 0 before
	offBlockSleep  = 2 * line  // as in a ring
	offBlockStarve = 3 * line  // as in a ring
	offWriterText  = 4 * line  // writer: the text of its End
	offReaderText  = offWriterText + MaxEndText
	// writer: (number+1)<<16 | slot, per entry; 0 for a cleared entry
	offBlockIndex = offReaderText + MaxEndText
	extraSlots    = 2         // see above
	maxDepth      = 1<<16 - 1 // blocks that a stream keeps
	maxBlock      = 64 << 20  // bytes of a block
	maxStream     = 1 << 30   // bytes of a stream
	slotHeader    = 8         // the length of the block
	slotBits      = 16        // of an index entry
	slotMask      = 1<<slotBits - 1
)

// MaxEndText is the length of the longest text of an [End], in bytes.
const MaxEndText = 1024

// An End is the way in which a side ends a stream: as intended, or because of a failure.
type End struct {
	Failed bool
	Code   uint16
	Text   string // cut after MaxEndText bytes
}

// The word of an End: the state, the code in bits 16 to 31, and the length of the text above.
const (
	endMeant  = 1
	endFailed = 2

	endStateMask = 1<<endCodeShift - 1
	endCodeShift = 16
	endTextShift = 32
)

// endAt publishes an End by the store of its word.
func (w *blockWords) endAt(off uint64, text int, e End) {
	hook("block text")
	n := copy(w.mem[text:text+MaxEndText], e.Text)
	state := uint64(endMeant)
	if e.Failed {
		state = endFailed
	}
	hook("block end")
	announce(word(w.mem, off), state|uint64(e.Code)<<endCodeShift|uint64(n)<<endTextShift)
	hook("block ended")
}

// readEnd reads the End that the peer has published. ok is false if there is none.
func (w *blockWords) readEnd(off uint64, text int) (e End, ok bool, err error) {
	v := word(w.mem, off).Load()
	state, n := v&endStateMask, v>>endTextShift
	if v == 0 {
		return End{}, false, nil
	}
	if state != endMeant && state != endFailed || n > MaxEndText {
		return End{}, false, ErrCorrupt
	}
	return End{Failed: state == endFailed, Code: uint16(v >> endCodeShift),
		Text: string(w.mem[text : text+int(n)])}, true, nil
}

// A BlockGeometry is the size of a stream.
type BlockGeometry struct {
	Depth int // number of blocks that are kept
	Block int // length of the longest block, in bytes
}

func (g BlockGeometry) stride() int { return (slotHeader + g.Block + 63) &^ 63 }
func (g BlockGeometry) slots() int  { return offBlockIndex + (g.Depth*8+line-1)&^(line-1) }

// Size returns the number of bytes of memory that the stream needs.
func (g BlockGeometry) Size() int { return g.slots() + (g.Depth+extraSlots)*g.stride() }

// Check returns an error unless a stream can have this size.
func (g BlockGeometry) Check() error {
	if g.Depth < 1 || g.Depth > maxDepth || g.Block < 1 || g.Block > maxBlock ||
		g.Size() > maxStream {
		return fmt.Errorf("a stream keeps 1 to %d blocks of 1 to %d bytes, %d bytes in all; not "+
			"%d blocks of %d bytes",
			maxDepth, maxBlock, maxStream, g.Depth, g.Block)
	}
	return nil
}

type blockWords struct {
	tail, first, head, claim, sleep, starve *interleave.Uint64
	mem                                     []byte
	geo                                     BlockGeometry
}

func blockWordsOf(mem []byte, g BlockGeometry) (blockWords, error) {
	if err := g.Check(); err != nil {
		return blockWords{}, err
	}
	if len(mem) != g.Size() || !aligned(mem) {
		return blockWords{}, errors.New("memory of a stream has the wrong size or alignment")
	}
	return blockWords{
		tail: word(mem, offBlockTail), first: word(mem, offBlockFirst),
		head:  word(mem, offBlockHead),
		claim: word(mem, offBlockClaim), sleep: word(mem, offBlockSleep),
		starve: word(mem, offBlockStarve),
		mem:    mem, geo: g,
	}, nil
}

func (w *blockWords) entry(number uint64) *interleave.Uint64 {
	return w.entryAt(number % uint64(w.geo.Depth))
}

// entryAt returns the entry of the numbers that are at, modulo the depth.
func (w *blockWords) entryAt(at uint64) *interleave.Uint64 {
	return word(w.mem, offBlockIndex+at*8)
}

// slot returns the memory of slot i, which must exist.
func (w *blockWords) slot(i int) []byte {
	at := w.geo.slots() + i*w.geo.stride()
	return w.mem[at : at+slotHeader+w.geo.Block : at+slotHeader+w.geo.Block]
}

// A BlockWriter writes the blocks of a stream. It is not safe for concurrent use.
type BlockWriter struct {
	w         blockWords
	overwrite bool

	// The fields below are private, so the peer cannot change them.
	next, first uint64 // first is that of the oldest block whose slot is not free
	slotOf      []int  // by number modulo the depth
	free        []int
	current     int    // the reserved slot; -1 for none
	lent        int    // the reader's slot that is not in the index any more; -1 for none
	lentNumber  uint64 // the number of the block in lent
	woken       uint64
	waits       uint64
}

// NewBlockWriter returns the writer of a new stream in mem, which must be g.Size() zero bytes that
// start at a multiple of 8. With overwrite set, a new block replaces the oldest one when the stream
// is full. The error is that of [BlockGeometry.Check], or reports memory of another size or
// alignment.
func NewBlockWriter(mem []byte, g BlockGeometry, overwrite bool) (*BlockWriter, error) {
	w, err := blockWordsOf(mem, g)
	if err != nil {
		return nil, err
	}
	b := &BlockWriter{w: w, overwrite: overwrite, slotOf: make([]int, g.Depth),
		current: -1, lent: -1}
	for i := range g.Depth + extraSlots {
		b.free = append(b.free, i)
	}
	return b, nil
}

// Reserve returns the memory of the next block, which the caller fills before it calls
// [BlockWriter.Commit]. ok is false while the stream is full; a stream that overwrites is never
// full. Until Commit, further calls return the same memory. Reserve does not block.
func (b *BlockWriter) Reserve() (block []byte, ok bool) {
	if b.current < 0 {
		if b.next-b.first >= uint64(b.w.geo.Depth) && !b.reclaim() {
			return nil, false
		}
		last := len(b.free) - 1
		b.current, b.free = b.free[last], b.free[:last]
	}
	return b.w.slot(b.current)[slotHeader:], true
}

// reclaim takes slots back, if it can: those of all blocks that were released, or that of the
// oldest block, which it removes from the index, if it may overwrite.
func (b *BlockWriter) reclaim() bool {
	if b.overwrite {
		b.remove()
		return true
	}
	head := b.w.head.Load()
	if head <= b.first {
		return false
	}
	for ; b.first < min(head, b.next); b.first++ { // a reader that lies harms itself
		b.free = append(b.free, b.slotOf[b.first%uint64(b.w.geo.Depth)])
	}
	return true
}

// Room reports whether Reserve and Commit would succeed n times, at most as often as the depth of
// the stream, without further calls of the reader's Release.
func (b *BlockWriter) Room(n int) bool {
	depth := uint64(b.w.geo.Depth)
	return b.overwrite || b.next-b.first+uint64(n) <= depth ||
		b.next-min(b.w.head.Load(), b.next)+uint64(n) <= depth
}

// remove removes the oldest block from the index and takes its slot back, unless the reader reads
// it.
func (b *BlockWriter) remove() {
	k := b.first
	b.first++
	hook("block first")
	b.w.first.Store(b.first)
	hook("block clear")
	announce(b.w.entry(k), 0)
	hook("block cleared")
	claim := b.w.claim.Load()
	if b.lent >= 0 && claim != b.lentNumber+1 {
		b.free = append(b.free, b.lent)
		b.lent = -1
	}
	slot := b.slotOf[k%uint64(b.w.geo.Depth)]
	if claim == k+1 && b.lent < 0 {
		b.lent, b.lentNumber = slot, k
	} else {
		b.free = append(b.free, slot)
	}
}

// Commit publishes the first n bytes of the reserved block. It panics if no block is reserved or n
// is too large. wake is true if the caller must wake the reader, as for [Producer.Commit].
func (b *BlockWriter) Commit(n int) (wake bool) {
	if b.current < 0 || n < 0 || n > b.w.geo.Block {
		panic("shm: Commit of a block that is not reserved")
	}
	slot := b.w.slot(b.current)
	hook("block length")
	binary.NativeEndian.PutUint64(slot, uint64(n))
	at := b.next % uint64(b.w.geo.Depth)
	b.slotOf[at] = b.current
	hook("block index")
	entry := (b.next+1)<<slotBits | uint64(b.current)
	if b.overwrite { // the reader may look at it now
		b.w.entryAt(at).Store(entry)
	} else {
		binary.NativeEndian.PutUint64(b.w.mem[offBlockIndex+at*8:], entry)
	}
	b.current = -1
	b.next++
	hook("block publish")
	announce(b.w.tail, b.next)
	hook("block published")
	s := b.w.sleep.Load()
	if s == 0 || s == b.woken {
		return false
	}
	b.woken = s
	return true
}

// End tells the reader that no more blocks follow, and why. If the writer's process ends before it
// calls End, the stream was cut off.
func (b *BlockWriter) End(e End) { b.w.endAt(offWriterEnd, offWriterText, e) }

// ReaderEnd returns the End of the reader. ok is false if the reader has not ended the stream. The
// error is [ErrCorrupt] if the peer has written an invalid End.
func (b *BlockWriter) ReaderEnd() (e End, ok bool, err error) {
	return b.w.readEnd(offReaderEnd, offReaderText)
}

// Starve declares that the writer is about to wait for room, and reports whether it must wait; see
// [Producer.Starve].
func (b *BlockWriter) Starve() bool {
	b.waits++
	hook("block starve")
	announce(b.w.starve, b.waits)
	hook("block starved")
	if _, ok := b.Reserve(); ok {
		announce(b.w.starve, 0)
		return false
	}
	return true
}

// A BlockReader reads the blocks of a stream. It is not safe for concurrent use.
type BlockReader struct {
	w         blockWords
	overwrite bool // the writer's, if it follows the rules

	// The fields below are private, so the peer cannot change them.
	next    uint64
	tail    uint64 // the largest that the writer has published, as far as the reader has seen
	lost    uint64
	reading bool
	asleep  bool // Sleep is declared
	sleeps  uint64
	fed     uint64
	err     error
}

// NewBlockReader returns the reader of a new stream in mem, whose writer overwrites or not; see
// [NewBlockWriter].
func NewBlockReader(mem []byte, g BlockGeometry, overwrite bool) (*BlockReader, error) {
	w, err := blockWordsOf(mem, g)
	if err != nil {
		return nil, err
	}
	return &BlockReader{w: w, overwrite: overwrite}, nil
}

const (
	// lapTries bounds the number of attempts of Next to claim a block of a writer that overwrites
	// faster than the reader can claim.
	lapTries = 64
	// maxBlockNumber is the number of the last block that an index entry can hold.
	maxBlockNumber = 1<<(64-slotBits) - 2
)

// Next claims the next block and returns it in place. The writer does not change the block until
// [BlockReader.Release], but a hostile writer may. ok is false if there is no block, and also if
// the writer overwrote each block before the reader could claim it; then [BlockReader.Ready]
// reports true. lost is the number of blocks that were overwritten since the previous one. The
// error is [ErrCorrupt], and permanent, if the writer broke the rules of the stream. Next does not
// block. It panics if the previous block was not released.
func (b *BlockReader) Next() (block []byte, lost uint64, ok bool, err error) {
	if b.err != nil {
		return nil, 0, false, b.err
	}
	if b.reading {
		panic("shm: Next before Release")
	}
	if !b.overwrite {
		return b.following()
	}
	for range lapTries {
		if !b.look() {
			return nil, 0, false, b.err
		}
		hook("block claim")
		announce(b.w.claim, b.next+1)
		hook("block claimed")
		if e := b.w.entry(b.next).Load(); e>>slotBits == b.next+1 {
			return b.open(int(e & slotMask))
		}
		// The entry is cleared, or holds a later block already. In both cases the writer has
		// increased first before.
		first := b.w.first.Load()
		if b.look(); b.err != nil {
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

// look reports whether a published block is to be read. It loads their number unless it knows.
// The number never decreases: a writer that could take a promise back would keep the reader from
// sleeping.
func (b *BlockReader) look() (ready bool) {
	if !b.overwrite && b.next != b.tail {
		return true
	}
	tail := b.w.tail.Load()
	if tail < b.tail || tail > maxBlockNumber ||
		!b.overwrite && tail-b.next > uint64(b.w.geo.Depth) {
		_ = b.corrupt()
		return false
	}
	b.tail = tail
	return tail != b.next
}

// following returns the next block of a writer that does not overwrite.
func (b *BlockReader) following() (block []byte, lost uint64, ok bool, err error) {
	if !b.look() {
		return nil, 0, false, b.err
	}
	e := b.w.entry(b.next).Load()
	if e>>slotBits != b.next+1 {
		return nil, 0, false, b.corrupt()
	}
	return b.open(int(e & slotMask))
}

func (b *BlockReader) open(slot int) ([]byte, uint64, bool, error) {
	if slot >= b.w.geo.Depth+extraSlots {
		return nil, 0, false, b.corrupt()
	}
	mem := b.w.slot(slot)
	n := word(mem, 0).Load()
	if n > uint64(b.w.geo.Block) {
		return nil, 0, false, b.corrupt()
	}
	lost := b.lost
	b.lost, b.reading = 0, true
	return mem[slotHeader : slotHeader+n : slotHeader+n], lost, true, nil
}

func (b *BlockReader) corrupt() error {
	b.err = ErrCorrupt
	return b.err
}

// Release gives the block that Next returned back to the writer. wake is true if the writer waits
// for room and the caller must wake it.
func (b *BlockReader) Release() (wake bool) {
	if !b.reading {
		return false
	}
	b.reading = false
	b.next++
	hook("block release")
	if b.overwrite {
		announce(b.w.claim, 0)
		hook("block unclaimed")
	}
	announce(b.w.head, b.next)
	hook("block released")
	s := b.w.starve.Load()
	if s == 0 || s == b.fed {
		return false
	}
	b.fed = s
	return true
}

// End tells the writer that no more blocks are read, and why.
func (b *BlockReader) End(e End) { b.w.endAt(offReaderEnd, offReaderText, e) }

// WriterEnd returns the End of the writer, which follows all of its blocks. ok is false if the
// writer has not ended the stream. The error is [ErrCorrupt] if the peer has written an invalid
// End.
func (b *BlockReader) WriterEnd() (e End, ok bool, err error) {
	return b.w.readEnd(offWriterEnd, offWriterText)
}

// Ready reports whether Next would return a block or an error.
func (b *BlockReader) Ready() bool { return b.err != nil || b.look() || b.err != nil }

// Sleep declares that the reader is about to sleep, and reports whether it may; see
// [Consumer.Sleep].
func (b *BlockReader) Sleep() bool {
	b.sleeps++
	hook("block sleep")
	announce(b.w.sleep, b.sleeps)
	hook("block slept")
	b.asleep = true
	if b.Ready() {
		b.Awake()
		return false
	}
	return true
}

// Awake withdraws the declaration of Sleep, if there is one.
func (b *BlockReader) Awake() {
	if !b.asleep {
		return
	}
	b.asleep = false
	hook("block awake")
	b.w.sleep.Store(0)
}
