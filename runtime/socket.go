package ipc

import (
	"errors"
	"os"
	"time"

	"github.com/ipcgen/ipcgen/internal/sys"
)

// errPoked is what a wire's Read returns after Poke.
var errPoked = errors.New("poked")

// A socketWire is the wire of a connection between processes.
type socketWire struct{ *sys.Socket }

// Read implements wire.
func (w socketWire) Read(p []byte) (int, error) {
	n, err := w.Socket.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		// Taken back before the caller looks at what it was poked for, so
		// that no later Poke is lost.
		if err := w.SetReadDeadline(time.Time{}); err != nil {
			return n, err
		}
		return n, errPoked
	}
	return n, err
}

// Poke implements wire.
func (w socketWire) Poke() { _ = w.SetReadDeadline(time.Unix(1, 0)) } // fails on a closed socket, whose Read fails too

// Write implements wire. What is sent after the handshake is a few bytes; a peer that does not
// even read those does not get them.
func (w socketWire) Write(p []byte) (int, error) {
	if err := w.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		return 0, err
	}
	return w.Socket.Write(p)
}

// peerOf asks the kernel who is at the other end.
func peerOf(s *sys.Socket) (Peer, error) {
	cred, err := s.PeerCred()
	return Peer{PID: cred.PID, UID: cred.UID, GID: cred.GID}, err
}

// sameUser is the default policy of who may be at the other end.
func sameUser(p Peer) error {
	if uid := os.Geteuid(); p.UID != uid {
		return &Error{Code: CodePermissionDenied, Outcome: NotSent, Msg: "the peer runs as another user; WithAuthorize may allow that"}
	}
	return nil
}
