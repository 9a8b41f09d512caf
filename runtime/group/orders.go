package group

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/group/orders"
)

// This file is the server of a supervisor: it takes orders from other processes of the same user.
// [Operator] is the other side.

// ordersFolder is the domain in which supervisors serve, each on a channel with the name of its
// group. It lies in the domain of the groups, so no name there can be that of an order's channel.
var ordersFolder = filepath.Join(folder, ".orders")

// Limits of the server: a tool has one connection and few calls, and no message is long.
const (
	mostOperators  = 16
	mostOrders     = 8
	ordersRing     = 64 << 10
	longestOrder   = 1 << 20 // holds the state of maxReplicas replicas
	longestFailure = 500
	ordersGrace    = time.Second // for the replies to orders when the group has ended
	ordersInterval = time.Second // between attempts to serve
)

// listenForOrders makes the channel of the supervisor.
func (s *supervisor) listenForOrders() (*ipc.Listener, error) {
	root := s.dir.Root()
	for _, name := range []string{folder, ordersFolder} {
		if err := root.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	return ipc.Listen(s.cfg.Service, ipc.WithDomain(filepath.Join(s.dir.Path(), ordersFolder)))
}

// takeOrders serves l until the group has ended. It makes the channel again if that fails, as
// without descriptors: a group works without orders.
func (s *supervisor) takeOrders(l *ipc.Listener, err error) {
	reported := ""
	for s.ctx.Err() == nil {
		if err == nil {
			reported = ""
			err = s.serveOrders(l)
		}
		if s.ctx.Err() != nil {
			return
		}
		if text := err.Error(); text != reported {
			reported = text
			s.events.log(slog.LevelWarn, "orders of other processes cannot be taken", "err", err)
		}
		select {
		case <-time.After(ordersInterval):
			l, err = s.listenForOrders()
		case <-s.ctx.Done():
			return
		}
	}
	if err == nil {
		l.Close()
	}
}

func (s *supervisor) serveOrders(l *ipc.Listener) error {
	server := ipc.NewServer(orders.NewSupervisorService(&orderTaker{g: &Group{s}}),
		ipc.WithLogger(s.cfg.Logger), ipc.WithRings(ordersRing, ordersRing),
		ipc.WithMaxMessage(longestOrder), ipc.WithMaxConns(mostOperators),
		ipc.WithMaxCalls(mostOrders))
	ended := make(chan struct{})
	stop := context.AfterFunc(s.ctx, func() {
		defer close(ended)
		ctx, cancel := context.WithTimeout(context.Background(), ordersGrace)
		defer cancel()
		_ = server.Shutdown(ctx) // what is left is closed
	})
	err := server.Serve(context.Background(), l)
	if !stop() {
		<-ended
	}
	return err
}

// An orderTaker implements the service of a supervisor.
type orderTaker struct {
	g *Group
}

// ReadStatus implements [orders.Supervisor].
func (t *orderTaker) ReadStatus(context.Context, *orders.ReadStatusT) (*orders.GroupStatusT,
	error) {
	return t.g.wire(), nil
}

// Failover implements [orders.Supervisor].
func (t *orderTaker) Failover(ctx context.Context, o *orders.FailoverT) (*orders.GroupStatusT,
	error) {
	ctx, cancel := t.g.whileSupervised(ctx)
	defer cancel()
	return t.g.carriedOut(t.g.failover(ctx, o.Epoch))
}

// Roll implements [orders.Supervisor].
func (t *orderTaker) Roll(ctx context.Context, _ *orders.RollT) (*orders.GroupStatusT, error) {
	ctx, cancel := t.g.whileSupervised(ctx)
	defer cancel()
	return t.g.carriedOut(t.g.rollAgain(ctx))
}

// Replace implements [orders.Supervisor].
func (t *orderTaker) Replace(ctx context.Context, o *orders.ReplaceT) (*orders.GroupStatusT,
	error) {
	ctx, cancel := t.g.whileSupervised(ctx)
	defer cancel()
	return t.g.carriedOut(t.g.replaceOne(ctx, int(o.Replica), int(o.Pid)))
}

// whileSupervised returns a context that also ends with the group.
func (g *Group) whileSupervised(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(g.s.ctx, func() { cancel(errEnded) })
	return ctx, func() { stop(); cancel(nil) }
}

// A refusal is the error of an order that the state of the group does not allow. Nothing was done.
type refusal struct{ text string }

func (e *refusal) Error() string { return e.text }

func refuse(format string, args ...any) error { return &refusal{fmt.Sprintf(format, args...)} }

// carriedOut returns the reply to an order.
func (g *Group) carriedOut(_ Status, err error) (*orders.GroupStatusT, error) {
	var refused *refusal
	switch {
	case err == nil:
		return g.wire(), nil
	case errors.As(err, &refused):
		return nil, ipc.Errorf(ipc.CodeFailedPrecondition, "%v", err)
	case errors.Is(err, errEnded):
		return nil, ipc.Errorf(ipc.CodeUnavailable, "%v", err)
	}
	return nil, err
}

// rollAgain is a roll to the commands that the replicas have, which may start other programs than
// before. There is no other command to go back to, so a failure ends the roll: the replicas that
// are left run on. Once begun, the end of the caller does not end the roll; its deadline does.
func (g *Group) rollAgain(ctx context.Context) (Status, error) {
	leave, err := g.enterRoll(ctx)
	if err != nil {
		return g.Status(), err
	}
	defer leave()
	status, err := g.WaitHealthy(ctx, 0)
	if err != nil {
		return status, fmt.Errorf("roll group %s: it is not healthy: %w", g.s.cfg.Service, err)
	}
	lasting := context.WithoutCancel(ctx)
	cancel := context.CancelFunc(func() {})
	if deadline, ok := ctx.Deadline(); ok {
		lasting, cancel = context.WithDeadline(lasting, deadline)
	}
	defer cancel()
	lasting, free := g.whileSupervised(lasting)
	defer free()
	for _, index := range standbysFirst(status) {
		if err := g.exchange(lasting, index, g.s.commandOf(index), anyFailure); err != nil {
			return g.Status(), fmt.Errorf("roll group %s: %w; the roll ended with %s, whose "+
				"process is started again and again",
				g.s.cfg.Service, err, replicaName(g.s.cfg.Service, index))
		}
	}
	return g.Status(), nil
}

// replaceOne has the process of a replica end, and waits until it has. If pid is not 0, it stands
// for the process that is meant.
func (g *Group) replaceOne(ctx context.Context, index, pid int) (Status, error) {
	status := g.Status()
	if index < 0 || index >= len(status.Replicas) {
		return status, refuse("the group %s has no replica %d", g.s.cfg.Service, index)
	}
	if pid == 0 {
		pid = status.Replicas[index].PID
	}
	gone := func(s Status) bool { return s.Replicas[index].PID != pid }
	if pid == 0 || gone(status) {
		return status, nil
	}
	refused := false
	g.s.ask(func() {
		if r := g.s.replicas[index]; r.proc != nil && r.proc.pid == pid {
			refused = !g.s.spare(r)
		}
	})
	if refused {
		return status, refuse("no other replica of group %s has the whole state; wait until one "+
			"is in sync", g.s.cfg.Service)
	}
	return g.Wait(ctx, gone)
}

// wire returns the state of the group as operators get it.
func (g *Group) wire() *orders.GroupStatusT {
	s := g.Status()
	t := &orders.GroupStatusT{Service: g.s.cfg.Service, Supervisor: uint32(os.Getpid()),
		Epoch: s.Epoch, Primary: int32(s.Primary), Degraded: s.Degraded, Replicates: s.Replicates,
		Quarantined: uint32(s.Quarantined), Quarantines: uint32(s.Quarantines),
		OutputLost: s.OutputLost}
	for _, r := range s.Replicas {
		one := &orders.ReplicaStatusT{Name: r.Name, Pid: uint32(r.PID), Alive: r.Alive,
			Ready: r.Ready, Role: byte(r.Role), Epoch: r.Epoch, Control: r.Control, Reply: r.Reply,
			InSync: r.InSync, Restarts: uint32(r.Restarts)}
		if r.Err != nil {
			text := r.Err.Error()
			one.Failure = strings.ToValidUTF8(text[:min(len(text), longestFailure)], "")
		}
		t.Replicas = append(t.Replicas, one)
	}
	return t
}
