package contest

import (
	"context"
	"os"
	"path/filepath"

	"github.com/nats-io/nats.go"

	"github.com/ipcgen/ipcgen/bench/gen/bulk"
	"github.com/ipcgen/ipcgen/bench/internal/peer"
	"github.com/ipcgen/ipcgen/gen/audio"
	"github.com/ipcgen/ipcgen/nats"
)

// natsCall is the project's typed call over NATS, which natsLoopback brings in the same way, with
// its server in the process that answers.
func natsCall() *Contestant {
	return &Contestant{
		Key: "natscall", Name: "ipcgen over NATS, typed call", Ours: true, Many: true, Shared: true,
		Note: "generated client and server, carried by natsipc; the NATS server as above",
		Serve: func(s peer.Setup) error {
			srv, err := startNATS()
			if err != nil {
				return err
			}
			c, err := natsipc.Connect("", nats.InProcessServer(srv))
			if err != nil {
				return err
			}
			h := new(handler)
			_, err = natsipc.Serve(context.Background(), c, callChannel,
				audio.NewAudioControlService(h), bulk.NewBulkService(h))
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(s.Dir, "url"), []byte(srv.ClientURL()), 0o600)
		},
		Open: func(s peer.Setup) (Session, error) {
			url, err := os.ReadFile(filepath.Join(s.Dir, "url"))
			if err != nil {
				return nil, err
			}
			nc, err := natsipc.Connect(string(url))
			if err != nil {
				return nil, err
			}
			c, err := natsipc.Dial(context.Background(), nc, callChannel)
			if err != nil {
				nc.Close()
				return nil, err
			}
			return callsOver(c, c, s.Size, func() error {
				defer nc.Close()
				return c.Close()
			}), nil
		},
	}
}
