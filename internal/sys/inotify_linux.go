package sys

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A DirWatch tells of writes to the files of one directory and of their last
// writer's close, which the kernel also does for a process that dies. It waits
// on the netpoller and holds no thread.
type DirWatch struct {
	f   *os.File
	buf [16 << 10]byte
}

// WatchDir starts to watch the files of a directory: for writes to them, for
// closes of a descriptor that could write, for new ones and for removed ones.
func WatchDir(path string) (*DirWatch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		err = fmt.Errorf("watch %s: %w", path, err)
		if errors.Is(err, unix.EMFILE) {
			err = fmt.Errorf("%w (raise the sysctl fs.inotify.max_user_instances or the limit of open files)", err)
		}
		return nil, err
	}
	const mask = unix.IN_MODIFY | unix.IN_CLOSE_WRITE | unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_DELETE | unix.IN_ONLYDIR
	err = ignoringEINTR(func() error {
		_, err := unix.InotifyAddWatch(fd, path, mask)
		return err
	})
	if err != nil {
		unix.Close(fd)
		return nil, &os.PathError{Op: "watch", Path: path, Err: err}
	}
	return &DirWatch{f: os.NewFile(uintptr(fd), "inotify:"+path)}, nil
}

// Next waits for events and calls f with the name of each file that changed;
// closed is set when a writer closed it, or died. An empty name means that
// events were lost and anything may have changed. Only one goroutine may call
// Next at a time.
func (w *DirWatch) Next(f func(name string, closed bool)) error {
	n, err := w.f.Read(w.buf[:])
	if err != nil {
		return err
	}
	for b := w.buf[:n]; len(b) >= unix.SizeofInotifyEvent; {
		mask := binary.NativeEndian.Uint32(b[4:])
		size := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(b[12:]))
		name, _, _ := bytes.Cut(b[unix.SizeofInotifyEvent:size], []byte{0})
		f(string(name), mask&unix.IN_CLOSE_WRITE != 0)
		b = b[size:]
	}
	return nil
}

// SetDeadline makes Next return an error that wraps os.ErrDeadlineExceeded at
// time t; a call that waits already notices. The zero time means never.
func (w *DirWatch) SetDeadline(t time.Time) error { return w.f.SetReadDeadline(t) }

// Close ends the watch; a waiting Next returns os.ErrClosed.
func (w *DirWatch) Close() error { return w.f.Close() }
