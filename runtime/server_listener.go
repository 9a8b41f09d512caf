package ipc

import (
	"sync"

	"github.com/ipcgen/ipcgen/internal/domain"
	"github.com/ipcgen/ipcgen/internal/userlog"
)

// A Listener owns the name of a channel in a domain and accepts the clients that dial it. It is
// passed to [Server.Serve], which closes it. [Listener.Close] releases the name, and so does the
// end of the process, because the claim is a lock that the kernel keeps.
//
// If the files by which clients find the name are removed, the listener makes them again. If the
// domain's whole folder was replaced, and another process has taken the name there, the listener
// ends with [ErrDisplaced].
type Listener struct {
	channel, reply string
	links          LinkListener
	close          func() error
}

// Listen claims the channel and listens on it. It does not wait for clients. The error is an
// [*Error]: [CodeAlreadyExists], naming the process, if a live process serves the channel;
// [CodeInvalidArgument] for a name that no channel can have; [CodePermissionDenied] for a domain
// that is not safe to use. Files of a dead process do not matter.
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
	} else {
		cfg.transport = containTransport(cfg.transport, userlog.Silent)
	}
	links, err := cfg.transport.Listen(channel)
	if err != nil {
		return nil, err
	}
	return &Listener{channel: channel, reply: cfg.reply, links: links,
		close: sync.OnceValue(links.Close)}, nil
}

// Channel returns the name that was passed to [Listen].
func (l *Listener) Channel() string { return l.channel }

// Close stops listening and releases the name. Accepted connections stay open. Further calls return
// the same error. Close may be called while [Server.Serve] uses the listener.
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
