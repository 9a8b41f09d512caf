package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"github.com/urfave/cli/v3"

	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/web"
)

const webHelp = `usage: ipcctl web [flags]

Serves a page that shows what ipcctl top shows, has a form for every method, and
gives orders to groups. It prints the address, and serves until Ctrl-C. The
address has a token, without which nobody gets anything: keep it to yourself.

  ipcctl web
  ipcctl web -open -domain /srv/robot/ipc -addr 127.0.0.1:8080

Flags:
  -addr address  where to listen, on a loopback address (default 127.0.0.1:0, a
                 port that is free)
  -open          open the page in the browser of the desktop
  -domain name   the domain, a name or a path (default: as programs choose it)
  -h             print this

From another machine: ssh -L 8080:127.0.0.1:8080 HOST, and the printed address.
`

func (t *terminal) web() *cli.Command {
	return &cli.Command{
		Name:  "web",
		Usage: "show on a page what top shows, with a form for every method",
		Flags: []cli.Flag{domainFlag(), &cli.StringFlag{Name: "addr", Value: "127.0.0.1:0"},
			&cli.BoolFlag{Name: "open"}},
		CustomHelpTemplate: webHelp,
		Action:             t.doWeb,
	}
}

func (t *terminal) doWeb(ctx context.Context, c *cli.Command) error {
	if c.Args().Present() {
		return usagef("web takes no argument, and %s is one", c.Args().First())
	}
	l, err := web.Listen(c.String("addr"))
	if err != nil {
		return usagef("-addr %w", err)
	}
	s := web.New(c.String("domain"))
	address := s.Address(l)
	if _, err := fmt.Fprintln(t.out, address); err != nil {
		return errors.Join(err, l.Close())
	}
	if c.Bool("open") {
		remove, err := openPage(ctx, address)
		if err != nil {
			fmt.Fprintf(t.err, "ipcctl: no browser was opened: %v\n", err)
		}
		defer remove()
	}
	if err := s.Serve(ctx, l); err != nil {
		return err
	}
	return ctx.Err()
}

// openPage has the desktop open an address. The command line of a program can be read by all users,
// so the browser gets a file that only this user can read, which leads to the address.
func openPage(ctx context.Context, address string) (remove func(), err error) {
	f, err := os.CreateTemp("", "ipcctl-*.html") // with mode 0600
	if err != nil {
		return func() {}, err
	}
	remove = func() { os.Remove(f.Name()) }
	_, err = fmt.Fprintf(f, "<meta http-equiv=\"refresh\" content=\"0;url=%s\">\n", address)
	if err := errors.Join(err, f.Close()); err != nil {
		return remove, err
	}
	return remove, exec.CommandContext(ctx, "xdg-open", f.Name()).Run()
}
