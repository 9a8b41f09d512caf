package sys

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// OutliveReaders makes writes to standard output and standard error fail after their reader is
// gone. Otherwise the Go runtime would end the process. Programs that this process starts are not
// affected.
var OutliveReaders = sync.OnceFunc(func() {
	// A signal with a channel does not end the process; nothing reads the channel. If the signal
	// were ignored instead, children would inherit that.
	signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE)
})

// Duplicate returns another descriptor of f's open file description. Children do not inherit it.
func Duplicate(f *os.File) (*os.File, error) {
	c, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	own := -1
	var derr error
	if err := c.Control(func(fd uintptr) {
		own, derr = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 3)
	}); err != nil {
		return nil, err
	}
	if derr != nil {
		return nil, Explain("fcntl", f.Name(), derr)
	}
	return os.NewFile(uintptr(own), f.Name()), nil
}

// ReadNow reads what there is in a pipe. It never waits, and reads even if f's deadline has passed,
// which it removes. It returns 0 if there is nothing.
func ReadNow(f *os.File, b []byte) (n int, err error) {
	if err := f.SetReadDeadline(time.Time{}); err != nil {
		return 0, err
	}
	c, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	var rerr error
	if err := c.Read(func(fd uintptr) bool {
		rerr = ignoringEINTR(func() (err error) {
			n, err = unix.Read(int(fd), b)
			return err
		})
		return true
	}); err != nil {
		return 0, err
	}
	if rerr == unix.EAGAIN {
		return 0, nil
	}
	return max(n, 0), rerr
}

// FileID returns a number that identifies f among the pipes of the machine.
func FileID(f *os.File) (uint64, error) {
	fi, err := f.Stat()
	if err != nil {
		return 0, err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, fmt.Errorf("identity of %s: no stat data", f.Name())
	}
	return st.Ino, nil
}

// OpenPipe opens the reading end of the pipe that a process has as descriptor fd. It fails if that
// pipe does not have the given id.
func OpenPipe(pid, fd int, id uint64) (*os.File, error) {
	f, err := os.OpenFile(fmt.Sprintf("/proc/%d/fd/%d", pid, fd), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil && fi.Mode()&os.ModeNamedPipe == 0 {
		err = errors.New("it is no pipe any more")
	}
	if err == nil {
		var there uint64
		if there, err = FileID(f); err == nil && there != id {
			err = errors.New("it is another pipe now")
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return f, nil
}
