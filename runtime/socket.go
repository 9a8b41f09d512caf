package ipc

import (
	"errors"
	"os"
	"time"

	"github.com/ipcgen/ipcgen/internal/sys"
	"github.com/ipcgen/ipcgen/runtime/shm"
)

// A socketLink is a link between processes. The deadlines of its socket belong
// to the handshake first, and to Read, Write and Poke afterwards.
type socketLink struct{ *sys.Socket }

// Send implements Link.
func (l socketLink) Send(p []byte, m shm.Memory) error {
	if m == nil {
		_, err := l.Socket.Write(p)
		return err
	}
	f, ok := m.(shm.FileMemory)
	if !ok {
		return errors.New("only memory of a file can go to another process")
	}
	return l.WriteWithFile(p, f.File)
}

// Receive implements Link.
func (l socketLink) Receive(p []byte) (int, shm.Memory, error) {
	n, f, err := l.ReadWithFile(p)
	if f == nil {
		return n, nil, err
	}
	return n, shm.FileMemory{File: f}, err
}

// NewMemory implements Link.
func (l socketLink) NewMemory(size int) (shm.Memory, error) { return shm.NewFileMemory(size) }

// Read implements Link.
func (l socketLink) Read(p []byte) (int, error) {
	n, err := l.Socket.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		// Poked. It is taken back before the caller looks at what it was poked
		// for, so that no later Poke is lost.
		err = l.SetReadDeadline(time.Time{})
	}
	return n, err
}

// Poke implements Link.
func (l socketLink) Poke() { _ = l.SetReadDeadline(time.Unix(1, 0)) } // fails on a closed socket, whose Read fails too

// Write implements Link. What is sent after the handshake is a few bytes; a peer that does not
// even read those does not get them.
func (l socketLink) Write(p []byte) (int, error) {
	if err := l.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		return 0, err
	}
	return l.Socket.Write(p)
}

// Peer implements Link: the kernel says who is at the other end.
func (l socketLink) Peer() (Peer, error) {
	cred, err := l.PeerCred()
	return Peer{PID: cred.PID, UID: cred.UID, GID: cred.GID}, err
}

// Clock implements Link.
func (l socketLink) Clock() int64 { return sys.Monotonic() }

// SpinPays implements Link.
func (l socketLink) SpinPays() bool { return true }

// sameUser is the default policy of who may be at the other end.
func sameUser(p Peer) error {
	if uid := os.Geteuid(); p.UID != uid {
		return &Error{Code: CodePermissionDenied, Outcome: NotSent, Msg: "the peer runs as another user; WithAuthorize may allow that"}
	}
	return nil
}
