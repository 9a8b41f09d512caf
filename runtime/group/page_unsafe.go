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

// futexAt returns the 32-bit word of mem at byte offset off, a multiple of 4.
func futexAt(mem []byte, off int) *atomic.Uint32 {
	return (*atomic.Uint32)(unsafe.Pointer(&mem[off : off+4][0]))
}
