package sys

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// OpenProcess returns a pidfd, a handle on the process that has the given pid
// now and never on a later one.
func OpenProcess(pid int) (*os.File, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	return os.NewFile(uintptr(fd), "pidfd"), nil
}

// PIDNamespace identifies the pid namespace of this process among those of the
// machine; 0 when the kernel does not tell. A pid means nothing in another.
func PIDNamespace() uint64 {
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/pid", &st); err != nil {
		return 0
	}
	return st.Ino
}

// ProcessFile makes a pidfd that the kernel returned at the process's creation
// (syscall.SysProcAttr.PidFD) one for WaitExit, which owns it from then on.
func ProcessFile(pidfd int) (*os.File, error) {
	if err := unix.SetNonblock(pidfd, true); err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(pidfd), "pidfd"), nil
}

// WaitExit waits until the process of a pidfd is dead: a zombie, or gone. It
// waits on the netpoller and holds no thread; closing the file ends the wait
// with an error.
func WaitExit(pidfd *os.File) error {
	c, err := pidfd.SyscallConn()
	if err != nil {
		return err
	}
	var perr error
	err = c.Read(func(fd uintptr) bool {
		var dead bool
		dead, perr = readable(fd)
		return perr != nil || dead
	})
	if err != nil {
		return err
	}
	return perr
}

// Alive reports whether a process of that pid lives. It may be another one
// than the caller has in mind.
func Alive(pid int) bool {
	pidfd, err := OpenProcess(pid)
	if err != nil {
		return false
	}
	defer pidfd.Close()
	dead, err := readable(pidfd.Fd())
	runtime.KeepAlive(pidfd)
	return err == nil && !dead
}

// readable reports whether a pidfd is, which it becomes when its process ends.
func readable(fd uintptr) (yes bool, err error) {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	err = ignoringEINTR(func() error {
		n, err := unix.Poll(p, 0)
		yes = n > 0
		return err
	})
	return yes, os.NewSyscallError("poll", err)
}

// SignalProcess sends a signal to the process of a pidfd; os.ErrProcessDone
// means that it is dead and reaped.
func SignalProcess(pidfd *os.File, sig os.Signal) error {
	s, ok := sig.(unix.Signal)
	if !ok {
		return os.ErrInvalid
	}
	c, err := pidfd.SyscallConn()
	if err != nil {
		return err
	}
	var serr error
	if err := c.Control(func(fd uintptr) { serr = unix.PidfdSendSignal(int(fd), s, nil, 0) }); err != nil {
		return err
	}
	if serr == unix.ESRCH {
		return os.ErrProcessDone
	}
	return os.NewSyscallError("pidfd_send_signal", serr)
}
