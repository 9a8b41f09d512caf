package topic

import "github.com/ipcgen/ipcgen/runtime/shm"

// NewHeapPublisher makes a publisher in memory of this process, which the race detector watches.
func NewHeapPublisher(info *Info, o Options) *Publisher {
	return newPublisher(info, o, func(size int) (shm.Memory, error) {
		return shm.NewHeapMemory(size), nil
	})
}

// Mapped returns how many bytes of memory the publisher has.
func (p *Publisher) Mapped() int { return len(p.mem) }

// Connected reports whether the subscription has a publisher that is not gone.
func (s *Subscription) Connected() bool {
	a := s.active.Load()
	if a == nil {
		return false
	}
	select {
	case <-a.end.Down():
		return false
	default:
		return true
	}
}
