//go:build !linux

package sys

import "runtime"

// ShareProcessor reports whether this process and the process pid can run on a single processor
// only, and on the same one.
func ShareProcessor(pid int) bool { return runtime.NumCPU() == 1 }
