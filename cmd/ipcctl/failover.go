package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/survey"
	"github.com/ipcgen/ipcgen/internal/diag"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/group"
)

const failoverHelp = `usage: ipcctl failover [flags] group

Replaces the primary of a group by a standby, without a failed call: the primary
answers what it has taken, and ends; a standby is promoted; a new process takes
the place. The group's supervisor carries it out, and refuses what would lose
the group's state. Prints the replicas when all are ready again.

  ipcctl failover audio_compute
  ipcctl failover -yes -timeout 5m -domain /srv/robot/ipc arm

Flags:
  -yes            do not ask; needed where standard input is no terminal
  -timeout d      how long it may take until the group is healthy (default 1m)
  -domain name    the domain, a name or a path (default: as programs choose it)
  -h              print this

Exit status: 0 when the group is healthy again; otherwise as that of ipcctl
call: 79 if the supervisor refuses, 66 after the timeout, 67 if there is no
supervisor or it ends meanwhile. An order that was given stands, also after
Ctrl-C.
`

const rollHelp = `usage: ipcctl roll [flags] group

Replaces the processes of all replicas of a group, one after the other, standbys
first, without a failed call. The supervisor starts the commands that it has, so
a new executable under the same path is taken into use. The first new process
that does not become ready ends the roll: the replicas that are left run on.

  ipcctl roll audio_compute
  ipcctl roll -yes -timeout 10m arm && echo all replaced

Flags:
  -yes            do not ask; needed where standard input is no terminal
  -timeout d      how long it may take in all (default 5m)
  -domain name    the domain, a name or a path (default: as programs choose it)
  -h              print this

Exit status: as that of ipcctl failover. After the timeout, the roll ends where
it is. After Ctrl-C, it goes on.
`

func (t *terminal) failover() *cli.Command {
	return t.order("failover", "replace the primary of a group by a standby", failoverHelp,
		time.Minute, func(s group.Status, _ string) string {
			return fmt.Sprintf("replace the primary %s of epoch %d?", processOf(s, s.Primary),
				s.Epoch)
		}, func(ctx context.Context, o *group.Operator, s group.Status) (group.Status, error) {
			return o.Failover(ctx, s.Epoch)
		})
}

func (t *terminal) roll() *cli.Command {
	return t.order("roll", "replace all processes of a group, one by one", rollHelp,
		5*time.Minute, func(s group.Status, name string) string {
			return fmt.Sprintf("replace the %d processes of %s, one after the other?",
				len(s.Replicas), name)
		}, func(ctx context.Context, o *group.Operator, _ group.Status) (group.Status, error) {
			return o.Roll(ctx)
		})
}

// order returns a command that gives an order to the supervisor of a group.
func (t *terminal) order(name, usage, help string, limit time.Duration,
	question func(s group.Status, group string) string,
	give func(context.Context, *group.Operator, group.Status) (group.Status, error),
) *cli.Command {
	return &cli.Command{
		Name:  name,
		Usage: usage,
		Flags: []cli.Flag{domainFlag(), &cli.BoolFlag{Name: "yes"},
			&cli.DurationFlag{Name: "timeout", Value: limit}},
		CustomHelpTemplate: help,
		Action: func(ctx context.Context, c *cli.Command) error {
			switch {
			case c.NArg() != 1:
				return usagef("%s takes the name of a group, not %d arguments", name, c.NArg())
			case c.Duration("timeout") <= 0:
				return usagef("-timeout %v: it must be positive", c.Duration("timeout"))
			}
			s, err := survey.Of(c.String("domain"))
			if errors.Is(err, fs.ErrNotExist) {
				return &exitError{exitCall + int(ipc.CodeUnavailable), err}
			}
			if err != nil {
				return err
			}
			o, before, err := supervisor(ctx, s, c.Args().First())
			if err != nil {
				return unsupervised(s, c.Args().First(), err)
			}
			defer o.Close()
			if !c.Bool("yes") {
				if err := t.confirm(ctx, question(before, c.Args().First())); err != nil {
					return err
				}
			}
			after, err := t.carryOut(ctx, c, o, before,
				func(ctx context.Context) (group.Status, error) { return give(ctx, o, before) })
			if err != nil {
				return err
			}
			return printReplicas(t.out, before, after)
		},
	}
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
		return failedCall(err)
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
	return &exitError{exitCall + int(ipc.CodeUnavailable), err}
}

