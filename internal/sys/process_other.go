//go:build !linux

package sys

import (
	"os"
	"os/exec"
	"syscall"
)

// A Process is a handle on one process.
type Process struct{}

// OpenProcess returns a handle on a process.
func OpenProcess(pid int) (*Process, error) { return nil, unsupported("open a process") }

// StartLeader starts a supervised process.
func StartLeader(cmd *exec.Cmd, tether bool) (*Process, error) {
	return nil, unsupported("start " + cmd.Path)
}

// PID returns the pid of the process.
func (p *Process) PID() int { return 0 }

// Wait blocks until the process is dead.
func (p *Process) Wait() error { return unsupported("wait for a process") }

// Reap calls reap.
func (p *Process) Reap(reap func()) { reap() }

// Signal sends a signal to the process.
func (p *Process) Signal(sig os.Signal) error { return unsupported("signal a process") }

// Close releases the handle.
func (p *Process) Close() error { return nil }

// SignalGroup sends a signal to every process of a group.
func (p *Process) SignalGroup(sig os.Signal) error { return unsupported("signal a process group") }

// Linger makes a child that is dying let others run before it.
func (p *Process) Linger() {}

// TerminateSelf sends SIGTERM to this process.
func TerminateSelf() error { return unsupported("signal this process") }

// KillSelf ends this process at once.
func KillSelf() { os.Exit(1) }

// Alive reports whether a process with that pid lives.
func Alive(pid int) bool { return false }

// PIDNamespace returns a number that identifies the pid namespace of this process.
func PIDNamespace() uint64 { return 0 }

// Signals that package os does not have on every platform.
const (
	SIGTERM = syscall.SIGTERM
	SIGCONT = syscall.Signal(0x12)
	SIGKILL = syscall.SIGKILL
)

// OOMKills returns the number of processes that the kernel has killed because memory was short.
func OOMKills() uint64 { return 0 }

// Killed reports whether a process was ended by SIGKILL.
func Killed(state *os.ProcessState) bool { return false }
