package orders

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/survey"
	"github.com/ipcgen/ipcgen/internal/sys"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/group"
	"github.com/ipcgen/ipcgen/runtime/registry"
)

// Drain prepares the end of a server. The process of a replica is replaced by its supervisor; any
// other gets SIGTERM.
func Drain(ctx context.Context, domain, name string) (*Order, error) {
	s, err := survey.Of(domain)
	if err != nil {
		return nil, nobody(err)
	}
	kind, channel, err := s.Resolve(name)
	if err != nil {
		return nil, nobody(err)
	}
	if kind == survey.GroupName {
		return nil, fmt.Errorf("%s is a group: drain one replica, such as %s.0; its supervisor "+
			"ends the group", name, name)
	}
	replica := slices.IndexFunc(s.Instances, func(r registry.Record) bool {
		return r.Incarnation != 0 && (r.Name == name || r.Control == channel)
	})
	if replica >= 0 {
		r := s.Instances[replica]
		op, status, err := supervisor(ctx, s, survey.GroupOf(r.Name))
		switch {
		case err == nil:
			return drainReplica(ctx, s, op, status, r.Name)
		case !errors.Is(err, group.ErrNoSupervisor):
			return nil, err
		}
	}
	return drainServer(ctx, s, channel)
}

// drainReplica has the supervisor replace a replica.
func drainReplica(ctx context.Context, s *survey.Survey, op *group.Operator, before group.Status,
	name string) (*Order, error) {
	i := slices.IndexFunc(before.Replicas, func(r group.ReplicaStatus) bool {
		return r.Name == name
	})
	if i < 0 || before.Replicas[i].PID == 0 {
		op.Close()
		return nil, nobody(fmt.Errorf("%s has no process at present", name))
	}
	r, who := before.Replicas[i], processOf(before, i)
	o := &Order{Before: before, close: op.Close, Mark: who, Ended: who,
		Burden:   burden(ctx, s, r.Control, who),
		Question: fmt.Sprintf("end %s, so that its supervisor starts another process?", who)}
	o.carryOut = func(ctx context.Context, limit time.Duration, tell func(string)) error {
		return o.supervised(ctx, limit, tell, op, func(ctx context.Context) (group.Status, error) {
			return op.Replace(ctx, i, r.PID)
		})
	}
	return o, nil
}

// drainServer tells the process that serves a channel to end.
func drainServer(ctx context.Context, s *survey.Survey, channel string) (*Order, error) {
	process, err := serverOf(ctx, s, channel)
	if err != nil {
		return nil, err
	}
	who := fmt.Sprintf("%s (pid %d)", channel, process.PID())
	o := &Order{close: process.Close, Mark: who, Ended: who,
		Burden:   burden(ctx, s, channel, who),
		Question: fmt.Sprintf("tell %s to end?", who)}
	if also := s.ServedBeside(channel, process.PID()); len(also) > 0 {
		o.Question = fmt.Sprintf("tell %s to end, which also serves %s?", who,
			strings.Join(also, ", "))
	}
	o.carryOut = func(ctx context.Context, limit time.Duration, tell func(string)) error {
		if err := process.Signal(sys.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("%s: %w", who, err)
		}
		ended := make(chan error, 1)
		go func() { ended <- process.Wait() }()
		patience := sys.NewPatience(limit)
		for wait := patience.Next(); wait > 0; wait = patience.Next() {
			select {
			case err := <-ended:
				return err
			case <-ctx.Done():
				tell(fmt.Sprintf("interrupted; %s was told to end", who))
				return ctx.Err()
			case <-time.After(wait):
			}
		}
		select {
		case err := <-ended: // perhaps while this process stood still
			return err
		default:
			return &Error{ipc.CodeDeadlineExceeded, fmt.Errorf("%s still runs after %v: it was "+
				"told to end (SIGTERM), and answers calls or does not listen to that", who, limit)}
		}
	}
	return o, nil
}

// serverOf returns a handle on the process that serves a channel. The kernel vouches for its pid
// while the connection lasts, so the handle stands for no other process.
func serverOf(ctx context.Context, s *survey.Survey, channel string) (*sys.Process, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := ipc.Dial(ctx, channel, ipc.WithDomain(s.Domain))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	pid := conn.Peer().PID
	if pid == 0 {
		return nil, fmt.Errorf("the server of %s is in another pid namespace, and cannot be told "+
			"to end from here", channel)
	}
	process, err := sys.OpenProcess(pid)
	if err != nil {
		return nil, fmt.Errorf("the server of %s (pid %d): %w", channel, pid, err)
	}
	if _, err := conn.Health(ctx, ""); ipc.CodeOf(err) == ipc.CodeUnavailable {
		process.Close()
		return nil, err // it has ended, and the pid may be that of another process
	}
	return process, nil
}

// askFor is how long a server may take to tell what it does.
const askFor = 2 * time.Second

// burden says what a server has to finish before it ends.
func burden(ctx context.Context, s *survey.Survey, channel, who string) string {
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	conn, err := ipc.Dial(ctx, channel, ipc.WithDomain(s.Domain))
	if err != nil {
		return fmt.Sprintf("%s: what it does is not known: %v", who, err)
	}
	defer conn.Close()
	n, err := ipc.ReadCounters(ctx, conn)
	if err != nil {
		return fmt.Sprintf("%s: what it does is not known: %v", who, err)
	}
	return fmt.Sprintf("%s: calls in flight: %d, clients: %d", who, n.CallsInFlight,
		max(0, int(n.Clients)-1))
}
