package group

import (
	"context"
	"fmt"
	"os/exec"
)

// Failover replaces the primary by a standby, on demand and without a failed
// call: the primary gets SIGTERM, upon which it drains as Run does (it takes no
// more calls, and answers those it has taken); a standby is promoted when it has ended,
// and clients send it what the old one did not take. Failover returns when the group is healthy
// again, with a new process in the old primary's place.
func (g *Group) Failover(ctx context.Context) (Status, error) {
	before := g.Status()
	if before.Primary == none || before.Alive() < 2 {
		return before, fmt.Errorf("failover of group %s: it needs a primary and a standby",
			g.s.cfg.Service)
	}
	g.s.ask(func() {
		if r := g.s.replicas[before.Primary]; g.s.reign.epoch == before.Epoch {
			g.s.replace(r, r.command)
		}
	})
	return g.WaitHealthy(ctx, before.Epoch)
}

// Roll replaces every replica, one after the other, by a process of another
// command, standbys first, without a failed call (as by Failover). When a new
// process does not become ready, the replicas replaced so far go back to the
// command they had, and Roll returns what went wrong once the group is healthy
// again. Later restarts use the command that Roll left.
func (g *Group) Roll(ctx context.Context, command func(index int) *exec.Cmd) error {
	status, err := g.WaitHealthy(ctx, 0)
	if err != nil {
		return fmt.Errorf("roll group %s: %w", g.s.cfg.Service, err)
	}
	former := make(map[int]func(int) *exec.Cmd)
	for _, index := range standbysFirst(status) {
		g.s.ask(func() { former[index] = g.s.replicas[index].command })
		if err = g.exchange(ctx, index, command); err != nil {
			break
		}
	}
	if err == nil {
		return nil
	}
	if back := g.goBack(ctx, former); back != nil {
		return fmt.Errorf("roll group %s: %w; and going back failed: %w",
			g.s.cfg.Service, err, back)
	}
	return fmt.Errorf("roll group %s: %w; every replica runs the former command",
		g.s.cfg.Service, err)
}

// goBack gives replicas the commands they had, and waits until the group is
// healthy with them.
func (g *Group) goBack(ctx context.Context, former map[int]func(int) *exec.Cmd) error {
	pids := make(map[int]int)
	for index, command := range former {
		g.s.ask(func() { pids[index] = g.s.replace(g.s.replicas[index], command) })
	}
	_, err := g.Wait(ctx, func(s Status) bool {
		for index, pid := range pids {
			if pid != 0 && s.Replicas[index].PID == pid {
				return false
			}
		}
		return s.Healthy()
	})
	return err
}

func standbysFirst(s Status) (indexes []int) {
	for _, r := range s.Replicas {
		if r.Index != s.Primary {
			indexes = append(indexes, r.Index)
		}
	}
	return append(indexes, s.Primary)
}

// exchange has one replica replaced and waits until the group is healthy with
// the new process.
func (g *Group) exchange(ctx context.Context, index int, command func(int) *exec.Cmd) error {
	var pid int
	g.s.ask(func() { pid = g.s.replace(g.s.replicas[index], command) })
	var failure error
	_, err := g.Wait(ctx, func(s Status) bool {
		now := s.Replicas[index]
		if pid != 0 && now.PID == pid {
			return false
		}
		failure = now.Err
		return failure != nil || s.Healthy()
	})
	if err != nil {
		return err
	}
	return failure
}

// replace makes a replica's process, whose pid it returns, end in order, and
// another one start. One that is being started is replaced when it has been, and
// one that is down has only its next start to wait for.
func (s *supervisor) replace(r *managedReplica, command func(int) *exec.Cmd) (pid int) {
	r.command, r.trouble = command, nil
	r.edition++
	if r.proc == nil || s.stopping != nil {
		return 0
	}
	if r.state != dead {
		r.planned = true
		s.stop(r)
	}
	return r.proc.pid
}
