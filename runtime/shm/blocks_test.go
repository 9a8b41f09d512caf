package shm_test

import (
	"encoding/binary"
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/ipcgen/ipcgen/runtime/shm"
)

var blockGeometry = shm.BlockGeometry{Depth: 4, Block: 256}

func newBlocks(t testing.TB, overwrite bool) (*shm.BlockWriter, *shm.BlockReader, []byte) {
	t.Helper()
	mem := []byte(shm.NewHeapMemory(blockGeometry.Size()))
	w, err := shm.NewBlockWriter(mem, blockGeometry, overwrite)
	if err != nil {
		t.Fatal(err)
	}
	r, err := shm.NewBlockReader(mem, blockGeometry, overwrite)
	if err != nil {
		t.Fatal(err)
	}
	return w, r, mem
}

// fill writes the block's number everywhere in the block.
func fill(block []byte, number uint64) {
	for i := 0; i+8 <= len(block); i += 8 {
		binary.NativeEndian.PutUint64(block[i:], number)
	}
}

func check(t testing.TB, block []byte, number uint64) {
	t.Helper()
	for i := 0; i+8 <= len(block); i += 8 {
		if got := binary.NativeEndian.Uint64(block[i:]); got != number {
			t.Fatalf("block %d is torn: %d at byte %d", number, got, i)
		}
	}
}

func TestBlocksFull(t *testing.T) {
	w, r, _ := newBlocks(t, false)
	for n := range uint64(blockGeometry.Depth) {
		b, ok := w.Reserve()
		if !ok {
			t.Fatalf("no room for block %d", n)
		}
		fill(b, n)
		w.Commit(len(b))
	}
	if _, ok := w.Reserve(); ok {
		t.Fatal("room in a full stream")
	}
	b, lost, ok, err := r.Next()
	if !ok || lost != 0 || err != nil {
		t.Fatal(lost, ok, err)
	}
	check(t, b, 0)
	if _, ok := w.Reserve(); ok {
		t.Fatal("room before the block is released")
	}
	r.Release()
	if _, ok := w.Reserve(); !ok {
		t.Fatal("no room after the block is released")
	}
}

// TestBlocksOverwrite overwrites blocks while the reader holds one. That one must not change, and
// the reader must learn how many blocks it lost.
func TestBlocksOverwrite(t *testing.T) {
	w, r, _ := newBlocks(t, true)
	write := func(from, to uint64) {
		for n := from; n < to; n++ {
			b, ok := w.Reserve()
			if !ok {
				t.Fatal("a stream that overwrites is full")
			}
			fill(b, n)
			w.Commit(len(b))
		}
	}
	write(0, 2)
	b, _, _, _ := r.Next()
	check(t, b, 0)
	write(2, 100)
	check(t, b, 0)
	r.Release()
	b, lost, ok, err := r.Next()
	if want := uint64(100 - blockGeometry.Depth); !ok || err != nil || lost != want-1 {
		t.Fatalf("lost %d, %v, %v; want %d", lost, ok, err, want-1)
	}
	check(t, b, uint64(100-blockGeometry.Depth))
}

// TestBlocksConcurrent lets a writer overwrite as fast as it can. Every block that the reader sees
// is whole and newer than the one before, and the count of lost blocks is exact.
func TestBlocksConcurrent(t *testing.T) {
	t.Run("overwriting", func(t *testing.T) { blocksConcurrent(t, true) })
	t.Run("waiting", func(t *testing.T) { blocksConcurrent(t, false) })
}

func blocksConcurrent(t *testing.T, overwrite bool) {
	const blocks = 100_000
	w, r, _ := newBlocks(t, overwrite)
	go func() {
		for n := range uint64(blocks) {
			for !w.Room(1) {
				runtime.Gosched()
			}
			b, ok := w.Reserve()
			if !ok {
				t.Error("no room where Room reports some")
				return
			}
			fill(b, n)
			w.Commit(len(b))
			if n%64 == 0 {
				runtime.Gosched()
			}
		}
	}()
	next := uint64(0)
	for next < blocks {
		b, lost, ok, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			runtime.Gosched()
			continue
		}
		if next += lost; lost > 0 && !overwrite {
			t.Fatalf("lost %d blocks of a writer that waits", lost)
		}
		check(t, b, next)
		next++
		r.Release()
	}
}

