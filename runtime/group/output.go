package group

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipcgen/ipcgen/internal/sys"
)

// This file handles the output of the replicas. The supervisor reads the pipe of every replica to
// its end, even if what it has read is dropped, because a process that writes to a pipe waits for
// its reader, and dies when there is none. A sink takes the output, has room for some of it, and
// drops the rest.

// A tail keeps the last lines that are written to it.
type tail struct {
	mu   sync.Mutex
	last []byte
}

const tailSize = 2 << 10

func (t *tail) add(p []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = append(t.last, p[max(0, len(p)-tailSize):]...)
	if n := len(t.last) - tailSize; n > 0 {
		t.last = append(t.last[:0], t.last[n:]...)
	}
}

// lines returns the last lines written, at most ten.
func (t *tail) lines() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(string(t.last)), "\n")
	return strings.Join(lines[max(0, len(lines)-10):], "\n")
}

const (
	// sinkRoom is the number of bytes that can wait for a writer.
	sinkRoom = 1 << 20
	// sinkPatience is the time for which the output of a replica waits for a slower writer, each
	// time that the writer has taken something.
	sinkPatience = 100 * time.Millisecond
	// sinkGrace is the time for which a group that ends waits for its writers.
	sinkGrace = 2 * time.Second
	// pipeRoom is the number of bytes that a pipe holds by default.
	pipeRoom = 64 << 10
)

// A sink is a writer of the user, with the one goroutine that calls it. The writer may be slow,
// fail, panic or block forever: put never waits for longer than sinkPatience.
type sink struct {
	w     io.Writer
	owned *os.File // closed at the end; may be nil
	log   *slog.Logger
	lost  *atomic.Uint64 // counts the dropped bytes

	mu      sync.Mutex
	changed *sync.Cond // a field below has changed
	queue   [][]byte
	size    int    // of queue and of the bytes that are being written
	stuck   bool   // the writer has not taken anything for sinkPatience
	dropped uint64 // bytes for which there was no room, since the last mark
	closed  bool
	done    chan struct{}
}

// newSink returns a sink of w. If owned is not nil, the sink closes it at the end.
func newSink(w io.Writer, owned *os.File, log *slog.Logger, lost *atomic.Uint64) *sink {
	s := &sink{w: w, owned: owned, log: log, lost: lost, done: make(chan struct{})}
	s.changed = sync.NewCond(&s.mu)
	go s.run()
	return s
}

// put queues b, which belongs to the sink from then on.
func (s *sink) put(b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.fits(b) && !s.stuck {
		s.awaitRoom(b)
	}
	if !s.fits(b) || s.closed {
		s.dropped += uint64(len(b))
		s.lost.Add(uint64(len(b)))
		return
	}
	if s.dropped > 0 {
		b = append(lossMark(s.dropped, "the reader is too slow"), b...)
		s.dropped = 0
	}
	s.queue = append(s.queue, b)
	s.size += len(b)
	s.changed.Broadcast()
}

// fits reports whether there is room for b, or the sink is empty.
func (s *sink) fits(b []byte) bool { return s.size == 0 || s.size+len(b) <= sinkRoom }

// awaitRoom blocks until b fits, or marks the writer as stuck. The caller must hold s.mu.
func (s *sink) awaitRoom(b []byte) {
	ctx, cancel := withPatience(context.Background(), sinkPatience)
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.changed.Broadcast()
	})
	defer stop()
	for !s.fits(b) && !s.closed && ctx.Err() == nil {
		s.changed.Wait()
	}
	s.stuck = !s.fits(b)
}

// lossMark returns the line that stands in the output for dropped bytes.
func lossMark(n uint64, why string) []byte {
	return fmt.Appendf(nil, "\n[ipcgen: %d bytes of output are missing here: %s]\n", n, why)
}

