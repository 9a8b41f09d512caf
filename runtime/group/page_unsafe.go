package group

import (
	"runtime/debug"
	"sync/atomic"
	"unsafe"

	"github.com/ipcgen/ipcgen/internal/sys"
)

// A word is a 64-bit word of the group's file. Where somebody has cut the file short it
// reads as zero and a store is lost: as reign, zero means that nobody rules. So a
// damaged file stops a group, and crashes nobody; its supervisor finds the damage
// (see page.problem).
type word struct{ p *atomic.Uint64 }

// Load loads the word.
func (w word) Load() uint64 {
	defer sys.CatchFault(debug.SetPanicOnFault(true))
	return w.p.Load()
}

// Store stores the word.
func (w word) Store(v uint64) {
	defer sys.CatchFault(debug.SetPanicOnFault(true))
	w.p.Store(v)
}

// Add adds to the word.
func (w word) Add(delta uint64) {
	defer sys.CatchFault(debug.SetPanicOnFault(true))
	w.p.Add(delta)
}

// wordAt returns the 64-bit word of mem at byte offset off.
//
// Preconditions: mem is a mapping, hence aligned to a page; off is a multiple of 8
// and off+8 <= len(mem).
func wordAt(mem []byte, off int) word {
	return word{(*atomic.Uint64)(unsafe.Pointer(&mem[off : off+8][0]))}
}

// findWord returns which of n words, stride bytes apart from off on, is the first that equals want
// but for the bits of ignore, or -1. The preconditions are those of wordAt.
func findWord(mem []byte, off, stride, n int, want, ignore uint64) (i int) {
	i = -1 // stays so after a fault
	defer sys.CatchFault(debug.SetPanicOnFault(true))
	for k := range n {
		at := off + k*stride
		if (*atomic.Uint64)(unsafe.Pointer(&mem[at : at+8][0])).Load()&^ignore == want {
			return k
		}
	}
	return -1
}

// futexAt returns the 32-bit word of mem at byte offset off, a multiple of 4.
func futexAt(mem []byte, off int) *atomic.Uint32 {
	return (*atomic.Uint32)(unsafe.Pointer(&mem[off : off+4][0]))
}