// Offsets of words of the writer.
const (
	offBlockTail  = 0
	offBlockFirst = 8
	offWriterEnd  = 16
)

// slotAt is where slot i begins.
func slotAt(mem []byte, i int) int {
	stride := (8 + blockGeometry.Block + 63) &^ 63
	return len(mem) - (blockGeometry.Depth+2-i)*stride
}

// TestBlockPromises lets a writer that overwrites take back what the reader has seen.
func TestBlockPromises(t *testing.T) {
	w, r, mem := newBlocks(t, true)
	w.Reserve()
	w.Commit(1)
	if !r.Ready() {
		t.Fatal("no block")
	}
	binary.NativeEndian.PutUint64(mem[offBlockTail:], 0)
	for range 2 {
		if _, _, ok, err := r.Next(); ok || !errors.Is(err, shm.ErrCorrupt) || !r.Ready() {
			t.Errorf("%v, %v, ready %v", ok, err, r.Ready())
		}
	}
}

// TestBlockHeaders lets a writer that waits change the header of a slot: before the reader has seen
// the block, between that and Next, and to that of a block that cannot be in the slot.
func TestBlockHeaders(t *testing.T) {
	for n := range 2 * blockGeometry.Depth {
		w, r, mem := newBlocks(t, false)
		for range n {
			w.Reserve()
			w.Commit(1)
			r.Next()
			r.Release()
		}
		slot := mem[slotAt(mem, n%blockGeometry.Depth):]
		before := binary.NativeEndian.Uint64(slot)
		w.Reserve()
		w.Commit(5)
		published := binary.NativeEndian.Uint64(slot)
		binary.NativeEndian.PutUint64(slot, before)
		if _, _, ok, err := r.Next(); ok || err != nil || r.Ready() {
			t.Errorf("block %d, taken back unseen: %v, %v", n, ok, err)
		}
		binary.NativeEndian.PutUint64(slot, published)
		if !r.Ready() {
			t.Fatalf("block %d is not there", n)
		}
		binary.NativeEndian.PutUint64(slot, before)
		if b, _, ok, err := r.Next(); len(b) != 5 || !ok || err != nil {
			t.Errorf("block %d, taken back when it was seen: %d bytes, %v, %v", n, len(b), ok, err)
		}
		r.Release()
		next := mem[slotAt(mem, (n+1)%blockGeometry.Depth):]
		for name, h := range map[string]uint64{
			"of the block after the next": uint64(n+3) << 32,
			"of the next block, too long": uint64(n+2)<<32 | uint64(blockGeometry.Block+1),
			"without a number":            1 << 63,
		} {
			r := *r
			binary.NativeEndian.PutUint64(next, h)
			for range 2 {
				if _, _, ok, err := r.Next(); ok || !errors.Is(err, shm.ErrCorrupt) || !r.Ready() {
					t.Errorf("block %d, a header %s: %v, %v", n+1, name, ok, err)
				}
			}
		}
	}
}

// A scribbler plays the hostile side of a stream by a script: at each step it writes a few words
// of the script into the memory.
type scribbler struct {
	mem    []byte
	script []byte
}

// scribble does one step, and reports whether there was one.
func (s *scribbler) scribble() bool {
	if len(s.script) == 0 {
		return false
	}
	n := int(s.script[0] & 3)
	s.script = s.script[1:]
	for ; n > 0 && len(s.script) >= 4; n-- {
		// Mostly words of the first lines and of the index; the value is small, or near the limit.
		at := int(binary.LittleEndian.Uint16(s.script)) % (len(s.mem) / 8) * 8
		v := uint64(s.script[2]) << (s.script[3] & 63)
		if s.script[3]&64 != 0 {
			v |= uint64(s.script[2]) >> 4
		}
		if s.script[3]&128 != 0 {
			v = -v
		}
		binary.NativeEndian.PutUint64(s.mem[at:], v)
		s.script = s.script[4:]
	}
	return true
}

