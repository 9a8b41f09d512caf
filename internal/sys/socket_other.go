//go:build !linux

package sys

import (
	"net"
	"os"
)

// Cred is who is at the other end of a socket, as the kernel vouches for it.
type Cred struct{ PID, UID, GID int }

// NotifyByte is what Notify sends.
const NotifyByte = 'w'

// A Socket is a connected Unix stream socket.
type Socket struct{ *net.UnixConn }

// Notify sends one byte to the peer and never blocks.
func (s *Socket) Notify() {}

// PeerCred returns the credentials of the peer.
func (s *Socket) PeerCred() (Cred, error) { return Cred{}, unsupported("read peer credentials") }

// WriteWithFile writes p, with f's descriptor attached to its first byte.
func (s *Socket) WriteWithFile([]byte, *os.File) error { return unsupported("send a file") }

// ReadWithFile reads at least one byte, and the file that may be attached.
func (s *Socket) ReadWithFile([]byte) (int, *os.File, error) {
	return 0, nil, unsupported("receive a file")
}

// A SocketListener accepts connections on a socket in a directory.
type SocketListener struct{}

// Listen binds a socket called name in dir and listens on it.
func Listen(*os.File, string) (*SocketListener, error) { return nil, unsupported("listen") }

// Accept waits for the next connection.
func (l *SocketListener) Accept() (*Socket, error) { return nil, unsupported("accept") }

// Close stops listening.
func (l *SocketListener) Close() error { return nil }

// Dial connects to the socket called name in dir.
func Dial(*os.File, string) (*Socket, error) { return nil, unsupported("dial") }

// ConnectionRefused reports whether err says that nobody listens.
func ConnectionRefused(error) bool { return false }
