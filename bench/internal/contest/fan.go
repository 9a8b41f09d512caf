package contest

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/ipcgen/ipcgen/bench/gen/bulk"
	"github.com/ipcgen/ipcgen/bench/internal/peer"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/topic"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// A Fan is a way to send each message to several readers. The publisher is in this process, and the
// readers are in another one, each with a connection of its own.
type Fan struct {
	Key, Name, Note string
	// Window is how many messages may be on their way, where nothing else limits them; 0 for a way
	// that does so itself.
	Window int
	// publish starts the publisher.
	publish func(s peer.Setup) (Publisher, error)
	// read connects a reader, and returns the function that waits for its next message.
	read func(s peer.Setup, reader int) (next func() ([]byte, error), err error)
}

// A Publisher is used by one goroutine.
type Publisher interface {
	// Await returns when so many readers are connected.
	Await(readers int) error
	Publish(message []byte) error
	Close() error
}

// Fans are all ways, in the order of the table.
func Fans() []*Fan { return []*Fan{fanTopic(), fanMessages(), fanSocket(), fanNATS()} }

// FindFan returns the way called key, or nil.
func FindFan(role string) *Fan {
	for _, f := range Fans() {
		if f.Role() == role {
			return f
		}
	}
	return nil
}

// FanSizes are the lengths of the messages.
var FanSizes = []int{64, 64 << 10}

// fanTimeout bounds how long readers may take to connect.
const fanTimeout = 10 * time.Second

// Role is what the process of the readers is called.
func (f *Fan) Role() string { return "fan-" + f.Key }

// Publish starts the publisher. The readers come afterwards.
func (f *Fan) Publish(s peer.Setup) (Publisher, error) { return f.publish(s) }

// Serve connects the readers in a process of its own. Each copies all messages. When the last one
// has got a message that says so, the time is written to the file that both processes have.
func (f *Fan) Serve(s peer.Setup) error {
	got := new(atomic.Int64)
	for i := range s.Readers {
		next, err := f.read(s, i)
		if err != nil {
			return err
		}
		go func() {
			for {
				m, err := next()
				if err != nil {
					return // the turn is over
				}
				if AcknowledgedFan(m) && got.Add(1)%int64(s.Readers) == 0 {
					var now [8]byte
					binary.NativeEndian.PutUint64(now[:], uint64(time.Now().UnixNano()))
					if _, err := s.Files[0].Write(now[:]); err != nil {
						return
					}
				}
			}
		}()
	}
	return nil
}

// MarkFan says in a message whether the readers acknowledge it.
func MarkFan(message []byte, acknowledge bool) {
	message[0] = 0
	if acknowledge {
		message[0] = 1
	}
}

// AcknowledgedFan reports whether the readers acknowledge a message.
func AcknowledgedFan(message []byte) bool { return message[0] == 1 }

var fanInfo = &topic.Info{Protocol: &ipc.Protocol{Name: "bench.Fan", Fingerprint: 1}}

const fanChannel = "fan"

// fanTopic is the project's topic.
func fanTopic() *Fan {
	return &Fan{Key: "topic", Name: "ipcgen, topic",
		Note: "lossless subscriptions, which copy; the publisher keeps 64 messages",
		publish: func(s peer.Setup) (Publisher, error) {
			p := topic.NewPublisher(fanInfo, topic.Options{MaxMessage: s.Size})
			l, err := ipc.Listen(fanChannel, ipc.WithDomain(s.Dir))
			if err != nil {
				return nil, errors.Join(err, p.Close())
			}
			srv := ipc.NewServer(p)
			go srv.Serve(context.Background(), l)
			return &topicFan{p, srv}, nil
		},
		read: func(s peer.Setup, _ int) (func() ([]byte, error), error) {
			sub, err := topic.Subscribe(context.Background(),
				topic.Channel(fanChannel, ipc.WithDomain(s.Dir)), fanInfo,
				topic.SubscribeOptions{Policy: topic.Lossless})
			if err != nil {
				return nil, err
			}
			var buf []byte
			return func() (m []byte, err error) {
				buf, _, err = sub.Next(context.Background(), buf)
				return buf, err
			}, nil
		},
	}
}

type topicFan struct {
	p   *topic.Publisher
	srv *ipc.Server
}

func (t *topicFan) Await(readers int) error {
	return awaitFan(func() bool { return t.p.Subscribers() == readers })
}

func (t *topicFan) Publish(m []byte) error { return t.p.Publish(context.Background(), m) }

func (t *topicFan) Close() error { return errors.Join(t.srv.Close(), t.p.Close()) }

// awaitFan waits until something is so.
func awaitFan(so func() bool) error {
	for start := time.Now(); !so(); time.Sleep(time.Millisecond) {
		if time.Since(start) > fanTimeout {
			return errors.New("the readers do not connect")
		}
	}
	return nil
}

// fanMessages is what there is without topics: a one-way message to each reader in turn.
func fanMessages() *Fan {
	channel := func(reader int) string { return fanChannel + strconv.Itoa(reader) }
	return &Fan{Key: "messages", Name: "ipcgen, typed messages",
		Note: "one-way messages to each reader in turn, verified and unpacked",
		publish: func(s peer.Setup) (Publisher, error) {
			return &messageFan{dial: func(reader int) (*ipc.Conn, error) {
				return ipc.Dial(context.Background(), channel(reader), ipc.WithDomain(s.Dir))
			}}, nil
		},
		read: func(s peer.Setup, reader int) (func() ([]byte, error), error) {
			l, err := ipc.Listen(channel(reader), ipc.WithDomain(s.Dir))
			if err != nil {
				return nil, err
			}
			h := fanHandler{ready: make(chan []byte), taken: make(chan struct{})}
			go ipc.NewServer(bulk.NewBulkMsgService(h)).Serve(context.Background(), l)
			return h.next, nil
		},
	}
}

