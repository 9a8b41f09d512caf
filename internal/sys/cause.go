package sys

// A CauseError is a system call that failed, and what that means to those who
// run the program. It wraps the system's error.
type CauseError struct {
	Call  string // the system call
	Path  string // the file that it is about; may be empty
	Cause string // what happened, and what to do
	Err   error
}

func (e *CauseError) Error() string {
	s := e.Call
	if e.Path != "" {
		s += " " + e.Path
	}
	s += ": " + e.Err.Error()
	if e.Cause != "" {
		s += ": " + e.Cause
	}
	return s
}

// Unwrap returns the system's error.
func (e *CauseError) Unwrap() error { return e.Err }
