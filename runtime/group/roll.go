package group

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
)

// Failover replaces the primary by a standby without a failed call. The primary gets SIGTERM and
// drains as in [Run]. When it has ended, a standby is promoted, and clients send the calls that the
// old primary did not take to the new one. Failover blocks until the group is healthy again, with a
// new process in the place of the old primary. It returns an error if the group has no primary or
// no standby, or keeps a state and has no standby in sync, when ctx is done, or when the group
// ends.
func (g *Group) Failover(ctx context.Context) (Status, error) {
	if err := g.usable(ctx); err != nil {
		return g.Status(), fmt.Errorf("failover: %w", err)
	}
	return g.failover(ctx, 0)
}

// failover is Failover of the primary of an epoch, or of any primary if the epoch is 0.
func (g *Group) failover(ctx context.Context, epoch uint64) (Status, error) {
	before := g.Status()
	if epoch != 0 && epoch != before.Epoch {
		return before, refuse("failover of group %s: epoch %d is over; the present one is %d",
			g.s.cfg.Service, epoch, before.Epoch)
	}
	if before.Primary == none || before.Alive() < 2 {
		return before, refuse("failover of group %s: it needs a primary and a standby",
			g.s.cfg.Service)
	}
	refused := false
	g.s.ask(func() {
		if r := g.s.replicas[before.Primary]; g.s.reign.epoch == before.Epoch {
			refused = !g.s.spare(r)
		}
	})
	if refused {
		return before, refuse("failover of group %s: no standby is in sync; wait for one "+
			"with Group.WaitHealthy", g.s.cfg.Service)
	}
	return g.WaitHealthy(ctx, before.Epoch)
}

// spare replaces a replica, and reports whether it could: it must be spareable.
func (s *supervisor) spare(r *managedReplica) bool {
	can := s.spareable(r)
	if can {
		s.replace(r, r.command)
	}
	return can
}

// spareable reports whether a replica can be told to end without the loss of the state that the
// group keeps, if any: another one has it, and has not been told to end itself.
func (s *supervisor) spareable(r *managedReplica) bool {
	has := func(other *managedReplica) bool {
		return other != r && other.state == ready && other.suspicion == nil &&
			other.told != other.proc && s.countedOn(other)
	}
	stateless := s.cfg.Replication == nil ||
		s.reign.primary != r.index && !s.page.whole(r.index)
	return stateless || slices.ContainsFunc(s.replicas, has)
}

// Roll replaces the processes of all replicas, one after the other, by processes of another
// command, standbys first, without a failed call. If a new process does not become ready, the
// replicas replaced so far get back the command that they had, again one after the other and
// without a failed call, and Roll returns the failure once the group is healthy again. An adopted
// replica counts as one of [Config.Command]. Later restarts use the command that Roll has left.
// Roll blocks until all is done, ctx is done, or the group ends. Rolls are carried out one after
// the other: Roll first blocks until an earlier one has returned.
func (g *Group) Roll(ctx context.Context, command func(index int) *exec.Cmd) error {
	if err := g.usable(ctx); err != nil {
		return fmt.Errorf("roll: %w", err)
	}
	if command == nil {
		return fmt.Errorf("roll group %s: %w", g.s.cfg.Service, errNilCommand)
	}
	leave, err := g.enterRoll(ctx)
	if err != nil {
		return err
	}
	defer leave()
	status, err := g.WaitHealthy(ctx, 0)
	if err != nil {
		return fmt.Errorf("roll group %s: %w", g.s.cfg.Service, err)
	}
	former := make(map[int]func(int) *exec.Cmd)
	for _, index := range standbysFirst(status) {
		former[index] = g.s.commandOf(index)
		if err = g.exchange(ctx, index, command, anyFailure); err != nil {
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

// enterRoll waits until no other roll is carried out, and keeps others out until leave is called.
func (g *Group) enterRoll(ctx context.Context) (leave func(), err error) {
	select {
	case g.s.rolling <- struct{}{}:
		return func() { <-g.s.rolling }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("roll group %s: %w", g.s.cfg.Service, context.Cause(ctx))
	case <-g.s.done: // WaitHealthy returns why
		return func() {}, nil
	}
}

// goBack gives replicas the commands that they had, one after the other, and waits until the group
// is healthy with them. It begins with a replica that does not work, for others may be the only
// ones with the state, and ends with the primary.
func (g *Group) goBack(ctx context.Context, former map[int]func(int) *exec.Cmd) error {
	for len(former) > 0 {
		index := nextBack(g.Status(), former)
		if err := g.exchange(ctx, index, former[index], incompatible); err != nil {
			return err
		}
		delete(former, index)
	}
	return nil
}

// nextBack returns the replica of those in former that is the next to go back.
func nextBack(s Status, former map[int]func(int) *exec.Cmd) (next int) {
	order := standbysFirst(s)
	order = append(slices.DeleteFunc(slices.Clone(order), func(i int) bool {
		return i == none || s.Replicas[i].Ready
	}), order...)
	return order[slices.IndexFunc(order, func(i int) bool {
		_, ok := former[i]
		return ok
	})]
}

func standbysFirst(s Status) (indexes []int) {
	for _, r := range s.Replicas {
		if r.Index != s.Primary {
			indexes = append(indexes, r.Index)
		}
	}
	return append(indexes, s.Primary)
}

// exchange has one replica replaced, and waits until the group is healthy with the new process. It
// returns the failure of a process in the place of the replica if final holds for it; after another
// one it waits for the next process.
func (g *Group) exchange(ctx context.Context, index int, command func(int) *exec.Cmd,
	final func(failure error) bool) error {
	// Another order, as of Failover, may have left this replica the only one with the state.
	var pid int
	_, err := g.Wait(ctx, func(s Status) (ordered bool) {
		g.s.ask(func() {
			r := g.s.replicas[index]
			if ordered = len(s.Replicas) == 1 || g.s.spareable(r); ordered {
				pid = g.s.replace(r, command)
			}
		})
		return ordered
	})
	if err != nil {
		return err
	}
	var failure error
	_, err = g.Wait(ctx, func(s Status) bool {
		now := s.Replicas[index]
		if pid != 0 && now.PID == pid {
			return false
		}
		if now.Err != nil && final(now.Err) {
			failure = now.Err
			return true
		}
		return s.Healthy()
	})
	if err != nil {
		return err
	}
	return failure
}

func anyFailure(error) bool { return true }

func incompatible(failure error) bool { return errors.Is(failure, ErrIncompatible) }

// replace makes the process of a replica end in order, and the next one start. It returns the pid
// of the former. A process that is being started is replaced after its start. A replica that has no
// process gets the new command with its next start.
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
