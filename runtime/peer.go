package ipc

import "context"

// A Peer is the process at the other end of a connection, as the kernel
// vouches for it at the time it connected (or began to listen). Process ids
// are used again: the connection's end, not the PID, tells of its death.
type Peer struct {
	PID, UID, GID int

	send  func(context.Context, Post) error
	stats func() Stats
	done  <-chan struct{}
}

// Send implements Sender: it sends a one-way message to the peer. On the
// server, that is the client whose call is being handled; a client must have
// been dialled with a Service that handles it.
func (p *Peer) Send(ctx context.Context, post Post) error {
	if p == nil || p.send == nil {
		return &Error{Code: CodeFailedPrecondition, Outcome: NotSent,
			Msg: "no connection behind this peer"}
	}
	return p.send(ctx, post)
}

// Done is closed when the connection to the peer has ended.
func (p *Peer) Done() <-chan struct{} { return p.done }