// FuzzBlocks lets a hostile writer write anything at any time, and an honest one write between.
func FuzzBlocks(f *testing.F) {
	f.Add([]byte{1, 0, 0, 1, 0}, true)
	f.Add([]byte{0, 0, 1, 0, 0, 0, 128}, false)
	f.Add([]byte{3, 0, 0, 3, 0, 1, 0, 2, 0, 64, 1, 0, 0}, true)
	f.Fuzz(func(t *testing.T, script []byte, overwrite bool) {
		w, r, mem := newBlocks(t, overwrite)
		s := scribbler{mem, script}
		for s.scribble() {
			if len(s.script)%3 == 0 {
				if b, ok := w.Reserve(); ok {
					w.Commit(len(b) / 2)
				}
			}
			ready := r.Ready()
			b, _, ok, err := r.Next()
			switch {
			case err != nil && !errors.Is(err, shm.ErrCorrupt):
				t.Fatal(err)
			case ready && !ok && err == nil && r.Ready():
				t.Fatal("a block that is ready, and is neither read nor overwritten")
			case !ready && ok:
				t.Fatal("a block that was not ready")
			}
			if ok {
				for i := range b {
					b[i]++
				}
				r.Release()
			} else {
				r.Sleep()
				r.Awake()
			}
			if _, _, err := r.WriterEnd(); err != nil && !errors.Is(err, shm.ErrCorrupt) {
				t.Fatal(err)
			}
		}
	})
}

// FuzzBlockWriter lets a hostile reader write anything at any time, and an honest one read between.
// The writer never runs out of slots, and no two of its blocks share one.
func FuzzBlockWriter(f *testing.F) {
	f.Add([]byte{1, 16, 0, 9, 0}, true)
	f.Add([]byte{1, 17, 0, 1, 0, 1, 17, 0, 2, 0, 1, 17, 0, 1, 0}, true)
	f.Add([]byte{1, 16, 0, 255, 128, 0, 0, 0, 0, 0, 0, 0, 0}, false)
	f.Fuzz(func(t *testing.T, script []byte, overwrite bool) {
		w, r, mem := newBlocks(t, overwrite)
		s := scribbler{mem, script}
		for s.scribble() {
			if len(s.script)%3 == 0 {
				if _, _, ok, _ := r.Next(); ok {
					r.Release()
				}
			}
			b, ok := w.Reserve()
			if overwrite && !ok {
				t.Fatal("a stream that overwrites is full")
			}
			if ok {
				fill(b, 7)
				w.Commit(len(b))
			} else if !w.Starve() {
				w.Commit(1)
			}
			if _, _, err := w.ReaderEnd(); err != nil && !errors.Is(err, shm.ErrCorrupt) {
				t.Fatal(err)
			}
		}
	})
}

// TestBlockEnds ends a stream from either side, also with invalid Ends of hostile peers.
func TestBlockEnds(t *testing.T) {
	w, r, mem := newBlocks(t, false)
	for side, get := range map[string]func() (shm.End, bool, error){
		"writer": r.WriterEnd, "reader": w.ReaderEnd,
	} {
		if _, ok, err := get(); ok || err != nil {
			t.Errorf("the %s has ended a fresh stream: %v", side, err)
		}
	}
	w.End(shm.End{})
	if e, ok, err := r.WriterEnd(); !ok || err != nil || e != (shm.End{}) {
		t.Errorf("an end that was meant: %+v, %v, %v", e, ok, err)
	}
	long := strings.Repeat("x", shm.MaxEndText)
	r.End(shm.End{Failed: true, Code: 1<<16 - 1, Text: long + "more"})
	if e, ok, err := w.ReaderEnd(); !ok || err != nil ||
		e != (shm.End{Failed: true, Code: 1<<16 - 1, Text: long}) {
		t.Errorf("a failure: %+v, %v, %v", e, ok, err)
	}
	for _, word := range []uint64{3, 1 << 16, 2 | (shm.MaxEndText+1)<<32, 1<<64 - 1} {
		binary.NativeEndian.PutUint64(mem[offWriterEnd:], word)
		if _, _, err := r.WriterEnd(); !errors.Is(err, shm.ErrCorrupt) {
			t.Errorf("end %#x: %v", word, err)
		}
	}
}
