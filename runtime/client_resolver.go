package ipc

import (
	"context"
	"errors"
)

// An Endpoint is a process to which a client can connect.
type Endpoint struct {
	// Name tells the endpoints of a resolver apart, and names them in errors. It is the
	// channel when it is empty.
	Name string
	// Channel is the channel that the process serves. A process whose name is known and
	// whose channel is not has an empty one.
	Channel string
	// Reply is the reply channel that the process announces, or "".
	Reply string
	// Incarnation tells a process from another that had the same name before it.
	Incarnation uint64
}

// A Target describes where the server is, at one moment.
type Target struct {
	// Endpoint is the server. Its name and channel are empty while there is none.
	Endpoint
	// Epoch is what requests to the server carry, see [EpochSource]; 0 for none.
	Epoch uint64
	// Warm lists further endpoints to which the client keeps connections, since each may
	// be the server next.
	Warm []Endpoint
	// Absent says why there is no server. Errors of calls that wait in vain wrap it. May be
	// nil.
	Absent error
	// Down, if it is not nil, makes calls that find no server fail at once with this
	// error, instead of waiting for one.
	Down error
}

// A Resolver finds the server of a [Client]. Its methods are called from several goroutines.
type Resolver interface {
	// Resolve returns where the server is now. It does not block. A client calls it when
	// Watch reports a change and when a call has failed, never twice at the same time.
	Resolve() Target
	// Watch calls changed once it watches, and after each change of what Resolve returns
	// or of an endpoint that could not be reached, until ctx is done. It returns an error
	// that wraps errors.ErrUnsupported when nothing tells of changes; the client then tries
	// to connect again and again, with growing pauses. changed must not be called from
	// within Resolve.
	Watch(ctx context.Context, changed func()) error
}

// A WatchableTransport is a [Transport] that reports when servers start. Over any other transport,
// a [Client] tries to connect repeatedly, with growing pauses.
type WatchableTransport interface {
	Transport
	// Watch calls changed once it watches, and each time a listener of the channel may have
	// appeared, until ctx is done.
	Watch(ctx context.Context, channel string, changed func()) error
}

// A channelResolver finds the one server of a channel: it is there, or it is not.
type channelResolver struct {
	endpoint  Endpoint
	transport Transport
}

// Resolve implements Resolver.
func (r channelResolver) Resolve() Target { return Target{Endpoint: r.endpoint} }

// Watch implements Resolver.
func (r channelResolver) Watch(ctx context.Context, changed func()) error {
	if t, ok := r.transport.(WatchableTransport); ok {
		return t.Watch(ctx, r.endpoint.Channel, changed)
	}
	return errors.ErrUnsupported
}
