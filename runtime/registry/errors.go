package registry

import (
	"errors"
	"fmt"
	"os"

	"github.com/ipcgen/ipcgen/internal/domain"
)

var (
	// ErrNotFound marks the lookup of a name that no live instance has.
	ErrNotFound = errors.New("no live instance")
	// ErrExists marks the registration of a name that a live instance has.
	ErrExists = errors.New("name is taken")
	// ErrName marks the registration of a record with a name, channel or protocol that is too long
	// or has characters that no name may have.
	ErrName = domain.ErrName
	// ErrFull marks a registration in a registry whose slots all have live owners.
	ErrFull = errors.New("registry is full")
	// ErrForeign marks a file that is not a registry table.
	ErrForeign = errors.New("not a registry table")
	// ErrVersion marks a table that another version of this package has written.
	ErrVersion = errors.New("another version's registry table")
	// ErrCorrupt marks a table that was cut short or overwritten.
	ErrCorrupt = errors.New("damaged registry table")
	// ErrDisplaced marks a registration that has ended because its registry was replaced and
	// another process has registered the name in the new one.
	ErrDisplaced = errors.New("displaced")
	// ErrClosed marks the use of a closed [Registry] or [Registration].
	ErrClosed = os.ErrClosed
)

// An ExistsError is the error of a registration whose name is taken. It wraps [ErrExists].
type ExistsError struct {
	Name string
	// Holder is the live instance that has the name. Holder.Name is empty while the instance has
	// claimed the name and has not published its record: during its registration, or while it
	// registers again after the table was removed.
	Holder Record
	who    string // describes the process that holds the name
}

func (e *ExistsError) Error() string {
	if e.Holder.Name == "" {
		return fmt.Sprintf(
			"%q cannot be registered: a live process has that name, and is registering it", e.Name)
	}
	return fmt.Sprintf("%q cannot be registered: %s has that name; stop that one or choose "+
		"another name", e.Name, e.who)
}

func (e *ExistsError) Unwrap() error { return ErrExists }

// A NotFoundError is the error of a lookup of a name that no live instance has. It wraps
// [ErrNotFound].
type NotFoundError struct{ Name string }

func (e *NotFoundError) Error() string {
	return fmt.Sprintf("no live instance is named %q", e.Name)
}

func (e *NotFoundError) Unwrap() error { return ErrNotFound }

// A TableError is a failure of the table's file. It wraps [ErrForeign], [ErrVersion], [ErrCorrupt]
// or the error of the system.
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