func (s *sink) run() {
	defer close(s.done)
	if s.owned != nil {
		defer s.owned.Close()
	}
	var failed uint64 // bytes refused by the writer since it last took any
	for {
		b, ok := s.next()
		if !ok {
			return
		}
		if failed > 0 {
			b = append(lossMark(failed, "writing failed"), b...)
		}
		n, err := s.write(b)
		switch {
		case err == nil:
			failed = 0
		case failed == 0:
			s.log.Warn("output of replicas cannot be written, and is dropped until it can", "err",
				err)
			fallthrough
		default:
			failed += uint64(len(b) - n)
			s.lost.Add(uint64(len(b) - n))
		}
	}
}

// next returns the bytes to write next. The result of the previous call has been written.
func (s *sink) next() (b []byte, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.size = 0
	for _, b := range s.queue {
		s.size += len(b)
	}
	s.stuck = false
	s.changed.Broadcast()
	for len(s.queue) == 0 {
		if s.closed {
			return nil, false
		}
		s.changed.Wait()
	}
	b, s.queue = s.queue[0], s.queue[1:]
	return b, true
}

// write calls the writer, on a goroutine of its own. A writer that panics or ends its goroutine has
// failed, and took nothing.
func (s *sink) write(b []byte) (n int, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if v := recover(); v != nil {
				err = fmt.Errorf("the writer panicked: %v", v)
			}
		}()
		err = errors.New("the writer ended its goroutine (runtime.Goexit)")
		n, err = s.w.Write(b)
	}()
	<-done
	switch {
	case n < 0 || n > len(b):
		return 0, fmt.Errorf("the writer says that it took %d bytes of %d", n, len(b))
	case err == nil && n < len(b):
		err = io.ErrShortWrite
	}
	return n, err
}

// close ends the sink when everything is written. It waits for that until giveUp is closed. If the
// writer blocks then, only the goroutine that called it is left.
func (s *sink) close(giveUp <-chan struct{}) {
	s.mu.Lock()
	s.closed = true
	if s.dropped > 0 {
		s.queue = append(s.queue, lossMark(s.dropped, "the reader is too slow"))
	}
	s.changed.Broadcast()
	s.mu.Unlock()
	select {
	case <-s.done:
	case <-giveUp:
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, b := range s.queue {
			s.lost.Add(uint64(len(b)))
		}
		s.queue = nil
	}
}

// An output has the sinks of the output of a group's replicas.
type output struct {
	stdout, stderr *sink
	// Files that replicas may hold themselves, or nil. A regular file neither blocks nor ends the
	// processes that write to it.
	stdoutFile, stderrFile *os.File
	whole                  bool // lines are written whole, with a prefix
	log                    *slog.Logger
	lost                   atomic.Uint64
}

// newOutput returns the output of a group. If the same writer is given twice, one goroutine calls
// it.
func newOutput(cfg *Config) (*output, error) {
	o := &output{whole: cfg.Prefix != nil, log: cfg.Logger}
	if cfg.Prefix == nil {
		o.stdoutFile = harmless(cfg.Stdout)
		if cfg.Survive {
			o.stderrFile = harmless(cfg.Stderr) // otherwise the supervisor keeps the tail of it
		}
	}
	var err error
	if o.stdout, err = o.sink(cfg.Stdout); err != nil {
		return nil, fmt.Errorf("group %s: standard output: %w", cfg.Service, err)
	}
	if o.stderr = o.stdout; same(cfg.Stdout, cfg.Stderr) {
		return o, nil
	}
	if o.stderr, err = o.sink(cfg.Stderr); err != nil {
		o.close()
		return nil, fmt.Errorf("group %s: standard error: %w", cfg.Service, err)
	}
	return o, nil
}

// sink returns a sink of a writer. It writes to a file through a descriptor of its own, because the
// Go runtime ends a process that writes to a broken pipe through descriptor 1 or 2.
func (o *output) sink(w io.Writer) (*sink, error) {
	f, ok := w.(*os.File)
	if !ok {
		return newSink(w, nil, o.log, &o.lost), nil
	}
	own, err := sys.Duplicate(f)
	if err != nil {
		return nil, err
	}
	return newSink(own, own, o.log, &o.lost), nil
}

// harmless returns w if it is a file that replicas may write to themselves.
func harmless(w io.Writer) *os.File {
	f, ok := w.(*os.File)
	if !ok {
		return nil
	}
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return nil
	}
	return f
}

