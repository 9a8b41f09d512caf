package sys

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Cred is who is at the other end of a socket, as the kernel vouches for it.
type Cred struct{ PID, UID, GID int }

// A Socket is a connected Unix stream socket, waited for on the netpoller.
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

// Close closes this end, which the peer learns of.
func (s *Socket) Close() error {
	CrashPoint("close")
	err := s.UnixConn.Close()
	CrashPoint("closed")
	return err
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
		return Cred{}, fmt.Errorf("read the peer's credentials: %w", Explain("getsockopt", "", err))
	}
	return Cred{PID: int(uc.Pid), UID: int(uc.Uid), GID: int(uc.Gid)}, nil
}

// WriteWithFiles writes p, with the files' descriptors attached to its first byte.
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

// maxFiles is how many files may come at once.
const maxFiles = 2

// ReadWithFiles reads at least one byte into p, and the files that may be
// attached, which become the caller's. More files than two are an error.
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
		// There was room for what came, so the kernel could not make descriptors of it.
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

// Listen binds a socket called name in dir, whose path is dirPath, and listens on it. It
// does not remove the socket when it is closed.
//
// The address is the socket's path if that fits, for it is what the kernel shows to
// others (in /proc/net/unix): cleaners of temporary files see by it that the socket is
// in use. So the caller must look afterwards whether the socket is in dir, or dirPath
// has come to name another folder meanwhile.
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

// Accept waits for the next connection.
func (l *SocketListener) Accept() (*Socket, error) {
	c, err := l.l.AcceptUnix()
	if err != nil {
		return nil, ExplainOf(err)
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
		return nil, ExplainOf(err)
	}
	CrashPoint("connected")
	return newSocket(c)
}

// longestAddress is how long the path of a socket may be: the kernel's 108 bytes, of which
// one ends it.
const longestAddress = 107

// address reaches a socket through its directory's descriptor: the path of a
// socket is limited to 108 bytes, and this one is short however deep the
// directory lies, and still right when the directory has been moved.
func address(dir *os.File, name string) *net.UnixAddr {
	return &net.UnixAddr{Net: "unix", Name: "/proc/self/fd/" +
		strconv.Itoa(int(dir.Fd())) + "/" + name}
}

// ConnectionRefused reports whether err, from Dial, says that nobody listens:
// no such socket, or one whose server is dead.
func ConnectionRefused(err error) bool {
	return errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ENOENT)
}

// QueueFull reports whether err, from Dial, says that more clients wait for the server to accept
// them than the kernel lets wait.
func QueueFull(err error) bool { return errors.Is(err, unix.EAGAIN) }

// Passes reports whether err, from Accept, says something of this moment alone: descriptors or
// memory are short, or the client has gone away meanwhile.
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

// DescriptorLimit is how many descriptors this process may have, or 0 where nothing tells.
func DescriptorLimit() int {
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) != nil {
		return 0
	}
	return int(min(l.Cur, 1<<30))
}
