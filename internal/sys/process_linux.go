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

// A Process is a handle on one process, and never on a later one that has its
// pid.
type Process struct {
	pid int
	// A pidfd; nil for a child where the kernel, or a filter of system calls,
	// offers none. The pid of a child is its own until it is reaped.
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

// processFile makes a pidfd a file that is waited for on the netpoller. Kernels
// before 5.10 cannot open one that is non-blocking from the start.
func processFile(pidfd int) (*os.File, error) {
	if err := unix.SetNonblock(pidfd, true); err != nil {
		unix.Close(pidfd)
		return nil, Explain("fcntl", "", err)
	}
	return os.NewFile(uintptr(pidfd), "pidfd"), nil
}

// StartLeader starts cmd as the leader of a process group of its own, so that
// a terminal's Ctrl-C does not reach it and SignalGroup reaches its children. With
// tether, the kernel kills it when the thread that calls StartLeader ends, so that
// thread must be locked and outlive it; a process that gains privileges as it
// begins has no tether. Without, it leads a session of its own too: the kernel
// hangs up a stopped process group that its session's parent leaves behind.
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

// PID returns the process's pid.
func (p *Process) PID() int { return p.pid }

// Wait waits until the process is dead: a zombie, or gone. It waits on the
// netpoller, and Close ends the wait with an error. Without pidfds it holds a
// thread until a child has died.
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

// Reap calls reap, which collects the exit status of a child that Wait has seen
// dead. The pid may be another process's from then on.
func (p *Process) Reap(reap func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reaped = true
	reap()
}

// Signal sends a signal to the process; os.ErrProcessDone means that it is dead
// and reaped, os.ErrClosed that the handle is closed.
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

// signalPID sends a signal by the number. That a child is not reaped yet is
// evidence that the number is still its own; of another process, that it lives.
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

// SignalGroup sends a signal to every process of the group that a child leads;
// os.ErrProcessDone means that there is none, or that the child is reaped.
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

// TerminateSelf asks this process to end, as others would.
func TerminateSelf() error {
	return Explain("kill", "", syscall.Kill(os.Getpid(), syscall.SIGTERM))
}

// KillSelf ends this process at once, as a fatal signal does.
func KillSelf() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	os.Exit(128 + int(syscall.SIGKILL)) // the first process of a pid namespace cannot kill itself
}

// Alive reports whether a process of that pid lives. It may be another one
// than the caller has in mind.
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

// PIDNamespace identifies the pid namespace of this process among those of the
// machine; 0 when the kernel does not tell. A pid means nothing in another.
func PIDNamespace() uint64 {
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/pid", &st); err != nil {
		return 0
	}
	return st.Ino
}

// Signals that package os does not name on every platform.
const (
	SIGTERM = syscall.SIGTERM
	SIGCONT = syscall.SIGCONT
	SIGKILL = syscall.SIGKILL
)

// OOMKills returns how many processes the kernel has killed since it started because memory was
// short, of the machine or of a cgroup; 0 where it does not tell.
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

// Killed reports whether a process ended by SIGKILL.
func Killed(state *os.ProcessState) bool {
	status, ok := state.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}
