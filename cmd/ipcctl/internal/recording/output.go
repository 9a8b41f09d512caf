package recording

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// An output is where a Writer writes.
type output interface {
	// reserve makes sure that the file can grow to n bytes.
	reserve(n int64) error
	// append writes all of b, or nothing.
	append(b []byte) error
	size() int64
	failed() bool // append has failed
	close() error
}

// A streamOutput is a pipe, for instance.
type streamOutput struct {
	w      io.Writer
	n, max int64
	broken bool
}

func (o *streamOutput) reserve(n int64) error {
	if o.max > 0 && n > o.max {
		return ErrFull
	}
	return nil
}

func (o *streamOutput) append(b []byte) error {
	n, err := o.w.Write(b)
	o.n += int64(n)
	o.broken = err != nil
	return err
}

func (o *streamOutput) size() int64  { return o.n }
func (o *streamOutput) failed() bool { return o.broken }
func (o *streamOutput) close() error { return nil }

// A fileOutput is a file.
type fileOutput struct {
	f        *os.File
	n        int64 // bytes in whole records
	max      int64 // 0 for no limit
	reserved int64
	limit    int64 // of the process for its files
	broken   bool
}

func newFileOutput(f *os.File, limit int64) *fileOutput {
	return &fileOutput{f: f, max: limit, limit: fileLimit()}
}

// slack is how much is reserved at a time.
const slack = 4 << 20

// reserve implements output. The disk's room is taken before anything is written to it, because a
// disk that is full in the middle of a chunk has no room for the end of the file.
func (o *fileOutput) reserve(n int64) error {
	switch {
	case o.max > 0 && n > o.max:
		return ErrFull
	case n > o.limit:
		return fmt.Errorf("%s: the size of files is limited to %d bytes (ulimit -f): %w",
			o.f.Name(), o.limit, errLimit)
	case n <= o.reserved:
		return nil
	}
	most := min(n+slack, o.limit)
	if o.max > 0 {
		most = min(most, o.max)
	}
	err := reserve(o.f, most)
	if err != nil && most > n {
		most = n
		err = reserve(o.f, most)
	}
	if errors.Is(err, errors.ErrUnsupported) {
		err = nil
	}
	if err != nil {
		return fmt.Errorf("%s: no room for more: %w", o.f.Name(), err)
	}
	o.reserved = most
	return nil
}

// errLimit is the error of the process's limit.
var errLimit = errors.New("file too large")

func (o *fileOutput) append(b []byte) error {
	n, err := o.f.WriteAt(b, o.n)
	if err == nil {
		o.n += int64(n)
		return nil
	}
	o.broken = true
	return errors.Join(err, o.f.Truncate(o.n))
}

func (o *fileOutput) size() int64  { return o.n }
func (o *fileOutput) failed() bool { return o.broken }

// close gives back what was reserved, and waits for the disk.
func (o *fileOutput) close() error {
	return errors.Join(o.f.Truncate(o.n), o.f.Sync(), o.f.Close())
}
