package sys

import (
	"errors"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// TryLock takes an exclusive lock on the byte at offset off of f. It does not block: it returns
// [ErrLocked] while another open file description holds a lock on that byte. The byte need not
// exist.
//
// The lock belongs to f's open file description (an OFD lock). The kernel releases it when the last
// descriptor of that description is closed, also by the death of the process. Unlike a POSIX lock
// it is not lost when the process closes another descriptor of the same file. f must be open for
// writing. Locking the same byte twice through one description succeeds.
func TryLock(f *os.File, off int64) error {
	return lock(f, unix.F_WRLCK, off)
}

// ShareLock is like [TryLock], but takes a shared lock. f must be open for reading.
func ShareLock(f *os.File, off int64) error {
	return lock(f, unix.F_RDLCK, off)
}

// ShareFolder takes a shared lock on a folder by flock, which is independent of the other locks
// here. It does not block. Cleaners of temporary files take that lock before they clean a folder,
// and leave the folder alone if they cannot get the lock.
func ShareFolder(f *os.File) error {
	err := ignoringEINTR(func() error { return unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) })
	runtime.KeepAlive(f)
	if err != nil {
		return Explain("flock", f.Name(), err)
	}
	return nil
}

// Unlock releases the lock on the byte at offset off of f, if f holds it.
func Unlock(f *os.File, off int64) error {
	return lock(f, unix.F_UNLCK, off)
}

func lock(f *os.File, typ int16, off int64) error {
	lk := unix.Flock_t{Type: typ, Whence: unix.SEEK_SET, Start: off, Len: 1}
	err := ignoringEINTR(func() error { return unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lk) })
	runtime.KeepAlive(f)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return ErrLocked
	}
	if err != nil {
		return Explain("lock", f.Name(), err)
	}
	return nil
}

// Locked reports whether an open file description other than f's holds a lock on the byte at offset
// off.
func Locked(f *os.File, off int64) (bool, error) {
	_, locked, err := FindLock(f, off, 1)
	return locked, err
}

// FindLock searches n bytes of f, starting at offset off, for a byte that an open file description
// other than f's has locked, and returns the offset of one such byte.
func FindLock(f *os.File, off, n int64) (at int64, found bool, err error) {
	lk := unix.Flock_t{Type: unix.F_WRLCK, Whence: unix.SEEK_SET, Start: off, Len: n}
	err = ignoringEINTR(func() error { return unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lk) })
	runtime.KeepAlive(f)
	if err != nil {
		return 0, false, Explain("lock", f.Name(), err)
	}
	return lk.Start, lk.Type != unix.F_UNLCK, nil
}

// ignoringEINTR repeats f while a signal interrupts it. The preemption signal of the Go scheduler
// does so often.
func ignoringEINTR(f func() error) error {
	for {
		err := f()
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
