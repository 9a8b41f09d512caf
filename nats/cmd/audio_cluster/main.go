// Command audio_cluster runs the group of the audio demo over three machines, which are processes
// on this one: on each a NATS server with JetStream, and a member of the group. It drives the
// leader, kills the leader's machine, and goes on. Run audio_cluster -h for its usage.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/ipcgen/ipcgen/internal/command"
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
			return command.Failed
		}
		return command.OK
	case err != nil:
		fmt.Fprintf(stderr, "audio_cluster: %v\n%s", err, usage)
		return command.Usage
	case flags.NArg() > 0:
		fmt.Fprintf(stderr, "audio_cluster: unexpected %q\n%s", flags.Arg(0), usage)
		return command.Usage
	}
	c := command.Command{Name: "audio_cluster", Started: "machines", Timeout: *timeout,
		Stderr: stderr}
	d := &demo{out: stdout, errOut: stderr, lease: *lease, sync: *sync}
	return c.Run(d.run)
}
