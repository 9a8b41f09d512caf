package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/checkup"
	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/visible"
)

const doctorHelp = `usage: ipcctl doctor [flags]

Checks what processes need of this machine and of a domain: memory, notices of
death, descriptors, watches, the folder and its file system, the registry, and
whether each server answers. Each finding that is not ok comes with a cure.

  ipcctl doctor
  ipcctl doctor -json | jq '.[] | select(.level != "ok")'

Flags:
  -domain name   the domain, a name or a path (default: as programs choose it)
  -timeout d     how long a server may take to answer (default 2s)
  -json          print JSON
  -h             print this

Exit status: 1 if something does not work, 0 otherwise.
`

func (t *terminal) doctor() *cli.Command {
	return &cli.Command{
		Name:  "doctor",
		Usage: "check the domain and the machine for what goes wrong",
		Flags: []cli.Flag{domainFlag(), &cli.BoolFlag{Name: "json"},
			&cli.DurationFlag{Name: "timeout", Value: 2 * time.Second}},
		CustomHelpTemplate: doctorHelp,
		Action: func(ctx context.Context, c *cli.Command) error {
			if c.Args().Present() {
				return usagef("doctor takes no argument, and %s is one", c.Args().First())
			}
			if c.Duration("timeout") <= 0 {
				return usagef("-timeout %v: it must be positive", c.Duration("timeout"))
			}
			return t.doDoctor(ctx, c.String("domain"), c.Duration("timeout"), c.Bool("json"))
		},
	}
}

func (t *terminal) doDoctor(ctx context.Context, domain string, patience time.Duration,
	asJSON bool) error {
	findings := checkup.Run(ctx, domain, patience)
	if err := ctx.Err(); err != nil {
		return err
	}
	failed := 0
	for _, f := range findings {
		if f.Level == checkup.Fail {
			failed++
		}
	}
	if asJSON {
		e := json.NewEncoder(t.out)
		e.SetIndent("", "  ")
		if err := e.Encode(findings); err != nil {
			return err
		}
	} else if err := t.printFindings(checkup.Brief(findings)); err != nil {
		return err
	}
	if failed > 0 {
		return &exitError{code: exitFailed}
	}
	return nil
}

func (t *terminal) printFindings(findings []checkup.Finding) error {
	for _, f := range findings {
		if _, err := fmt.Fprintf(t.out, "%-4s  %s: %s\n", f.Level, visible.Line(f.Check),
			visible.Line(f.Found)); err != nil {
			return err
		}
		if f.Cure != "" {
			if _, err := fmt.Fprintf(t.out, "      %s\n", f.Cure); err != nil {
				return err
			}
		}
	}
	return nil
}
