//go:build !linux

package sys

import "os"

// OpenProcess returns a handle on a process.
func OpenProcess(pid int) (*os.File, error) { return nil, unsupported("pidfd") }

// ProcessFile makes a raw pidfd a file.
func ProcessFile(pidfd int) (*os.File, error) { return nil, unsupported("pidfd") }

// WaitExit waits until the process of a pidfd is dead.
func WaitExit(pidfd *os.File) error { return unsupported("pidfd") }

// SignalProcess sends a signal to the process of a pidfd.
func SignalProcess(pidfd *os.File, sig os.Signal) error { return unsupported("pidfd") }
