//go:build !linux

package sys

import "os"

// OutliveReaders makes writes fail after their reader is gone.
func OutliveReaders() {}

// Duplicate returns another descriptor of f's open file description.
func Duplicate(f *os.File) (*os.File, error) { return nil, unsupported("duplicate a descriptor") }

// ReadNow reads what there is in a pipe.
func ReadNow(f *os.File, b []byte) (int, error) { return 0, unsupported("read a pipe") }

// FileID returns a number that identifies f among the pipes of the machine.
func FileID(f *os.File) (uint64, error) { return 0, unsupported("identify a pipe") }

// OpenPipe opens the reading end of a pipe of another process.
func OpenPipe(pid, fd int, id uint64) (*os.File, error) { return nil, unsupported("open a pipe") }
