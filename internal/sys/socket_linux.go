package sys

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Cred has the credentials of a peer, as the kernel reports them.
type Cred struct{ PID, UID, GID int }

// A Socket is a connected Unix stream socket that is waited for on the netpoller.
type Socket struct {
	*net.UnixConn
	raw syscall.RawConn
}

func newSocket(c *net.UnixConn) (*Socket, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		c.Close()
		return nil, err
	}
	return &Socket{UnixConn: c, raw: raw}, nil
}

// Close closes this end, and the peer is notified.
func (s *Socket) Close() error {
	CrashPoint("close")
	err := s.UnixConn.Close()
	CrashPoint("closed")
	return err
}

// PeerCred returns the credentials that the peer had when it connected or listened.
func (s *Socket) PeerCred() (Cred, error) {
	var uc *unix.Ucred
	var err error
	if cerr := s.raw.Control(func(fd uintptr) {
		uc, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); cerr != nil {
		return Cred{}, cerr
	}
	if err != nil {
		return Cred{}, fmt.Errorf("read the peer's credentials: %w", Explain("getsockopt", "", err))
	}
	return Cred{PID: int(uc.Pid), UID: int(uc.Uid), GID: int(uc.Gid)}, nil
}

// WriteNow writes as much of p as the socket's buffer has room for, and never waits. Deadlines do
// not matter. The error is [io.ErrShortWrite] if the buffer has less room.
func (s *Socket) WriteNow(p []byte) (n int, err error) {
	cerr := s.raw.Control(func(fd uintptr) {
		err = ignoringEINTR(func() error {
			n, err = unix.SendmsgN(int(fd), p, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
			return err
		})
	})
	switch {
	case cerr != nil:
		return 0, cerr
	case errors.Is(err, unix.EAGAIN):
		return 0, io.ErrShortWrite
	case err != nil:
		return 0, Explain("sendmsg", "", err)
	case n < len(p):
		return n, io.ErrShortWrite
	}
	return n, nil
}

// WriteWithFiles writes p with the descriptors of files attached to its first byte.
func (s *Socket) WriteWithFiles(p []byte, files ...*os.File) error {
	CrashPoint("send files")
	fds := make([]int, len(files))
	for i, f := range files {
		fds[i] = int(f.Fd())
	}
	n, _, err := s.WriteMsgUnix(p, unix.UnixRights(fds...), nil)
	runtime.KeepAlive(files)
	if err != nil {
		return ExplainOf(err)
	}
	if n < len(p) {
		_, err = s.Write(p[n:])
	}
	return err
}

// maxFiles is the number of files that a peer may send at once.
const maxFiles = 3

// ReadWithFiles reads at least one byte into p, and the attached files, which the caller must
// close. More than three files are an error.
func (s *Socket) ReadWithFiles(p []byte) (n int, files []*os.File, err error) {
	oob := make([]byte, unix.CmsgSpace((maxFiles+1)*4))
	n, oobn, flags, _, err := s.ReadMsgUnix(p, oob)
	if err != nil {
		return 0, nil, ExplainOf(err)
	}
	CrashPoint("received")
	msgs, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return 0, nil, os.NewSyscallError("parse control message", err)
	}
	for i := range msgs {
		if fds, err := unix.ParseUnixRights(&msgs[i]); err == nil {
			for _, fd := range fds {
				files = append(files, os.NewFile(uintptr(fd), "received"))
			}
		}
	}
	if flags&unix.MSG_CTRUNC != 0 && len(files) <= maxFiles {
		// The buffer was large enough, so the kernel could not create descriptors for the files.
		cause := Explain("recvmsg", "", unix.EMFILE)
		if !atFileLimit() {
			cause = errors.New("a limit of open files (RLIMIT_NOFILE: ulimit -n), or a security " +
				"policy, kept them out")
		}
		for _, f := range files {
			f.Close()
		}
		return 0, nil, fmt.Errorf("receive the peer's descriptors: %w", cause)
	}
	if len(files) > maxFiles || flags&unix.MSG_CTRUNC != 0 {
		for _, f := range files {
			f.Close()
		}
		return 0, nil, fmt.Errorf("peer sent %d or more files at once; at most %d are allowed",
			len(files), maxFiles)
	}
	return n, files, nil
}

// A SocketListener accepts connections on a socket in a directory.
type SocketListener struct{ l *net.UnixListener }

// Listen binds a socket called name in dir, whose path is dirPath, and listens on it. Closing the
// listener does not remove the socket.
//
// If the path of the socket is short enough, it is the address, because the kernel shows addresses
// to others (in /proc/net/unix), and cleaners of temporary files see there that the socket is in
// use. The caller must therefore check afterwards whether the socket is in dir: dirPath may have
// come to name another folder meanwhile.
func Listen(dir *os.File, dirPath, name string) (*SocketListener, error) {
	CrashPoint("listen")
	addr := &net.UnixAddr{Net: "unix", Name: filepath.Join(dirPath, name)}
	if len(addr.Name) > longestAddress {
		addr = address(dir, name)
	}
	l, err := net.ListenUnix("unix", addr)
	if err != nil {
		return nil, ExplainOf(err)
	}
	l.SetUnlinkOnClose(false)
	return &SocketListener{l}, nil
}

// Accept blocks until there is a connection, and returns it.
func (l *SocketListener) Accept() (*Socket, error) {
	c, err := l.l.AcceptUnix()
	if err != nil {
		return nil, ExplainOf(err)
	}
	CrashPoint("accepted")
	return newSocket(c)
}

// Pending reports whether a connection waits to be accepted. Without a free descriptor, Accept
// fails even if there is none.
func (l *SocketListener) Pending() bool {
	raw, err := l.l.SyscallConn()
	if err != nil {
		return false
	}
	n := 0
	cerr := raw.Control(func(fd uintptr) {
		n, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	})
	return cerr == nil && err == nil && n > 0
}

// Close stops listening, and ends a blocked Accept.
func (l *SocketListener) Close() error { return l.l.Close() }

// Dial connects to the socket called name in dir. It blocks only while the server's queue of
// connections is full.
func Dial(dir *os.File, name string) (*Socket, error) {
	c, err := net.DialUnix("unix", nil, address(dir, name))
	if err != nil {
		return nil, ExplainOf(err)
	}
	CrashPoint("connected")
	return newSocket(c)
}

// longestAddress is the length of the longest path of a socket. The kernel has 108 bytes, of which
// the last is zero.
const longestAddress = 107

// address returns an address that reaches a socket through the descriptor of its directory. The
// path of a socket is limited to 108 bytes; this one is short, however deep the directory lies, and
// remains valid when the directory is moved.
func address(dir *os.File, name string) *net.UnixAddr {
	return &net.UnixAddr{Net: "unix", Name: "/proc/self/fd/" +
		strconv.Itoa(int(dir.Fd())) + "/" + name}
}

// ConnectionRefused reports whether err, an error of [Dial], means that no server listens: the
// socket does not exist, or its server is dead.
func ConnectionRefused(err error) bool {
	return errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ENOENT)
}

