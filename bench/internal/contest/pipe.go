package contest

import (
	"encoding/binary"
	"io"
	"net"
	"os"
	"path/filepath"

	"github.com/ipcgen/ipcgen/bench/internal/peer"
)

// pipe carries messages through two pipes, read and written by Go's netpoller:
// what a goroutine that sleeps costs.
func pipe() *Contestant {
	return &Contestant{
		Key: PipeKey, Name: "pipe through the netpoller",
		Note: "two pipes, blocking reads; the price of sleeping and being woken",
		Files: func(int) (mine, theirs []*os.File, err error) {
			r1, w1, err := os.Pipe()
			if err != nil {
				return nil, nil, err
			}
			r2, w2, err := os.Pipe()
			if err != nil {
				return nil, nil, err
			}
			return []*os.File{r2, w1}, []*os.File{r1, w2}, nil
		},
		Serve: func(s peer.Setup) error {
			go answer(s.Files[0], s.Files[1])
			return nil
		},
		Open: func(s peer.Setup) (Session, error) {
			return newBytesSession(s.Files[0], s.Files[1], s.Size, nil), nil
		},
		OpenStream: func(s peer.Setup) (Stream, error) {
			return newBytesSession(s.Files[0], s.Files[1], s.Size, nil), nil
		},
	}
}

// unixSocket carries messages over a Unix stream socket with no protocol on
// top but a length.
func unixSocket() *Contestant {
	open := func(s peer.Setup) (*bytesSession, error) {
		c, err := net.Dial("unix", socketIn(s.Dir))
		if err != nil {
			return nil, err
		}
		return newBytesSession(c, c, s.Size, c), nil
	}
	return &Contestant{
		Key: "unix", Name: "Unix socket", Many: true, Huge: true,
		Note: "stream socket, messages behind a length, nothing decoded",
		Serve: func(s peer.Setup) error {
			l, err := net.Listen("unix", socketIn(s.Dir))
			if err != nil {
				return err
			}
			go acceptAll(l, func(c net.Conn) { answer(c, c) })
			return nil
		},
		Open:       func(s peer.Setup) (Session, error) { return open(s) },
		OpenStream: func(s peer.Setup) (Stream, error) { return open(s) },
	}
}

func socketIn(dir string) string { return filepath.Join(dir, "socket") }

// acceptAll serves each connection in a goroutine, until the listener fails.
func acceptAll(l net.Listener, serve func(net.Conn)) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go serve(c)
	}
}

// A message of the byte streams is its length and whether an answer is wanted,
// in 8 bytes, and the payload.
const (
	prefixLen = 8
	wantReply = 1 << 32
)

// answer reads messages from r and answers on w, until either fails.
func answer(r io.Reader, w io.Writer) {
	buf := make([]byte, HugeSize)
	reply := make([]byte, ReplySize)
	prefix := make([]byte, prefixLen)
	for {
		if _, err := io.ReadFull(r, prefix); err != nil {
			return
		}
		head := binary.NativeEndian.Uint64(prefix)
		if _, err := io.ReadFull(r, buf[:uint32(head)]); err != nil {
			return
		}
		if head&wantReply == 0 {
			continue
		}
		if _, err := w.Write(reply); err != nil {
			return
		}
	}
}

// A bytesSession is the client of answer. Prefix and payload are written at
// once, as anybody would who counts system calls.
type bytesSession struct {
	r     io.Reader
	w     io.Writer
	c     io.Closer
	msg   []byte
	reply []byte
}

// newBytesSession makes a session whose requests take size bytes with their
// prefix. c is closed with it, if it is not nil.
func newBytesSession(r io.Reader, w io.Writer, size int, c io.Closer) *bytesSession {
	return &bytesSession{r: r, w: w, c: c, msg: make([]byte, size), reply: make([]byte, ReplySize)}
}

func (s *bytesSession) write(head uint64) error {
	binary.NativeEndian.PutUint64(s.msg, head|uint64(len(s.msg)-prefixLen))
	_, err := s.w.Write(s.msg)
	return err
}

func (s *bytesSession) Call() error {
	if err := s.write(wantReply); err != nil {
		return err
	}
	_, err := io.ReadFull(s.r, s.reply)
	return err
}

func (s *bytesSession) Send() error { return s.write(0) }

func (s *bytesSession) Drain() error { return s.Call() }

func (s *bytesSession) Close() error {
	if s.c == nil {
		return nil
	}
	return s.c.Close()
}
