package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/survey"
	"github.com/ipcgen/ipcgen/internal/sys"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/group"
	"github.com/ipcgen/ipcgen/runtime/registry"
)

const drainHelp = `usage: ipcctl drain [flags] name

Ends one server in order, and waits until its process has gone: it takes no more
calls, and answers those that it has taken. A replica of a group is ended by its
supervisor, which starts another process in the place; the primary's clients go
on with a standby. Any other process gets SIGTERM, which programs that use
ipc.Server.Run or group.Run understand; it is never killed.

  ipcctl drain audio_compute.1
  ipcctl drain -yes -timeout 5m greeter

Flags:
  -yes            do not ask; needed where standard input is no terminal
  -timeout d      how long it may take (default 1m)
  -domain name    the domain, a name or a path (default: as programs choose it)
  -h              print this

Exit status: 0 when the process has gone; 66 if it still runs after the timeout;
otherwise as that of ipcctl failover.
`

func (t *terminal) drain() *cli.Command {
	return &cli.Command{
		Name:  "drain",
		Usage: "end a server in order",
		Flags: []cli.Flag{domainFlag(), &cli.BoolFlag{Name: "yes"},
			&cli.DurationFlag{Name: "timeout", Value: time.Minute}},
		CustomHelpTemplate: drainHelp,
		Action: func(ctx context.Context, c *cli.Command) error {
			switch {
			case c.NArg() != 1:
				return usagef("drain takes the name of a server, not %d arguments", c.NArg())
			case c.Duration("timeout") <= 0:
				return usagef("-timeout %v: it must be positive", c.Duration("timeout"))
			}
			return t.doDrain(ctx, c, c.Args().First())
		},
	}
}

func (t *terminal) doDrain(ctx context.Context, c *cli.Command, name string) error {
	s, channel, err := find(c.String("domain"), name)
	if err != nil {
		return err
	}
	replica := slices.IndexFunc(s.Instances, func(r registry.Record) bool {
		return r.Incarnation != 0 && (r.Name == name || r.Control == channel)
	})
	if replica >= 0 {
		r := s.Instances[replica]
		o, status, err := supervisor(ctx, s, survey.GroupOf(r.Name))
		switch {
		case err == nil:
			defer o.Close()
			return t.drainReplica(ctx, c, o, status, r.Name)
		case !errors.Is(err, group.ErrNoSupervisor):
			return failedCall(err)
		}
	}
	return t.drainServer(ctx, c, s, channel)
}

// find looks for a server.
func find(domain, name string) (*survey.Survey, string, error) {
	s, err := survey.Of(domain)
	if err != nil {
		return nil, "", &exitError{exitCall + int(ipc.CodeUnavailable), err}
	}
	kind, channel, err := s.Resolve(name)
	if err != nil {
		return nil, "", &exitError{exitCall + int(ipc.CodeUnavailable), err}
	}
	if kind == survey.GroupName {
		return nil, "", fmt.Errorf("%s is a group: drain one replica, such as %s.0; its "+
			"supervisor ends the group", name, name)
	}
	return s, channel, nil
}

// drainReplica has the supervisor replace a replica.
func (t *terminal) drainReplica(ctx context.Context, c *cli.Command, o *group.Operator,
	before group.Status, name string) error {
	i := slices.IndexFunc(before.Replicas, func(r group.ReplicaStatus) bool {
		return r.Name == name
	})
	if i < 0 || before.Replicas[i].PID == 0 {
		return &exitError{exitCall + int(ipc.CodeUnavailable),
			fmt.Errorf("%s has no process at present", name)}
	}
	r := before.Replicas[i]
	fmt.Fprintln(t.err, t.burden(ctx, c, r.Control, processOf(before, i)))
	if !c.Bool("yes") {
		question := fmt.Sprintf("end %s, so that its supervisor starts another process?",
			processOf(before, i))
		if err := t.confirm(ctx, question); err != nil {
			return err
		}
	}
	began := time.Now()
	_, err := t.carryOut(ctx, c, o, before, func(ctx context.Context) (group.Status, error) {
		return o.Replace(ctx, i, r.PID)
	})
	if err != nil {
		return err
	}
	return t.gone(processOf(before, i), began)
}

// drainServer tells the process that serves a channel to end.
func (t *terminal) drainServer(ctx context.Context, c *cli.Command, s *survey.Survey,
	channel string) error {
	process, err := serverOf(ctx, s, channel)
	if err != nil {
		return err
	}
	defer process.Close()
	who := fmt.Sprintf("%s (pid %d)", channel, process.PID())
	fmt.Fprintln(t.err, t.burden(ctx, c, channel, who))
	if !c.Bool("yes") {
		question := fmt.Sprintf("tell %s to end?", who)
		if also := s.ServedBeside(channel, process.PID()); len(also) > 0 {
			question = fmt.Sprintf("tell %s to end, which also serves %s?", who,
				strings.Join(also, ", "))
		}
		if err := t.confirm(ctx, question); err != nil {
			return err
		}
	}
	began := time.Now()
	if err := process.Signal(sys.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("%s: %w", who, err)
	}
	limited, cancel := context.WithTimeout(ctx, c.Duration("timeout"))
	defer cancel()
	_, err = await(limited, func() (struct{}, error) { return struct{}{}, process.Wait() })
	switch {
	case ctx.Err() != nil:
		fmt.Fprintf(t.err, "ipcctl: interrupted; %s was told to end\n", who)
		return err
	case limited.Err() != nil:
		return &exitError{exitCall + int(ipc.CodeDeadlineExceeded), fmt.Errorf("%s still runs "+
			"after %v: it was told to end (SIGTERM), and answers calls or does not listen to that",
			who, c.Duration("timeout"))}
	case err != nil:
		return err
	}
	return t.gone(who, began)
}

func (t *terminal) gone(who string, began time.Time) error {
	_, err := fmt.Fprintf(t.out, "%s has ended, after %v\n", who,
		time.Since(began).Round(time.Millisecond))
	return err
}

// serverOf returns a handle on the process that serves a channel. The kernel vouches for its pid
// while the connection lasts, so the handle stands for no other process.
func serverOf(ctx context.Context, s *survey.Survey, channel string) (*sys.Process, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := ipc.Dial(ctx, channel, ipc.WithDomain(s.Domain))
	if err != nil {
		return nil, failedCall(err)
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
		return nil, failedCall(err) // it has ended, and the pid may be that of another process
	}
	return process, nil
}

// burden says what a server has to finish before it ends.
func (t *terminal) burden(ctx context.Context, c *cli.Command, channel, who string) string {
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	conn, err := ipc.Dial(ctx, channel, ipc.WithDomain(c.String("domain")))
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
