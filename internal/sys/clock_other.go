//go:build !linux

package sys

import "runtime"

// Monotonic returns 0: on this platform there is only one process.
func Monotonic() int64 { return 0 }

// Yield lets another goroutine run.
func Yield() { runtime.Gosched() }
