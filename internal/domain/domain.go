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
	ErrUnsafe    = errors.New("unsafe domain directory")
	errExchanged = fmt.Errorf("%w: it was exchanged while it was opened", ErrUnsafe)
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

// failed is the error of a system call; what the system's error means is a better hint than
// what is likely.
func failed(path, hint string, err error) error {
	if cause := sys.CauseOf("open", err); cause != "" {
		hint = cause
	}
	return &PathError{path, hint, err}
}

// A Dir is an open domain directory that has passed the checks of Open.
type Dir struct {
	path   string
	choice choice
	root   *os.Root
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
	c, err := resolve(name)
	if err != nil {
		return nil, err
	}
	return c.open()
}

// Again opens what the domain's path names now, and creates it if it is gone.
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

// runtimeVar names the variable for the folder of a user's sockets, which the
// XDG Base Directory Specification defines.
const runtimeVar = "XDG_RUNTIME_DIR"

// A choice is what a domain's name stands for in this process.
type choice struct {
	path string
	base string // the folder above it, which is the project's own too; may be empty
	why  string // in words
	// other is the path that the name stands for in a process of this user whose
	// XDG_RUNTIME_DIR is set where ours is not, or the reverse; may be empty.
	other string
}

// resolve finds out what a domain's name stands for.
func resolve(name string) (c choice, err error) {
	switch env := os.Getenv(EnvVar); {
	case name != "":
		c.why = "given by the program"
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

// openChecked creates path if needed and opens it if it is safe. What it
// returns is the directory it checked, even if the path is exchanged meanwhile.
// A directory that others remove and make at this moment is tried again.
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
	if !before.IsDir() { // also true of a symlink to a directory
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

// create makes the directory path, unless somebody does at this moment.
//
// Root makes none in another user's folder: a command that was once run by
// sudo, which keeps XDG_RUNTIME_DIR where it is told to, would leave a directory
// that the user's own processes must refuse from then on.
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
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, failed(path,
			"create its parent directory or choose another domain with "+EnvVar, err)
	}
	if fi, err = os.Lstat(path); err != nil {
		return nil, failed(path, "", err)
	}
	return fi, nil
}

// unmappedUID is who seems to own what belongs to a user that this user namespace does
// not know, such as the machine's root.
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

// Path is the absolute path of the directory, for messages.
func (d *Dir) Path() string { return d.path }

// Absence says for an error, in a clause that follows the domain's path, how the
// domain was chosen, and where processes with another environment meet. file is
// what was looked for in this domain in vain.
func (d *Dir) Absence(file string) string {
	s := "(" + d.choice.why
	if d.choice.other != "" {
		s += "; where it is otherwise, processes meet in " + d.choice.other
		if _, err := os.Lstat(filepath.Join(d.choice.other, file)); err == nil {
			s += ", and there is such a name"
		}
	}
	return s + ")"
}

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
