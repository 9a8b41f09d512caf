package sys

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"

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
