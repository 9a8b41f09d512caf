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
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
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
	inbox := flags.String("inbox", "_INBOX", "the `prefix` of inboxes: its own of an import, "+
		"and of an export those of its clients")
	prefix := flags.String("prefix", natsipc.DefaultPrefix, "the `first tokens` of all subjects")
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
		flags.Usage()
		return 2
	}
	opts := []nats.Option{nats.Name("ipcgate"), nats.CustomInboxPrefix(*inbox)}
	if *creds != "" {
		opts = append(opts, nats.UserCredentials(*creds))
	}
	nc, err := natsipc.Connect(*url, opts...)
	if err != nil {
		fmt.Fprintln(stderr, "ipcgate:", err)
		return 1
	}
	defer nc.Close()
	log := slog.New(slog.NewTextHandler(stdout, nil))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var gates sync.WaitGroup
	failed := make(chan error, flags.NArg())
	for _, name := range flags.Args() {
		channel, local, _ := strings.Cut(name, "=")
		g := natsipc.Gateway{Channel: channel, Local: local, Log: log,
			TopicMemory: *memory,
			Domain:      *domain, NATS: []ipc.Option{natsipc.WithPrefix(*prefix),
				natsipc.WithInboxes(*inbox)}}
		if service, ok := strings.CutPrefix(local, "group:"); ok {
			g.Local, g.Group = "", service
		}
		side := g.Export
		if args[0] == "import" {
			side = g.Import
		}
		gates.Go(func() {
			if err := side(ctx, nc); err != nil {
				failed <- fmt.Errorf("%s %s: %w", args[0], name, err)
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
