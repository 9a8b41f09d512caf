package registry

import (
	"errors"
	"fmt"
	"os"
)

var (
	// ErrNotFound marks a lookup of a name that no live instance has.
	ErrNotFound = errors.New("no live instance")
	// ErrExists marks a registration of a name that a live instance has.
	ErrExists = errors.New("name is taken")
	// ErrFull marks a registration when every slot has a live owner.
	ErrFull = errors.New("registry is full")
	// ErrForeign marks a table file that is none.
	ErrForeign = errors.New("not a registry table")
	// ErrVersion marks a table written by another version of this package.
	ErrVersion = errors.New("another version's registry table")
	// ErrCorrupt marks a table that was cut short or overwritten.
	ErrCorrupt = errors.New("damaged registry table")
	// ErrDisplaced marks a registration whose name another process has taken, in a
	// registry that replaced the one that it was in.
	ErrDisplaced = errors.New("displaced")
	// ErrClosed marks the use of a closed registry or registration.
	ErrClosed = os.ErrClosed
)

// An ExistsError is a registration that was refused because its name is taken.
// It wraps ErrExists.
type ExistsError struct {
	Name string
	// Holder is the live instance; its Name is empty when it is still between
	// its claim and its publication, or is about to publish the name again because the table
	// was removed.
	Holder Record
}

func (e *ExistsError) Error() string {
	if e.Holder.Name == "" {
		return fmt.Sprintf(
			"%q cannot be registered: a live process has that name, and is registering it", e.Name)
	}
	return fmt.Sprintf("%q cannot be registered: it is the name of a live instance (pid %d); "+
		"stop that one or choose another name",
		e.Name, e.Holder.PID)
}

func (e *ExistsError) Unwrap() error { return ErrExists }

// A NotFoundError is a lookup of a name that no live instance has. It wraps
// ErrNotFound.
type NotFoundError struct{ Name string }

func (e *NotFoundError) Error() string {
	return fmt.Sprintf("no live instance is named %q", e.Name)
}

func (e *NotFoundError) Unwrap() error { return ErrNotFound }

// A TableError says what is wrong with the table's file. It wraps ErrForeign,
// ErrVersion, ErrCorrupt or the system's error.
type TableError struct {
	Path   string
	Detail string
	Err    error
}

func (e *TableError) Error() string {
	s := "registry " + e.Path + ": " + e.Err.Error()
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	switch {
	case errors.Is(e.Err, ErrVersion):
		s += "; use one version of the runtime in a domain, or another domain"
	case errors.Is(e.Err, ErrForeign), errors.Is(e.Err, ErrCorrupt):
		s += "; stop the processes of the domain and remove the file"
	}
	return s
}

func (e *TableError) Unwrap() error { return e.Err }
