package group

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/ipcgen/ipcgen/internal/domain"
	"github.com/ipcgen/ipcgen/internal/sys"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/group/orders"
	"github.com/ipcgen/ipcgen/runtime/registry"
)

// An Operator gives orders to the supervisor of a group, which is another process of the same user.
// It is safe for concurrent use. Its errors wrap an [*ipc.Error]: [ipc.CodeFailedPrecondition] if
// the state of the group does not allow the order, [ipc.CodeUnavailable] if the supervisor has
// ended. A supervisor carries out an order that it has taken, even if the Operator is closed.
type Operator struct {
	service string
	conn    *ipc.Conn
	client  *orders.SupervisorClient
}

// DialSupervisor connects to the supervisor of the group called service, in the given domain or the
// default one. The error wraps [ErrNoSupervisor] if there is no supervisor. It has
// [ipc.CodeDeadlineExceeded] if the supervisor does not answer, because it hangs or is stopped. The
// caller must close the Operator.
func DialSupervisor(ctx context.Context, service, domainName string) (*Operator, error) {
	if ctx == nil {
		return nil, fmt.Errorf("dial supervisor of group %s: %w", service, errNilContext)
	}
	if err := domain.CheckName("service", service); err != nil {
		return nil, fmt.Errorf("dial supervisor: %w", err)
	}
	conn, err := dialSupervisor(ctx, service, domainName)
	if err != nil {
		return nil, fmt.Errorf("dial supervisor of group %s: %w", service, err)
	}
	return &Operator{service, conn, orders.NewSupervisorClient(conn)}, nil
}

func dialSupervisor(ctx context.Context, service, domainName string) (*ipc.Conn, error) {
	dir, err := domain.Find(domainName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", ErrNoSupervisor, err)
	}
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	pid, err := supervisorOf(dir, service)
	if err != nil {
		return nil, err
	}
	if _, err := dir.Root().Lstat(ordersFolder); errors.Is(err, fs.ErrNotExist) {
		return nil, takesNone(pid, err)
	}
	conn, err := ipc.Dial(ctx, service, ipc.WithDomain(filepath.Join(dir.Path(), ordersFolder)))
	if ipc.CodeOf(err) == ipc.CodeUnavailable {
		if _, now := supervisorOf(dir, service); now != nil {
			return nil, now // it has ended meanwhile
		}
		return nil, takesNone(pid, err)
	}
	return conn, err
}

// takesNone returns the error for a supervisor without a channel.
func takesNone(pid int, err error) error {
	who := ""
	if pid != 0 {
		who = fmt.Sprintf(" (pid %d)", pid)
	}
	return fmt.Errorf("its process%s takes no orders; it uses an earlier version of this "+
		"package, or has too few descriptors, which its log reports: %w", who, err)
}

// supervisorOf returns the pid of the process that holds the lock of a group's file, or 0 if the
// file does not say.
func supervisorOf(dir *domain.Dir, service string) (pid int, err error) {
	p, err := openPage(dir, service)
	if errors.Is(err, errNoPage) {
		return 0, ErrNoSupervisor
	}
	if err != nil {
		return 0, sys.ExplainOf(err)
	}
	defer p.close()
	there, err := p.supervised()
	if err != nil {
		return 0, err
	}
	if !there {
		return 0, ErrNoSupervisor
	}
	return p.holder().pid, nil
}

// Close closes the connection. It may be called again.
func (o *Operator) Close() error {
	if o == nil {
		return errNilOperator
	}
	return o.conn.Close()
}

// Supervisor returns the pid of the supervisor, in the pid namespace of this process.
func (o *Operator) Supervisor() int {
	if o == nil {
		return 0
	}
	return o.conn.Peer().PID
}

// Status returns the state of the group. The errors of its replicas have texts alone.
func (o *Operator) Status(ctx context.Context) (Status, error) {
	return o.order(ctx, "status", func(c *orders.SupervisorClient) (*orders.GroupStatusT, error) {
		return c.ReadStatus(ctx, &orders.ReadStatusT{})
	})
}

// Failover is [Group.Failover], of the primary of the given epoch. If the group has another epoch,
// the order is refused; 0 stands for any.
func (o *Operator) Failover(ctx context.Context, epoch uint64) (Status, error) {
	return o.order(ctx, "failover", func(c *orders.SupervisorClient) (*orders.GroupStatusT, error) {
		return c.Failover(ctx, &orders.FailoverT{Epoch: epoch})
	})
}

// Roll replaces the processes of all replicas, one after the other, standbys first, without a
// failed call, as [Group.Roll] does. The commands stay those that the replicas have, so a new
// executable under the same path is taken into use. The first process that does not become ready
// ends the roll: the supervisor goes on to start that replica, and the replicas that were not
// replaced run on. When the deadline of ctx passes, the roll ends where it is. The end of this
// process does not end it.
func (o *Operator) Roll(ctx context.Context) (Status, error) {
	return o.order(ctx, "roll", func(c *orders.SupervisorClient) (*orders.GroupStatusT, error) {
		return c.Roll(ctx, &orders.RollT{})
	})
}

// Replace makes the process of a replica end in order, and blocks until it has ended. The
// supervisor starts the next one. If pid is not 0, it names the process that is meant: if the
// replica has another one, nothing happens. The order is refused if no other replica has the state
// that the group keeps.
func (o *Operator) Replace(ctx context.Context, index, pid int) (Status, error) {
	return o.order(ctx, "replace", func(c *orders.SupervisorClient) (*orders.GroupStatusT, error) {
		if index < 0 || pid < 0 {
			return nil, invalid("the index and the pid must not be negative")
		}
		return c.Replace(ctx, &orders.ReplaceT{Replica: uint32(index), Pid: uint32(pid)})
	})
}

func (o *Operator) order(ctx context.Context, what string,
	give func(*orders.SupervisorClient) (*orders.GroupStatusT, error)) (Status, error) {
	nobody := Status{Primary: none}
	switch {
	case o == nil:
		return nobody, errNilOperator
	case ctx == nil:
		return nobody, fmt.Errorf("%s: %w", what, errNilContext)
	}
	t, err := give(o.client)
	if err != nil {
		return nobody, err
	}
	return statusFrom(t), nil
}

// statusFrom returns the status that a supervisor has sent.
func statusFrom(t *orders.GroupStatusT) Status {
	s := Status{Epoch: t.Epoch, Primary: int(t.Primary), Degraded: t.Degraded,
		Replicates: t.Replicates, Quarantined: int(t.Quarantined), Quarantines: int(t.Quarantines),
		OutputLost: t.OutputLost}
	for i, r := range t.Replicas {
		one := ReplicaStatus{Index: i, Name: r.Name, PID: int(r.Pid), Alive: r.Alive,
			Ready: r.Ready, Role: registry.Role(r.Role), Epoch: r.Epoch, Control: r.Control,
			Reply: r.Reply, InSync: r.InSync, Restarts: int(r.Restarts)}
		if r.Failure != "" {
			one.Err = errors.New(r.Failure)
		}
		s.Replicas = append(s.Replicas, one)
	}
	if s.Primary < none || s.Primary >= len(s.Replicas) {
		s.Primary = none // readers take it for an index
	}
	return s
}
