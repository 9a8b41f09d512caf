package ipctest

import (
	"io"
	"os"
	"sync"
	"time"

	"github.com/ipcgen/ipcgen/runtime/shm"
)

// A mailbox holds the bytes that one end of a link has sent and the other end has not read yet.
// Writing never blocks. One goroutine at a time reads.
type mailbox struct {
	mu       sync.Mutex
	bytes    []byte
	memory   []shm.Memory // attached to the first byte
	ended    bool         // the writer has closed its end
	shut     bool         // the reader has closed its end
	deadline time.Time
	timer    *time.Timer
	ready    chan struct{} // receives a value when a reader must check again
}

func newMailbox() *mailbox { return &mailbox{ready: make(chan struct{}, 1)} }

// A parcel is the result of a read: bytes, and possibly memory.
type parcel struct {
	n      int
	memory []shm.Memory
}

// take waits for the next parcel and copies its bytes to p. It returns io.EOF after the writer has
// closed its end, os.ErrClosed after this side has, and os.ErrDeadlineExceeded after the deadline.
func (m *mailbox) take(p []byte) (parcel, error) {
	for {
		if got, done, err := m.tryTake(p); done {
			return got, err
		}
		<-m.ready
	}
}

func (m *mailbox) tryTake(p []byte) (got parcel, done bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.shut:
		return got, true, os.ErrClosed
	case !m.deadline.IsZero() && !time.Now().Before(m.deadline):
		return got, true, os.ErrDeadlineExceeded
	case len(m.bytes) > 0:
		got.n = copy(p, m.bytes)
		got.memory, m.memory = m.memory, nil
		m.bytes = m.bytes[got.n:]
		return got, true, nil
	case m.ended:
		return got, true, io.EOF
	}
	return got, false, nil
}

// change changes the mailbox and makes the reader check again.
func (m *mailbox) change(f func()) {
	m.mu.Lock()
	f()
	m.mu.Unlock()
	m.wake()
}

func (m *mailbox) wake() {
	select {
	case m.ready <- struct{}{}:
	default: // the next reader will check anyway
	}
}

// put adds bytes, and memory if there is any. It fails if either end is closed.
func (m *mailbox) put(p []byte, memory []shm.Memory) (err error) {
	m.change(func() {
		if m.ended || m.shut {
			err = io.ErrClosedPipe
			return
		}
		m.bytes = append(m.bytes, p...)
		if memory != nil {
			m.memory = memory
		}
	})
	return err
}

func (m *mailbox) setDeadline(t time.Time) {
	m.change(func() {
		m.deadline = t
		if m.timer != nil {
			m.timer.Stop()
			m.timer = nil
		}
		if !t.IsZero() {
			m.timer = time.AfterFunc(time.Until(t), m.wake)
		}
	})
}
