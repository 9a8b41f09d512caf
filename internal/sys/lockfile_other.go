//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly || windows)

package sys

import "os"

// LockFile takes an exclusive lock on all of f.
func LockFile(f *os.File) error { return unsupported("lock " + f.Name()) }
