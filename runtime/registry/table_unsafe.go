package registry

import (
	"sync/atomic"
	"unsafe"
)

// wordAt returns the 64-bit word of mem at byte offset off.
//
// Preconditions:
//
//   - mem is a mapping, and so aligned to a page.
//   - off is a multiple of 8.
//   - off+8 <= len(mem).
func wordAt(mem []byte, off int) *atomic.Uint64 {
	return (*atomic.Uint64)(unsafe.Pointer(&mem[off : off+8][0]))
}
