// Package stage changes several files at once, or none of them.
//
// A [Change] first writes every new file in full into a hidden folder. When all files are there, it
// moves them to their places. An error, or a signal that asks the process to end, undoes the
// change; a signal that comes too late for that waits until all files are in place. A process that
// is killed leaves its files in the hidden folder, which the next change of the same folder
// empties. A lock that ends with its process distinguishes a killed change from one in progress,
// and allows one change at a time.
package stage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/ipcgen/ipcgen/internal/sys"
)

// Folder is the name of the hidden folder, which lies in the folder that is changed.
const Folder = ".ipcgen.tmp"

// The names in the hidden folder. All others are files that are being added or removed.
const (
	lockName = "lock"
	madeName = "folders" // the folders that the change creates, one per line
)

// A Change is a set of changes to files in and below one folder. Write and Remove are safe for
// concurrent use; the other methods are not.
type Change struct {
	// Waiting, if not nil, is called once if the change has to wait for the change of another
	// process.
	Waiting func()

	dir     string
	staging string
	begin   sync.Once
	failed  error // the error of begin
	lock    *os.File
	waited  bool

	made []string // folders that this change has created, among them dir

	signals chan os.Signal
	noted   chan struct{} // closed when no more signals arrive
	got     atomic.Pointer[os.Signal]

	mu     sync.Mutex
	next   int
	writes []write
	remove []string
}

// A write is a file that waits in the hidden folder.
type write struct {
	path   string // with links resolved
	staged string
	exists bool
}

// New returns an empty change of the folder dir, which need not exist.
func New(dir string) *Change {
	return &Change{dir: dir, staging: filepath.Join(dir, Folder)}
}

// An InterruptedError means that a signal asked the process to end, and that nothing was changed.
type InterruptedError struct{ Signal os.Signal }

// Error returns the message.
func (e *InterruptedError) Error() string {
	return fmt.Sprintf("%v: nothing was changed", e.Signal)
}

// Begin takes the lock and removes the files that a killed change has left. It blocks while another
// change holds the lock. Write and Remove call it; until then the change touches no file. Begin
// reports whether it had to wait, so that another process may have changed the folder.
func (c *Change) Begin() (waited bool, err error) {
	c.begin.Do(func() { c.failed = c.start() })
	return c.waited, c.failed
}

// Abandoned reports whether there is a hidden folder: that of a change in progress, or of one that
// was killed.
func (c *Change) Abandoned() bool {
	_, err := os.Lstat(c.staging)
	return err == nil
}

func (c *Change) start() error {
	// The first signal ends the change in an orderly way. A signal that is ignored since the start
	// of the process stays ignored.
	c.signals = make(chan os.Signal, 1)
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(s) {
			signal.Notify(c.signals, s)
		}
	}
	c.noted = make(chan struct{})
	go func() {
		defer close(c.noted)
		if s, ok := <-c.signals; ok {
			c.got.Store(&s)
		}
	}()
	var err error
	if c.made, err = makeFolders(c.dir); err != nil {
		return err
	}
	if err := c.acquire(); err != nil {
		return err
	}
	sys.CrashPoint("stage begun")
	return nil
}

// acquire creates the hidden folder and locks it. Another change may remove the folder between any
// two steps.
func (c *Change) acquire() error {
	pause := 2 * time.Millisecond
	for begun := time.Now(); ; {
		if err := c.interrupted(); err != nil {
			return err
		}
		if err := os.Mkdir(c.staging, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		sys.CrashPoint("stage folder made")
		name := filepath.Join(c.staging, lockName)
		lock, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o666)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("%w; if no ipcgen runs, remove the folder", err)
		}
		sys.CrashPoint("stage lock made")
		err = sys.LockFile(lock)
		if err == nil && sameFile(lock, name) {
			c.lock = lock
			return c.clean()
		}
		lock.Close()
		if errors.Is(err, errors.ErrUnsupported) {
			return c.doWithout()
		}
		if err == nil {
			continue // it was the lock of a change that has ended
		}
		if !errors.Is(err, sys.ErrLocked) {
			return err
		}
		c.waited = true
		if c.Waiting != nil && time.Since(begun) > time.Second {
			c.Waiting()
			c.Waiting = nil
		}
		time.Sleep(pause)
		pause = min(2*pause, 100*time.Millisecond)
	}
}

