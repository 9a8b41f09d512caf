package group

import (
	"runtime/debug"
	"sync/atomic"
	"unsafe"

	"github.com/ipcgen/ipcgen/internal/sys"
)

// A word is a 64-bit word of the group's file. If the file was cut short, the word reads as zero
// and a store is lost. As a reign, zero means that there is no primary. So a damaged file stops a
// group but crashes no process; the supervisor finds the damage (see page.problem).
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
// Preconditions:
//
//   - mem is a mapping, and so aligned to a page.
//   - off is a multiple of 8.
//   - off+8 <= len(mem).
func wordAt(mem []byte, off int) word {
	return word{(*atomic.Uint64)(unsafe.Pointer(&mem[off : off+8][0]))}
}

// findWord returns the index of the first of n words, stride bytes apart starting at off, that
// equals want in all bits that are not set in ignore, or -1. The preconditions are those of wordAt.
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
