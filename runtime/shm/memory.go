package shm

import (
	"fmt"
	"os"

	"github.com/ipcgen/ipcgen/internal/sys"
)

// A Memory is memory that one side creates and hands to the other.
type Memory interface {
	// Map returns the first size bytes. They stay mapped until Unmap.
	Map(size int) ([]byte, error)
	// MapReadOnly is Map for a side that only reads. A write to the memory may be fatal.
	MapReadOnly(size int) ([]byte, error)
	// Unmap releases the memory that Map or MapReadOnly returned. An access after Unmap is fatal.
	Unmap(mem []byte) error
	// Seal withdraws from both sides, once both have mapped the first size bytes, the rights that
	// could make an access of the other side fault. It fails if the memory was damaged before.
	Seal(size int) error
	// SealWriters leaves the right to write to those who have mapped the memory for writing by
	// now. The error wraps errors.ErrUnsupported where the system cannot do that.
	SealWriters() error
	// Close releases the right to call Map. Mapped memory stays mapped.
	Close() error
}

// FileMemory is the memory of a sealed file, which may come from another process.
type FileMemory struct{ *os.File }

// NewFileMemory creates a file of size zero bytes. The caller must close it.
func NewFileMemory(size int) (FileMemory, error) {
	f, err := sys.NewMemory("ipcgen", size)
	return FileMemory{f}, err
}

// Map implements [Memory]. It refuses a file that the peer could still shrink, and one with missing
// pages.
func (f FileMemory) Map(size int) ([]byte, error) {
	if err := sys.CheckMemory(f.File, size); err != nil {
		return nil, err
	}
	mem, err := sys.MapFile(f.File, 0, size, true)
	if err != nil {
		return nil, err
	}
	hook("mapped")
	sys.Populate(mem)
	return mem, nil
}

// MapReadOnly implements [Memory], with the checks of Map.
func (f FileMemory) MapReadOnly(size int) ([]byte, error) {
	if err := sys.CheckMemory(f.File, size); err != nil {
		return nil, err
	}
	return sys.MapFile(f.File, 0, size, false)
}

// SealWriters implements [Memory].
func (f FileMemory) SealWriters() error { return sys.SealWriters(f.File) }

// Seal implements [Memory].
func (f FileMemory) Seal(size int) error { return sys.SealMemory(f.File, size) }

// Unmap implements [Memory].
func (f FileMemory) Unmap(mem []byte) error {
	hook("unmap")
	return sys.UnmapFile(mem)
}

// HeapMemory is memory of this process, for two sides in one process.
type HeapMemory []byte

// NewHeapMemory returns size zero bytes that start at a multiple of 8, as shared memory does.
func NewHeapMemory(size int) HeapMemory { return heapMemory(size) }

// Map implements [Memory].
func (h HeapMemory) Map(size int) ([]byte, error) {
	if size > len(h) {
		return nil, fmt.Errorf("memory has %d bytes, not %d", len(h), size)
	}
	return h[:size:size], nil
}

// MapReadOnly implements [Memory]. Nothing prevents writing.
func (h HeapMemory) MapReadOnly(size int) ([]byte, error) { return h.Map(size) }

// SealWriters implements [Memory].
func (h HeapMemory) SealWriters() error { return nil }

// Seal implements [Memory].
func (h HeapMemory) Seal(int) error { return nil }

// Unmap implements [Memory].
func (h HeapMemory) Unmap([]byte) error { return nil }

// Close implements [Memory].
func (h HeapMemory) Close() error { return nil }
