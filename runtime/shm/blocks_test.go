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
	r, err := shm.NewBlockReader(mem, blockGeometry)
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
	const blocks = 100_000
	w, r, _ := newBlocks(t, true)
	go func() {
		for n := range uint64(blocks) {
			b, _ := w.Reserve()
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
		next += lost
		check(t, b, next)
		next++
		r.Release()
	}
}

// FuzzBlocks lets the writer write arbitrary data anywhere.
func FuzzBlocks(f *testing.F) {
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, garbage []byte) {
		_, r, mem := newBlocks(t, true)
		copy(mem, garbage)
		for range 100 {
			b, _, ok, err := r.Next()
			if err != nil && !errors.Is(err, shm.ErrCorrupt) {
				t.Fatal(err)
			}
			if !ok {
				return
			}
			for i := range b {
				b[i]++
			}
			r.Release()
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
	const offWriterEnd = 16
	for _, word := range []uint64{3, 1 << 16, 2 | (shm.MaxEndText+1)<<32, 1<<64 - 1} {
		binary.NativeEndian.PutUint64(mem[offWriterEnd:], word)
		if _, _, err := r.WriterEnd(); !errors.Is(err, shm.ErrCorrupt) {
			t.Errorf("end %#x: %v", word, err)
		}
	}
}
