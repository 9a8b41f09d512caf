package sys

import (
	"os"
	"os/exec"
	"syscall"
)

// StartLeader starts cmd as the leader of a process group of its own, so that
// a terminal's Ctrl-C does not reach it and KillGroup reaches its children, and
// returns a pidfd for it. With tether, the kernel kills it when the thread that
// calls StartLeader ends, so that thread must be locked and outlive it.
func StartLeader(cmd *exec.Cmd, tether bool) (*os.File, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	pidfd := -1
	cmd.SysProcAttr.Setpgid = true
	cmd.SysProcAttr.PidFD = &pidfd
	if tether {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	if pidfd < 0 { // a kernel without CLONE_PIDFD
		return OpenProcess(cmd.Process.Pid)
	}
	return ProcessFile(pidfd)
}

// KillGroup kills every process of the group that pid leads. It is safe only
// while the leader is not reaped, for then its pid names no other process.
func KillGroup(pid int) error {
	return os.NewSyscallError("kill", syscall.Kill(-pid, syscall.SIGKILL))
}

// TerminateSelf asks this process to end, as others would.
func TerminateSelf() error {
	return os.NewSyscallError("kill", syscall.Kill(os.Getpid(), syscall.SIGTERM))
}

// Signals that package os does not name on every platform.
const (
	SIGTERM = syscall.SIGTERM
	SIGCONT = syscall.SIGCONT
	SIGKILL = syscall.SIGKILL
)
