package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/orders"
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
		time.Minute, orders.Failover)
}

func (t *terminal) roll() *cli.Command {
	return t.order("roll", "replace all processes of a group, one by one", rollHelp, 5*time.Minute,
		orders.Roll)
}

// order returns a command that gives an order, and prints what it has changed.
func (t *terminal) order(name, usage, help string, limit time.Duration,
	prepare func(ctx context.Context, domain, name string) (*orders.Order, error)) *cli.Command {
	return &cli.Command{
		Name:  name,
		Usage: usage,
		Flags: []cli.Flag{domainFlag(), &cli.BoolFlag{Name: "yes"},
			&cli.DurationFlag{Name: "timeout", Value: limit}},
		CustomHelpTemplate: help,
		Action: func(ctx context.Context, c *cli.Command) error {
			switch {
			case c.NArg() != 1:
				return usagef("%s takes one name, not %d arguments", name, c.NArg())
			case c.Duration("timeout") <= 0:
				return usagef("-timeout %v: it must be positive", c.Duration("timeout"))
			}
			o, err := prepare(ctx, c.String("domain"), c.Args().First())
			if err != nil {
				return failedOrder(err)
			}
			defer o.Close()
			if o.Burden != "" {
				fmt.Fprintln(t.err, o.Burden)
			}
			if !c.Bool("yes") {
				if err := t.confirm(ctx, o.Question); err != nil {
					return err
				}
			}
			began := time.Now()
			if err := o.CarryOut(ctx, c.Duration("timeout"), func(line string) {
				fmt.Fprintln(t.err, line)
			}); err != nil {
				return failedOrder(err)
			}
			if o.Ended == "" {
				return printReplicas(t.out, o.Before, o.After)
			}
			_, err = fmt.Fprintf(t.out, "%s has ended, after %v\n", o.Ended,
				time.Since(began).Round(time.Millisecond))
			return err
		},
	}
}

// failedOrder gives the error of an order its exit status.
func failedOrder(err error) error {
	var failed *orders.Error
	if errors.As(err, &failed) {
		return &exitError{exitCall + int(failed.Code), err}
	}
	return failedCall(err)
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
