//go:build !linux

package sys

// Explain returns err with the name of its system call.
func Explain(call, path string, err error) error {
	if err == nil {
		return nil
	}
	return &CauseError{Call: call, Path: path, Err: err}
}

// CauseOf returns "".
func CauseOf(call string, err error) string { return "" }

// ExplainOf returns err.
func ExplainOf(err error) error { return err }

// Exhausted returns false.
func Exhausted(error) bool { return false }
