package natsipc

import (
	"errors"
	"io"
	"io/fs"
	"net"
	neturl "net/url"
	"strings"
	"syscall"

	"github.com/nats-io/nats.go"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// Connect connects to NATS as [Dial] and [Serve] need it: nothing that is sent waits in the client
// while the connection is down, and the client tries to reconnect without an end. Further options
// come behind those.
//
// The error is an [*ipc.Error]: with CodeUnavailable if there is no server, with
// CodePermissionDenied if it refuses the credentials, with CodeResourceExhausted if it takes no
// more connections, and with CodeInvalidArgument for what is no URL, options that nats.go refuses,
// and files that cannot be read. A server that takes no more may hang up before it has said so; the
// error has CodeUnavailable then, and names both.
func Connect(url string, opts ...nats.Option) (*nats.Conn, error) {
	e := &ipc.Error{Code: ipc.CodeUnavailable, Op: "connect to NATS", Outcome: ipc.NotSent}
	all := []nats.Option{nats.MaxReconnects(-1)}
	for _, o := range opts {
		if o != nil {
			all = append(all, blamed(o))
		}
	}
	nc, err := nats.Connect(url, append(all, nats.ReconnectBufSize(-1), named)...)
	if err == nil {
		return nc, nil
	}
	e.Err = err
	var option *optionError
	var malformed *neturl.Error
	var address *net.AddrError
	var file *fs.PathError
	switch {
	case errors.Is(err, errNoURL):
		e.Code = ipc.CodeInvalidArgument
	case errors.As(err, &option):
		if e.Code, e.Msg = ipc.CodeInvalidArgument, "an option is wrong"; errors.As(err, &file) {
			e.Msg = unreadable
		}
	case errors.As(err, &malformed), errors.As(err, &address):
		if e.Code = ipc.CodeInvalidArgument; malformed != nil {
			e.Err = malformed.Err // the text of the other one has the whole URL
		}
		e.Msg = redacted(url) + " is no URL of a NATS server, such as nats://host:4222"
	case errors.As(err, &file):
		e.Code, e.Msg = ipc.CodeInvalidArgument, unreadable
	case strings.Contains(err.Error(), "connections exceeded"): // nats.go makes it of a text
		e.Code, e.Msg = ipc.CodeResourceExhausted, "the server, or the account, takes no more "+
			"connections; raise its max_connections"
	case errors.Is(err, nats.ErrNoServers):
		e.Msg = "no server at " + redacted(url)
	case errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.EOF):
		e.Msg = "the server at " + redacted(url) + " hung up; it, or the account, may take no " +
			"more connections (max_connections)"
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired),
		errors.Is(err, nats.ErrAuthRevoked), strings.Contains(err.Error(), "Authorization"):
		e.Code, e.Msg = ipc.CodePermissionDenied, "the server refuses the credentials"
	}
	return nil, e
}

const unreadable = "a file of the options cannot be read"

var errNoURL = errors.New("there is no URL; give that of a NATS server, such as nats://host:4222")

// named is a last option that refuses a connection without a URL, as one whose variable is not set:
// nats.go would look for a server on this machine. A server within the process, or a dialer, needs
// none.
func named(all *nats.Options) error {
	if len(all.Servers) == 0 && all.Url == "" && all.InProcessServer == nil &&
		all.CustomDialer == nil {
		return errNoURL
	}
	return nil
}

// An optionError is what an option of nats.go says of its own argument, before anything is sent.
type optionError struct{ error }

func (e *optionError) Unwrap() error { return e.error }

// blamed returns an option whose error is told from those of the network.
func blamed(o nats.Option) nats.Option {
	return func(all *nats.Options) error {
		if err := o(all); err != nil {
			return &optionError{err}
		}
		return nil
	}
}

// redacted returns a URL without what stands before the host.
func redacted(url string) string {
	scheme, rest, ok := strings.Cut(url, "://")
	if !ok {
		scheme, rest = "", url
	} else {
		scheme += "://"
	}
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		rest = rest[at+1:]
	}
	return scheme + rest
}
