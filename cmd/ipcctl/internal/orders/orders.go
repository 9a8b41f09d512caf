// Package orders prepares orders to groups and servers, so that a person can be asked about them
// first, and carries them out: failover, roll, and drain.
package orders

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/survey"
	"github.com/ipcgen/ipcgen/internal/diag"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/group"
)

// patience is how long a server or a supervisor may take to answer a question.
const patience = 10 * time.Second

// An Error is the failure of an order that no call has reported. Its code is that of the call which
// would have.
type Error struct {
	Code ipc.Code
	Err  error
}

func (e *Error) Error() string { return e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

func nobody(err error) error { return &Error{ipc.CodeUnavailable, err} }

// An Order is prepared, and not given. The caller must close it.
type Order struct {
	Question string // what would happen
	// Burden says what a server has to finish before it ends; it is empty for other orders.
	Burden string
	// Mark stands for what the question names, such as a process. An order that was prepared
	// before means the same if it has the same mark.
	Mark string
	// Before and After are the states of the group; they are empty for a server without a group.
	Before, After group.Status
	// Ended names the process that a drain has ended.
	Ended string

	carryOut func(ctx context.Context, limit time.Duration, tell func(string)) error
	close    func() error
}

// CarryOut gives the order, and waits until it is carried out, which may take as long as limit.
// What changes meanwhile is told, a line each.
func (o *Order) CarryOut(ctx context.Context, limit time.Duration, tell func(string)) error {
	return o.carryOut(ctx, limit, tell)
}

// Close ends the connection. An order that was given stands.
func (o *Order) Close() error { return o.close() }

// Failover prepares the replacement of the primary of a group by a standby.
func Failover(ctx context.Context, domain, name string) (*Order, error) {
	return toGroup(ctx, domain, name, func(s group.Status) (question, mark string) {
		return fmt.Sprintf("replace the primary %s of epoch %d?", processOf(s, s.Primary), s.Epoch),
			fmt.Sprint("epoch ", s.Epoch)
	}, func(ctx context.Context, o *group.Operator, s group.Status) (group.Status, error) {
		return o.Failover(ctx, s.Epoch)
	})
}

// Roll prepares the replacement of all processes of a group, one by one.
func Roll(ctx context.Context, domain, name string) (*Order, error) {
	return toGroup(ctx, domain, name, func(s group.Status) (question, mark string) {
		return fmt.Sprintf("replace the %d processes of %s, one after the other?", len(s.Replicas),
			name), ""
	}, func(ctx context.Context, o *group.Operator, _ group.Status) (group.Status, error) {
		return o.Roll(ctx)
	})
}

// toGroup prepares an order to the supervisor of a group.
func toGroup(ctx context.Context, domain, name string,
	ask func(group.Status) (question, mark string),
	give func(context.Context, *group.Operator, group.Status) (group.Status, error)) (*Order,
	error) {
	s, err := survey.Of(domain)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nobody(err)
	}
	if err != nil {
		return nil, err
	}
	op, before, err := supervisor(ctx, s, name)
	if err != nil {
		return nil, unsupervised(s, name, err)
	}
	o := &Order{Before: before, close: op.Close}
	o.Question, o.Mark = ask(before)
	o.carryOut = func(ctx context.Context, limit time.Duration, tell func(string)) error {
		return o.supervised(ctx, limit, tell, op, func(ctx context.Context) (group.Status, error) {
			return give(ctx, op, before)
		})
	}
	return o, nil
}

// supervisor connects to the supervisor of a group, and asks for its state.
func supervisor(ctx context.Context, s *survey.Survey, name string) (*group.Operator, group.Status,
	error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	o, err := group.DialSupervisor(ctx, name, s.Domain)
	if err != nil {
		return nil, group.Status{}, err
	}
	status, err := o.Status(ctx)
	if err != nil {
		o.Close()
	}
	return o, status, err
}

// unsupervised is the error for a group to whose supervisor there is no connection.
func unsupervised(s *survey.Survey, name string, err error) error {
	if !errors.Is(err, group.ErrNoSupervisor) {
		return err
	}
	groups := s.Groups()
	switch of := survey.GroupOf(name); {
	case slices.Contains(groups, name):
		err = fmt.Errorf("the group %s has no supervisor that could take an order; its replicas "+
			"serve without one", name)
	case slices.Contains(groups, of):
		err = fmt.Errorf("%s is a replica; name its group %s, or ipcctl drain %s", name, of, name)
	default:
		err = fmt.Errorf("there is no group %s in domain %s", name, s.Domain)
		if near := diag.Nearest(name, groups); near != "" {
			err = fmt.Errorf("%w; did you mean %s?", err, near)
		} else if len(groups) > 0 {
			err = fmt.Errorf("%w; there is %s", err, strings.Join(groups, ", "))
		}
	}
	return nobody(err)
}

// processOf names a replica and its process.
func processOf(s group.Status, index int) string {
	if index < 0 || index >= len(s.Replicas) {
		return "(none)"
	}
	r := s.Replicas[index]
	if r.PID == 0 {
		return r.Name + " (no process)"
	}
	return fmt.Sprintf("%s (pid %d)", r.Name, r.PID)
}
