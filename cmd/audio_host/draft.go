package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// A draft is a file that has another name, beside its own, until it is complete.
type draft struct {
	*os.File
	path string // its own
}

// errNotRegular means that a name is that of a folder, a device or a pipe.
var errNotRegular = errors.New("it is not a regular file")

// createDraft begins a file. What has its name stays until commit: a file, whose permissions the
// new one takes over, or a link to a file, which goes on to be one.
func createDraft(path string) (*draft, error) {
	d, err := openDraft(path)
	if err != nil {
		return nil, fmt.Errorf("cannot write %s: %w", path, err)
	}
	return d, nil
}

func openDraft(path string) (*draft, error) {
	info, err := os.Stat(path)
	exists := err == nil
	switch {
	case exists && !info.Mode().IsRegular():
		return nil, errNotRegular
	case exists && info.Mode().Perm()&0o200 == 0:
		return nil, fmt.Errorf("it is read-only (%w)", fs.ErrPermission)
	case exists:
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return nil, err
		}
	default:
		if _, err := os.Lstat(path); err == nil {
			return nil, errors.New("it is a link to a file that does not exist")
		}
	}
	// os.CreateTemp is not used, because its mode 0600 would not follow the user's umask.
	f, err := os.OpenFile(filepath.Join(filepath.Dir(path), fmt.Sprintf(".%s.%08x.tmp",
		filepath.Base(path), rand.Uint32())), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return nil, err
	}
	d := &draft{f, path}
	if exists {
		if err := f.Chmod(info.Mode().Perm()); err != nil {
			d.abandon()
			return nil, err
		}
	}
	return d, nil
}

// commit gives the file its name, once its content is on the disk.
func (d *draft) commit() error {
	err := d.Sync()
	if err == nil {
		err = os.Rename(d.Name(), d.path)
	}
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", d.path, err)
	}
	return d.Close()
}

// abandon removes the file.
func (d *draft) abandon() {
	_ = errors.Join(d.Close(), os.Remove(d.Name())) // the error that led here is reported
}

// sameFile reports whether two names are of one file, which need not exist yet.
func sameFile(a, b string) bool {
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	if errA == nil || errB == nil {
		return errA == nil && errB == nil && os.SameFile(infoA, infoB)
	}
	return place(a) == place(b)
}

// place returns a name without links in its folder.
func place(path string) string {
	dir := filepath.Dir(path)
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	return filepath.Join(dir, filepath.Base(path))
}
