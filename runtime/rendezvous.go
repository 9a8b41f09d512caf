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
	"time"

	"github.com/ipcgen/ipcgen/internal/domain"
	"github.com/ipcgen/ipcgen/internal/sys"
)

// ErrDisplaced is wrapped by the error of [Server.Serve] if the domain's folder was removed or
// replaced while the server used it, and another process has taken the channel in the new folder.
var ErrDisplaced = errors.New("displaced")

// A socketTransport uses the folder of a domain, and Unix sockets.
type socketTransport struct{ domain string }

// Listen implements Transport.
func (t socketTransport) Listen(channel string) (LinkListener, error) {
	p, err := claimChannel(channel, func() (*domain.Dir, error) { return domain.Open(t.domain) })
	if err != nil {
		return nil, err
	}
	l := &socketListener{channel: channel, domain: p.dir.Path(), files: p, touched: time.Now()}
	l.checker = sys.NewCheck(l.checkFiles)
	return l, nil
}

// Dial implements Transport.
func (t socketTransport) Dial(ctx context.Context, channel string) (Link, error) {
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
	for pause := shortestPause; sys.QueueFull(err); pause = min(2*pause, 100*shortestPause) {
		select {
		case <-time.After(pause):
			s, err = sys.Dial(d, socketName(channel))
		case <-ctx.Done():
			e := contextError(ctx)
			e.Msg, e.Outcome = "the queue of clients that wait for the server is full", NotSent
			return nil, e
		}
	}
	if err != nil {
		if sys.ConnectionRefused(err) {
			err = &Error{Code: CodeUnavailable, Outcome: NotSent,
				Msg: fmt.Sprintf("no process serves this channel in domain %s; start the server "+
					"first, or check the domain %s",
					dir.Path(), dir.Absence(socketName(channel)))}
		}
		return nil, err
	}
	return &socketLink{Socket: s}, nil
}

