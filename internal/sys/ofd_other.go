//go:build !linux

package sys

import "os"

// TryLock takes an exclusive lock on one byte of a file.
func TryLock(f *os.File, off int64) error { return unsupported("lock " + f.Name()) }

// ShareLock takes a shared lock on one byte of a file.
func ShareLock(f *os.File, off int64) error { return unsupported("lock " + f.Name()) }

// Unlock releases the lock on one byte of a file.
func Unlock(f *os.File, off int64) error { return unsupported("unlock " + f.Name()) }

// Locked reports whether another open file description holds a lock on a byte.
func Locked(f *os.File, off int64) (bool, error) {
	_, locked, err := FindLock(f, off, 1)
	return locked, err
}

// FindLock searches for a byte of a file that another open file description has locked.
func FindLock(f *os.File, off, n int64) (at int64, found bool, err error) {
	return 0, false, unsupported("query lock of " + f.Name())
}

// ShareFolder takes a shared lock on a folder.
func ShareFolder(f *os.File) error { return unsupported("lock " + f.Name()) }
