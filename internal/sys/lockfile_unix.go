//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package sys

import (
	"errors"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// LockFile takes an exclusive lock on all of f. It does not block: it returns [ErrLocked] while
// another open file has the lock. The lock ends with f, also by the death of the process. LockFile
// is for files of portable tools; the runtime's files have locks on single bytes, see TryLock.
func LockFile(f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		runtime.KeepAlive(f)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EWOULDBLOCK):
			return ErrLocked
		case !errors.Is(err, unix.EINTR):
			return &os.PathError{Op: "lock", Path: f.Name(), Err: err}
		}
	}
}
