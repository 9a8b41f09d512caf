package sys

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A DirWatch reports writes to the files of a directory, and closes of files that were open for
// writing. The kernel also closes the files of a process that dies.
//
// A DirWatch belongs to a path: if the path comes to name another directory, that one is watched
// from then on. While the kernel cannot watch, because the directory is gone or a limit of inotify
// is reached, the DirWatch reports every PollPeriod that anything may have changed, and tries again
// every CheckPeriod.
//
// All watches of a process share one inotify instance, because the number of instances per user is
// small.
type DirWatch struct {
	path string

	// Guarded by the mu of the notifier.
	wd int32 // unwatched while the kernel does not watch

	mu       sync.Mutex
	changed  map[string]bool // the changed files, and whether one was closed
	anything bool            // events were lost
	deadline time.Time
	closed   bool
	wake     chan struct{} // has an element when a field above has changed
}

const (
	watchedEvents = unix.IN_MODIFY | unix.IN_CLOSE_WRITE | unix.IN_CREATE | unix.IN_MOVED_TO |
		unix.IN_DELETE | unix.IN_ONLYDIR
	// unwatched is the watch descriptor of a DirWatch that the kernel does not serve.
	unwatched = -1
	// mostChanged is the number of names that are kept while Next is not called.
	mostChanged = 1024
)

// WatchDir starts to watch the files of a directory: writes, closes of files that were open for
// writing, new files and removed files.
func WatchDir(path string) (*DirWatch, error) {
	w := &DirWatch{path: path, wd: unwatched, changed: make(map[string]bool),
		wake: make(chan struct{}, 1)}
	notices.add(w)
	return w, nil
}

// Next blocks until there are events, and calls f with the name of each file that changed. closed
// is true if a process that had the file open for writing closed it, or died. An empty name means
// that any file may have changed. Next returns os.ErrClosed after Close, and os.ErrDeadlineExceeded
// after the deadline. One goroutine at a time may call Next.
func (w *DirWatch) Next(f func(name string, closed bool)) error {
	for {
		w.mu.Lock()
		changed, anything, deadline := w.changed, w.anything, w.deadline
		switch {
		case w.closed:
			w.mu.Unlock()
			return os.ErrClosed
		case !deadline.IsZero() && !time.Now().Before(deadline):
			w.mu.Unlock()
			return os.ErrDeadlineExceeded
		}
		if anything || len(changed) > 0 {
			w.changed, w.anything = make(map[string]bool), false
			w.mu.Unlock()
			if anything {
				f("", false)
			}
			for name, closed := range changed {
				f(name, closed)
			}
			return nil
		}
		w.mu.Unlock()
		if deadline.IsZero() {
			<-w.wake
			continue
		}
		timer := time.NewTimer(time.Until(deadline))
		select {
		case <-w.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// SetDeadline makes Next return os.ErrDeadlineExceeded at time t, also a call that blocks already.
// The zero time means no deadline.
func (w *DirWatch) SetDeadline(t time.Time) error {
	w.update(func() { w.deadline = t })
	return nil
}

// Poke makes Next report that any file may have changed.
func (w *DirWatch) Poke() { w.noteAnything() }

// Close ends the watch. A blocked Next returns os.ErrClosed.
func (w *DirWatch) Close() error {
	notices.remove(w)
	w.update(func() { w.closed = true })
	return nil
}

// update changes a field that Next reads, and wakes Next.
func (w *DirWatch) update(change func()) {
	w.mu.Lock()
	change()
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// noteFile records that a file has changed.
func (w *DirWatch) noteFile(name string, closed bool) {
	w.update(func() {
		if len(w.changed) == mostChanged {
			w.anything = true
			clear(w.changed)
		}
		w.changed[name] = w.changed[name] || closed
	})
}

func (w *DirWatch) noteAnything() { w.update(func() { w.anything = true }) }

// notices is the notifier of this process.
var notices notifier

// A notifier distributes the events of an inotify instance to watches.
type notifier struct {
	mu      sync.Mutex
	watches map[*DirWatch]struct{}
	byWD    map[int32]map[*DirWatch]struct{}
	f       *os.File    // the instance; nil while there is none
	check   *Check      // calls renew; nil while there are no watches
	polling *time.Timer // nil while the kernel serves all watches
	trouble error       // why the kernel does not watch a path
}

// WatchTrouble returns nil while the kernel reports all changes that this process watches for.
// Otherwise this process polls, and the error states the reason and a remedy.
func WatchTrouble() error {
	notices.mu.Lock()
	defer notices.mu.Unlock()
	return notices.trouble
}

func (n *notifier) add(w *DirWatch) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.watches == nil {
		n.watches = make(map[*DirWatch]struct{})
		n.byWD = make(map[int32]map[*DirWatch]struct{})
	}
	n.watches[w] = struct{}{}
	n.arm()
	if w.wd != unwatched { // the caller has not looked yet, so nothing has changed since
		w.update(func() { w.anything = false })
	}
	if n.check == nil {
		n.check = NewCheck(n.renew)
	}
	if n.polling == nil && w.wd == unwatched {
		n.polling = time.AfterFunc(PollPeriod, n.pollAgain)
	}
}

func (n *notifier) remove(w *DirWatch) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, there := n.watches[w]; !there {
		return
	}
	delete(n.watches, w)
	n.assign(w, unwatched)
	if len(n.watches) > 0 {
		return
	}
	go n.check.Stop() // waits for renew, which needs n.mu
	n.check, n.trouble = nil, nil
	if n.f != nil {
		n.f.Close() // which ends read
		n.f = nil
	}
}

// renew renews the watches of all paths. It polls while the kernel does not serve all of them.
func (n *notifier) renew() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.watches) == 0 {
		return
	}
	n.arm()
	if n.polling == nil && n.poll() {
		n.polling = time.AfterFunc(PollPeriod, n.pollAgain)
	}
}

