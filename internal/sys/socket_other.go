//go:build !linux

package sys

import (
	"net"
	"os"
)

// Cred is who is at the other end of a socket, as the kernel vouches for it.
type Cred struct{ PID, UID, GID int }

// A Socket is a connected Unix stream socket.
type Socket struct{ *net.UnixConn }

// PeerCred returns the credentials of the peer.
func (s *Socket) PeerCred() (Cred, error) { return Cred{}, unsupported("read peer credentials") }

// WriteWithFiles writes p, with the files' descriptors attached to its first byte.
func (s *Socket) WriteWithFiles([]byte, ...*os.File) error { return unsupported("send files") }

// ReadWithFiles reads at least one byte, and the files that may be attached.
func (s *Socket) ReadWithFiles([]byte) (int, []*os.File, error) {
	return 0, nil, unsupported("receive files")
}

// A SocketListener accepts connections on a socket in a directory.
type SocketListener struct{}

// Listen binds a socket called name in dir and listens on it.
func Listen(*os.File, string, string) (*SocketListener, error) { return nil, unsupported("listen") }

// Accept waits for the next connection.
func (l *SocketListener) Accept() (*Socket, error) { return nil, unsupported("accept") }

// Close stops listening.
func (l *SocketListener) Close() error { return nil }

// Dial connects to the socket called name in dir.
func Dial(*os.File, string) (*Socket, error) { return nil, unsupported("dial") }

// ConnectionRefused reports whether err says that nobody listens.
func ConnectionRefused(error) bool { return false }

// QueueFull reports whether err, from Dial, says that too many clients wait.
func QueueFull(error) bool { return false }

// Passes reports whether err, from Accept, says something of this moment alone.
func Passes(error) bool { return false }

// DescriptorLimit is how many descriptors this process may have, or 0 where nothing tells.
func DescriptorLimit() int { return 0 }
