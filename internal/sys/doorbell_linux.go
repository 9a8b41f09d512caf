package sys

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Doorbell wakes another process that waits, and lets it wake this one. It is one end
// of a pair of sockets that carry nothing else.
//
// Nobody reads what arrives: that it arrives is what the netpoller tells, and what it
// is about stands in shared memory. This saves the two reads that a wait for bytes
// otherwise takes, one that finds nothing and one that finds the byte, which are nearly
// half of the whole round trip between two sleepers. Only now and then the notes
// that lie in the socket are thrown away, so that its buffer never fills up.
//
// An eventfd would do with a little less, but both processes would have the same open file
// then, and one of them could make the other's write to it block.
type Doorbell struct {
	conn       *net.UnixConn
	raw        syscall.RawConn
	ring, step func(fd uintptr) bool // made once, so that nothing allocates
	expected   atomic.Uint32         // how many notes may lie unread

	mu              sync.Mutex
	waiting, closed bool

	// Of the Wait under way.
	look   func() bool
	looked bool
}

const (
	// mayLie is how many notes may lie unread before they are thrown away. The
	// kernel accounts for somewhat less than a kilobyte each.
	mayLie = 32
	// doorbellBuffer is what the kernel is asked to let lie, in bytes.
	doorbellBuffer = 64 << 10
)

// NewDoorbell makes a pair of doorbells: this process's, and the file to give to
// the other process, where OpenDoorbell makes it one.
func NewDoorbell() (mine *Doorbell, theirs *os.File, err error) {
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|
		unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a doorbell: %w", Explain("socketpair", "", err))
	}
	CrashPoint("doorbell made")
	theirs = os.NewFile(uintptr(ends[1]), "doorbell")
	if mine, err = OpenDoorbell(os.NewFile(uintptr(ends[0]), "doorbell")); err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return mine, theirs, nil
}

// OpenDoorbell makes a doorbell of an end that another process has made, and closes f.
func OpenDoorbell(f *os.File) (*Doorbell, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("open a doorbell: %w", ExplainOf(err))
	}
	conn, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, errors.New("open a doorbell: it is a socket of another kind")
	}
	raw, err := conn.SyscallConn()
	if err == nil {
		err = conn.SetWriteBuffer(doorbellBuffer)
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("open a doorbell: %w", ExplainOf(err))
	}
	CrashPoint("doorbell opened")
	d := &Doorbell{conn: conn, raw: raw}
	d.ring, d.step = ringer(), d.lookOnce
	return d, nil
}

// ringer sends one byte.
func ringer() func(fd uintptr) bool {
	note := []byte{0}
	return func(fd uintptr) bool {
		// A full buffer means that the peer does not throw away what it has been told, and
		// any other error that it is gone. Neither is ours to mend.
		for errors.Is(unix.Sendto(int(fd), note, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL,
			nil), unix.EINTR) {
		}
		return true // never wait
	}
}

// Ring wakes the peer's Wait. It never blocks.
func (d *Doorbell) Ring() {
	CrashPoint("notify")
	_ = d.raw.Write(d.ring)
	CrashPoint("notified")
}

// Expect must be called before this side lets the peer know, once, that it may
// ring: it counts how many notes can lie unread.
func (d *Doorbell) Expect() { d.expected.Add(1) }

// Wait calls look and, unless that returns true, waits until the peer rings or this side
// pokes. No ring is missed that comes after look was called; one that came before is, so
// look must look at what the peer did before it rang, and a peer that rings once
// for each time that it is asked to must be asked by look. It fails with net.ErrClosed
// after Close. One goroutine at a time may wait.
func (d *Doorbell) Wait(look func() bool) error {
	if !d.enter(look) {
		return net.ErrClosed
	}
	err := d.raw.Read(d.step)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		// Poked. It is taken back before the caller looks at what it was poked
		// for, so that no later Poke is lost.
		err = d.conn.SetReadDeadline(time.Time{})
	}
	if d.leave() {
		return net.ErrClosed
	}
	return err
}

// lookOnce is called by Wait, first when the netpoller has forgotten what came before,
// and then when something has come.
func (d *Doorbell) lookOnce(fd uintptr) (done bool) {
	if d.looked {
		CrashPoint("doorbell heard")
		return true
	}
	d.looked = true
	if n := d.expected.Load(); n >= mayLie {
		d.drain(fd)
		d.expected.Add(-n)
	}
	CrashPoint("doorbell look")
	return d.look()
}

// drain throws away the notes that have come: up to several times those that may lie, so
// that a peer which sends more and more does not keep this side busy.
func (d *Doorbell) drain(fd uintptr) {
	var buf [2 * mayLie]byte
	for range 4 {
		n, _, err := unix.Recvfrom(int(fd), buf[:], unix.MSG_DONTWAIT)
		CrashPoint("doorbell drained")
		if !errors.Is(err, unix.EINTR) && (err != nil || n < len(buf)) {
			return
		}
	}
}

func (d *Doorbell) enter(look func() bool) (open bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	d.waiting, d.look, d.looked = true, look, false
	return true
}

func (d *Doorbell) leave() (closed bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.waiting, d.look = false, nil
	if d.closed {
		d.conn.Close()
	}
	return d.closed
}

// Poke makes the current or the next Wait of this side return.
// fails once it is closed, when nobody waits any more
func (d *Doorbell) Poke() { _ = d.conn.SetReadDeadline(time.Unix(1, 0)) }

// Close makes every Wait fail, now and later. It may be called from within look.
func (d *Doorbell) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	CrashPoint("doorbell close")
	if d.waiting {
		d.Poke() // who waits closes it: the netpoller does not let go of it before
		return nil
	}
	return d.conn.Close()
}
