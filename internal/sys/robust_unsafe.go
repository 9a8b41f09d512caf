//go:build linux

package sys

import (
	"context"
	"errors"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Bits of the word of a robust futex, and operations, from linux/futex.h.
const (
	futexWaiters   = 0x80000000
	futexOwnerDied = 0x40000000
	futexWait      = 0
	futexWake      = 1
)

// A robustList is the kernel's struct robust_list_head with the only entry that it has here. The
// kernel walks the list when the thread ends.
type robustList struct {
	next    *robustEntry // of the list's head
	offset  uintptr      // from an entry to its futex word
	pending *robustEntry
	entry   robustEntry
}

type robustEntry struct{ next unsafe.Pointer }

// HoldRobust makes word, in shared memory, report the death of this process. A dedicated thread
// holds word as a robust futex. The kernel marks it as soon as the thread is torn down, before it
// frees the memory of the process and long before a pidfd or a socket reports the death. release
// releases the futex.
func HoldRobust(word *atomic.Uint32) (release func(), err error) {
	type hold struct {
		list *robustList // kept in the heap by this field, where it does not move
		err  error
	}
	held, let, done := make(chan hold), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		comeFirst() // and never unlocked: the thread ends with its list
		list := new(robustList)
		list.entry.next = unsafe.Pointer(list)
		list.next = &list.entry
		// Both addresses are fixed, one in Go's heap and one in a mapping. The kernel adds the
		// difference, which may be negative.
		list.offset = uintptr(unsafe.Pointer(word)) - uintptr(unsafe.Pointer(&list.entry))
		_, _, errno := unix.RawSyscall(unix.SYS_SET_ROBUST_LIST, uintptr(unsafe.Pointer(list)),
			3*unsafe.Sizeof(uintptr(0)), 0)
		if errno != 0 {
			held <- hold{list, errno}
			return
		}
		store(word, uint32(unix.Gettid())|futexWaiters)
		held <- hold{list, nil}
		<-let
		DropRobust(word)
		unix.RawSyscall(unix.SYS_SET_ROBUST_LIST, 0, 3*unsafe.Sizeof(uintptr(0)), 0)
		runtime.KeepAlive(list)
	}()
	if h := <-held; h.err != nil {
		return nil, Explain("set_robust_list", "", h.err)
	}
	return func() { close(let); <-done }, nil
}

// WaitRobust blocks, and holds a thread, until the process that holds word by [HoldRobust] has
// died. It returns false if the process has released word, if [DropRobust] was called, if no
// process ever held word, if the file of word was cut short, or within a second after ctx is done.
func WaitRobust(ctx context.Context, word *atomic.Uint32) (died bool, err error) {
	defer CatchFault(debug.SetPanicOnFault(true))
	// A word whose file was cut short cannot be woken any more, so the wait in the kernel has a
	// limit.
	again := unix.NsecToTimespec(int64(time.Second))
	defer comeFirst()()
	held := word.Load()
	// The kernel leaves the bit for waiters in the word of a dead holder, so the loop must check
	// futexOwnerDied, too.
	for held&(futexWaiters|futexOwnerDied) == futexWaiters && word.Load() == held &&
		ctx.Err() == nil {
		_, _, errno := unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexWait,
			uintptr(held), uintptr(unsafe.Pointer(&again)), 0, 0)
		if errno != 0 && !errors.Is(errno, unix.EAGAIN) && !errors.Is(errno, unix.EINTR) &&
			!errors.Is(errno, unix.ETIMEDOUT) {
			return false, Explain("futex", "", errno)
		}
	}
	return word.Load()&futexOwnerDied != 0, nil
}

// RobustDied reports whether the process that held word by [HoldRobust] has died. It does not
// block.
func RobustDied(word *atomic.Uint32) bool {
	defer CatchFault(debug.SetPanicOnFault(true))
	return word.Load()&futexOwnerDied != 0
}

// DropRobust ends [WaitRobust] for a word whose holder is gone.
func DropRobust(word *atomic.Uint32) {
	store(word, 0)
	wake(word)
}

// store stores v in word, unless the file of word was cut short.
func store(word *atomic.Uint32, v uint32) {
	defer CatchFault(debug.SetPanicOnFault(true))
	word.Store(v)
}

func wake(word *atomic.Uint32) {
	const everybody = 1<<31 - 1
	unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexWake, everybody, 0, 0, 0)
}
