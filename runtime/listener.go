package ipc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"sync"

	"github.com/ipcgen/ipcgen/internal/domain"
	"github.com/ipcgen/ipcgen/internal/sys"
)

// A Listener owns the name of a channel in a domain and accepts the clients
// that dial it. Close releases the name; so does the end of the process,
// however it comes, as the claim is a lock that the kernel keeps.
type Listener struct {
	channel, reply string
	links          LinkListener
	close          func() error
}

// Listen claims the channel and listens on it. It fails with
// CodeAlreadyExists, naming the process, while another one does; what a dead
// one left behind does not matter.
func Listen(channel string, opts ...ListenOption) (*Listener, error) {
	var cfg listenConfig
	for _, o := range opts {
		o.applyListen(&cfg)
	}
	l, err := listen(channel, cfg)
	if err != nil {
		return nil, asError(err, "listen "+channel)
	}
	return l, nil
}

func listen(channel string, cfg listenConfig) (*Listener, error) {
	if err := checkNames(channel, cfg.reply); err != nil {
		return nil, err
	}
	if cfg.transport == nil {
		cfg.transport = socketTransport{cfg.domain}
	}
	links, err := cfg.transport.Listen(channel)
	if err != nil {
		return nil, err
	}
	return &Listener{channel: channel, reply: cfg.reply, links: links, close: sync.OnceValue(links.Close)}, nil
}

// Channel is the name that Listen was given.
func (l *Listener) Channel() string { return l.channel }

// Close stops listening and releases the name. Connections that were accepted live on.
func (l *Listener) Close() error { return l.close() }

// A socketTransport meets in a domain and talks over Unix sockets.
type socketTransport struct{ domain string }

// A socketListener listens on a socket under a claim.
type socketListener struct {
	channel string
	dir     *domain.Dir
	lock    *os.File
	socket  *sys.SocketListener
}

// Listen implements Transport.
func (t socketTransport) Listen(channel string) (LinkListener, error) {
	dir, err := domain.Open(t.domain)
	if err != nil {
		return nil, err
	}
	l := &socketListener{channel: channel, dir: dir}
	if l.lock, err = claim(dir, channel); err != nil {
		dir.Close()
		return nil, err
	}
	if err := l.bind(); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// bind puts the socket in place. It needs the claim, so that what lies there is
// of a dead process.
func (l *socketListener) bind() error {
	err := l.dir.Root().Remove(socketName(l.channel))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	d, err := l.dir.Root().Open(".")
	if err != nil {
		return err
	}
	defer d.Close()
	l.socket, err = sys.Listen(d, socketName(l.channel))
	return err
}

// Accept implements LinkListener.
func (l *socketListener) Accept() (Link, error) {
	s, err := l.socket.Accept()
	if err != nil {
		return nil, err
	}
	return &socketLink{Socket: s}, nil
}

// Close implements LinkListener.
func (l *socketListener) Close() error {
	var errs []error
	if l.socket != nil {
		errs = append(errs, l.socket.Close(), l.dir.Root().Remove(socketName(l.channel)))
	}
	// The lock file goes while it is locked: claim looks whether the file it
	// locked is still the one in the directory.
	errs = append(errs, l.dir.Root().Remove(lockName(l.channel)), l.lock.Close(), l.dir.Close())
	return errors.Join(errs...)
}

// Dial implements Transport.
func (t socketTransport) Dial(_ context.Context, channel string) (Link, error) {
	dir, err := domain.Open(t.domain)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	d, err := dir.Root().Open(".")
	if err != nil {
		return nil, err
	}
	defer d.Close()
	s, err := sys.Dial(d, socketName(channel))
	if err != nil {
		if sys.ConnectionRefused(err) {
			err = &Error{Code: CodeUnavailable, Outcome: NotSent,
				Msg: fmt.Sprintf("nobody serves this channel in domain %s; start the server first, or check the domain", dir.Path())}
		}
		return nil, err
	}
	return &socketLink{Socket: s}, nil
}

func socketName(channel string) string { return channel + ".sock" }
func lockName(channel string) string   { return channel + ".lock" }

// claim locks the channel's lock file, for as long as the returned file is open.
func claim(dir *domain.Dir, channel string) (*os.File, error) {
	for {
		f, err := dir.Root().OpenFile(lockName(channel), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		ok, err := claimFile(dir, channel, f)
		if err != nil {
			f.Close()
			return nil, err
		}
		if ok {
			return f, nil
		}
		f.Close() // its last owner removed it between our two steps
	}
}

func claimFile(dir *domain.Dir, channel string, f *os.File) (ok bool, err error) {
	if err := sys.TryLock(f, 0); err != nil {
		if errors.Is(err, sys.ErrLocked) {
			return false, taken(channel, f)
		}
		return false, err
	}
	mine, err := f.Stat()
	if err != nil {
		return false, err
	}
	if there, err := dir.Root().Lstat(lockName(channel)); err != nil || !os.SameFile(mine, there) {
		return false, nil
	}
	if err := f.Truncate(0); err != nil {
		return false, err
	}
	_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err == nil, err
}

// taken says who holds the claim, as far as it wrote that down already.
func taken(channel string, f *os.File) error {
	b := make([]byte, 16)
	n, _ := f.ReadAt(b, 0)
	who := "another process"
	if pid, err := strconv.Atoi(string(bytes.TrimSpace(b[:n]))); err == nil {
		who = fmt.Sprintf("process %d", pid)
	}
	return &Error{Code: CodeAlreadyExists,
		Msg: fmt.Sprintf("%s serves channel %s already; stop it or choose another channel or domain", who, channel)}
}

func checkNames(channel, reply string) error {
	err := domain.CheckName("channel", channel)
	if err == nil && reply != "" {
		err = domain.CheckName("reply channel", reply)
	}
	if err != nil {
		return &Error{Code: CodeInvalidArgument, Outcome: NotSent, Err: err}
	}
	return nil
}

// asError makes an *Error of what a system call or an inner layer returned.
func asError(err error, op string) *Error {
	var e *Error
	if errors.As(err, &e) {
		c := *e
		c.Op = op
		return &c
	}
	code := CodeUnavailable
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		code = CodeUnsupported
	case errors.Is(err, domain.ErrName):
		code = CodeInvalidArgument
	case errors.Is(err, domain.ErrUnsafe), errors.Is(err, fs.ErrPermission):
		code = CodePermissionDenied
	case errors.Is(err, fs.ErrNotExist):
		code = CodeNotFound
	}
	return &Error{Code: code, Op: op, Err: err, Outcome: NotSent}
}
