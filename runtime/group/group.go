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

// A Group is a service under supervision by this process. It is safe for concurrent use.
type Group struct {
	s *supervisor
}

// Start starts the replicas of a service. It blocks until all of them are ready and one is the
// primary. After an error, everything that was started has ended. The error wraps a [*ReplicaError]
// that names the replica and the reason, or an [*InUseError] if another process supervises the
// service; or it is the cause of the end of ctx. With [Config.Survive], Start adopts the replicas
// of an earlier supervisor. If replicas of an incompatible version ([ErrIncompatible]) would join
// them, or the command cannot be started, Start fails, and the adopted replicas serve on.
//
// The group lives until [Group.Shutdown], or until ctx is done, which has the same effect.
// [Config.ReadyTimeout] limits the start only. The kernel kills the replicas when this process
// dies, for whatever reason, unless [Config.Survive] is set.
func Start(ctx context.Context, cfg Config) (*Group, error) {
	if ctx == nil {
		return nil, fmt.Errorf("start group %s: %w", cfg.Service, errNilContext)
	}
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
	select {
	case <-s.up:
		return &Group{s}, nil
	case <-s.done:
		_, _, err := s.board.get()
		return nil, fmt.Errorf("group %s: %w", cfg.Service, err)
	}
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

// Status returns the present state of the group. It does not block.
func (g *Group) Status() Status {
	if g == nil || g.s == nil {
		return Status{Primary: none}
	}
	s, _, _ := g.s.board.get()
	s.OutputLost = g.s.out.lost.Load()
	return s
}

// Replicas returns the state of every replica, by index. It does not block.
func (g *Group) Replicas() []ReplicaStatus { return g.Status().Replicas }

// Primary returns the state of the primary. ok is false while there is no primary. It does not
// block.
func (g *Group) Primary() (r ReplicaStatus, ok bool) {
	s := g.Status()
	if s.Primary == none {
		return ReplicaStatus{}, false
	}
	return s.Replicas[s.Primary], true
}

// Wait blocks until cond holds for the group's status, and returns that status. It returns an
// error, with the last status, when ctx is done, cond panics, or the group has ended. Wait calls
// cond on its own goroutine with the latest status after a change; it may skip a status that the
// next one has replaced already.
func (g *Group) Wait(ctx context.Context, cond func(Status) bool) (Status, error) {
	if err := g.usable(ctx); err != nil {
		return g.Status(), err
	}
	if cond == nil {
		return g.Status(), errNilCondition
	}
	return g.s.board.wait(ctx, g.s.cfg.Logger, cond)
}

// WaitHealthy blocks until the epoch is greater than after and the group is healthy, as
// [Status.Healthy] defines it. With the epoch of a status from before a failover, it
// waits for the end of that failover. Errors are those of [Group.Wait].
func (g *Group) WaitHealthy(ctx context.Context, after uint64) (Status, error) {
	return g.Wait(ctx, func(s Status) bool { return s.Epoch > after && s.Healthy() })
}

// Shutdown ends the group. The primary gets SIGTERM first, and answers the calls that it has taken.
// It may need the standbys for that, so these get SIGTERM, all at once, when the primary has given
// up its registration or is dead. A replica that does not end within [Config.Grace] of its SIGTERM
// gets SIGKILL: Shutdown may take twice Config.Grace. When ctx is done, all replicas get SIGKILL.
// Shutdown blocks until all replicas have ended and the group's files are removed. The error
// reports replicas that could not be killed and files that could not be removed. Shutdown may be
// called again.
func (g *Group) Shutdown(ctx context.Context) error {
	if err := g.usable(ctx); err != nil {
		return err
	}
	g.s.do(func() { g.s.shutdown(errShutdown) })
	select {
	case <-g.s.done:
	case <-ctx.Done():
		g.s.do(g.s.killAll)
		<-g.s.done
	}
	return g.s.endErr
}

// Done returns a channel that is closed when the group has ended: by [Group.Shutdown], by the end
// of the context of Start, or by a failure that the group cannot survive.
func (g *Group) Done() <-chan struct{} {
	if g == nil || g.s == nil {
		return ended
	}
	return g.s.done
}

// errShutdown is the cause of a group's end that nothing else has caused.
var errShutdown = errors.New("Shutdown was called")

// errEnded is the error of waits for a group that has ended.
var errEnded = errors.New("the group has ended")
