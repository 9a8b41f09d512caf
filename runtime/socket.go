package ipc

import (
	"errors"
	"os"

	"github.com/ipcgen/ipcgen/internal/sys"
	"github.com/ipcgen/ipcgen/runtime/shm"
)

// A socketLink is a link between processes. It has a socket for the handshake and for rare
// messages, whose end is the end of the connection, and a doorbell for notifications. The deadlines
// of the socket's reads belong to the handshake.
type socketLink struct {
	*sys.Socket
	bell *sys.Doorbell // nil until memory is handed over
}

// Send implements Link. With memory goes the client's end of the doorbell.
func (l *socketLink) Send(p []byte, m ...shm.Memory) error {
	if len(m) == 0 {
		_, err := l.Socket.Write(p)
		return err
	}
	files := make([]*os.File, 0, len(m)+1)
	for _, m := range m {
		f, ok := m.(shm.FileMemory)
		if !ok {
			return errors.New("only memory of a file can go to another process")
		}
		files = append(files, f.File)
	}
	bell, theirs, err := sys.NewDoorbell()
	if err != nil {
		return err
	}
	defer theirs.Close()
	l.bell = bell
	return l.WriteWithFiles(p, append(files, theirs)...)
}

// Receive implements Link. The doorbell is the last of the files.
func (l *socketLink) Receive(p []byte) (int, []shm.Memory, error) {
	n, files, err := l.ReadWithFiles(p)
	if len(files) == 0 {
		return n, nil, err
	}
	last := len(files) - 1
	if last == 0 || l.bell != nil {
		for _, f := range files {
			f.Close()
		}
		return 0, nil, errBadHello
	}
	memory := make([]shm.Memory, last)
	for i, f := range files[:last] {
		memory[i] = shm.FileMemory{File: f}
	}
	if l.bell, err = sys.OpenDoorbell(files[last]); err != nil {
		closeAll(memory)
		return 0, nil, err // bytes would make the reader overlook the error
	}
	return n, memory, nil
}

// NewMemory implements Link.
func (l *socketLink) NewMemory(size int) (shm.Memory, error) { return shm.NewFileMemory(size) }

// Notify implements Link.
func (l *socketLink) Notify() { l.bell.Ring() }

// Expect implements Link.
func (l *socketLink) Expect() { l.bell.Expect() }

// Wait implements Link.
func (l *socketLink) Wait(recheck func() bool) error { return l.bell.Wait(recheck) }

// Poke implements Link.
func (l *socketLink) Poke() { l.bell.Poke() }

// Write implements Link. What is sent after the handshake is a few bytes, for which the socket has
// room; a peer that does not even read those does not get them. There is no deadline: a process
// that is stopped, or gets no processor, between the call and the attempt would miss it.
func (l *socketLink) Write(p []byte) (int, error) { return l.WriteNow(p) }

// Close implements Link.
func (l *socketLink) Close() error {
	err := l.Socket.Close()
	if l.bell != nil {
		err = sys.JoinErrors(err, l.bell.Close())
	}
	return err
}

// Peer implements Link: the kernel says who is at the other end.
func (l *socketLink) Peer() (Peer, error) {
	cred, err := l.PeerCred()
	return Peer{PID: cred.PID, UID: cred.UID, GID: cred.GID}, err
}

// Clock implements Link.
func (l *socketLink) Clock() int64 { return sys.Monotonic() }

// SpinPays implements Link.
func (l *socketLink) SpinPays() bool { return true }

// sameUser is the default policy of who may be at the other end.
func sameUser(p Peer) error {
	if uid := os.Geteuid(); p.UID != uid {
		return &Error{Code: CodePermissionDenied, Outcome: NotSent,
			Msg: "the peer runs as another user; WithAuthorize may allow that"}
	}
	return nil
}
