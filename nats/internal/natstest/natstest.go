// Package natstest runs NATS servers within tests.
package natstest

import (
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// A Server is a NATS server of a test.
type Server struct {
	*server.Server
	opts server.Options
}

// Option changes the options of a server.
type Option func(*server.Options)

// JetStream makes a server keep streams in a directory.
func JetStream(dir string) Option {
	return func(o *server.Options) { o.JetStream, o.StoreDir = true, dir }
}

// MaxPayload limits the length of messages.
func MaxPayload(n int32) Option { return func(o *server.Options) { o.MaxPayload = n } }

// Password makes a server let one user in.
func Password(user, password string) Option {
	return func(o *server.Options) { o.Username, o.Password = user, password }
}

// Config reads the options from a file of configuration, and keeps the address.
func Config(t testing.TB, path string) Option {
	t.Helper()
	return func(o *server.Options) {
		t.Helper()
		if err := o.ProcessConfigFile(path); err != nil {
			t.Fatal(err)
		}
		o.Host, o.Port = "127.0.0.1", server.RANDOM_PORT
	}
}

// Cluster makes a server one of a cluster, with others that are there already.
func Cluster(others ...*Server) Option {
	return func(o *server.Options) {
		o.Cluster = server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: server.RANDOM_PORT}
		for _, s := range others {
			o.Routes = append(o.Routes, &url.URL{Scheme: "nats-route",
				Host: s.ClusterAddr().String()})
		}
	}
}

// Hub makes a server take leaf nodes.
func Hub() Option {
	return func(o *server.Options) {
		o.LeafNode = server.LeafNodeOpts{Host: "127.0.0.1", Port: server.RANDOM_PORT}
	}
}

// Leaf makes a server a leaf node of a hub.
func Leaf(t testing.TB, hub *Server) Option {
	t.Helper()
	v, err := hub.Varz(nil)
	if err != nil {
		t.Fatal(err)
	}
	return func(o *server.Options) {
		o.LeafNode.ReconnectInterval = 20 * time.Millisecond
		o.LeafNode.Remotes = []*server.RemoteLeafOpts{{URLs: []*url.URL{{Scheme: "nats-leaf",
			Host: fmt.Sprint("127.0.0.1:", v.LeafNode.Port)}}}}
	}
}

// Start starts a server on the loopback interface. It ends with the test.
func Start(t testing.TB, opts ...Option) *Server {
	t.Helper()
	s := &Server{opts: server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true,
		NoSigs: true}}
	for _, o := range opts {
		o(&s.opts)
	}
	s.start(t)
	t.Cleanup(s.Stop)
	return s
}

func (s *Server) start(t testing.TB) {
	t.Helper()
	o := s.opts
	var err error
	if s.Server, err = server.NewServer(&o); err != nil {
		t.Fatal(err)
	}
	s.Server.Start()
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("the NATS server does not start")
	}
	s.opts.Port = o.Port // RANDOM_PORT has become one
}

// Stop ends the server, as its death would: its clients lose their connections.
func (s *Server) Stop() {
	s.Shutdown()
	s.WaitForShutdown()
}

// Restart starts the server again, at its address.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.Stop()
	s.start(t)
}

// Connect returns a connection to the server, which the test closes. It keeps nothing that is sent
// while it is down.
func (s *Server) Connect(t testing.TB, opts ...nats.Option) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(s.ClientURL(), append([]nats.Option{nats.ReconnectBufSize(-1),
		nats.MaxReconnects(-1), nats.ReconnectWait(20 * time.Millisecond),
		nats.ReconnectJitter(0, 0), nats.Timeout(time.Minute)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// ConnectInProcess is Connect without a socket.
func (s *Server) ConnectInProcess(t testing.TB, opts ...nats.Option) *nats.Conn {
	t.Helper()
	return s.Connect(t, append(opts, nats.InProcessServer(s.Server))...)
}
