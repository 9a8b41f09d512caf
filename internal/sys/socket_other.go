//go:build !linux

package sys

import (
	"errors"
	"io"
	"net"
	"os"
)

// Cred has the credentials of a peer, as the kernel reports them.
type Cred struct{ PID, UID, GID int }

// A Socket is a connected Unix stream socket.
type Socket struct{ *net.UnixConn }

// PeerCred returns the credentials of the peer.
func (s *Socket) PeerCred() (Cred, error) { return Cred{}, unsupported("read peer credentials") }

// WriteNow writes what the socket's buffer has room for.
func (s *Socket) WriteNow([]byte) (int, error) { return 0, unsupported("write to a socket") }

// WriteWithFiles writes p with the descriptors of files attached to its first byte.
func (s *Socket) WriteWithFiles([]byte, ...*os.File) error { return unsupported("send files") }

// ReadWithFiles reads at least one byte, and the attached files.
func (s *Socket) ReadWithFiles([]byte) (int, []*os.File, error) {
	return 0, nil, unsupported("receive files")
}

// A SocketListener accepts connections on a socket in a directory.
type SocketListener struct{}

// Listen binds a socket called name in dir and listens on it.
func Listen(*os.File, string, string) (*SocketListener, error) { return nil, unsupported("listen") }

// Accept blocks until there is a connection.
func (l *SocketListener) Accept() (*Socket, error) { return nil, unsupported("accept") }

// Pending returns false.
func (l *SocketListener) Pending() bool { return false }

// Close stops listening.
func (l *SocketListener) Close() error { return nil }

// Dial connects to the socket called name in dir.
func Dial(*os.File, string) (*Socket, error) { return nil, unsupported("dial") }

// ConnectionRefused reports whether err means that no server listens.
func ConnectionRefused(error) bool { return false }

// QueueFull reports whether err, an error of [Dial], means that the server's queue is full.
func QueueFull(error) bool { return false }

// Passes reports whether err, an error of Accept, is temporary.
func Passes(error) bool { return false }

// OutOfDescriptors reports whether err means that there are no descriptors.
func OutOfDescriptors(error) bool { return false }

// A SpareDescriptor is a descriptor that a process keeps for times when there are no others.
type SpareDescriptor struct{}

// Hold returns true.
func (*SpareDescriptor) Hold() bool { return true }

// Release returns false.
func (*SpareDescriptor) Release() bool { return false }

// DescriptorLimit returns the number of descriptors that this process may have, or 0 if it is
// unknown.
func DescriptorLimit() int { return 0 }

// PeerGone reports whether err, of a connection, says that the other side has ended it.
func PeerGone(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}
