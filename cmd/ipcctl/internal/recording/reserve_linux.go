package recording

import (
	"errors"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// reserve takes room on the disk for a file of n bytes, without making the file longer.
func reserve(f *os.File, n int64) error {
	for {
		err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, n)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// fileLimit returns the greatest size that the process may give a file.
func fileLimit() int64 {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &l); err != nil || l.Cur > math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(l.Cur)
}
