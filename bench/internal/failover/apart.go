package failover

import (
	"context"
	"time"

	"github.com/ipcgen/ipcgen/bench/internal/peer"
	"github.com/ipcgen/ipcgen/bench/internal/replica"
	"github.com/ipcgen/ipcgen/runtime/group"
)

// SupervisorRole is the role of a process that supervises a group and does
// nothing else. Its Setup's Dir is the domain, and Size and Huge the ballast of
// the replicas. They end with it.
const SupervisorRole = "supervisor"

// Supervise is the server of SupervisorRole.
func Supervise(s peer.Setup) error {
	_, err := group.Start(context.Background(),
		config(s.Dir, replica.Ballast{Bytes: s.Size, Huge: s.Huge}))
	return err
}

// A keeperApart has a process of its own.
type keeperApart struct {
	process *peer.Process
	orders  *group.Operator
}

// startApart starts a group of two whose supervisor has a process of its own.
func startApart(domain string, b replica.Ballast) (*subject, error) {
	p, err := peer.Start(SupervisorRole, peer.Setup{Dir: domain, Size: b.Bytes, Huge: b.Huge})
	if err != nil {
		return nil, err
	}
	o, err := group.DialSupervisor(context.Background(), service, domain)
	if err != nil {
		p.Kill()
		return nil, err
	}
	return observe(domain, keeperApart{p, o}, nil)
}

func (k keeperApart) healthy(ctx context.Context, after uint64) (group.Status, error) {
	for {
		s, err := k.orders.Status(ctx)
		if err != nil || s.Healthy() && s.Epoch > after {
			return s, err
		}
		time.Sleep(time.Millisecond)
	}
}

func (k keeperApart) stop() {
	k.orders.Close()
	k.process.Kill()
}
