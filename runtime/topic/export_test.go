package topic

import "github.com/ipcgen/ipcgen/runtime/shm"

// NewHeapPublisher makes a publisher in memory of this process, which the race detector watches.
func NewHeapPublisher(info *Info, o Options) *Publisher {
	return newPublisher(info, o, func(size int) (shm.Memory, error) {
		return shm.NewHeapMemory(size), nil
	})
}