// Watch implements WatchableTransport: the kernel tells when the channel's socket is made.
func (t socketTransport) Watch(ctx context.Context, channel string, changed func()) error {
	dir, err := domain.Open(t.domain)
	if err != nil {
		return err
	}
	path := dir.Path()
	dir.Close()
	w, err := sys.WatchDir(path)
	if err != nil {
		return err
	}
	defer w.Close()
	stop := context.AfterFunc(ctx, func() { _ = w.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	changed()
	for {
		mine := false
		err := w.Next(func(name string, _ bool) {
			mine = mine || name == "" || name == socketName(channel)
		})
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return err
		}
		if mine {
			changed()
		}
	}
}

// shortestPause is how long a client waits at least before it tries again to get into the
// queue of a server's clients.
const shortestPause = 50 * time.Microsecond

func socketName(channel string) string { return channel + domain.SocketSuffix }
func lockName(channel string) string   { return channel + domain.LockSuffix }

// A socketListener listens on a socket under a claim, and repairs the files by which clients find
// the socket.
type socketListener struct {
	channel    string
	domain     string // its path
	touched    time.Time
	lastReport string     // the news of the last look
	checker    *sys.Check // calls look

	mu     sync.Mutex
	files  *channelFiles
	closed bool
	lost   error        // why Accept fails for good
	notify func(string) // told of repairs; may be nil
}

// channelFiles are the files of a listener in a domain's folder. The claim is the right to the
// channel; the files tell others, and are made and removed under the claim only.
type channelFiles struct {
	channel string
	dir     *domain.Dir
	claim   *domain.Claim
	lock    *os.File
	locked  fs.FileInfo // lock's identity
	socket  *sys.SocketListener
	bound   fs.FileInfo // the socket's identity
}

// claimChannel claims a channel in a domain. If the folder is removed meanwhile, it is opened
// again.
func claimChannel(channel string, open func() (*domain.Dir, error)) (p *channelFiles, err error) {
	for range 10 {
		dir, err := open()
		if err != nil {
			return nil, err
		}
		p = &channelFiles{channel: channel, dir: dir}
		if err = p.claimFiles(); err == nil {
			return p, nil
		}
		p.release()
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return nil, err
}

func (p *channelFiles) claimFiles() (err error) {
	// The file's lock comes first, for it says who has it, and two processes that
	// start at once cannot both be refused.
	if err := p.takeLock(); err != nil {
		return err
	}
	p.claim, err = p.dir.Claim("channel/" + p.channel)
	if errors.Is(err, domain.ErrClaimed) {
		return taken(p.channel, nil) // its files are gone, and it is about to make them again
	}
	if err != nil {
		return err
	}
	return p.bind()
}

// takeLock locks the channel's lock file.
func (p *channelFiles) takeLock() error {
	for {
		f, err := p.dir.Root().OpenFile(lockName(p.channel), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return err
		}
		ok, err := p.lockFile(f)
		if ok {
			return nil
		}
		f.Close()
		if err != nil {
			return err
		}
		// Its last owner removed it between our two steps.
	}
}

func (p *channelFiles) lockFile(f *os.File) (ok bool, err error) {
	if err := sys.TryLock(f, 0); err != nil {
		if errors.Is(err, sys.ErrLocked) {
			return false, taken(p.channel, f)
		}
		return false, err
	}
	mine, err := f.Stat()
	if err != nil || !p.dir.Holds(lockName(p.channel), mine) {
		return false, err
	}
	// The pid is for people. That there is no room for it is no reason not to serve.
	_ = f.Truncate(0)
	_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	if p.lock != nil {
		p.lock.Close() // of the file that vanished
	}
	p.lock, p.locked = f, mine
	return true, nil
}

// bind makes the socket. The caller must have the claim and the lock, so that an existing socket
// belongs to a dead process.
func (p *channelFiles) bind() error {
	name := socketName(p.channel)
	err := p.dir.Root().Remove(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	socket, err := sys.Listen(p.claim.Folder(), p.dir.Path(), name)
	if err != nil {
		return err
	}
	bound, err := p.dir.Root().Lstat(name)
	if err != nil { // the socket is elsewhere, as the path names another folder now
		return sys.JoinErrors(fmt.Errorf("domain %s was replaced: %w", p.dir.Path(), err),
			socket.Close())
	}
	if p.socket != nil {
		p.socket.Close()
	}
	p.socket, p.bound = socket, bound
	return nil
}

// release gives up everything that is held. Files that others have put in the place of the
// listener's remain; under the claim, no correct process does that.
func (p *channelFiles) release() error {
	var errs []error
	if p.socket != nil {
		errs = append(errs, p.socket.Close(), p.remove(socketName(p.channel), p.bound))
	}
	if p.lock != nil {
		// The lock file goes while it is locked: lockFile looks whether the file it
		// locked is still the one in the folder.
		errs = append(errs, p.remove(lockName(p.channel), p.locked), p.lock.Close())
	}
	if p.claim != nil {
		errs = append(errs, p.claim.Close())
	}
	return sys.JoinErrors(append(errs, p.dir.Close())...)
}

func (p *channelFiles) remove(name string, file fs.FileInfo) error {
	if !p.dir.Holds(name, file) {
		return nil
	}
	err := p.dir.Root().Remove(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// repair makes files again that have vanished, in a folder that is still the domain's. repaired
// names them.
func (p *channelFiles) repair() (repaired string, err error) {
	if !p.dir.Holds(lockName(p.channel), p.locked) {
		// Another process, which is about to be refused, may hold the lock for a moment. Then
		// the next check repairs the files.
		if err := p.takeLock(); err != nil {
			return "", err
		}
		repaired = lockName(p.channel)
	}
	if !p.dir.Holds(socketName(p.channel), p.bound) {
		if err := p.bind(); err != nil {
			return repaired, err
		}
		repaired = socketName(p.channel)
	}
	return repaired, nil
}

// checkFiles checks the listener's files, and reports repairs and failures.
func (l *socketListener) checkFiles() {
	repaired, err := l.check()
	var news string
	switch {
	case CodeOf(err) == CodeAlreadyExists: // by one that is about to be refused
		return
	case err != nil:
		news = fmt.Sprintf("%s in domain %s is gone and cannot be made again yet: %v",
			socketName(l.channel), l.domain, err)
	case repaired != "":
		news = fmt.Sprintf("%s in domain %s was gone and has been made again; keep cleaners "+
			"away from the domain", repaired, l.domain)
	}
	l.mu.Lock()
	notify := l.notify
	l.mu.Unlock()
	if news != "" && (err == nil || news != l.lastReport) && notify != nil {
		go notify(news) // which may block, unlike this function
	}
	l.lastReport = news
}

// check repairs missing files, or ends the listener if another process has its name.
func (l *socketListener) check() (repaired string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.lost != nil {
		return "", nil
	}
	p := l.files
	if p.dir.InPlace() {
		p.claim.Protect()
		if now := time.Now(); now.Sub(l.touched) > domain.TouchPeriod {
			l.touched = now
			p.dir.Touch(lockName(l.channel), socketName(l.channel))
		}
		return p.repair()
	}
	// The path names another folder, or none. There the name is anybody's who comes
	// first.
	next, err := claimChannel(l.channel, p.dir.Again)
	if CodeOf(err) == CodeAlreadyExists {
		l.lost = &Error{Code: CodeAlreadyExists, Err: fmt.Errorf(
			"%w: domain %s was replaced while this process served channel %s in it, and %w",
			ErrDisplaced, l.domain, l.channel, err)}
		return "", p.socket.Close() // which wakes Accept
	}
	if err != nil {
		return "", err
	}
	l.files = next
	return "the folder of " + socketName(l.channel), p.release()
}

// Accept implements LinkListener.
func (l *socketListener) Accept() (Link, error) {
	for {
		l.mu.Lock()
		socket, lost := l.files.socket, l.lost
		l.mu.Unlock()
		if lost != nil {
			return nil, lost
		}
		s, err := socket.Accept()
		if err == nil {
			return &socketLink{Socket: s}, nil
		}
		l.mu.Lock()
		final := l.closed || l.lost == nil && l.files.socket == socket
		l.mu.Unlock()
		if final {
			return nil, err
		}
	}
}

// pending reports whether a client waits to be accepted.
func (l *socketListener) pending() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.files.socket.Pending()
}

// onRepair sets the function that is told of repairs, in words.
func (l *socketListener) onRepair(f func(string)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.notify = f
}

// Close implements LinkListener.
func (l *socketListener) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	err := l.files.release()
	l.mu.Unlock()
	l.checker.Stop()
	return err
}

// taken returns the error for a channel that another process has. f is the channel's lock file, in
// which that process has written its pid, or nil.
func taken(channel string, f *os.File) error {
	who := "another process"
	if f != nil {
		b := make([]byte, 16)
		n, _ := f.ReadAt(b, 0)
		if pid, err := strconv.Atoi(string(bytes.TrimSpace(b[:n]))); err == nil {
			who = sys.Holder(f, pid)
		}
	}
	return &Error{Code: CodeAlreadyExists,
		Msg: fmt.Sprintf("%s serves channel %s already; stop it or choose another channel "+
			"or domain", who, channel)}
}
