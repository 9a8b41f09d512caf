package group

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/ipcgen/ipcgen/internal/domain"
	"github.com/ipcgen/ipcgen/internal/sys"
	"github.com/ipcgen/ipcgen/runtime/registry"
)

// A Group is a supervised service. It is safe for concurrent use.
type Group struct {
	s *supervisor
}

// Start spawns the replicas of a service and returns when all are ready and
// one is the primary. When that fails (an *ReplicaError says which replica
// and why; an *InUseError, who supervises the service already) or ctx is done
// before, everything that was started has ended before Start returns.
//
// The group lives until Shutdown or until ctx is done, which has the same
// effect; a limit for the start alone is Config.ReadyTimeout. The kernel kills
// the replicas when this process dies, however it dies, unless Config.Survive
// is set.
func Start(ctx context.Context, cfg Config) (*Group, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s, err := newSupervisor(ctx, cfg)
	if err != nil {
		return nil, sys.ExplainOf(err)
	}
	s.release = context.AfterFunc(ctx, func() { s.do(func() { s.shutdown(context.Cause(ctx)) }) })
	go s.run()
	if _, err := s.board.wait(context.Background(), Status.Healthy); err != nil {
		<-s.done
		return nil, fmt.Errorf("group %s: %w", cfg.Service, err)
	}
	return &Group{s}, nil
}

func newSupervisor(ctx context.Context, cfg Config) (s *supervisor, err error) {
	dir, err := domain.Open(cfg.Domain)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			dir.Close()
		}
	}()
	reg, err := registry.Open(dir.Path(), nil)
	if err != nil {
		return nil, err
	}
	out, err := newOutput(&cfg)
	if err != nil {
		reg.Close()
		return nil, err
	}
	defer func() {
		if err != nil {
			out.close()
		}
	}()
	page, err := claimPage(dir, cfg.Service, cfg.Replicas, nil)
	if err != nil {
		reg.Close()
		return nil, err
	}
	var syncWatch *sys.DirWatch
	if cfg.Replication != nil {
		syncWatch, err = sys.WatchDir(filepath.Join(dir.Path(), folder))
	}
	var survivors []*joinedProcess
	if err == nil {
		survivors, err = findSurvivors(ctx, cfg, page, reg)
	}
	if err != nil {
		if syncWatch != nil {
			syncWatch.Close()
		}
		return nil, sys.JoinErrors(err, page.close(), reg.Close())
	}
	s = makeSupervisor(cfg, dir, reg, page)
	s.out, s.syncWatch, s.survivors = out, syncWatch, survivors
	return s, nil
}

// Status returns the group's present state.
func (g *Group) Status() Status {
	s, _, _ := g.s.board.get()
	s.OutputLost = g.s.out.lost.Load()
	return s
}

// Replicas returns the state of every replica, by index.
func (g *Group) Replicas() []ReplicaStatus { return g.Status().Replicas }

// Primary returns the primary; ok is false while there is none.
func (g *Group) Primary() (r ReplicaStatus, ok bool) {
	s := g.Status()
	if s.Primary == none {
		return ReplicaStatus{}, false
	}
	return s.Replicas[s.Primary], true
}

// Wait blocks until cond holds for the group's status, which it returns, until
// ctx is done, or until the group has ended.
func (g *Group) Wait(ctx context.Context, cond func(Status) bool) (Status, error) {
	return g.s.board.wait(ctx, cond)
}

// WaitHealthy blocks until the group is in an epoch after the given one, and
// healthy: all replicas ready and one of them the primary. With the epoch of a
// status taken before a failover, it waits for the end of that failover.
func (g *Group) WaitHealthy(ctx context.Context, after uint64) (Status, error) {
	return g.Wait(ctx, func(s Status) bool { return s.Epoch > after && s.Healthy() })
}

// Shutdown ends the group: the primary gets SIGTERM, and answers what it has taken
// while it reigns still; when it has ended, the standbys get SIGTERM. Each gets SIGKILL
// when it has not ended within Config.Grace, or when ctx is done. Shutdown blocks until all
// have ended and nothing of the group is left. It may be called again.
func (g *Group) Shutdown(ctx context.Context) error {
	g.s.do(func() { g.s.shutdown(ErrClosed) })
	select {
	case <-g.s.done:
	case <-ctx.Done():
		g.s.do(g.s.killAll)
		<-g.s.done
	}
	return g.s.endErr
}

// Done is closed when the group has ended, by Shutdown or because Start's
// context was done.
func (g *Group) Done() <-chan struct{} { return g.s.done }

// errEnded is what waits return once a group has ended.
var errEnded = errors.New("the group has ended")
