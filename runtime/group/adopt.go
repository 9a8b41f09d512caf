package group

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/ipcgen/ipcgen/internal/sys"
	"github.com/ipcgen/ipcgen/runtime/registry"
)

// findSurvivors finds the processes that an earlier supervisor left in the group's places. With
// Config.Survive it returns them, for adoption. Otherwise it blocks until they are gone, for
// cfg.ReadyTimeout at most.
func findSurvivors(ctx context.Context, cfg Config, p *page,
	reg *registry.Registry) (survivors []*joinedProcess, err error) {
	all, err := p.withdrawStarts()
	if err != nil {
		return nil, fmt.Errorf("group %s: %w", cfg.Service, err)
	}
	adopted := make(map[string]bool)
	var pids []int
	for _, j := range all {
		adopted[replicaName(cfg.Service, j.index)] = cfg.Survive
		pids = append(pids, j.pid)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, cfg.ReadyTimeout,
		fmt.Errorf("group %s: processes of an earlier supervisor still run, %v; end them",
			cfg.Service, pids))
	defer cancel()
	if !cfg.Survive {
		// The kernel kills them at once, but the death of a large process takes a while.
		for _, j := range all {
			err = sys.JoinErrors(err, p.awaitEnd(ctx, j))
		}
		all = nil
	}
	for _, j := range all {
		if j.handle == nil {
			err = sys.JoinErrors(err,
				fmt.Errorf("group %s: process %d in place %d cannot be adopted: %w", cfg.Service,
					j.pid, j.index, j.err))
		}
	}
	// Without the terms of the last supervisor, which was killed while it stored them or whose page
	// was overwritten, the configuration is taken to be as before.
	last, ok := p.terms()
	if ok && len(all) > 0 && last.replicates != (cfg.Replication != nil) {
		keep := "keep a state, and this one does not"
		if !last.replicates {
			keep = "do not keep a state, and this one does"
		}
		err = sys.JoinErrors(err, fmt.Errorf("group %s: replicas of an earlier supervisor, with "+
			"pids %v, %s (Config.Replication); end them, or start the group as they were started",
			cfg.Service, pids, keep))
	}
	if err == nil {
		err = awaitNames(ctx, cfg, p, reg, adopted)
	}
	if err != nil {
		closeAll(all)
		return nil, err
	}
	return all, nil
}

// awaitEnd blocks until the process in a place is dead, and closes its handle.
func (p *page) awaitEnd(ctx context.Context, j *joinedProcess) error {
	if j.handle == nil {
		return p.awaitFree(ctx, j)
	}
	stop := context.AfterFunc(ctx, func() { j.handle.Close() })
	err := j.handle.Wait()
	if !stop() {
		return context.Cause(ctx)
	}
	return sys.JoinErrors(err, j.handle.Close())
}

