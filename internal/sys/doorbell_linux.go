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

// A Doorbell wakes another process that waits, and lets that process wake this one. It is one end
// of a pair of sockets that carry nothing else.
//
// The bytes that arrive are not read. The netpoller reports their arrival, and their meaning is in
// shared memory. This saves the two reads that a wait for bytes otherwise needs, one that finds
// nothing and one that finds the byte; they take nearly half of a round trip between two sleeping
// processes. The bytes in the socket are discarded now and then, so that its buffer never fills up.
//
// An eventfd would be slightly cheaper. But both processes would share its open file, and one of
// them could make the other's write block.
type Doorbell struct {
	conn       *net.UnixConn
	raw        syscall.RawConn
	ring, step func(fd uintptr) bool // created once, so that no call allocates
	expected   atomic.Uint32         // number of bytes that may lie unread

	mu              sync.Mutex
	waiting, closed bool

	// Of the Wait in progress.
	look   func() bool
	looked bool
}

const (
	// mayLie is the number of bytes that may lie unread before they are discarded. The kernel
	// accounts for somewhat less than a kilobyte each.
	mayLie = 32
	// doorbellBuffer is the size of the socket's send buffer, in bytes.
	doorbellBuffer = 64 << 10
)

// NewDoorbell creates a pair of doorbells. It returns the doorbell of this process, and the file
// for the other process to pass to [OpenDoorbell].
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

// OpenDoorbell returns the doorbell of an end that another process has created. It closes f.
func OpenDoorbell(f *os.File) (*Doorbell, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err // without "file file+net" and the name that the file was given
		}
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

// ringer returns a function that sends one byte.
func ringer() func(fd uintptr) bool {
	one := []byte{0}
	return func(fd uintptr) bool {
		// A full buffer means that the peer does not discard its bytes, any other error that the
		// peer is gone. Neither can be repaired here.
		for errors.Is(unix.Sendto(int(fd), one, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL,
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

// Expect increases the number of bytes that can lie unread. It must be called before this side
// allows the peer to ring once.
func (d *Doorbell) Expect() { d.expected.Add(1) }

// Wait calls look and, unless look returns true, blocks until the peer rings or this side pokes. A
// ring that comes after the call of look is never missed. A ring that came before is ignored; look
// must therefore check what the peer did before it rang, and ask the peer again if the peer rings
// once per request. Wait fails with net.ErrClosed after Close. One goroutine at a time may wait.
func (d *Doorbell) Wait(look func() bool) error {
	if !d.enter(look) {
		return net.ErrClosed
	}
	err := d.raw.Read(d.step)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		// Poked. The deadline is reset before the caller checks why it was poked, so that no later
		// Poke is lost.
		err = d.conn.SetReadDeadline(time.Time{})
	}
	if d.leave() {
		return net.ErrClosed
	}
	return err
}

// lookOnce is called by Wait: first after the netpoller has forgotten earlier events, and then
// after each event.
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

// drain discards the bytes that have arrived, up to several times the number that may lie. The
// limit keeps a peer that never stops sending from keeping this side busy.
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

// Poke makes the current or the next Wait of this side return. After Close it fails, when no
// goroutine waits any more.
func (d *Doorbell) Poke() { _ = d.conn.SetReadDeadline(time.Unix(1, 0)) }

// Close makes the current Wait and all later ones fail. It may be called from within look.
func (d *Doorbell) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	CrashPoint("doorbell close")
	if d.waiting {
		d.Poke() // the waiting goroutine closes it: the netpoller holds on to it until then
		return nil
	}
	return d.conn.Close()
}
