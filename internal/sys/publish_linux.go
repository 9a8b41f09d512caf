package sys

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// PublishFile creates the file dir/name, with mode 0600 and the content that fill writes. The file
// appears atomically with its whole content. A process that is killed meanwhile leaves no file, or
// a temporary file on file systems without O_TMPFILE. An error that wraps os.ErrExist means that
// the name exists; that file is unchanged.
func PublishFile(dir, name string, fill func(*os.File) error) error {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) {
		return publishByTemp(dir, name, fill)
	}
	if err != nil {
		return Explain("create a file in", dir, err)
	}
	path := filepath.Join(dir, name)
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	if err := fillSafely(f, fill); err != nil {
		return err
	}
	self := "/proc/self/fd/" + strconv.Itoa(fd)
	if err := unix.Linkat(unix.AT_FDCWD, self, unix.AT_FDCWD, path,
		unix.AT_SYMLINK_FOLLOW); err != nil {
		return Explain("linkat", path, err)
	}
	return nil
}

// fillSafely calls fill, and waits until the content is on the disk. Otherwise a loss of power
// could leave the name without the content.
func fillSafely(f *os.File, fill func(*os.File) error) error {
	if err := fill(f); err != nil {
		return ExplainOf(err)
	}
	return ExplainOf(f.Sync())
}

func publishByTemp(dir, name string, fill func(*os.File) error) error {
	return viaTemp(dir, name, fill, os.Link)
}

// ReplaceFile is like [PublishFile], for a name that exists. A process that opens the name gets the
// old file or the whole new one.
func ReplaceFile(dir, name string, fill func(*os.File) error) error {
	return viaTemp(dir, name, fill, os.Rename)
}

func viaTemp(dir, name string, fill func(*os.File) error, place func(from, to string) error) error {
	f, err := os.CreateTemp(dir, name+".*.tmp")
	if err != nil {
		return ExplainOf(err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := fillSafely(f, fill); err != nil {
		return err
	}
	return ExplainOf(place(f.Name(), filepath.Join(dir, name)))
}

// Allocate sets the size of f in bytes and reserves the room, so that a later access to its mapping
// cannot fault for lack of space.
func Allocate(f *os.File, size int64) error {
	err := ignoringEINTR(func() error { return unix.Fallocate(int(f.Fd()), 0, 0, size) })
	if errors.Is(err, unix.EOPNOTSUPP) {
		err = f.Truncate(size)
	}
	if err != nil {
		return fmt.Errorf("%d bytes: %w", size, Explain("fallocate", f.Name(), err))
	}
	return nil
}
