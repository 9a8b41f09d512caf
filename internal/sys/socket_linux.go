package sys

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Cred is who is at the other end of a socket, as the kernel vouches for it.
type Cred struct{ PID, UID, GID int }

// A Socket is a connected Unix stream socket, waited for on the netpoller.
type Socket struct {
	*net.UnixConn
	raw  syscall.RawConn
	ring func(fd uintptr) bool // made once, so that Notify does not allocate
}

func newSocket(c *net.UnixConn) (*Socket, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		c.Close()
		return nil, err
	}
	note := []byte{NotifyByte}
	s := &Socket{UnixConn: c, raw: raw}
	s.ring = func(fd uintptr) bool {
		// A full socket buffer means that the peer has unread notes already,
		// and an error that it is gone, which reading will tell.
		for errors.Is(unix.Sendto(int(fd), note, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, nil), unix.EINTR) {
		}
		return true // never wait
	}
	return s, nil
}

// NotifyByte is what Notify sends.
const NotifyByte = 'w'

// Notify sends one byte to the peer and never blocks: when the socket's buffer
// is full the peer has notes to read anyway.
func (s *Socket) Notify() {
	CrashPoint("notify")
	_ = s.raw.Write(s.ring)
	CrashPoint("notified")
}

// PeerCred returns the credentials that the peer had when it connected, or
// listened.
func (s *Socket) PeerCred() (Cred, error) {
	var uc *unix.Ucred
	var err error
	if cerr := s.raw.Control(func(fd uintptr) {
		uc, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); cerr != nil {
		return Cred{}, cerr
	}
	if err != nil {
		return Cred{}, os.NewSyscallError("read peer credentials", err)
	}
	return Cred{PID: int(uc.Pid), UID: int(uc.Uid), GID: int(uc.Gid)}, nil
}

// WriteWithFile writes p, with f's descriptor attached to its first byte.
func (s *Socket) WriteWithFile(p []byte, f *os.File) error {
	CrashPoint("send file")
	n, _, err := s.WriteMsgUnix(p, unix.UnixRights(int(f.Fd())), nil)
	if err != nil {
		return err
	}
	if n < len(p) {
		_, err = s.Write(p[n:])
	}
	return err
}

// ReadWithFile reads at least one byte into p, and the file that may be
// attached; f is nil where there is none. More files than one are an error.
func (s *Socket) ReadWithFile(p []byte) (n int, f *os.File, err error) {
	oob := make([]byte, unix.CmsgSpace(4*4))
	n, oobn, flags, _, err := s.ReadMsgUnix(p, oob)
	if err != nil {
		return 0, nil, err
	}
	CrashPoint("received")
	msgs, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return 0, nil, os.NewSyscallError("parse control message", err)
	}
	var fds []int
	for i := range msgs {
		if more, err := unix.ParseUnixRights(&msgs[i]); err == nil {
			fds = append(fds, more...)
		}
	}
	if len(fds) > 1 || flags&unix.MSG_CTRUNC != 0 {
		for _, fd := range fds {
			unix.Close(fd)
		}
		return 0, nil, fmt.Errorf("peer sent %d or more files at once, not one", len(fds))
	}
	if len(fds) == 1 {
		f = os.NewFile(uintptr(fds[0]), "received")
	}
	return n, f, nil
}

// A SocketListener accepts connections on a socket in a directory.
type SocketListener struct{ l *net.UnixListener }

// Listen binds a socket called name in dir and listens on it. It does not
// remove the socket when it is closed.
func Listen(dir *os.File, name string) (*SocketListener, error) {
	CrashPoint("listen")
	l, err := net.ListenUnix("unix", address(dir, name))
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	return &SocketListener{l}, nil
}

// Accept waits for the next connection.
func (l *SocketListener) Accept() (*Socket, error) {
	c, err := l.l.AcceptUnix()
	if err != nil {
		return nil, err
	}
	CrashPoint("accepted")
	return newSocket(c)
}

// Close stops listening and wakes Accept.
func (l *SocketListener) Close() error { return l.l.Close() }

// Dial connects to the socket called name in dir. It does not wait, except
// while the server's queue of connections is full.
func Dial(dir *os.File, name string) (*Socket, error) {
	c, err := net.DialUnix("unix", nil, address(dir, name))
	if err != nil {
		return nil, err
	}
	CrashPoint("connected")
	return newSocket(c)
}

// address reaches a socket through its directory's descriptor: the path of a
// socket is limited to 108 bytes, and this one is short however deep the
// directory lies, and still right when the directory has been moved.
func address(dir *os.File, name string) *net.UnixAddr {
	return &net.UnixAddr{Net: "unix", Name: "/proc/self/fd/" + strconv.Itoa(int(dir.Fd())) + "/" + name}
}

// ConnectionRefused reports whether err, from Dial, says that nobody listens:
// no such socket, or one whose server is dead.
func ConnectionRefused(err error) bool {
	return errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ENOENT)
}
