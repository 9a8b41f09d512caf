package shm

import (
	"errors"
	"fmt"

	"github.com/ipcgen/ipcgen/internal/interleave"
)

// This file is the memory of a stream: numbered blocks from one writer to one reader, written and
// read in place. The blocks lie in slots. Which slot holds which block, and how it is published and
// given back, is in blocks_wait.go for a writer that waits for room, and in blocks_overwrite.go for
// one that overwrites the oldest blocks.

// Offsets of the words of a stream.
const (
	offBlockTail   = 0         // writer, overwriting: number of blocks published so far
	offBlockFirst  = 8         // writer, overwriting: number of the oldest block in the index
	offWriterEnd   = 16        // writer: the End of its side; 0 before
	offBlockHead   = line      // reader, of a writer that waits: number of the next block to read
	offBlockClaim  = line + 8  // reader, of one that overwrites: see blocks_overwrite.go
	offReaderEnd   = line + 16 // reader: the End of its side; 0 before
	offBlockSleep  = 2 * line  // as in a ring
	offBlockStarve = 3 * line  // as in a ring
	offWriterText  = 4 * line  // writer: the text of its End
	offReaderText  = offWriterText + MaxEndText
	// writer, overwriting: (number+1)<<16 | slot, per entry; 0 for a cleared entry
	offBlockIndex = offReaderText + MaxEndText
	extraSlots    = 2         // see blocks_overwrite.go
	maxDepth      = 1<<16 - 1 // blocks that a stream keeps
	maxBlock      = 64 << 20  // bytes of a block
	maxStream     = 1 << 30   // bytes of a stream
	slotHeader    = 8         // the length of the block, and for a writer that waits its number
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

// slot returns the memory of slot i, which must exist.
func (w *blockWords) slot(i int) []byte {
	at := w.geo.slots() + i*w.geo.stride()
	return w.mem[at : at+slotHeader+w.geo.Block : at+slotHeader+w.geo.Block]
}

// A BlockWriter writes the blocks of a stream. It is not safe for concurrent use.
type BlockWriter struct {
	w    blockWords
	over *overwriting // nil for a writer that waits

	// The fields below are private, so the peer cannot change them.
	next, first uint64 // first is that of the oldest block whose slot is not free
	at          int    // next modulo the depth
	current     int    // the reserved slot; -1 for none
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
	b := &BlockWriter{w: w, current: -1}
	if overwrite {
		b.over = newOverwriting(g)
	}
	return b, nil
}

// Reserve returns the memory of the next block, which the caller fills before it calls
// [BlockWriter.Commit]. ok is false while the stream is full; a stream that overwrites is never
// full. Until Commit, further calls return the same memory. Reserve does not block.
func (b *BlockWriter) Reserve() (block []byte, ok bool) {
	switch {
	case b.current >= 0:
	case b.over != nil:
		b.current = b.overwrite()
	case b.roomFor(1):
		b.current = b.at
	default:
		return nil, false
	}
	return b.w.slot(b.current)[slotHeader:], true
}

// Room reports whether Reserve and Commit would succeed n times, at most as often as the depth of
// the stream, without further calls of the reader's Release.
func (b *BlockWriter) Room(n int) bool { return b.over != nil || b.roomFor(uint64(n)) }

// Commit publishes the first n bytes of the reserved block. It panics if no block is reserved or n
// is too large. wake is true if the caller must wake the reader, as for [Producer.Commit].
func (b *BlockWriter) Commit(n int) (wake bool) {
	if b.current < 0 || n < 0 || n > b.w.geo.Block {
		panic("shm: Commit of a block that is not reserved")
	}
	if b.over != nil {
		b.publishEntry(n)
	} else {
		b.publishSlot(n)
	}
	b.current = -1
	b.next++
	if b.at++; b.at == b.w.geo.Depth {
		b.at = 0
	}
	if b.over == nil {
		b.prefetch(n)
	}
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
	at      int    // next modulo the depth
	seen    bool   // header is that of the next block
	header  uint64 // of a writer that waits: the header of the next block
	tail    uint64 // of one that overwrites: the largest that it has published, as far as seen
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
	if b.overwrite {
		return b.claimNext()
	}
	if !b.lookAtSlot() {
		return nil, 0, false, b.err
	}
	return b.open(b.at, b.header&lengthMask)
}

// look reports whether a published block is to be read.
func (b *BlockReader) look() (ready bool) {
	if b.overwrite {
		return b.lookAtTail()
	}
	return b.lookAtSlot()
}

// open returns the block of n bytes in a slot that exists.
func (b *BlockReader) open(slot int, n uint64) ([]byte, uint64, bool, error) {
	if n > uint64(b.w.geo.Block) {
		return nil, 0, false, b.corrupt()
	}
	mem := b.w.slot(slot)
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
	return !b.overwrite && b.giveBack()
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
