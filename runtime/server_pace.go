package ipc

import (
	"sync/atomic"
	"time"
)

// A pace remembers whether the handlers of a method have been slow lately.
type pace struct {
	// 0: fast. Otherwise how many quick runs in a row it takes to be called
	// fast again.
	owed atomic.Int32
}

const (
	// quick is a run that would not have delayed the next call by more than what a goroutine for it
	// costs on a busy machine. A message adds quickByte for each of its bytes, as long as it takes
	// to receive and to decode them: what follows it has waited for that anyway. Without that, a
	// method with long messages that was slow once, because of a garbage collection, would stay
	// slow for ever.
	quick     = 50 * time.Microsecond
	quickByte = time.Nanosecond
	// runsOwed quick runs in a row make a slow method fast again.
	runsOwed = 16
)

func (p *pace) slow() bool { return p.owed.Load() != 0 }

func (p *pace) foundSlow() { p.owed.Store(runsOwed) }

// took records how long a handler of a slow method ran, with the decoding of its message of n
// bytes.
func (p *pace) took(d time.Duration, n int) {
	if d > quick+time.Duration(n)*quickByte {
		p.foundSlow()
		return
	}
	if n := p.owed.Load(); n > 0 {
		p.owed.CompareAndSwap(n, n-1)
	}
}
