package ipc

import (
	"errors"
	"io/fs"
	"sync"

	"github.com/ipcgen/ipcgen/internal/domain"
	"github.com/ipcgen/ipcgen/internal/sys"
)

// A Listener owns the name of a channel in a domain and accepts the clients
// that dial it. Close releases the name; so does the end of the process,
// however it comes, as the claim is a lock that the kernel keeps.
//
// When the files by which clients find the name vanish, the listener makes them
// again. When another process has taken the name meanwhile, which takes that the
// domain's whole folder was replaced, the listener ends with ErrDisplaced.
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
	for i, o := range opts {
		if o == nil {
			return nil, asError(nilOption(i), "listen "+channel)
		}
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
	return &Listener{channel: channel, reply: cfg.reply, links: links,
		close: sync.OnceValue(links.Close)}, nil
}

// Channel is the name that Listen was given.
func (l *Listener) Channel() string { return l.channel }

// Close stops listening and releases the name. Connections that were accepted live on.
func (l *Listener) Close() error { return l.close() }

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
		c.Op, c.Err = op, sys.ExplainOf(e.Err)
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
	case sys.Exhausted(err):
		code = CodeResourceExhausted
	}
	return &Error{Code: code, Op: op, Err: sys.ExplainOf(err), Outcome: NotSent}
}
