// Package audioservice is the audio demo's service: its state (an Engine) and
// the process around it. cmd/audio_service is this process, and cmd/audio_host
// carries it to run as a child of its own.
package audioservice

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/ipcgen/ipcgen/gen/audio"
	"github.com/ipcgen/ipcgen/internal/sys"
	"github.com/ipcgen/ipcgen/runtime/group"
	"github.com/ipcgen/ipcgen/runtime/registry"
)

// Service is the name that all replicas share.
const Service = "audio_compute"

// Usage is what -h prints.
const Usage = `usage: audio_service [-fifo] [-mlock] [instance]

audio_service serves audio.AudioControl. It registers as audio_compute.<instance>
with the channels audio_ctrl_<instance> and audio_reply_<instance>, or without
"<instance>" where none is given, and serves until SIGINT or SIGTERM. Instances
and their clients meet in the domain that IPCGEN_DOMAIN names.

  audio_service 0

Flags:
  -fifo   run with real-time priority (SCHED_FIFO) once it serves
  -mlock  keep its memory from being written to disk
Where the user may not do that, one line says so, and the service goes on.

Exit status: 0 done, 1 failed, 2 wrong usage.
`

// Priority is the real-time priority of a service. It is low: what the user or the distribution
// gives one goes first.
const Priority = 10

// names holds the names that belong to one instance: in the registry, and of its channels.
type names struct {
	service, control, reply string
}

func namesOf(instance string) names {
	if instance == "" {
		return names{Service, "audio_ctrl", "audio_reply"}
	}
	return names{Service + "." + instance, "audio_ctrl_" + instance, "audio_reply_" + instance}
}

// Run is the whole process: it reads args, the arguments behind the program's
// name, serves until ctx is done or a signal ends it, and returns the exit
// status.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("audio_service", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	fifo, mlock := flags.Bool("fifo", false, ""), flags.Bool("mlock", false, "")
	err := flags.Parse(args)
	switch instance := flags.Arg(0); {
	case errors.Is(err, flag.ErrHelp) && len(args) == 1:
		if _, err := fmt.Fprint(stdout, Usage); err != nil {
			fmt.Fprintf(stderr, "audio_service: %v\n", err)
			return 1
		}
		return 0
	case err == nil && flags.NArg() > 1:
		err = fmt.Errorf("one instance at most, not %d", flags.NArg())
	case err == nil && flags.NArg() == 1 && (instance == "" || strings.HasPrefix(instance, "-")):
		err = fmt.Errorf("%q is no instance: give a number or a name", instance)
	}
	if err != nil {
		fmt.Fprintf(stderr, "audio_service: %v\nRun audio_service -h for usage.\n", err)
		return 2
	}
	n := namesOf(flags.Arg(0))
	without := func(err error) {
		if err != nil {
			fmt.Fprintf(stderr, "audio_service[%s]: %v; going on without\n", n.service, err)
		}
	}
	if *mlock {
		without(sys.LockMemory())
	}
	ready := func() {}
	if *fifo {
		// To start takes longer than a block, and must not hold up the sound of others.
		ready = func() { without(sys.SetRealtime(Priority, true)) }
	}
	if err := serve(ctx, n, stdout, ready); err != nil {
		fmt.Fprintf(stderr, "audio_service[%s]: %v\n", n.service, err)
		return 1
	}
	return 0
}

// serve runs one instance until ctx is done or a signal ends it. It calls ready once it serves.
func serve(ctx context.Context, n names, stdout io.Writer, ready func()) error {
	fmt.Fprintf(stdout, "audio_service[%s]: starting (pid=%d)...\n", n.service, os.Getpid())
	engine, meter := NewEngine(), newMeter()
	defer meter.publisher.Close()
	return group.Run(ctx, group.RunConfig{
		Join:    group.JoinConfig{State: engine, OnRole: meter.onRole},
		Options: append(newDesk(engine, meter).options(), meter.publisher),
		Record: registry.Record{Name: n.service, Service: Service, Control: n.control,
			Reply: n.reply},
		Ready: func() {
			ready()
			fmt.Fprintf(stdout, "audio_service[%s]: registered in service registry\n", n.service)
		},
	}, audio.NewAudioControlService(engine))
}