// A fanHandler is given messages, and lets next look at them.
type fanHandler struct {
	bulk.UnimplementedBulkMsgHandler
	ready chan []byte
	taken chan struct{}
}

// HandleBlock passes only what is acknowledged, since a goroutine for all would cost more than they
// do.
func (h fanHandler) HandleBlock(_ context.Context, m *bulk.BlockT) error {
	if AcknowledgedFan(m.Data) {
		h.ready <- m.Data
	}
	return nil
}

func (h fanHandler) next() ([]byte, error) { return <-h.ready, nil }

type messageFan struct {
	dial  func(reader int) (*ipc.Conn, error)
	conns []*ipc.Conn
	to    []*bulk.BulkMsgSender
}

func (f *messageFan) Await(readers int) error {
	for i := range readers {
		c, err := f.dial(i)
		if err != nil {
			return err
		}
		f.conns = append(f.conns, c)
		f.to = append(f.to, bulk.NewBulkMsgSender(c))
	}
	return nil
}

func (f *messageFan) Publish(m []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), streamTimeout)
	defer cancel()
	for _, s := range f.to {
		if err := s.SendBlock(ctx, &bulk.BlockT{Data: m}); err != nil {
			return err
		}
	}
	return nil
}

func (f *messageFan) Close() error {
	var errs []error
	for _, c := range f.conns {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// fanSocket writes each message to a socket for each reader.
func fanSocket() *Fan {
	return &Fan{Key: "unix", Name: "Unix sockets",
		Note: "a stream socket for each reader, messages behind a length",
		publish: func(s peer.Setup) (Publisher, error) {
			l, err := net.Listen("unix", socketIn(s.Dir))
			return &socketFan{l: l, buf: make([]byte, prefixLen+s.Size)}, err
		},
		read: func(s peer.Setup, _ int) (func() ([]byte, error), error) {
			c, err := net.Dial("unix", socketIn(s.Dir))
			if err != nil {
				return nil, err
			}
			buf := make([]byte, s.Size)
			prefix := make([]byte, prefixLen)
			return func() ([]byte, error) {
				if _, err := io.ReadFull(c, prefix); err != nil {
					return nil, err
				}
				m := buf[:binary.NativeEndian.Uint64(prefix)]
				_, err := io.ReadFull(c, m)
				return m, err
			}, nil
		},
	}
}

type socketFan struct {
	l     net.Listener
	conns []net.Conn
	buf   []byte
}

func (f *socketFan) Await(readers int) error {
	for range readers {
		c, err := f.l.Accept()
		if err != nil {
			return err
		}
		f.conns = append(f.conns, c)
	}
	return nil
}

func (f *socketFan) Publish(m []byte) error {
	binary.NativeEndian.PutUint64(f.buf, uint64(len(m)))
	n := prefixLen + copy(f.buf[prefixLen:], m)
	for _, c := range f.conns {
		if _, err := c.Write(f.buf[:n]); err != nil {
			return err
		}
	}
	return nil
}

func (f *socketFan) Close() error {
	errs := []error{f.l.Close()}
	for _, c := range f.conns {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// fanNATS publishes through a NATS server within the publisher's process. It drops readers that are
// slow, so that the messages on their way have to be limited.
func fanNATS() *Fan {
	return &Fan{Key: "nats", Name: "NATS, embedded server", Window: 64,
		Note: "the server in the publisher's process, readers over loopback TCP; 64 messages at " +
			"most are on their way, since a slow reader would be dropped",
		publish: func(s peer.Setup) (Publisher, error) {
			srv, err := startNATS()
			if err != nil {
				return nil, err
			}
			c, err := nats.Connect("", nats.InProcessServer(srv))
			if err != nil {
				return nil, err
			}
			return &natsFan{srv, c}, os.WriteFile(filepath.Join(s.Dir, "url"),
				[]byte(srv.ClientURL()), 0o600)
		},
		read: func(s peer.Setup, _ int) (func() ([]byte, error), error) {
			url, err := os.ReadFile(filepath.Join(s.Dir, "url"))
			if err != nil {
				return nil, err
			}
			c, err := nats.Connect(string(url))
			if err != nil {
				return nil, err
			}
			sub, err := c.SubscribeSync(natsSubject)
			if err == nil {
				err = sub.SetPendingLimits(-1, -1)
			}
			if err == nil {
				err = c.Flush()
			}
			return func() ([]byte, error) {
				m, err := sub.NextMsg(time.Hour)
				if err != nil {
					return nil, err
				}
				return m.Data, nil
			}, err
		},
	}
}

type natsFan struct {
	srv *server.Server
	c   *nats.Conn
}

// Await relies on readers that have waited for the server to know of their subscriptions.
func (f *natsFan) Await(int) error { return nil }

func (f *natsFan) Publish(m []byte) error { return f.c.Publish(natsSubject, m) }

func (f *natsFan) Close() error {
	f.c.Close()
	f.srv.Shutdown()
	f.srv.WaitForShutdown()
	return nil
}
