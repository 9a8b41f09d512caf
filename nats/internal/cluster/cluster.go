// Package cluster runs NATS servers with JetStream within this process, alone or as one of a
// cluster. It is for demonstrations and tests: operators run nats-server.
package cluster

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// A Config describes a server. It can travel as JSON to the process that runs the server.
type Config struct {
	Name   string
	Client int      // the port for clients, on the loopback interface
	Peer   int      // the port for other servers; 0 for a server without others
	Routes []string // the addresses of the other servers, "host:port"
	// Advertised is the address that others are told to connect to: that of a proxy, or one that
	// nobody has, so that only Routes count. "" is that of Peer.
	Advertised string
	Dir        string // of the store
	MaxPayload int32  // of messages; 0 for NATS's default
	// Sync makes the server pass every message to the disk before it confirms it.
	Sync bool
}

// starting is how long a server may take to accept clients.
const starting = 30 * time.Second

// Start starts a server in this process. It accepts clients when Start returns.
func Start(cfg Config) (*server.Server, error) {
	o := &server.Options{ServerName: cfg.Name, Host: "127.0.0.1", Port: cfg.Client, NoLog: true,
		NoSigs: true, JetStream: true, StoreDir: cfg.Dir, SyncAlways: cfg.Sync,
		MaxPayload: cfg.MaxPayload}
	if cfg.Peer != 0 {
		o.Cluster = server.ClusterOpts{Name: "ipcgen", Host: "127.0.0.1", Port: cfg.Peer,
			Advertise: cfg.Advertised, NoAdvertise: true}
		for _, r := range cfg.Routes {
			o.Routes = append(o.Routes, &url.URL{Scheme: "nats-route", Host: r})
		}
	}
	s, err := server.NewServer(o)
	if err != nil {
		return nil, fmt.Errorf("make the NATS server %s: %w", cfg.Name, err)
	}
	s.Start()
	if !s.ReadyForConnections(starting) {
		s.Shutdown()
		return nil, fmt.Errorf("the NATS server %s does not accept clients after %v", cfg.Name,
			starting)
	}
	return s, nil
}

// Ports returns ports of the loopback interface that no process has at this moment.
func Ports(n int) (ports []int, err error) {
	var open []net.Listener
	defer func() {
		for _, l := range open {
			err = errors.Join(err, l.Close())
		}
	}()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		open = append(open, l)
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}
