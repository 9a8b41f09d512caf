package shm

import (
	"sync/atomic"
	"unsafe"
)

// word returns the uint64 at offset off of b, for atomic access. It panics if off is out of range.
func word(b []byte, off uint64) *atomic.Uint64 {
	b = b[off : off+8] // checks the range, and loads nothing
	return (*atomic.Uint64)(unsafe.Pointer(unsafe.SliceData(b)))
}

// aligned reports whether b starts at a multiple of 8.
func aligned(b []byte) bool { return uintptr(unsafe.Pointer(unsafe.SliceData(b)))%8 == 0 }

// heapMemory returns n zero bytes that start at a multiple of 8, as a mapping does.
func heapMemory(n int) []byte {
	w := make([]uint64, (n+7)/8)
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(w))), n)
}
