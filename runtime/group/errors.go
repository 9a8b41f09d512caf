package group

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// ErrInUse marks the start of a group that another process supervises already.
var ErrInUse = errors.New("group has a supervisor")

// ErrNoSupervisor marks an attempt to give orders to a group that no process supervises.
var ErrNoSupervisor = errors.New("no process supervises it")

// ErrIncompatible marks the failure of a replica whose version of the service cannot share a state
// with the version of the primary: one of them could misread the other.
var ErrIncompatible = errors.New("it serves an incompatible version")

// ErrClosed marks the use of a closed [Group], [Replica] or [Client]. It matches [os.ErrClosed].
var ErrClosed error = closedError{}

type closedError struct{}

func (closedError) Error() string { return "it was closed by this process" }

func (closedError) Is(target error) bool { return target == os.ErrClosed }

// An InUseError is the error of [Start] for a group that another process supervises already. It
// wraps [ErrInUse].
type InUseError struct {
	Service, Domain string
	PID             int // of that supervisor; 0 if it is not known yet
}

func (e *InUseError) Error() string {
	who := "another process"
	if e.PID != 0 {
		who = fmt.Sprintf("a process (pid %d)", e.PID)
	}
	return fmt.Sprintf("group %s: %s supervises it in domain %s already; stop that one or "+
		"choose another domain (IPCGEN_DOMAIN)",
		e.Service, who, e.Domain)
}

func (e *InUseError) Unwrap() error { return ErrInUse }

// A ReplicaError is the failure of one replica: the replica could not be started, ended, or did not
// become ready in time. It wraps Err.
type ReplicaError struct {
	Replica string
	Path    string // of the executable
	PID     int    // 0 if the replica could not be started
	Problem string // what happened
	Hint    string // what to do
	Stderr  string // the last lines of its standard error
	Err     error  // the error of the system, or an *exec.ExitError; may be nil
}

// Error returns one line. It separates the lines of Stderr by " | ".
func (e *ReplicaError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%s", e.Replica, e.Path)
	if e.PID != 0 {
		fmt.Fprintf(&b, ", pid %d", e.PID)
	}
	fmt.Fprintf(&b, ") %s", e.Problem)
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	if e.Hint != "" {
		b.WriteString("; " + e.Hint)
	}
	if e.Stderr != "" {
		lines := slices.DeleteFunc(strings.Split(e.Stderr, "\n"),
			func(line string) bool { return strings.TrimSpace(line) == "" })
		b.WriteString("; it last wrote: " + strings.Join(lines, " | "))
	}
	return b.String()
}

func (e *ReplicaError) Unwrap() error { return e.Err }
