package sys

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Process is a handle on one process. It never refers to a later process with the same pid.
type Process struct {
	pid int
	// A pidfd. It is nil for a child if the kernel, or a filter of system calls, does not offer
	// pidfds; the pid of a child stays its own until the child is reaped.
	pidfd *os.File

	mu     sync.Mutex
	child  bool
	reaped bool
}

// OpenProcess returns a handle on the process that has the given pid now.
func OpenProcess(pid int) (*Process, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, Explain("pidfd_open", "", err)
	}
	f, err := processFile(fd)
	if err != nil {
		return nil, err
	}
	return &Process{pid: pid, pidfd: f}, nil
}

// processFile returns a pidfd as a file that the netpoller can wait for. Kernels before 5.10 cannot
// open a non-blocking pidfd.
func processFile(pidfd int) (*os.File, error) {
	if err := unix.SetNonblock(pidfd, true); err != nil {
		unix.Close(pidfd)
		return nil, Explain("fcntl", "", err)
	}
	return os.NewFile(uintptr(pidfd), "pidfd"), nil
}

// StartLeader starts cmd as the leader of a process group of its own. A terminal's Ctrl-C does not
// reach it, and [Process.SignalGroup] reaches its children.
//
// With tether, the kernel kills the process when the thread that calls StartLeader ends; that
// thread must be locked, and live as long as the process. The kernel drops the tether of a process
// that gains privileges when it starts. Without tether, the process also leads a session of its
// own, because the kernel hangs up a stopped process group that its session's parent leaves behind.
func StartLeader(cmd *exec.Cmd, tether bool) (*Process, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	attr, pidfd := cmd.SysProcAttr, -1
	attr.PidFD = &pidfd
	attr.Setsid = attr.Setsid || !tether
	attr.Setpgid, attr.Pgid = !attr.Setsid, 0 // the leader of a session leads a group already
	if tether {
		attr.Pdeathsig = syscall.SIGKILL
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &Process{pid: cmd.Process.Pid, child: true}
	var err error
	if pidfd >= 0 {
		p.pidfd, err = processFile(pidfd)
	} else if fd, openErr := unix.PidfdOpen(p.pid, 0); openErr == nil {
		p.pidfd, err = processFile(fd)
	}
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return nil, err
	}
	return p, nil
}

// PID returns the pid of the process.
func (p *Process) PID() int { return p.pid }

// Wait blocks until the process is dead: a zombie, or gone. It waits on the netpoller, and
// [Process.Close] ends the wait with an error. On a system without pidfds it holds a thread until a
// child has died.
func (p *Process) Wait() error {
	if p.pidfd == nil {
		err := ignoringEINTR(func() error {
			return unix.Waitid(unix.P_PID, p.pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		})
		return Explain("waitid", "", err)
	}
	c, err := p.pidfd.SyscallConn()
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

// Reap calls reap, which must collect the exit status of a child that Wait has reported dead. From
// then on the pid may belong to another process.
func (p *Process) Reap(reap func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reaped = true
	reap()
}

// Signal sends a signal to the process. It returns os.ErrProcessDone if the process is dead and
// reaped, and os.ErrClosed if the handle is closed.
func (p *Process) Signal(sig os.Signal) error {
	s, ok := sig.(unix.Signal)
	if !ok {
		return os.ErrInvalid
	}
	err := p.signalHandle(s)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
		err = p.signalPID(s) // a kernel or a filter without pidfds
	}
	if errors.Is(err, unix.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}

func (p *Process) signalHandle(s unix.Signal) error {
	if p.pidfd == nil {
		return unix.ENOSYS
	}
	c, err := p.pidfd.SyscallConn()
	if err != nil {
		return err
	}
	var serr error
	if c.Control(func(fd uintptr) { serr = unix.PidfdSendSignal(int(fd), s, nil, 0) }) != nil {
		return os.ErrClosed
	}
	return os.NewSyscallError("pidfd_send_signal", serr)
}

// signalPID sends a signal by pid. The pid of a child stays its own until the child is reaped; of
// another process, the pidfd confirms that it lives.
func (p *Process) signalPID(s unix.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reaped {
		return unix.ESRCH
	}
	if !p.child {
		dead, err := readable(p.pidfd.Fd())
		runtime.KeepAlive(p.pidfd)
		if err != nil {
			return err
		}
		if dead {
			return unix.ESRCH
		}
	}
	return Explain("kill", "", unix.Kill(p.pid, s))
}

// Close releases the handle.
func (p *Process) Close() error {
	if p.pidfd == nil {
		return nil
	}
	return p.pidfd.Close()
}

// SignalGroup sends a signal to every process of the group that a child leads. It returns
// os.ErrProcessDone if there is no such process, or if the child is reaped.
func (p *Process) SignalGroup(sig os.Signal) error {
	s, ok := sig.(unix.Signal)
	if !ok {
		return os.ErrInvalid
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.child || p.reaped {
		return os.ErrProcessDone
	}
	err := unix.Kill(-p.pid, s)
	if errors.Is(err, unix.ESRCH) {
		return os.ErrProcessDone
	}
	return Explain("kill", "", err)
}

// TerminateSelf sends SIGTERM to this process.
func TerminateSelf() error {
	return Explain("kill", "", syscall.Kill(os.Getpid(), syscall.SIGTERM))
}

// KillSelf ends this process at once, by SIGKILL.
func KillSelf() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	os.Exit(128 + int(syscall.SIGKILL)) // the first process of a pid namespace cannot kill itself
}

// Alive reports whether a process with that pid lives. It may be another process than the caller
// expects.
func Alive(pid int) bool {
	p, err := OpenProcess(pid)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
		return !errors.Is(unix.Kill(pid, 0), unix.ESRCH)
	}
	if err != nil {
		return false
	}
	defer p.Close()
	dead, err := readable(p.pidfd.Fd())
	runtime.KeepAlive(p)
	return err == nil && !dead
}

// readable reports whether a pidfd is readable, which it becomes when its process ends.
func readable(fd uintptr) (yes bool, err error) {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	err = ignoringEINTR(func() error {
		n, err := unix.Poll(p, 0)
		yes = n > 0
		return err
	})
	return yes, os.NewSyscallError("poll", err)
}

// PIDNamespace returns a number that identifies the pid namespace of this process on this machine,
// or 0 if the kernel does not report it. A pid has no meaning in another namespace.
func PIDNamespace() uint64 {
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/pid", &st); err != nil {
		return 0
	}
	return st.Ino
}

// Signals that package os does not have on every platform.
const (
	SIGTERM = syscall.SIGTERM
	SIGCONT = syscall.SIGCONT
	SIGKILL = syscall.SIGKILL
)

// OOMKills returns the number of processes that the kernel has killed since it started because the
// machine or a cgroup was short of memory. It returns 0 if the kernel does not report it.
func OOMKills() uint64 {
	stat, err := os.ReadFile("/proc/vmstat")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(stat)) {
		if n, ok := strings.CutPrefix(line, "oom_kill "); ok {
			kills, _ := strconv.ParseUint(strings.TrimSpace(n), 10, 64)
			return kills
		}
	}
	return 0
}

// Killed reports whether a process was ended by SIGKILL.
func Killed(state *os.ProcessState) bool {
	status, ok := state.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}
