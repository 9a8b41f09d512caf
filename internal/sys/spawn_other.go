//go:build !linux

package sys

import (
	"os"
	"os/exec"
	"syscall"
)

// StartLeader starts a supervised process.
func StartLeader(cmd *exec.Cmd, tether bool) (*os.File, error) {
	return nil, unsupported("start " + cmd.Path)
}

// KillGroup kills every process of a group.
func KillGroup(pid int) error { return unsupported("kill a process group") }

// TerminateSelf asks this process to end.
func TerminateSelf() error { return unsupported("signal this process") }

// Signals that package os does not name on every platform.
const (
	SIGTERM = syscall.SIGTERM
	SIGCONT = syscall.Signal(0x12)
	SIGKILL = syscall.SIGKILL
)
