package sys

import "golang.org/x/sys/unix"

// Monotonic reads the clock that all processes of this machine share and that
// nobody can set, in nanoseconds.
func Monotonic() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0 // this clock exists everywhere
	}
	return ts.Nano()
}

// Yield lets another thread that waits for this processor run.
func Yield() { _, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }
