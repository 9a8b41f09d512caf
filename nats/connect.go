package natsipc

import (
	"errors"
	"strings"

	"github.com/nats-io/nats.go"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// Connect connects to NATS as [Dial] and [Serve] need it: nothing that is sent waits in the client
// while the connection is down, and the client tries to reconnect without an end. Further options
// come behind those. The error is an [*ipc.Error]: with CodeUnavailable if there is no server, with
// CodePermissionDenied if it refuses the credentials, and with CodeResourceExhausted if it takes no
// more connections.
func Connect(url string, opts ...nats.Option) (*nats.Conn, error) {
	nc, err := nats.Connect(url, append([]nats.Option{nats.MaxReconnects(-1)},
		append(opts, nats.ReconnectBufSize(-1))...)...)
	if err == nil {
		return nc, nil
	}
	e := &ipc.Error{Code: ipc.CodeUnavailable, Op: "connect to NATS", Outcome: ipc.NotSent,
		Err: err}
	switch {
	case strings.Contains(err.Error(), "connections exceeded"): // nats.go makes it of a text
		e.Code, e.Msg = ipc.CodeResourceExhausted, "the server, or the account, takes no more "+
			"connections; raise its max_connections"
	case errors.Is(err, nats.ErrNoServers):
		e.Msg = "no server at " + redacted(url)
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired),
		errors.Is(err, nats.ErrAuthRevoked), strings.Contains(err.Error(), "Authorization"):
		e.Code, e.Msg = ipc.CodePermissionDenied, "the server refuses the credentials"
	}
	return nil, e
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
