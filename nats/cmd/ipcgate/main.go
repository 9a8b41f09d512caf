// Command ipcgate connects channels on this machine with channels over NATS.
//
//	ipcgate export [flags] CHANNEL...   makes local channels reachable over NATS
//	ipcgate import [flags] CHANNEL...   makes channels over NATS appear as local ones
//
// A channel is NAME, or NAME=LOCAL if it has another name on this machine, or NAME=group:GROUP to
// export a group: calls and topics follow its primary. Messages pass as they are encoded, so that
// ipcgate needs no schema and no generated code. It runs until it gets SIGINT or SIGTERM, and lets
// calls in flight finish. While the other side is not there, it waits.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/nats-io/nats.go"

	"github.com/ipcgen/ipcgen/nats"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

const usage = `usage: ipcgate export|import [flags] CHANNEL...

A channel is NAME, or NAME=LOCAL if it has another name on this machine, or
NAME=group:GROUP to export a group.

`

// run is the command. Its result is the exit status: 2 for a wrong command line.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("ipcgate", flag.ContinueOnError)
	flags.SetOutput(stderr)
	url := flags.String("nats", nats.DefaultURL, "the `URLs` of NATS servers, with commas")
	creds := flags.String("creds", "", "a `file` of credentials for NATS")
	inbox := flags.String("inbox", "_INBOX", "the `prefixes` of inboxes, with commas: the first "+
		"one is its own; an export answers to all")
	beat := flags.Duration("beat", natsipc.DefaultBeat, "the `time` between two signs of "+
		"a server that it still has a call that takes long; the same on both sides")
	maxCalls := flags.Int("max-calls", natsipc.DefaultMaxCalls, "how many `calls` an export has "+
		"at a time")
	maxMessage := flags.Int("max-message", 0, "how many `bytes` a message may have; 0 is "+
		"the default of the runtime")
	version := flags.String("version", "", "the `version` of an export that \"nats service info\" "+
		"shows")
	about := flags.String("about", "", "the `description` of an export that it shows")
	prefix := flags.String("prefix", natsipc.DefaultPrefix, "the first `tokens` of all subjects, "+
		"with dots between them")
	domain := flags.String("domain", "", "the `domain` of the local channels; see IPCGEN_DOMAIN")
	memory := flags.Int("topic-memory", natsipc.DefaultTopicMemory, "how many `bytes` of memory "+
		"the topics of a channel may take")
	flags.Usage = func() {
		fmt.Fprint(stderr, usage)
		flags.PrintDefaults()
	}
	if len(args) > 0 && (args[0] == "-h" || args[0] == "-help" || args[0] == "--help") {
		flags.SetOutput(stdout)
		fmt.Fprint(stdout, usage)
		flags.PrintDefaults()
		return 0
	}
	if len(args) == 0 || args[0] != "export" && args[0] != "import" {
		if len(args) > 0 {
			fmt.Fprintf(stderr, "ipcgate: %q is not a command; give export or import\n", args[0])
		}
		flags.Usage()
		return 2
	}
	if err := flags.Parse(args[1:]); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	if flags.NArg() == 0 {
		fmt.Fprintf(stderr, "ipcgate: %s needs a channel\n", args[0])
		flags.Usage()
		return 2
	}
	if *beat <= 0 || *maxCalls <= 0 || *maxMessage < 0 || *memory < 0 {
		fmt.Fprintln(stderr, "ipcgate: -beat and -max-calls must be above 0, and -max-message and "+
			"-topic-memory not below")
		return 2
	}
	inboxes := strings.Split(*inbox, ",")
	all := []ipc.Option{natsipc.WithPrefix(*prefix), natsipc.WithInboxes(inboxes...),
		natsipc.WithBeat(*beat), natsipc.WithMaxCalls(*maxCalls)}
	if *maxMessage != 0 {
		all = append(all, ipc.WithMaxMessage(*maxMessage))
	}
	if *version != "" || *about != "" {
		all = append(all, natsipc.WithVersion(cmp.Or(*version, "0.0.0"), *about))
	}
	log := slog.New(slog.NewTextHandler(stdout, nil))
	var gateways []*natsipc.Gateway
	made := map[string]string{} // channels, and the argument that is to make each
	for _, name := range flags.Args() {
		channel, local, named := strings.Cut(name, "=")
		makes := channel
		if args[0] == "import" {
			makes = cmp.Or(local, channel)
		}
		other, twice := made[makes]
		made[makes] = name
		switch {
		case strings.HasPrefix(name, "-"):
			fmt.Fprintf(stderr, "ipcgate: %q is behind a channel; give flags before the channels\n",
				name)
			return 2
		case args[0] == "export" && strings.HasPrefix(name, "group:"):
			fmt.Fprintf(stderr, "ipcgate: %q has no name for other machines; give NAME=%s\n", name,
				name)
			return 2
		case twice:
			fmt.Fprintf(stderr, "ipcgate: %q and %q are both to be channel %s; give one of them\n",
				other, name, makes)
			return 2
		case named && local == "", local == "group:":
			fmt.Fprintf(stderr, "ipcgate: %q has no name at its end; give NAME, NAME=LOCAL or "+
				"NAME=group:GROUP\n", name)
			return 2
		case channel == "":
			fmt.Fprintf(stderr, "ipcgate: %q has no channel; give NAME, or NAME=LOCAL\n", name)
			return 2
		case args[0] == "import" && strings.HasPrefix(local, "group:"):
			fmt.Fprintf(stderr, "ipcgate: %q: groups are for export; a group that is exported is "+
				"imported as a channel, by its name\n", name)
			return 2
		}
		g := &natsipc.Gateway{Channel: channel, Local: local, Log: log, TopicMemory: *memory,
			Domain: *domain, NATS: all}
		if service, ok := strings.CutPrefix(local, "group:"); ok {
			g.Local, g.Group = "", service
		}
		if err := g.Check(); err != nil {
			fmt.Fprintln(stderr, "ipcgate:", err)
			return 2
		}
		gateways = append(gateways, g)
	}
	opts := []nats.Option{nats.CustomInboxPrefix(inboxes[0])}
	if *creds != "" {
		opts = append(opts, nats.UserCredentials(*creds))
	}
	// Over a slow link calls would wait behind topics on the same connection.
	var conns [2]*nats.Conn
	for i, name := range []string{"ipcgate", "ipcgate topics"} {
		var err error
		own := append(slices.Clip(opts), append(told(log.With("connection", name)),
			nats.Name(name))...)
		if conns[i], err = natsipc.Connect(*url, own...); err != nil {
			fmt.Fprintln(stderr, "ipcgate:", err)
			return 1
		}
		defer conns[i].Close()
	}
	nc := conns[0]
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var gates sync.WaitGroup
	failed := make(chan error, len(gateways))
	for i, g := range gateways {
		g.NATS = append(slices.Clip(all), natsipc.WithTopicConn(conns[1]))
		side := g.Export
		if args[0] == "import" {
			side = g.Import
		}
		gates.Go(func() {
			if err := side(ctx, nc); err != nil {
				failed <- fmt.Errorf("%s %s: %w", args[0], flags.Arg(i), err)
				cancel() // the others too, since all were asked for
			}
		})
	}
	gates.Wait()
	close(failed)
	status := 0
	for err := range failed {
		fmt.Fprintln(stderr, "ipcgate:", err)
		status = 1
	}
	return status
}

// told are the options of a connection to NATS whose outages, and what NATS says of it, are logged.
func told(log *slog.Logger) []nats.Option {
	return []nats.Option{
		nats.DisconnectErrHandler(func(nc *nats.Conn, err error) {
			if !nc.IsClosed() { // by this process
				log.Warn("the connection to NATS is lost", "why", err)
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			log.Info("connected to NATS again", "server", nc.ConnectedUrlRedacted())
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			log.Warn("NATS tells of an error", "why", err)
		}),
	}
}
