//go:build !linux

package sys

import "os"

// TryLock takes an exclusive lock on one byte of a file.
func TryLock(f *os.File, off int64) error { return unsupported("lock " + f.Name()) }

// Unlock releases the lock on one byte of a file.
func Unlock(f *os.File, off int64) error { return unsupported("unlock " + f.Name()) }

// Locked reports whether another open file description holds a lock on a byte.
func Locked(f *os.File, off int64) (bool, error) {
	return false, unsupported("query lock of " + f.Name())
}
