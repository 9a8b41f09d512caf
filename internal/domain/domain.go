// Package domain resolves and guards the directory in which the processes of one user meet. It
// holds the sockets of servers, their lock files, and the registry.
//
// The content of a domain is trusted as far as its owner is. [Open] therefore refuses a directory
// that another user owns or can reach. All files are accessed through an *os.Root, which does not
// follow symbolic links out of the directory.
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

// EnvVar names the environment variable that chooses the domain of a process whose code does not.
// Its value is a name or a path.
const EnvVar = "IPCGEN_DOMAIN"

// defaultName is the domain of a process for which neither code nor environment chooses one.
const defaultName = "default"

// MaxNameLen is the length of the longest name of a domain, an endpoint or a channel, in bytes. It
// keeps "/proc/self/fd/<n>/<name>.sock", the address of sockets in deep directories, within the 108
// bytes of the address of a Unix socket.
const MaxNameLen = 80

// SocketSuffix and LockSuffix follow the name of a channel in the names of its two files.
const (
	SocketSuffix = ".sock"
	LockSuffix   = ".lock"
)

var (
	// ErrUnsafe marks a domain directory that cannot be trusted: a symbolic link, not a directory,
	// owned by another user, or accessible to others.
	ErrUnsafe    = errors.New("unsafe domain directory")
	errExchanged = fmt.Errorf("%w: it was exchanged while it was opened", ErrUnsafe)
	// ErrName marks a name that cannot name an endpoint.
	ErrName = errors.New("invalid name")
)

