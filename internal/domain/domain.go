// Package domain resolves and guards the directory in which the processes of
// one user meet: the sockets of servers, their lock files, and the registry.
//
// Everything in a domain is trusted as far as its owner is. Open therefore
// refuses a directory that somebody else owns or can reach, and everything
// below is used through an *os.Root, which does not leave it by symlinks.
package domain

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/ipcgen/ipcgen/internal/sys"
)

// EnvVar names the environment variable that chooses the domain of a process
// whose code does not: a name, or a path.
const EnvVar = "IPCGEN_DOMAIN"

// defaultName is the domain used when nothing chooses one.
const defaultName = "default"

// MaxNameLen is the longest name of a domain, an endpoint or a channel, in
// bytes. It keeps "/proc/self/fd/<n>/<name>.sock", by which sockets in deep
// directories are reached, within the 108 bytes of a Unix socket's address.
const MaxNameLen = 80

var (
	// ErrUnsafe marks a domain directory that cannot be trusted: a symlink, no
	// directory, owned by another user, or open to others.
	ErrUnsafe = errors.New("unsafe domain directory")
	// ErrName marks a name that cannot name an endpoint.
	ErrName = errors.New("invalid name")
)

// A PathError says which directory was refused or could not be opened, and
// what to do about it. It wraps ErrUnsafe or the system's error.
type PathError struct {
	Path string
	Hint string // what to do; may be empty
	Err  error
}

func (e *PathError) Error() string {
	s := "domain " + e.Path + ": " + e.Err.Error()
	if e.Hint != "" {
		s += "; " + e.Hint
	}
	return s
}

func (e *PathError) Unwrap() error { return e.Err }

// A Dir is an open domain directory that has passed the checks of Open.
type Dir struct {
	path string
	root *os.Root
}

// Open resolves name, creates the directory with mode 0700 if it is missing,
// checks that it is safe to use, and opens it.
//
// The empty name stands for $IPCGEN_DOMAIN, or "default" where that is not set.
// A name with a path separator is a path and used as it is; its parent must
// exist. Any other name lives under $XDG_RUNTIME_DIR/ipcgen or, without
// XDG_RUNTIME_DIR, under ipcgen-<uid> in the directory for temporary files; that
// base is created and checked in the same way.
func Open(name string) (*Dir, error) {
	if name == "" {
		name = os.Getenv(EnvVar)
	}
	if name == "" {
		name = defaultName
	}
	if strings.ContainsRune(name, filepath.Separator) {
		path, err := filepath.Abs(name)
		if err != nil {
			return nil, fmt.Errorf("domain %s: %w", name, err)
		}
		return openChecked(path)
	}
	if err := CheckName("domain", name); err != nil {
		return nil, err
	}
	base := filepath.Join(os.TempDir(), "ipcgen-"+strconv.Itoa(os.Getuid()))
	if run := os.Getenv("XDG_RUNTIME_DIR"); run != "" {
		base = filepath.Join(run, "ipcgen")
	}
	b, err := openChecked(base)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	return openChecked(filepath.Join(base, name))
}

// openChecked creates path if needed and opens it if it is safe. What it
// returns is the directory it checked, even if the path is exchanged meanwhile.
func openChecked(path string) (*Dir, error) {
	err := os.Mkdir(path, 0o700)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, &PathError{path, "create its parent directory or choose another domain with " + EnvVar, err}
	}
	before, err := os.Lstat(path)
	if err != nil {
		return nil, &PathError{path, "", err}
	}
	if !before.IsDir() { // also true of a symlink to a directory
		return nil, unsafeDir(path, "it is no directory", "remove it or choose another domain with "+EnvVar)
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, &PathError{path, "", err}
	}
	if err := check(path, before, root); err != nil {
		root.Close()
		return nil, err
	}
	return &Dir{path: path, root: root}, nil
}

func check(path string, before fs.FileInfo, root *os.Root) error {
	fi, err := root.Stat(".")
	if err != nil {
		return &PathError{path, "", err}
	}
	if !os.SameFile(before, fi) {
		return unsafeDir(path, "it was exchanged while it was opened", "choose another domain with "+EnvVar)
	}
	uid, err := sys.OwnerUID(fi)
	if err != nil {
		return &PathError{path, "", err}
	}
	if uid != os.Geteuid() {
		return unsafeDir(path, fmt.Sprintf("it belongs to uid %d, not to uid %d", uid, os.Geteuid()),
			"choose another domain with "+EnvVar)
	}
	if perm := fi.Mode().Perm(); perm&0o077 != 0 {
		return unsafeDir(path, fmt.Sprintf("mode %04o lets others in", perm), "run: chmod 700 "+path)
	}
	return nil
}

func unsafeDir(path, why, hint string) error {
	return &PathError{path, hint, fmt.Errorf("%w: %s", ErrUnsafe, why)}
}

// Path is the absolute path of the directory, for messages.
func (d *Dir) Path() string { return d.path }

// Root gives access to the files of the domain. It lives until Close.
func (d *Dir) Root() *os.Root { return d.root }

// Close releases the directory; files opened from it stay open.
func (d *Dir) Close() error { return d.root.Close() }

// CheckName reports whether name can name a thing of the given kind (such as
// "channel", used in the error only) within a domain: 1 to MaxNameLen ASCII letters,
// digits and ".", "_", "-", of which the first is no "." and no "-".
func CheckName(kind, name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: the %s name is empty", ErrName, kind)
	case len(name) > MaxNameLen:
		return fmt.Errorf("%w: the %s name has %d bytes, at most %d are allowed", ErrName, kind, len(name), MaxNameLen)
	case name[0] == '.' || name[0] == '-':
		return fmt.Errorf("%w: %s name %q starts with %q", ErrName, kind, name, name[0])
	}
	for _, r := range name {
		letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
		if !letter && r != '.' && r != '_' && r != '-' {
			return fmt.Errorf("%w: %s name %q contains %q; use letters, digits, '.', '_' and '-'", ErrName, kind, name, r)
		}
	}
	return nil
}
