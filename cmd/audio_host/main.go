// Command audio_host runs the redundant audio demo. It starts two replicas of the audio service,
// drives the primary, kills it, and continues with the standby that was promoted. With -out it
// renders sound through the replicas, of which some may be killed on the way. Run audio_host -h for
// its usage.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/ipcgen/ipcgen/internal/audioservice"
	"github.com/ipcgen/ipcgen/internal/command"
)

// serviceName is the name under which this program runs itself as the service.
const serviceName = "audio_service"

func main() {
	if filepath.Base(os.Args[0]) == serviceName {
		os.Exit(audioservice.Run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

const usage = `usage: audio_host [flags] [path to audio_service]

audio_host starts two replicas of the audio service, drives the primary, kills it,
and goes on with the standby that was promoted. With a path it starts that
binary; without one, the service that it carries itself. All of it happens in the
domain that IPCGEN_DOMAIN names, where one host may run at a time.

Flags:
  -replicate        keep the service's state on both replicas, so that the gain
                    survives the crash
  -ready-timeout d  how long a replica may take to be ready (default 10s)
  -timeout d        how long all of it may take (default 30s for the demo, and
                    no limit for sound)
  -h                print this

With -out, audio_host sends sound through both replicas instead. Each computes
every block, and the first answer counts, so that the death of one cannot be heard.

  -out file         a WAVE file, or - for raw 32 bit floats on standard output
  -in file          a WAVE file of 16, 24 or 32 bits or floats, with 1 to 8 channels;
                    without it, a sweep
  -bits n           of the output: 16, 24, 32 or float (default: those of the input)
  -gain x           linear factor, 0 to 4 (default 1)
  -pan x            -1 left to 1 right (default 0)
  -cutoff hz        of the low-pass filter, 20 to 20000 (default 20000)
  -resonance q      of the filter, 0.1 to 20 (default 0.7)
  -automation file  changes of these by time, in lines such as "2.5s gain 0.25"
  -crash-at d       kill the primary at this time of the sound; may be repeated
  -frames n         in a block, 16 to 65536 (default 1024, and 128 with -realtime)
  -rate hz, -channels n, -length d
                    of the sweep (default 48000, 2, 10s)
  -realtime d       run the clock of a sound card for so long, or until -in ends; without
                    -out too
  -crash-every d    kill the primary so often
  -report file      where the report of -realtime goes (default audio_report.html)
  -priority         with -realtime, ask for real-time priority and locked memory

Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
`

// seeUsage follows the error of a wrong command line, which the whole usage would hide.
const seeUsage = "Run audio_host -h for usage.\n"

// demoTimeout is how long the demo may take by default.
const demoTimeout = 30 * time.Second

// run is the whole command; main only connects it to the process.
func run(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("audio_host", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // the error is printed below, once
	replicate := flags.Bool("replicate", false, "")
	sound := soundFlags(flags)
	err := flags.Parse(args)
	if err == nil {
		err = sound.check(flags)
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		if _, err := fmt.Fprint(stdout, usage); err != nil {
			fmt.Fprintf(stderr, "audio_host: %v\n", err)
			return command.Failed
		}
		return command.OK
	case err != nil:
		fmt.Fprintf(stderr, "audio_host: %v\n%s", err, seeUsage)
		return command.Usage
	case flags.NArg() > 1:
		fmt.Fprintf(stderr, "audio_host: one path at most, not %d\n%s", flags.NArg(),
			seeUsage)
		return command.Usage
	}
	service, err := serviceCommand(flags.Arg(0))
	if err != nil {
		fmt.Fprintf(stderr, "audio_host: %v\n", err)
		return command.Failed
	}

	withSound := len(sound.used) > 0
	c := command.Command{Name: "audio_host", Started: "instances", Timeout: sound.timeout,
		Stderr: stderr}
	if c.Timeout == 0 && !withSound {
		c.Timeout = demoTimeout
	}
	return c.Run(func(ctx context.Context) error {
		if !withSound {
			d := &demo{out: stdout, errOut: stderr, command: service,
				readyTimeout: sound.readyTimeout, replicate: *replicate}
			return d.run(ctx)
		}
		out := stdout
		if sound.out == "-" {
			out = stderr
		}
		studio := studioConfig{command: service, readyTimeout: sound.readyTimeout, errOut: stderr}
		if sound.realtime > 0 {
			r := &session{opts: sound, studio: studio, out: out, errOut: stderr}
			return r.run(ctx)
		}
		r := &render{opts: sound, studio: studio, out: out, errOut: stderr}
		return r.run(ctx)
	})
}

// serviceCommand returns a function that returns the command of a replica: the binary at path, or
// this program under the name of the service.
func serviceCommand(path string) (func(index int) *exec.Cmd, error) {
	if path == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("cannot find this program to run it as the service: %w; give "+
				"the path of audio_service", err)
		}
		return func(index int) *exec.Cmd {
			return &exec.Cmd{Path: self, Args: []string{serviceName, fmt.Sprint(index)}}
		}, nil
	}
	// Otherwise a name without a folder would be looked up in PATH.
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return nil, fmt.Errorf("%s is a directory; give the path of the audio_service binary", path)
	}
	return func(index int) *exec.Cmd { return exec.Command(path, fmt.Sprint(index)) }, nil
}
