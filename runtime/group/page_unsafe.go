package group

import (
	"sync/atomic"
	"unsafe"
)

// wordAt returns the 64-bit word of mem at byte offset off.
//
// Preconditions: mem is a mapping, hence aligned to a page; off is a multiple of 8
// and off+8 <= len(mem).
func wordAt(mem []byte, off int) *atomic.Uint64 {
	return (*atomic.Uint64)(unsafe.Pointer(&mem[off : off+8][0]))
}

// futexAt returns the 32-bit word of mem at byte offset off, a multiple of 4.
func futexAt(mem []byte, off int) *atomic.Uint32 {
	return (*atomic.Uint32)(unsafe.Pointer(&mem[off : off+4][0]))
}
