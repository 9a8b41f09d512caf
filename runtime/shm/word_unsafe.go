package shm

import (
	"sync/atomic"
	"unsafe"

	"github.com/ipcgen/ipcgen/internal/interleave"
)

// word returns the control word at offset off of b. It panics if off is out of range.
func word(b []byte, off uint64) *interleave.Uint64 {
	return (*interleave.Uint64)(pointer(b, off))
}

// load returns the uint64 at offset off of b, which is part of a record. It panics if off
// is out of range.
func load(b []byte, off uint64) uint64 { return (*atomic.Uint64)(pointer(b, off)).Load() }

// pointer checks that the uint64 at offset off lies within b, and loads nothing.
func pointer(b []byte, off uint64) unsafe.Pointer {
	return unsafe.Pointer(unsafe.SliceData(b[off : off+8]))
}

// aligned reports whether b starts at a multiple of 8.
func aligned(b []byte) bool { return uintptr(unsafe.Pointer(unsafe.SliceData(b)))%8 == 0 }

// heapMemory returns n zero bytes that start at a multiple of 8, as a mapping does.
func heapMemory(n int) []byte {
	w := make([]uint64, (n+7)/8)
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(w))), n)
}
