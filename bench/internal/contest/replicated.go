package contest

import (
	"context"
	"time"

	"github.com/ipcgen/ipcgen/bench/gen/bulk"
	"github.com/ipcgen/ipcgen/bench/internal/peer"
	"github.com/ipcgen/ipcgen/bench/internal/replica"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/group"
)

// StatelessKey is that of the contestant of Replicated with which the others
// are compared.
const StatelessKey = "stateless"

// Replicated are groups that answer the same call, with and without keeping its
// effect on standbys. The server of each supervises; the call goes to the
// primary, another process.
func Replicated() []*Contestant {
	return []*Contestant{
		replicated(StatelessKey, "no state", "a group of one that keeps nothing", 1, nil),
		replicated("standby0", "state, no standby",
			"calls are executed one by one and numbered, for nobody", 1, new(group.Replication)),
		replicated("standby1", "state, 1 standby",
			"each call is answered when a standby has executed it, too", 2, new(group.Replication)),
		replicated("yielding", "state, 1 standby, the client with WithYield",
			"the client, too, yields its processor while it polls", 2, new(group.Replication),
			ipc.WithYield()),
		replicated("standby2", "state, 2 standbys", "when two have", 3, new(group.Replication)),
	}
}

// groupTimeout is more than it takes to start a group.
const groupTimeout = 30 * time.Second

func replicated(key, name, note string, replicas int, r *group.Replication,
	options ...ipc.DialOption) *Contestant {
	return &Contestant{
		Key: key, Name: name, Note: note, Ours: true, Many: true, Shared: true,
		Serve: func(s peer.Setup) error {
			cfg := replica.Counter(callChannel)
			cfg.Domain, cfg.Replicas, cfg.Replication = s.Dir, replicas, r
			g, err := group.Start(context.Background(), cfg)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(context.Background(), groupTimeout)
			defer cancel()
			_, err = g.WaitHealthy(ctx, 0)
			return err
		},
		Open: func(s peer.Setup) (Session, error) {
			c, err := group.Dial(context.Background(), callChannel,
				group.DialConfig{Domain: s.Dir, Options: options})
			if err != nil {
				return nil, err
			}
			return &groupSession{c, bulk.NewBulkClient(c),
				bulk.BlockT{Data: make([]byte, s.Size)}}, nil
		},
	}
}

type groupSession struct {
	client *group.Client
	bulk   *bulk.BulkClient
	block  bulk.BlockT
}

func (s *groupSession) Call() error {
	_, err := s.bulk.Put(context.Background(), &s.block)
	return err
}

func (s *groupSession) Close() error { return s.client.Close() }
