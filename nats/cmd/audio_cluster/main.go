// Command audio_cluster runs the group of the audio demo over three machines, which are processes
// on this one: on each a NATS server with JetStream, and a member of the group. It drives the
// leader, kills the leader's machine, and goes on. Run audio_cluster -h for its usage.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const usage = `usage: audio_cluster [flags]

audio_cluster starts three machines: on each a NATS server with JetStream, embedded
in a process, and a member of the group audio_compute in another. A client sets the
gain, all processes of the leader's machine are killed, and the client goes on with
the next leader, which has the gain. Then the machine comes back. Nothing is
installed; the servers keep their files in a temporary folder.

Flags:
  -lease d     how long the others wait for a leader that they do not hear (default 1s)
  -sync        servers pass each change to the disk before they confirm it
  -timeout d   how long all of it may take (default 2m)
  -h           print this

Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
`

// The exit statuses.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130 // 128 + SIGINT, as shells count
)

func main() {
	if len(os.Args) == 3 && (os.Args[1] == serverRole || os.Args[1] == memberRole) {
		os.Exit(runChild(os.Args[1], os.Args[2]))
	}
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run is the whole command; main only connects it to the process.
func run(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("audio_cluster", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // the error is printed below, once
	lease := flags.Duration("lease", time.Second, "")
	sync := flags.Bool("sync", false, "")
	timeout := flags.Duration("timeout", 2*time.Minute, "")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		if _, err := fmt.Fprint(stdout, usage); err != nil {
			return exitFailed
		}
		return exitOK
	case err != nil:
		fmt.Fprintf(stderr, "audio_cluster: %v\n%s", err, usage)
		return exitUsage
	case flags.NArg() > 0:
		fmt.Fprintf(stderr, "audio_cluster: unexpected %q\n%s", flags.Arg(0), usage)
		return exitUsage
	}
	interrupted, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(interrupted, *timeout,
		fmt.Errorf("not done after %v; see -timeout", *timeout))
	defer cancel()
	d := &demo{out: stdout, errOut: stderr, lease: *lease, sync: *sync}
	switch err := d.run(ctx); {
	case err == nil:
		return exitOK
	case interrupted.Err() != nil:
		fmt.Fprintln(stderr, "audio_cluster: interrupted; all machines are shut down")
		return exitInterrupted
	default:
		fmt.Fprintf(stderr, "audio_cluster: %v\n", err)
		return exitFailed
	}
}