func (n *notifier) pollAgain() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.poll() {
		n.polling.Reset(PollPeriod)
	} else {
		n.polling = nil
	}
}

// poll reports possible changes to the DirWatches that the kernel does not serve, if there are any.
// The caller must hold n.mu.
func (n *notifier) poll() (unserved bool) {
	for w := range n.watches {
		if w.wd == unwatched {
			unserved = true
			w.noteAnything()
		}
	}
	return unserved
}

// arm watches every path: those that are not watched yet, and those that name another directory
// than before. For all others the kernel returns the same descriptor as before.
func (n *notifier) arm() {
	n.trouble = nil
	if n.f == nil {
		fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
		if err != nil {
			n.trouble = explainWatch("inotify_init1", "", err)
			return
		}
		n.f = os.NewFile(uintptr(fd), "inotify")
		go n.read(n.f)
	}
	raw, err := n.f.SyscallConn()
	if err != nil {
		n.trouble = err
		return
	}
	known := make(map[string]int32)
	_ = raw.Control(func(fd uintptr) {
		for w := range n.watches {
			wd, done := known[w.path]
			if !done {
				wd = n.watch(int(fd), w.path)
				known[w.path] = wd
			}
			if wd != w.wd {
				n.assign(w, wd)
				w.noteAnything()
			}
		}
	})
}

func (n *notifier) watch(fd int, path string) (wd int32) {
	var got int
	err := ignoringEINTR(func() (err error) {
		got, err = unix.InotifyAddWatch(fd, path, watchedEvents)
		return err
	})
	if err != nil {
		n.trouble = explainWatch("inotify_add_watch", path, err)
		return unwatched
	}
	return int32(got)
}

// assign registers a DirWatch under another descriptor, and removes the former descriptor if no
// other DirWatch uses it.
func (n *notifier) assign(w *DirWatch, wd int32) {
	if old := n.byWD[w.wd]; w.wd != unwatched && old != nil {
		delete(old, w)
		if len(old) == 0 {
			delete(n.byWD, w.wd)
			n.drop(w.wd)
		}
	}
	w.wd = wd
	if wd == unwatched {
		return
	}
	if n.byWD[wd] == nil {
		n.byWD[wd] = make(map[*DirWatch]struct{})
	}
	n.byWD[wd][w] = struct{}{}
}

func (n *notifier) drop(wd int32) {
	if n.f == nil {
		return
	}
	if raw, err := n.f.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _, _ = unix.InotifyRmWatch(int(fd), uint32(wd)) })
	}
}

// read distributes the events of an instance until the instance is closed.
func (n *notifier) read(f *os.File) {
	buf := make([]byte, 16<<10)
	for {
		size, err := f.Read(buf)
		if err != nil {
			return
		}
		n.mu.Lock()
		for b := buf[:size]; len(b) >= unix.SizeofInotifyEvent; {
			wd := int32(binary.NativeEndian.Uint32(b))
			mask := binary.NativeEndian.Uint32(b[4:])
			end := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(b[12:]))
			name, _, _ := bytes.Cut(b[unix.SizeofInotifyEvent:end], []byte{0})
			n.deliver(wd, mask, string(name))
			b = b[end:]
		}
		n.mu.Unlock()
	}
}

func (n *notifier) deliver(wd int32, mask uint32, name string) {
	if mask&unix.IN_Q_OVERFLOW != 0 {
		for w := range n.watches {
			w.noteAnything()
		}
		return
	}
	all := n.byWD[wd]
	for w := range all {
		if mask&unix.IN_IGNORED != 0 { // the directory is gone
			w.wd = unwatched
			w.noteAnything()
			continue
		}
		w.noteFile(name, mask&unix.IN_CLOSE_WRITE != 0)
	}
	if mask&unix.IN_IGNORED != 0 {
		delete(n.byWD, wd)
	}
}

// explainWatch names the limit of inotify that was reached, and the remedy.
func explainWatch(call, path string, err error) error {
	return fmt.Errorf("%w; until then changes are polled for", Explain(call, path, err))
}
