package ipctest

import (
	"os"
	"sync"
)

// A bell wakes one end of a link. One goroutine at a time waits for it.
type bell struct {
	mu     sync.Mutex
	rung   bool // since the wait started
	poked  bool
	closed bool
	stir   chan struct{} // receives a value when the waiting goroutine must check again
}

func newBell() *bell { return &bell{stir: make(chan struct{}, 1)} }

func (b *bell) change(f func()) {
	b.mu.Lock()
	f()
	b.mu.Unlock()
	select {
	case b.stir <- struct{}{}:
	default: // the waiting goroutine will check anyway
	}
}

func (b *bell) ring()  { b.change(func() { b.rung = true }) }
func (b *bell) poke()  { b.change(func() { b.poked = true }) }
func (b *bell) close() { b.change(func() { b.closed = true }) }

// wait implements the Wait method of ipc.Link.
func (b *bell) wait(look func() bool) error {
	b.mu.Lock()
	b.rung = false // as a socket's doorbell, which forgets earlier notifications
	b.mu.Unlock()
	over, err := b.tryWait()
	if over || err != nil {
		return err
	}
	if look() {
		_, err := b.tryWait() // look may have closed the link, or another goroutine
		return err
	}
	for {
		if over, err := b.tryWait(); over || err != nil {
			return err
		}
		<-b.stir
	}
}

func (b *bell) tryWait() (over bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return true, os.ErrClosed
	}
	over = b.rung || b.poked
	b.rung, b.poked = false, false
	return over, nil
}