// A PathError is the error for a directory that was refused or could not be opened, with a remedy.
// It wraps [ErrUnsafe] or the error of the system.
type PathError struct {
	Path string
	Hint string // the remedy; may be empty
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

// failed returns the error of a system call. The meaning of the system's error, if it is known, is
// a better hint than the given one, and belongs to the error of the system, so that nothing that
// wraps it says it again.
func failed(path, hint string, err error) error {
	err = sys.ExplainOf(err)
	var explained *sys.CauseError
	if errors.As(err, &explained) {
		hint = ""
	}
	return &PathError{path, hint, err}
}

// A Dir is an open domain directory that has passed the checks of [Open].
type Dir struct {
	path   string
	choice choice
	root   *os.Root
}

// Open resolves name, creates the directory with mode 0700 if it is missing, checks that it is safe
// to use, and opens it. The caller must close the Dir.
//
// The empty name stands for $IPCGEN_DOMAIN or, if that is not set, for "default". A name with a
// path separator is a path and is used unchanged; its parent must exist. Any other name is a
// directory under $XDG_RUNTIME_DIR/ipcgen or, without XDG_RUNTIME_DIR, under ipcgen-<uid> in the
// directory for temporary files. That base directory is created and checked in the same way.
func Open(name string) (*Dir, error) {
	c, err := resolve(name)
	if err != nil {
		return nil, err
	}
	return c.open()
}

// Find is like [Open], for a directory that exists: it creates nothing. If there is no directory,
// the error wraps [fs.ErrNotExist] and says how the domain was chosen.
func Find(name string) (*Dir, error) {
	c, err := resolve(name)
	if err != nil {
		return nil, err
	}
	if _, err := os.Lstat(c.path); errors.Is(err, fs.ErrNotExist) {
		hint := "no process has used this domain; it is " + c.why
		if c.other != "" {
			hint += "; processes with another environment meet in " + c.other
		}
		return nil, &PathError{c.path, hint, fs.ErrNotExist}
	}
	return c.open()
}

// Elsewhere returns the path of the directory that the same name stands for in processes of this
// user whose environment has XDG_RUNTIME_DIR if that of this process has it not, and the other way
// round. It is empty if there is no such directory.
func (d *Dir) Elsewhere() string { return d.choice.other }

// Again opens the directory that the domain's path names now, and creates it if it is missing.
func (d *Dir) Again() (*Dir, error) { return d.choice.open() }

func (c choice) open() (*Dir, error) {
	if c.base != "" {
		b, err := openChecked(c.base)
		if err != nil {
			return nil, err
		}
		defer b.Close()
	}
	d, err := openChecked(c.path)
	if err != nil {
		return nil, err
	}
	d.choice = c
	return d, nil
}

// runtimeVar names the environment variable for the folder of a user's sockets, which the XDG Base
// Directory Specification defines.
const runtimeVar = "XDG_RUNTIME_DIR"

// A choice is the result of resolving the name of a domain in this process.
type choice struct {
	path string
	base string // the folder above path, if it belongs to the project; otherwise empty
	why  string // in words
	// other is the path for the same name in a process of this user with the opposite state of
	// XDG_RUNTIME_DIR, set or not set; may be empty.
	other string
}

// resolve resolves the name of a domain.
func resolve(name string) (c choice, err error) {
	switch env := os.Getenv(EnvVar); {
	case name != "":
		c.why = "given explicitly"
	case env != "":
		name, c.why = env, "from "+EnvVar
	default:
		name, c.why = defaultName, "the default, for "+EnvVar+" is not set"
	}
	if strings.ContainsRune(name, filepath.Separator) {
		if c.path, err = filepath.Abs(name); err != nil {
			err = fmt.Errorf("domain %s: %w", name, err)
		}
		return c, err
	}
	if err := CheckName("domain", name); err != nil {
		return c, err
	}
	uid := strconv.Itoa(os.Getuid())
	c.base = filepath.Join(os.TempDir(), "ipcgen-"+uid)
	others := filepath.Join("/run/user", uid, "ipcgen") // as systemd sets it
	set := "is not set"
	if run := os.Getenv(runtimeVar); run != "" {
		c.base, others, set = filepath.Join(run, "ipcgen"), c.base, "is set"
	}
	c.path = filepath.Join(c.base, name)
	if c.other = filepath.Join(others, name); c.other == c.path {
		c.other = ""
	} else {
		c.why += ", and " + runtimeVar + " " + set
	}
	return c, nil
}

// openChecked creates path if needed, and opens it if it is safe. The result is the directory that
// was checked, even if the path is exchanged meanwhile. If other processes remove and create the
// directory at the same time, openChecked tries again.
func openChecked(path string) (d *Dir, err error) {
	for range 10 {
		d, err = openOnce(path)
		if !errors.Is(err, errExchanged) && !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return d, err
}

func openOnce(path string) (*Dir, error) {
	before, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		before, err = create(path)
	}
	if err != nil {
		var known *PathError
		if errors.As(err, &known) {
			return nil, err
		}
		return nil, failed(path, "", err)
	}
	if before.Mode()&fs.ModeSymlink != 0 {
		return nil, unsafeDir(path, "it is a symbolic link",
			"give the path of the directory itself, or choose another domain with "+EnvVar)
	}
	if !before.IsDir() {
		return nil, unsafeDir(path, "it is no directory",
			"remove it or choose another domain with "+EnvVar)
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, failed(path, "", err)
	}
	if err := check(path, before, root); err != nil {
		root.Close()
		return nil, err
	}
	return &Dir{path: path, root: root}, nil
}

// create creates the directory path, unless another process does at the same time.
//
// It refuses to let root create a directory in another user's folder: a command run by sudo, which
// can keep XDG_RUNTIME_DIR, would leave a directory that the user's own processes must refuse from
// then on.
func create(path string) (fs.FileInfo, error) {
	parent := filepath.Dir(path)
	fi, err := os.Stat(parent)
	if err != nil {
		return nil, failed(path,
			"create its parent directory or choose another domain with "+EnvVar, err)
	}
	owner, err := sys.OwnerUID(fi)
	if err != nil {
		return nil, failed(path, "", err)
	}
	if os.Geteuid() == 0 && owner != 0 && owner != unmappedUID {
		return nil, unsafeDir(path,
			fmt.Sprintf("%s belongs to uid %d, and root makes no domain in another user's folder",
				parent, owner),
			fmt.Sprintf("run this program as that user, unset %s, or choose another domain with %s",
				runtimeVar, EnvVar))
	}
	made := os.Mkdir(path, 0o700)
	if made != nil && !errors.Is(made, fs.ErrExist) {
		return nil, failed(path,
			"create its parent directory or choose another domain with "+EnvVar, made)
	}
	if fi, err = os.Lstat(path); err != nil {
		return nil, failed(path, "", err)
	}
	if made == nil && fi.Mode().Perm() != 0o700 {
		// Files would have no rights either. What is left would stop the processes of this user.
		_ = os.Remove(path)
		return nil, unsafeDir(path,
			fmt.Sprintf("the umask of this process leaves it mode %04o of 0700", fi.Mode().Perm()),
			"run umask 077 before the program")
	}
	return fi, nil
}

// unmappedUID is the apparent owner of files of users that this user namespace does not map, such
// as the root of the machine.
const unmappedUID = 65534

func check(path string, before fs.FileInfo, root *os.Root) error {
	fi, err := root.Stat(".")
	if err != nil {
		return failed(path, "", err)
	}
	if !os.SameFile(before, fi) {
		return &PathError{path, "choose another domain with " + EnvVar, errExchanged}
	}
	uid, err := sys.OwnerUID(fi)
	if err != nil {
		return failed(path, "", err)
	}
	if uid != os.Geteuid() {
		hint := "choose another domain with " + EnvVar
		if uid == 0 {
			hint = "if a command that was run by sudo has made it, remove it as root, or " + hint
		}
		return unsafeDir(path,
			fmt.Sprintf("it belongs to uid %d, not to uid %d", uid, os.Geteuid()), hint)
	}
	if perm := fi.Mode().Perm(); perm&0o077 != 0 {
		return unsafeDir(path, fmt.Sprintf("mode %04o lets others in", perm),
			"run: chmod 700 "+path)
	}
	return nil
}

func unsafeDir(path, why, hint string) error {
	return &PathError{path, hint, fmt.Errorf("%w: %s", ErrUnsafe, why)}
}

// Path returns the absolute path of the directory, for messages.
func (d *Dir) Path() string { return d.path }

// Absence returns a clause for an error message, to follow the domain's path. It says how the
// domain was chosen, and in which directory processes with another environment meet. file is the
// name that was not found in this domain.
func (d *Dir) Absence(file string) string {
	s := "(" + d.choice.why
	if d.choice.other != "" {
		s += "; where it is otherwise, processes meet in " + d.choice.other
		if _, err := os.Lstat(filepath.Join(d.choice.other, file)); err == nil {
			s += ", and there is such a name"
		}
	}
	if d.choice.base != "" {
		s += "; each user has a domain of that name"
	}
	return s + ")"
}

// Root returns the root for access to the files of the domain. It is valid until Close.
func (d *Dir) Root() *os.Root { return d.root }

// Close releases the directory. Files opened from it stay open.
func (d *Dir) Close() error { return d.root.Close() }

// CheckName returns nil if name can name a thing of the given kind in a domain, and otherwise an
// error that wraps [ErrName]. kind, such as "channel", is used in the error only. A valid name has
// 1 to [MaxNameLen] ASCII letters, digits, ".", "_" and "-", and does not start with "." or "-".
func CheckName(kind, name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: the %s name is empty", ErrName, kind)
	case len(name) > MaxNameLen:
		return fmt.Errorf("%w: the %s name has %d bytes, at most %d are allowed", ErrName, kind,
			len(name), MaxNameLen)
	case name[0] == '.' || name[0] == '-':
		return fmt.Errorf("%w: %s name %q starts with %q", ErrName, kind, name, name[0])
	}
	for _, r := range name {
		letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
		if !letter && r != '.' && r != '_' && r != '-' {
			return fmt.Errorf("%w: %s name %q contains %q; use letters, digits, '.', '_' and '-'",
				ErrName, kind, name, r)
		}
	}
	return nil
}
