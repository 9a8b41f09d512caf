package sys

import (
	"os"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// The kernel lets a thread that runs go on until the end of its slice, and looks at that with the
// timer, every 4 ms on many machines. Another thread that becomes able to run comes before that if
// its own slice is shorter, and if its turn, by the share that it is to have, is not later. Threads
// may choose their slices since Linux 6.12; their shares of the processors do not depend on them.
// Older kernels ignore the numbers.
const (
	shortestSlice = 100 * time.Microsecond
	longestSlice  = 100 * time.Millisecond
	// lingeringNice gives a thread a third of the share of others. A thread whose share shrinks has
	// its turn later.
	lingeringNice = 5
)

// comeFirst gives the calling thread the shortest slice, for what must run at once when it is
// woken. back gives the thread the former slice. The goroutine is locked to its thread meanwhile.
// Where the kernel refuses, nothing changes.
func comeFirst() (back func()) {
	runtime.LockOSThread()
	attr, err := unix.SchedGetAttr(0, 0)
	if err != nil || attr.Policy != unix.SCHED_NORMAL {
		return runtime.UnlockOSThread
	}
	former := attr.Runtime
	attr.Runtime = uint64(shortestSlice)
	if unix.SchedSetAttr(0, attr, 0) != nil {
		return runtime.UnlockOSThread
	}
	return func() {
		attr.Runtime = former
		_ = unix.SchedSetAttr(0, attr, 0)
		runtime.UnlockOSThread()
	}
}

// Linger makes the threads of a child that is dying let others run before them. It cannot be taken
// back. The thread of a process that ends last frees the memory, which takes a millisecond for
// some ten megabytes. Otherwise other threads that are woken meanwhile, on the same processor,
// would wait for the end of that or of a slice, even beside a processor that is idle. Where the
// kernel refuses, nothing changes.
func (p *Process) Linger() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.child || p.reaped {
		return // the pid may belong to another process
	}
	dir, err := os.Open("/proc/" + strconv.Itoa(p.pid) + "/task")
	if err != nil {
		return
	}
	defer dir.Close()
	threads, _ := dir.Readdirnames(-1)
	for _, t := range threads {
		if tid, err := strconv.Atoi(t); err == nil {
			_ = unix.SchedSetAttr(tid, &unix.SchedAttr{Policy: unix.SCHED_NORMAL,
				Nice: lingeringNice, Runtime: uint64(longestSlice)}, 0)
		}
	}
}
