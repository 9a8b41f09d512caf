package group

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/ipcgen/ipcgen/internal/sys"
	"github.com/ipcgen/ipcgen/runtime/registry"
)

// inherit finds out what an earlier supervisor left in the group's places. The
// processes that it returns are to be adopted, which is wanted with
// Config.Survive; it blocks until all others are gone, for cfg.ReadyTimeout at most.
func inherit(ctx context.Context, cfg Config, p *page,
	reg *registry.Registry) (left []*occupant, err error) {
	all, err := p.occupants()
	if err != nil {
		return nil, fmt.Errorf("group %s: %w", cfg.Service, err)
	}
	adopted := make(map[string]bool)
	var pids []int
	for _, o := range all {
		adopted[instanceName(cfg.Service, o.index)] = cfg.Survive
		pids = append(pids, o.pid)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, cfg.ReadyTimeout,
		fmt.Errorf("group %s: processes of an earlier supervisor still run, %v; end them",
			cfg.Service, pids))
	defer cancel()
	if !cfg.Survive {
		// The kernel kills them at once, but a large one takes a while to die.
		for _, o := range all {
			err = sys.JoinErrors(err, p.awaitEnd(ctx, o))
		}
		all = nil
	}
	for _, o := range all {
		if o.handle == nil {
			err = sys.JoinErrors(err,
				fmt.Errorf("group %s: process %d in place %d cannot be adopted: %w", cfg.Service,
					o.pid, o.index, o.err))
		}
	}
	if err == nil {
		err = awaitNames(ctx, cfg, reg, adopted)
	}
	if err != nil {
		closeAll(all)
		return nil, err
	}
	return all, nil
}

// awaitEnd blocks until the process in a place, whose handle it closes, is dead.
func (p *page) awaitEnd(ctx context.Context, o *occupant) error {
	if o.handle == nil {
		return p.awaitFree(ctx, o)
	}
	stop := context.AfterFunc(ctx, func() { o.handle.Close() })
	err := o.handle.Wait()
	if !stop() {
		return context.Cause(ctx)
	}
	return sys.JoinErrors(err, o.handle.Close())
}

// awaitFree blocks until a process without a handle has lost its place.
func (p *page) awaitFree(ctx context.Context, o *occupant) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		there, err := sys.Locked(p.f, placeLock(o.index, o.pid))
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

// awaitNames blocks until nobody has a name of the group's replicas but those
// who are adopted: a dying process may have left its place before its name.
func awaitNames(ctx context.Context, cfg Config, reg *registry.Registry,
	adopted map[string]bool) error {
	recs, err := reg.List(cfg.Service)
	if err != nil {
		return err
	}
	for _, rec := range recs {
		index, ok := indexOf(cfg.Service, rec.Name)
		if ok && index < cfg.Replicas && rec.Incarnation != 0 && !adopted[rec.Name] {
			if err := reg.WaitGone(ctx, rec.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

// adoptAll takes over the replicas that an earlier supervisor left, with the
// reign of their primary. It runs before anything else does.
func (s *supervisor) adoptAll(left []*occupant) {
	for _, o := range left {
		if o.index >= len(s.replicas) {
			s.evict(o)
			continue
		}
		s.adopt(s.replicas[o.index], o)
		s.settled = true // it is no fresh group
	}
	primary := s.reign.primary
	if primary == none || primary >= len(s.replicas) || s.replicas[primary].proc == nil {
		s.bequeath()
		primary = none
	}
	s.rule(s.reign.epoch, primary)
}

// adopt makes a process that others started a replica's. Its record, which the
// registry's watch brings, makes it ready.
func (s *supervisor) adopt(r *replica, o *occupant) {
	s.page.tenant(r.index).Store(o.incarnation)
	sys.CrashPoint("group adopted")
	path, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", o.pid))
	r.state, r.incarnation = starting, o.incarnation
	p := &process{path: path, page: s.page, index: r.index, handle: o.handle, pid: o.pid}
	p.reconnect(s, r.index)
	s.report(Event{Kind: Adopted, Instance: r.name, PID: p.pid})
	s.attend(r, p)
	if s.page.placeWord(r.index, offTold) == o.incarnation {
		// The earlier supervisor has told it to end. It answers what it has taken, perhaps
		// as the primary, and is replaced then.
		r.state, r.planned, r.told = leaving, true, p
		s.killAfterGrace(r)
		return
	}
	s.expectReady(r, p)
}

// evict kills a process of an earlier supervisor for which there is no place.
func (s *supervisor) evict(o *occupant) {
	name := instanceName(s.cfg.Service, o.index)
	if rec, err := s.reg.Lookup(name); err == nil && rec.Control != "" {
		s.channels[rec.Control] = true
	}
	if s.cfg.Replication != nil {
		s.channels[replicaChannel(name)] = true
	}
	err := o.handle.Signal(sys.SIGKILL)
	s.report(Event{Kind: Evicted, Instance: name, PID: o.pid,
		Cause: "left by an earlier supervisor", Err: err})
	s.helpers.Go(func() {
		defer o.handle.Close()
		o.handle.Wait()
	})
}

func indexOf(service, name string) (int, bool) {
	digits, ok := strings.CutPrefix(name, service+".")
	if !ok {
		return 0, false
	}
	index, err := strconv.Atoi(digits)
	return index, err == nil && index >= 0 && name == instanceName(service, index)
}