// doWithout creates a hidden folder for this change alone, on a system without locks.
func (c *Change) doWithout() (err error) {
	if c.staging, err = os.MkdirTemp(c.dir, Folder+"-*"); err != nil {
		return err
	}
	c.lock, err = os.Create(filepath.Join(c.staging, lockName))
	return err
}

// sameFile reports whether name still is the name of f.
func sameFile(f *os.File, name string) bool {
	a, err1 := f.Stat()
	b, err2 := os.Lstat(name)
	return err1 == nil && err2 == nil && os.SameFile(a, b)
}

// clean empties the hidden folder except for the lock, and removes the folders that a killed change
// has created and not filled.
func (c *Change) clean() error {
	entries, err := os.ReadDir(c.staging)
	if err != nil {
		return err
	}
	if text, err := os.ReadFile(filepath.Join(c.staging, madeName)); err == nil {
		for name := range strings.SplitSeq(string(text), "\n") {
			if filepath.IsLocal(name) && name != "." {
				removeFolder(filepath.Join(c.dir, name))
			}
		}
	}
	for _, e := range entries {
		if e.Name() != lockName {
			if err := os.Remove(filepath.Join(c.staging, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *Change) interrupted() error {
	if s := c.got.Load(); s != nil {
		return &InterruptedError{*s}
	}
	return nil
}

// name returns a new name in the hidden folder.
func (c *Change) name(suffix string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next++
	return filepath.Join(c.staging, strconv.Itoa(c.next)+suffix)
}

// Write makes data the content of the file at path. An existing file keeps its mode. If path is a
// symbolic link, the file behind it changes, not the link.
func (c *Change) Write(path string, data []byte) error {
	if _, err := c.Begin(); err != nil {
		return err
	}
	if err := c.interrupted(); err != nil {
		return err
	}
	w := write{path: path, staged: c.name(".new")}
	mode := fs.FileMode(0)
	if info, err := os.Lstat(path); err == nil {
		w.exists = true
		if info.Mode()&fs.ModeSymlink != 0 {
			if w.path, err = filepath.EvalSymlinks(path); err == nil {
				info, err = os.Stat(w.path)
			}
			if err != nil {
				return err
			}
		}
		if mode = info.Mode().Perm(); mode&0o200 == 0 {
			return &fs.PathError{Op: "write", Path: path, Err: errReadOnly}
		}
	}
	// os.CreateTemp is not used, because its mode 0600 would not follow the user's umask.
	f, err := os.OpenFile(w.staged, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if w.exists {
		err = errors.Join(err, f.Chmod(mode))
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	sys.CrashPoint("stage written")
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writes = append(c.writes, w)
	return nil
}

var errReadOnly = fmt.Errorf("the file is read-only (%w)", fs.ErrPermission)

// Remove removes the file at path, and its folder if that becomes empty.
func (c *Change) Remove(path string) error {
	if _, err := c.Begin(); err != nil {
		return err
	}
	if info, err := os.Lstat(path); err == nil && info.Mode().Perm()&0o200 == 0 {
		return &fs.PathError{Op: "remove", Path: path, Err: errReadOnly}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove = append(c.remove, path)
	return nil
}

// Reset discards all earlier calls of Write and Remove.
func (c *Change) Reset() {
	for _, w := range c.writes {
		os.Remove(w.staged)
	}
	c.writes, c.remove = nil, nil
}

// Close ends the change, and undoes it if it was not committed. It returns the signal that asked
// the process to end meanwhile, or nil.
func (c *Change) Close() os.Signal {
	if c.signals == nil {
		return nil
	}
	if c.lock != nil {
		c.clean()
		sys.CrashPoint("stage cleaned")
		// The lock file is removed before the lock is released, so that no process locks a removed
		// file. Windows does not remove an open file.
		if os.Remove(c.lock.Name()) != nil {
			c.lock.Close()
			os.Remove(c.lock.Name())
		}
		os.Remove(c.staging)
		c.lock.Close()
		c.lock = nil
	}
	os.Remove(c.staging) // unless another change uses it
	removeFolders(c.made)
	signal.Stop(c.signals)
	close(c.signals)
	<-c.noted
	c.signals = nil
	if s := c.got.Load(); s != nil {
		return *s
	}
	return nil
}

// Commit makes the change. After an error, all files are as before.
func (c *Change) Commit() (err error) {
	if len(c.writes)+len(c.remove) == 0 {
		return nil
	}
	if err := c.interrupted(); err != nil {
		return err
	}
	var undo []func()
	defer func() {
		if err != nil {
			for _, f := range slices.Backward(undo) {
				f()
			}
		}
	}()
	var folders []string
	for _, w := range c.writes {
		folders = append(folders, filepath.Dir(w.path))
	}
	slices.Sort(folders)
	for _, dir := range slices.Compact(folders) {
		made, err := makeFolders(dir)
		c.made = append(c.made, made...) // Close removes those that stay empty
		if err := errors.Join(err, c.noteFolders(made)); err != nil {
			return err
		}
	}
	sys.CrashPoint("stage folders made")
	if err := c.noteFolders(c.around(c.remove)); err != nil {
		return err
	}
	// Files are removed before new ones are added: on a file system that ignores case, a new file
	// may have the name of an old one.
	for _, path := range c.remove {
		old := c.name(".old")
		if err := move(path, old); err != nil {
			return err
		}
		undo = append(undo, func() { move(old, path) })
		sys.CrashPoint("stage removed")
	}
	for _, w := range c.writes {
		if w.exists {
			old := c.name(".old")
			switch err := keep(w.path, old); {
			case errors.Is(err, fs.ErrNotExist):
				w.exists = false // it was removed under another name
			case err != nil:
				return err
			default:
				undo = append(undo, func() { move(old, w.path) })
			}
		}
		if err := move(w.staged, w.path); err != nil {
			return err
		}
		if !w.exists {
			undo = append(undo, func() { os.Remove(w.path) })
		}
		sys.CrashPoint("stage placed")
	}
	removeFolders(c.around(c.remove))
	return nil
}

// around returns the folders that contain the files at paths, and their parents below c.dir,
// outermost first.
func (c *Change) around(paths []string) (folders []string) {
	for _, path := range paths {
		for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
			if rel, err := filepath.Rel(c.dir, dir); err != nil || rel == "." ||
				!filepath.IsLocal(rel) {
				break
			}
			folders = append(folders, dir)
		}
	}
	slices.Sort(folders) // a folder comes before those in it
	return slices.Compact(folders)
}

// removeFolder removes a folder if it is empty. It does not remove a link to a folder.
func removeFolder(dir string) bool {
	info, err := os.Lstat(dir)
	return err == nil && info.IsDir() && os.Remove(dir) == nil
}

// noteFolders records folders that are created or may become empty, for the case that the process
// is killed.
func (c *Change) noteFolders(made []string) error {
	if len(made) == 0 {
		return nil
	}
	f, err := os.OpenFile(filepath.Join(c.staging, madeName), os.O_WRONLY|os.O_CREATE|
		os.O_APPEND, 0o666)
	if err != nil {
		return err
	}
	for _, dir := range slices.Backward(made) {
		if rel, relErr := filepath.Rel(c.dir, dir); relErr == nil {
			_, writeErr := f.WriteString(rel + "\n")
			err = errors.Join(err, writeErr)
		}
	}
	return errors.Join(err, f.Close())
}

// makeFolders creates a folder and its parents, and returns those that were missing, outermost
// first.
func makeFolders(dir string) (made []string, err error) {
	var missing []string
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Stat(d); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		missing = append(missing, d)
		if d == filepath.Dir(d) {
			break
		}
	}
	for _, d := range slices.Backward(missing) {
		if err := os.Mkdir(d, 0o777); err == nil {
			made = append(made, d)
		} else if !errors.Is(err, fs.ErrExist) {
			return made, err
		}
	}
	if info, err := os.Stat(dir); err != nil {
		return made, err
	} else if !info.IsDir() {
		return made, &fs.PathError{Op: "mkdir", Path: dir, Err: syscall.ENOTDIR}
	}
	return made, nil
}

// removeFolders removes the folders that makeFolders created, unless they contain files.
func removeFolders(made []string) {
	for _, dir := range slices.Backward(made) {
		removeFolder(dir)
	}
}

// move moves a file and replaces an existing one. Between two file systems, to which a link or a
// mount below the folder can lead, it copies the file.
func move(from, to string) error {
	err := os.Rename(from, to)
	if !errors.Is(err, syscall.EXDEV) {
		return err
	}
	if err := copyFile(from, to); err != nil {
		return err
	}
	return os.Remove(from)
}

// keep gives a file the additional name old, or copies it on a file system without hard links.
func keep(path, old string) error {
	if err := os.Link(path, old); err == nil || errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return copyFile(path, old)
}

func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, info.Mode().Perm())
}
