package measure

import "fmt"

// Again makes a second attempt when the first one fails: where many programs
// want the processor, a process may be without it for longer than some limit
// within a transport allows.
func Again(turn func() error) error {
	if turn() == nil {
		return nil
	}
	return turn()
}

// failure says of an error, if it is one, whose it is.
func failure(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf(format+": %w", append(args, err)...)
}
