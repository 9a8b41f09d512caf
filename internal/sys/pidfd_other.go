//go:build !linux

package sys

import "os"

// OpenProcess returns a handle on a process.
func OpenProcess(pid int) (*os.File, error) { return nil, unsupported("pidfd") }

// PIDNamespace identifies the pid namespace of this process.
func PIDNamespace() uint64 { return 0 }

// ProcessFile makes a raw pidfd a file.
func ProcessFile(pidfd int) (*os.File, error) { return nil, unsupported("pidfd") }

// WaitExit waits until the process of a pidfd is dead.
func WaitExit(pidfd *os.File) error { return unsupported("pidfd") }

// Alive reports whether a process of that pid lives.
func Alive(pid int) bool { return false }

// SignalProcess sends a signal to the process of a pidfd.
func SignalProcess(pidfd *os.File, sig os.Signal) error { return unsupported("pidfd") }
