package sys

import "strings"

// A CauseError is the failure of a system call, with an explanation for people who run the program.
// It wraps the error of the system.
type CauseError struct {
	Call  string // the system call; empty if Err names it
	Path  string // the file on which the call operated; may be empty
	Cause string // what happened, and what to do
	Err   error
}

func (e *CauseError) Error() string {
	s := e.Err.Error()
	if e.Call != "" {
		s = strings.TrimSpace(e.Call+" "+e.Path) + ": " + s
	}
	if e.Cause != "" {
		s += ": " + e.Cause
	}
	return s
}

// Unwrap returns the error of the system.
func (e *CauseError) Unwrap() error { return e.Err }

// JoinErrors is like errors.Join, with a text of one line, as logs and enclosing errors need it.
func JoinErrors(errs ...error) error {
	var all joined
	for _, err := range errs {
		if err != nil {
			all = append(all, err)
		}
	}
	switch len(all) {
	case 0:
		return nil
	case 1:
		return all[0]
	}
	return all
}

type joined []error

func (j joined) Error() string {
	texts := make([]string, len(j))
	for i, err := range j {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

func (j joined) Unwrap() []error { return j }
