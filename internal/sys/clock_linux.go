package sys

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Monotonic returns the time of CLOCK_MONOTONIC of the machine in nanoseconds. All processes of the
// machine share that clock, and no process can set it. In a time namespace the kernel adds a
// constant to it, which Monotonic takes away again.
func Monotonic() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0 // cannot happen: every kernel has this clock
	}
	return ts.Nano() - clockOffset
}

// clockOffset is what the time namespace of this process adds to CLOCK_MONOTONIC. A process with
// several threads cannot change its time namespace, so the offset is constant. It is read before
// the program can give its future children another namespace.
var clockOffset = readClockOffset()

// initialTimeNamespace is the name of the time namespace of the machine. The number is part of the
// kernel's interface.
const initialTimeNamespace = "time:[4026531834]"

// readClockOffset returns 0 if the kernel has no time namespaces, or /proc is not mounted.
func readClockOffset() int64 {
	own, err := os.Readlink("/proc/self/ns/time")
	if err != nil || own == initialTimeNamespace {
		return 0
	}
	// The file tells of the namespace of future children.
	if next, err := os.Readlink("/proc/self/ns/time_for_children"); err != nil || next != own {
		return 0
	}
	offsets, err := os.ReadFile("/proc/self/timens_offsets")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(offsets)) {
		var clock string
		var seconds, nanoseconds int64
		n, _ := fmt.Sscan(line, &clock, &seconds, &nanoseconds)
		if n == 3 && clock == "monotonic" {
			return seconds*int64(time.Second) + nanoseconds
		}
	}
	return 0
}

// Yield lets another thread that waits for this processor run.
func Yield() { _, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }
