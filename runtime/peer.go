package ipc

import "context"

// A Peer is the process at the other end of a connection. The kernel has vouched for its ids when
// it connected, or, for a server, when it began to listen. Process ids are reused: only the end of
// the connection says that the process has ended. A Peer is safe for concurrent use. All handlers
// of a connection get the same one, so its fields must not be changed.
type Peer struct {
	PID, UID, GID int

	send  func(context.Context, Post) error
	stats func() Stats
	done  <-chan struct{}
}

// Send implements [Sender]: it sends a one-way message to the peer. On a server, the peer is the
// client whose call is being handled ([PeerFromContext]). A client that was dialled without a
// [Service] for the message drops it.
func (p *Peer) Send(ctx context.Context, post Post) error {
	if p == nil || p.send == nil {
		return &Error{Code: CodeFailedPrecondition, Outcome: NotSent,
			Msg: "no connection behind this peer"}
	}
	return p.send(ctx, post)
}

// Done returns a channel that is closed when the connection to the peer has ended.
func (p *Peer) Done() <-chan struct{} { return p.done }
