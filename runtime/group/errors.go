package group

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// ErrInUse marks the start of a group that another process supervises.
var ErrInUse = errors.New("group has a supervisor")

// ErrClosed marks the use of a group, replica or client after its end.
var ErrClosed = os.ErrClosed

// An InUseError is the start of a group that another process supervises. It
// wraps ErrInUse.
type InUseError struct {
	Service, Domain string
	PID             int // of that supervisor; 0 when it has not said yet
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

// An ReplicaError is the failure of one replica: it could not be started, it
// ended, or it did not become ready in time.
type ReplicaError struct {
	Replica string
	Path    string // of the executable
	PID     int    // 0 when it could not be started
	Problem string // what happened
	Hint    string // what to do
	Stderr  string // its last lines of standard error
	Err     error  // the system's error or *exec.ExitError; may be nil
}

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
		b.WriteString("; it last wrote:\n\t" + strings.ReplaceAll(e.Stderr, "\n", "\n\t"))
	}
	return b.String()
}

func (e *ReplicaError) Unwrap() error { return e.Err }
