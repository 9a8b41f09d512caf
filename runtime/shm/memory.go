package shm

import (
	"fmt"
	"os"

	"github.com/ipcgen/ipcgen/internal/sys"
)

// A Memory is memory that one side makes and hands to the other.
type Memory interface {
	// Map returns the first size bytes, in place until Unmap.
	Map(size int) ([]byte, error)
	// Unmap takes back what Map returned; it is fatal to touch it afterwards.
	Unmap(mem []byte) error
	// Seal takes from both sides, once both have mapped the first size bytes, what could
	// make the other's access to them fault. It fails where that has happened already.
	Seal(size int) error
	// Close gives up the right to call Map. What is mapped stays.
	Close() error
}

// FileMemory is memory of a sealed file, which may come from another process.
type FileMemory struct{ *os.File }

// NewFileMemory creates memory of size zero bytes.
func NewFileMemory(size int) (FileMemory, error) {
	f, err := sys.NewMemory("ipcgen", size)
	return FileMemory{f}, err
}

// Map implements Memory. It refuses a file that the peer could still shrink, or of which
// pages are missing.
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

// Seal implements Memory.
func (f FileMemory) Seal(size int) error { return sys.SealMemory(f.File, size) }

// Unmap implements Memory.
func (f FileMemory) Unmap(mem []byte) error {
	hook("unmap")
	return sys.UnmapFile(mem)
}

// HeapMemory is ordinary memory, for two sides in one process.
type HeapMemory []byte

// NewHeapMemory returns size zero bytes that start at a multiple of 8, as
// shared memory does.
func NewHeapMemory(size int) HeapMemory { return heapMemory(size) }

// Map implements Memory.
func (h HeapMemory) Map(size int) ([]byte, error) {
	if size > len(h) {
		return nil, fmt.Errorf("memory has %d bytes, not %d", len(h), size)
	}
	return h[:size:size], nil
}

// Seal implements Memory.
func (h HeapMemory) Seal(int) error { return nil }

// Unmap implements Memory.
func (h HeapMemory) Unmap([]byte) error { return nil }

// Close implements Memory.
func (h HeapMemory) Close() error { return nil }