// same reports whether two writers are the same.
func same(a, b io.Writer) bool {
	t := reflect.TypeOf(a)
	return t == reflect.TypeOf(b) && t.Comparable() && a == b
}

// lines returns the object that assembles the lines of a replica, or nil.
func (o *output) lines(prefix string) *lines {
	if !o.whole {
		return nil
	}
	return &lines{prefix: prefix}
}

// close ends the sinks. It waits for their writers for sinkGrace at most.
func (o *output) close() {
	ctx, cancel := withPatience(context.Background(), sinkGrace)
	defer cancel()
	o.stdout.close(ctx.Done())
	if o.stderr != nil && o.stderr != o.stdout {
		o.stderr.close(ctx.Done())
	}
}

// A stream is the standard output or standard error of a replica, as read by this process.
type stream struct {
	r     *os.File
	to    *sink
	own   bool   // the sink belongs to this stream alone
	tail  *tail  // may be nil
	lines *lines // nil without a prefix
	ended chan struct{}
}

// read starts to read.
func (s *stream) read() {
	s.ended = make(chan struct{})
	go func() {
		defer close(s.ended)
		defer s.r.Close()
		buf := make([]byte, 32<<10)
		for {
			n, err := s.r.Read(buf)
			s.pass(buf[:n])
			if errors.Is(err, os.ErrDeadlineExceeded) {
				s.drain(buf)
			}
			if err != nil {
				break
			}
		}
		if s.lines != nil {
			if b := s.lines.rest(); b != nil {
				s.to.put(b)
			}
		}
	}()
}

// drain reads what is in the pipe, and does not wait. A reader whose deadline has passed need not
// have tried: the whole process may have stood still. A descendant that goes on to write cannot
// keep the reader for longer than it takes to read what a pipe holds.
func (s *stream) drain(buf []byte) {
	for left := pipeRoom; left > 0; {
		n, err := sys.ReadNow(s.r, buf)
		if n == 0 || err != nil {
			return
		}
		s.pass(buf[:n])
		left -= n
	}
}

func (s *stream) pass(b []byte) {
	if len(b) == 0 {
		return
	}
	if s.tail != nil {
		s.tail.add(b)
	}
	if s.lines == nil {
		s.to.put(bytes.Clone(b))
	} else if whole := s.lines.add(b); whole != nil {
		s.to.put(whole)
	}
}

// end reads the rest of the output of a dead process. A descendant that has escaped may keep the
// pipe open; end does not wait for that one.
func (s *stream) end() {
	s.r.SetReadDeadline(time.Now().Add(time.Second))
	<-s.ended
	if s.own {
		ctx, cancel := withPatience(context.Background(), sinkGrace)
		defer cancel()
		s.to.close(ctx.Done())
	}
}

// longestLine is the length of the longest line that is assembled. A longer line is cut.
const longestLine = 16 << 10

// cutMark ends a piece of a line that is too long.
const cutMark = " [cut: the line goes on]"

// lines assembles whole lines, each with a prefix, from output that arrives in pieces.
type lines struct {
	prefix  string
	partial []byte
}

// add returns the lines that b completes, or nil.
func (l *lines) add(b []byte) (whole []byte) {
	for len(b) > 0 {
		at, found := bytes.IndexByte(b, '\n'), true
		if at < 0 {
			at, found = len(b), false
		}
		if room := longestLine - len(l.partial); at > room {
			l.partial, b = append(l.partial, b[:room]...), b[room:]
			whole = l.flush(whole, cutMark)
			continue
		}
		l.partial, b = append(l.partial, b[:at]...), b[at:]
		if found {
			whole, b = l.flush(whole, ""), b[1:]
		}
	}
	return whole
}

// rest returns an unfinished last line, or nil.
func (l *lines) rest() []byte {
	if len(l.partial) == 0 {
		return nil
	}
	return l.flush(nil, "")
}

func (l *lines) flush(to []byte, mark string) []byte {
	to = append(to, l.prefix...)
	to = append(to, l.partial...)
	to = append(append(to, mark...), '\n')
	l.partial = l.partial[:0]
	return to
}