// carryOut gives an order, and tells on standard error what it changes, until it is carried out.
func (t *terminal) carryOut(ctx context.Context, c *cli.Command, o *group.Operator,
	before group.Status, give func(context.Context) (group.Status, error)) (group.Status, error) {
	limited, cancel := context.WithTimeout(ctx, c.Duration("timeout"))
	defer cancel()
	fmt.Fprintf(t.err, "the order goes to the supervisor (pid %d)\n", o.Supervisor())
	watching, stop := context.WithCancel(limited)
	p := progress{err: t.err, before: before}
	var watch sync.WaitGroup
	watch.Go(func() { p.watch(watching, o) })
	after, err := give(limited)
	stop()
	watch.Wait()
	switch {
	case err == nil:
		p.show(after)
		return after, nil
	case ctx.Err() != nil:
		fmt.Fprintln(t.err, "ipcctl: interrupted; the supervisor carries the order out")
	case ipc.CodeOf(err) == ipc.CodeUnavailable:
		err = fmt.Errorf("the supervisor (pid %d) has ended meanwhile; ipcctl ls shows what "+
			"lives: %w", o.Supervisor(), err)
	case limited.Err() != nil || ipc.CodeOf(err) == ipc.CodeDeadlineExceeded:
		// The supervisor may have seen the end of the time first.
		err = fmt.Errorf("not done within %v; ipcctl ls shows the replicas: %w",
			c.Duration("timeout"), err)
	}
	return after, failedCall(err)
}

// A progress tells what changes in a group.
type progress struct {
	err    io.Writer
	before group.Status
	silent bool // the supervisor has not answered
}

// progressPeriod is the period at which the state of a group is asked for, and silence the time
// after which a supervisor without an answer is reported.
const (
	progressPeriod = 100 * time.Millisecond
	silence        = 3 * time.Second
)

func (p *progress) watch(ctx context.Context, o *group.Operator) {
	tick := time.NewTicker(progressPeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		short, cancel := context.WithTimeout(ctx, silence)
		s, err := o.Status(short)
		cancel()
		switch {
		case err == nil:
			p.silent = false
			p.show(s)
		case ctx.Err() == nil && ipc.CodeOf(err) == ipc.CodeDeadlineExceeded && !p.silent:
			p.silent = true
			fmt.Fprintf(p.err, "the supervisor (pid %d) does not answer; it hangs or is stopped\n",
				o.Supervisor())
		}
	}
}

// show prints the difference between the last state and the next.
func (p *progress) show(s group.Status) {
	for i := range min(len(s.Replicas), len(p.before.Replicas)) {
		was, is := p.before.Replicas[i], s.Replicas[i]
		if was.PID != 0 && was.PID != is.PID {
			fmt.Fprintf(p.err, "%s: pid %d has ended\n", is.Name, was.PID)
		}
		if is.Err != nil && was.Err == nil {
			fmt.Fprintf(p.err, "%s\n", is.Err)
		}
		if is.Ready && (!was.Ready || was.PID != is.PID) {
			fmt.Fprintf(p.err, "%s: pid %d is ready\n", is.Name, is.PID)
		}
	}
	if s.Primary >= 0 && (s.Primary != p.before.Primary || s.Epoch != p.before.Epoch) {
		fmt.Fprintf(p.err, "%s is the primary, in epoch %d\n", processOf(s, s.Primary), s.Epoch)
	}
	p.before = s
}

// processOf names a replica and its process.
func processOf(s group.Status, index int) string {
	if index < 0 || index >= len(s.Replicas) {
		return "(none)"
	}
	return fmt.Sprintf("%s (pid %d)", s.Replicas[index].Name, s.Replicas[index].PID)
}

// printReplicas prints the replicas after an order.
func printReplicas(w io.Writer, before, after group.Status) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "NAME\tROLE\tEPOCH\tPID\tPID BEFORE")
	for i, r := range after.Replicas {
		was := 0
		if i < len(before.Replicas) {
			was = before.Replicas[i].PID
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\n", r.Name, r.Role, number(r.Epoch),
			number(uint64(r.PID)), number(uint64(was)))
	}
	return tw.Flush()
}