// awaitFree blocks until a process without a handle has lost its place.
func (p *page) awaitFree(ctx context.Context, j *joinedProcess) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		there, err := sys.Locked(p.f, placeLock(j.index, j.pid))
		if err != nil || !there {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// awaitNames blocks until the names of the group's replicas are free, except those of adopted ones.
// A dying process may lose its place before its name. A dead process has no name any more, but
// another one may have inherited the name's locks; the replica that cannot get the name tells so.
func awaitNames(ctx context.Context, cfg Config, p *page, reg *registry.Registry,
	adopted map[string]bool) error {
	recs, err := reg.List(cfg.Service)
	if err != nil {
		return err
	}
	for _, rec := range recs {
		index, ok := indexOf(cfg.Service, rec.Name)
		if !ok || index >= cfg.Replicas || rec.Incarnation == 0 || adopted[rec.Name] {
			continue
		}
		here := p.placeWord(index, offNamespace) == sys.PIDNamespace()
		if !here || sys.Alive(rec.PID) {
			if err := reg.WaitGone(ctx, rec.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

// adoptAll takes over the replicas that an earlier supervisor left, with the reign of their
// primary. It runs before anything else.
func (s *supervisor) adoptAll(survivors []*joinedProcess) {
	for _, j := range survivors {
		if j.index >= len(s.replicas) {
			s.evict(j)
			continue
		}
		s.adopt(s.replicas[j.index], j)
		s.settled = true // the group is not a new one
	}
	primary := s.reign.primary
	if primary == none || primary >= len(s.replicas) || s.replicas[primary].proc == nil {
		s.endReign()
		primary = none
	}
	s.rule(s.reign.epoch, primary)
}

// adopt makes a process that another supervisor started the process of a replica. The replica
// becomes ready when the registry's watch reports its record.
func (s *supervisor) adopt(r *managedReplica, j *joinedProcess) {
	s.page.incarnation(r.index).Store(j.incarnation)
	sys.CrashPoint("group adopted")
	path, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", j.pid))
	r.state, r.incarnation = starting, j.incarnation
	p := &process{path: path, page: s.page, index: r.index, handle: j.handle, pid: j.pid}
	p.reconnect(s, r.index)
	s.report(Event{Kind: Adopted, Replica: r.name, PID: p.pid})
	s.attend(r, p)
	if s.page.placeWord(r.index, offTold) == j.incarnation {
		// The earlier supervisor has told the process to end. It answers the calls that it has
		// taken, perhaps as the primary, and is then replaced.
		r.state, r.planned, r.told = leaving, true, p
		s.killAfterGrace(r)
		return
	}
	s.expectReady(r, p)
}

// adopted reports whether the replica's process is one that an earlier supervisor started.
func (r *managedReplica) adopted() bool { return r.proc != nil && r.proc.cmd == nil }

// futile reports whether a replica failed for a reason that lasts, while this supervisor has not
// brought the group up yet and supervises a primary that it has adopted. The replica's version does
// not fit that of the primary, or its process could not be started.
func (s *supervisor) futile(err error) bool {
	var failure *ReplicaError
	lasting := errors.Is(err, ErrIncompatible) || errors.As(err, &failure) && failure.PID == 0
	p := s.reign.primary
	return lasting && !s.wasUp() && p != none && s.replicas[p].adopted()
}

// leave ends this supervisor, and the processes that it has started, but not the ones that it has
// adopted. They serve on without a supervisor, as they did before.
func (s *supervisor) leave(cause error) {
	s.stopping, s.left = fmt.Errorf("%w; the replicas of an earlier supervisor serve on, without "+
		"a supervisor", cause), true
	s.report(Event{Kind: Stopping, Cause: s.stopping.Error()})
	s.giveUpPreparing()
	for _, r := range s.replicas {
		switch {
		case r.adopted() && r.state != dead:
			r.proc.handle.Close() // ends the wait for its death
			r.state, r.proc, r.record = down, nil, registry.Record{}
		case r.proc != nil && r.state != dead:
			s.stop(r)
		}
	}
}

// evict kills a process of an earlier supervisor for which the group has no place.
func (s *supervisor) evict(j *joinedProcess) {
	name := replicaName(s.cfg.Service, j.index)
	if rec, err := s.reg.Lookup(name); err == nil && rec.Control != "" {
		s.channels[rec.Control] = true
	}
	if s.cfg.Replication != nil {
		s.channels[replicaChannel(name)] = true
	}
	err := j.handle.Signal(sys.SIGKILL)
	s.report(Event{Kind: Evicted, Replica: name, PID: j.pid,
		Cause: "left by an earlier supervisor", Err: err})
	s.helpers.Go(func() {
		defer j.handle.Close()
		j.handle.Wait()
	})
}

func indexOf(service, name string) (int, bool) {
	digits, ok := strings.CutPrefix(name, service+".")
	if !ok {
		return 0, false
	}
	index, err := strconv.Atoi(digits)
	return index, err == nil && index >= 0 && name == replicaName(service, index)
}
