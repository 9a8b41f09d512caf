package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/urfave/cli/v3"
	"golang.org/x/term"

	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/survey"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/registry"
)

const gcHelp = `usage: ipcctl gc [flags]

Removes what dead processes have left in a domain: the files of their channels
and their slots in the registry. It is never needed, since the next server of a
name takes the place of a dead one. It asks on a terminal; otherwise -yes is
needed.

  ipcctl gc
  ipcctl gc -yes -domain /srv/robot/ipc

Flags:
  -domain name   the domain, a name or a path (default: as programs choose it)
  -yes           do not ask
  -h             print this
`

func (t *terminal) gc() *cli.Command {
	return &cli.Command{
		Name:               "gc",
		Usage:              "remove what dead processes have left",
		Flags:              []cli.Flag{domainFlag(), &cli.BoolFlag{Name: "yes"}},
		CustomHelpTemplate: gcHelp,
		Action: func(ctx context.Context, c *cli.Command) error {
			if c.Args().Present() {
				return usagef("gc takes no argument, and %s is one", c.Args().First())
			}
			return t.doGC(ctx, c.String("domain"), c.Bool("yes"))
		},
	}
}

func (t *terminal) doGC(ctx context.Context, domain string, yes bool) error {
	s, err := survey.Of(domain)
	if err != nil {
		return err
	}
	left := s.Left()
	for _, c := range left {
		fmt.Fprintf(t.out, "channel %s\n", c.Name)
	}
	if len(left) > 0 && !yes {
		if err := t.confirm(
			ctx, fmt.Sprintf("remove the files of %d channels?", len(left)),
		); err != nil {
			return err
		}
	}
	removed := 0
	for _, c := range left {
		// To serve a channel for a moment is the one way to remove its files that no server which
		// starts now can be hurt by.
		l, err := ipc.Listen(c.Name, ipc.WithDomain(s.Domain))
		if err != nil {
			if ipc.CodeOf(err) == ipc.CodeAlreadyExists {
				continue // it has a server again
			}
			return err
		}
		if err := l.Close(); err != nil {
			return err
		}
		removed++
	}
	slots := 0
	if s.RegistryErr == nil && s.Registry {
		r, err := registry.Open(s.Domain, nil)
		if err != nil {
			return err
		}
		defer r.Close()
		dead, err := r.GC()
		if err != nil {
			return err
		}
		for _, rec := range dead {
			fmt.Fprintf(t.out, "instance %s\n", rec.Name)
		}
		slots = len(dead)
	}
	if removed+slots == 0 {
		fmt.Fprintln(t.err, "ipcctl: there is nothing to remove")
	}
	return s.RegistryErr
}

// confirm asks on the terminal.
func (t *terminal) confirm(ctx context.Context, question string) error {
	f, ok := t.in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return errors.New("standard input is no terminal to ask on; -yes does without asking")
	}
	fmt.Fprintf(t.err, "%s [y/N] ", question)
	answer, err := await(ctx, func() (string, error) {
		return bufio.NewReader(t.in).ReadString('\n')
	})
	if err != nil || !strings.HasPrefix(strings.ToLower(strings.TrimSpace(answer)), "y") {
		return errors.New("nothing was done")
	}
	return nil
}
