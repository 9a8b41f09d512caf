package contest

import (
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/ipcgen/ipcgen/bench/internal/peer"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

const (
	natsSubject = "bench.put"
	natsTimeout = 10 * time.Second
)

// natsLoopback is NATS with its server embedded in the process that answers,
// which spares it one hop: a client's request goes over loopback TCP to the
// server and by memory to the handler, and back.
func natsLoopback() *Contestant {
	return &Contestant{
		Key: "nats", Name: "NATS, embedded server", Many: true, Shared: true,
		Note: "request and reply over loopback TCP, the handler in the server's process",
		Serve: func(s peer.Setup) error {
			srv, err := startNATS()
			if err != nil {
				return err
			}
			c, err := nats.Connect("", nats.InProcessServer(srv))
			if err != nil {
				return err
			}
			reply := make([]byte, ReplySize)
			if _, err := c.Subscribe(natsSubject, func(m *nats.Msg) {
				if m.Reply != "" {
					m.Respond(reply)
				}
			}); err != nil {
				return err
			}
			if err := c.Flush(); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(s.Dir, "url"), []byte(srv.ClientURL()), 0o600)
		},
		Open:       func(s peer.Setup) (Session, error) { return dialNATS(s.Dir, s.Size) },
		OpenStream: func(s peer.Setup) (Stream, error) { return dialNATS(s.Dir, s.Size) },
	}
}

// startNATS starts a server within this process.
func startNATS() (*server.Server, error) {
	srv, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, MaxPayload: 2 * MaxSize,
		NoSigs: true, NoLog: true,
	})
	if err != nil {
		return nil, err
	}
	srv.Start()
	if !srv.ReadyForConnections(natsTimeout) {
		srv.Shutdown()
		return nil, errors.New("the NATS server does not get ready")
	}
	return srv, nil
}

func dialNATS(dir string, size int) (*natsSession, error) {
	url, err := os.ReadFile(filepath.Join(dir, "url"))
	if err != nil {
		return nil, err
	}
	c, err := nats.Connect(string(url))
	if err != nil {
		return nil, err
	}
	return &natsSession{c: c, req: make([]byte, size)}, nil
}

type natsSession struct {
	c   *nats.Conn
	req []byte
}

func (s *natsSession) Call() error {
	_, err := s.c.Request(natsSubject, s.req, natsTimeout)
	return err
}

func (s *natsSession) Send() error { return s.c.Publish(natsSubject, s.req) }

// Drain relies on the order of a subscription's messages.
func (s *natsSession) Drain() error { return s.Call() }

func (s *natsSession) Close() error {
	s.c.Close()
	return nil
}
