package sys

import "golang.org/x/sys/unix"

// ShareProcessor reports whether this thread and the process pid may run on one
// processor only, and on the same one, as when both were pinned to it or the
// machine has no other. Where the kernel does not say what pid may use, it is taken to be
// no more than this thread may.
func ShareProcessor(pid int) bool {
	var mine, theirs unix.CPUSet
	if err := unix.SchedGetaffinity(0, &mine); err != nil || mine.Count() != 1 {
		return false
	}
	if err := unix.SchedGetaffinity(pid, &theirs); err != nil {
		return true
	}
	return mine == theirs
}
