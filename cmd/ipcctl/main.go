// Command ipcctl looks into the domains in which processes of ipcgen meet: it lists what lives,
// calls methods with JSON, converts messages, and finds what is wrong with a machine.
//
// Run ipcctl -h for its usage.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/ipcgen/ipcgen/internal/diag"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the process, whatever it does; but timeout(1) sends its signal twice.
	context.AfterFunc(ctx, func() { time.AfterFunc(sameSignal, stop) })
	os.Exit(run(ctx, os.Args, os.Stdin, os.Stdout, os.Stderr))
}

// sameSignal is how long after a signal another one is taken for the same.
var sameSignal = time.Second / 2

// The exit statuses.
const (
	exitFailed      = 1
	exitUsage       = 2
	exitCall        = 64  // and the number of the code of a call's error
	exitInterrupted = 130 // 128 + SIGINT, as shells count
)

// A usageError is a wrong command line.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// An exitError is an error with an exit status of its own. Without an error, it was printed.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return "failed"
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// A terminal is where a command reads and writes.
type terminal struct {
	in       io.Reader
	out, err io.Writer
}

// run is the whole command; main only connects it to the process.
func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) (code int) {
	out, errOut = screenOf(out), screenOf(errOut)
	t := &terminal{in, out, errOut}
	err := t.app().Run(ctx, args)
	var exit *exitError
	var usage usageError
	switch {
	case err == nil:
		return 0
	case errors.Is(err, syscall.EPIPE):
		return exitFailed // the reader has seen enough
	case ctx.Err() != nil:
		return exitInterrupted
	case errors.As(err, &exit):
		if exit.err != nil {
			fmt.Fprintf(errOut, "ipcctl: %v\n", exit.err)
		}
		return exit.code
	case errors.As(err, &usage):
		fmt.Fprintf(errOut, "ipcctl: %v\nRun ipcctl %s for usage.\n", err,
			strings.Join(append(commandOf(args), "-h"), " "))
		return exitUsage
	}
	fmt.Fprintf(errOut, "ipcctl: %v\n", err)
	return exitFailed
}

// commandOf returns the name of the command in a command line, or nothing.
func commandOf(args []string) []string {
	for _, a := range args[min(1, len(args)):] {
		for _, c := range new(terminal).app().Commands {
			if c.Name == a {
				return []string{a}
			}
		}
	}
	return nil
}

// await calls f, and returns its result, or the error of ctx if that is done first: reading a
// terminal or a pipe cannot be interrupted.
func await[T any](ctx context.Context, f func() (T, error)) (result T, err error) {
	done := make(chan error, 1)
	var got T
	go func() {
		var err error
		got, err = f()
		done <- err
	}()
	select {
	case err := <-done:
		return got, err
	case <-ctx.Done():
		return result, ctx.Err()
	}
}

func (t *terminal) app() *cli.Command {
	wrong := func(_ context.Context, _ *cli.Command, err error, _ bool) error {
		return usageError{err}
	}
	app := &cli.Command{ // the help of each command is a text of its own, which names its flags
		Name:      "ipcctl",
		Usage:     "see, call and convert what flows between processes of ipcgen",
		Version:   version(),
		Reader:    t.in,
		Writer:    t.out,
		ErrWriter: t.err,
		Commands: []*cli.Command{t.ls(), t.describe(), t.call(), t.send(), t.subscribe(),
			t.publish(), t.tap(), t.record(), t.replay(), t.convert(), t.bench(), t.failover(),
			t.roll(), t.drain(), t.top(), t.web(), t.doctor(), t.gc(), t.completion(),
			t.complete()},
		CustomRootCommandHelpTemplate: rootHelp,
		Action: func(_ context.Context, c *cli.Command) error {
			if c.Args().Present() {
				name, hint := c.Args().First(), ""
				if near := diag.Nearest(name, commandNames(c)); near != "" {
					hint = "; did you mean " + near + "?"
				}
				return usagef("there is no command %s%s", name, hint)
			}
			return usagef("no command given")
		},
		OnUsageError:    wrong,
		ExitErrHandler:  func(context.Context, *cli.Command, error) {},
		HideHelpCommand: true,
	}
	for _, c := range app.Commands {
		c.OnUsageError = wrong
		c.HideHelpCommand = true
	}
	return app
}

// commandNames returns the names of the commands that the help shows.
func commandNames(app *cli.Command) (names []string) {
	for _, c := range app.Commands {
		if !c.Hidden {
			names = append(names, c.Name)
		}
	}
	return names
}

const rootHelp = `usage: ipcctl command [flags] [arguments]
  ls          list what lives in a domain, where processes of ipcgen meet
  describe    show what a server is and serves
  call        call a method with JSON
  send        send a one-way message
  subscribe   print the messages of a topic
  publish     publish the messages of a topic
  tap         show the calls of all clients
  record      record calls into an MCAP file
  replay      send the requests of a recording again
  convert     convert a message from JSON to FlatBuffers, or back
  bench       make calls, and measure them
  top         show what the servers of a domain do
  web         the same on a page, with a form for every method
  failover    replace the primary of a group by a standby
  roll        replace all processes of a group, one by one
  drain       end a server in order
  doctor      check the domain and the machine for what goes wrong
  gc          remove what dead processes have left
  completion  print the completion for bash, zsh or fish
ipcctl COMMAND -h describes a command. Data goes to standard output, messages to
standard error. Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted; a
call that failed has 64 and the number of its error's code.
`

// domainFlag is the flag of commands that look into a domain.
func domainFlag() cli.Flag {
	return &cli.StringFlag{Name: "domain"}
}

// schemaFlags are those of commands that need a schema.
func schemaFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "schema"},
		&cli.StringSliceFlag{Name: "I"},
	}
}

// version returns the version of the module from which the command was built.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
