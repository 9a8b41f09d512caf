package sys

import "golang.org/x/sys/unix"

// ShareProcessor reports whether this thread and the process pid can run on a single processor
// only, and on the same one. That is so if both are pinned to it, or if the machine has no other.
// If the kernel does not report the processors of pid, they are assumed to be those of this thread.
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