// PeerGone reports whether err, of a connection, says that the other side has ended it.
func PeerGone(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE)
}

// QueueFull reports whether err, an error of [Dial], means that the server's queue of connections
// is full.
func QueueFull(err error) bool { return errors.Is(err, unix.EAGAIN) }

// Passes reports whether err, an error of Accept, is temporary: descriptors or memory are short, or
// the client has gone meanwhile.
func Passes(err error) bool {
	for _, e := range []error{unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM,
		unix.ECONNABORTED, unix.ECONNRESET,
		unix.EPROTO, unix.EINTR, unix.EAGAIN} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// OutOfDescriptors reports whether err means that this process, or the machine, has as many files
// open as it may.
func OutOfDescriptors(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE)
}

// A SpareDescriptor is a descriptor that a process keeps, so that it can do without it when there
// are no others: accept a client, and tell it so. The zero value keeps none.
type SpareDescriptor struct {
	fd   int
	held bool
}

// Hold takes a descriptor unless s has one. It reports whether s has one.
func (s *SpareDescriptor) Hold() bool {
	if !s.held {
		fd, err := unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0)
		s.fd, s.held = fd, err == nil
	}
	return s.held
}

// Release gives the descriptor back. It reports whether s had one.
func (s *SpareDescriptor) Release() bool {
	held := s.held
	if held {
		unix.Close(s.fd)
	}
	s.held = false
	return held
}

// DescriptorLimit returns the number of descriptors that this process may have, or 0 if it is
// unknown.
func DescriptorLimit() int {
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) != nil {
		return 0
	}
	return int(min(l.Cur, 1<<30))
}
