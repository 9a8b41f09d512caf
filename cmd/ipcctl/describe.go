package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/dynamic"
	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/fbstext"
	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/visible"
	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/vitals"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/introspect"
)

const describeHelp = `usage: ipcctl describe [flags] name

Prints what a channel, an instance of the registry, or the primary of a group
tells of itself: program, versions, limits and counters as comments, and below
them the schema of what it serves, as .fbs. The server counts by method for as
long as somebody asks, so the second run shows more than the first.

  ipcctl describe greeter
  ipcctl describe -bfbs audio.bfbs audio_compute

Flags:
  -domain name     the domain, a name or a path (default: as programs choose it)
  -timeout d       how long it may take (default 10s)
  -json            print JSON
  -bfbs file       write the binary schema, and print nothing; - is standard
                   output
  -protocol name   of -bfbs: that of this protocol (default: of the first one)
  -h               print this
`

func (t *terminal) describe() *cli.Command {
	return &cli.Command{
		Name:  "describe",
		Usage: "show what a server is and serves",
		Flags: []cli.Flag{domainFlag(), &cli.DurationFlag{Name: "timeout", Value: patience},
			&cli.BoolFlag{Name: "json"}, &cli.StringFlag{Name: "bfbs"},
			&cli.StringFlag{Name: "protocol"}},
		CustomHelpTemplate: describeHelp,
		Action:             t.doDescribe,
	}
}

func (t *terminal) doDescribe(ctx context.Context, c *cli.Command) error {
	switch {
	case c.NArg() != 1:
		return usagef("describe takes a name, not %s", count(c.NArg(), "argument"))
	case c.Duration("timeout") <= 0:
		return usagef("-timeout %v: it must be positive", c.Duration("timeout"))
	case c.String("protocol") != "" && c.String("bfbs") == "":
		return usagef("-protocol is for -bfbs")
	}
	name := c.Args().First()
	conn, server, err := meet(ctx, c, name)
	if err != nil {
		return err
	}
	defer conn.Close()
	if file := c.String("bfbs"); file != "" {
		definition, err := server.Definition(c.String("protocol"))
		if err != nil {
			return err
		}
		return t.writeOutput(ctx, file, definition)
	}
	ctx, cancel := context.WithTimeout(ctx, c.Duration("timeout"))
	defer cancel()
	counters, err := ipc.ReadCounters(ctx, conn)
	if err != nil {
		return failedCall(err)
	}
	if c.Bool("json") {
		return printJSON(t.out, name, server, counters)
	}
	return printDescription(t.out, server, counters)
}

// printDescription prints a text that is a schema.
func printDescription(w io.Writer, s *dynamic.Server, n *introspect.CountersT) error {
	d, p := s.Description, &printer{w: w}
	p.line("program     %s %s, with ipcgen %s and %s", dash(d.Program), d.Version, dash(d.Runtime),
		d.Go)
	p.line("process     %d, since %s", d.Pid, clock(time.Unix(0, d.Started)))
	if d.Fenced {
		p.line("replica     epoch %d", d.Epoch)
	}
	if l := d.Limits; l != nil {
		p.line("limits      %d clients, %d calls of each, messages of %s, streams of %s",
			l.MaxConns, l.MaxCalls, size(l.MaxMessage), size(l.MaxStreamMemory))
		p.line("memory      rings of %s and %s for each client, %s for streams, %s for messages",
			size(l.RingToServer), size(l.RingToClient), size(n.StreamsMemory),
			size(n.MessagesMemory))
	}
	p.line("clients     %d, %d refused, %d broke the protocol", n.Clients, n.Refused, n.Corrupted)
	p.line("received    %s, %s", count(n.Received, "message"), size(n.ReceivedBytes))
	p.line("sent        %s, %s", count(n.Sent, "message"), size(n.SentBytes))
	p.line("dropped     %d, malformed %d, waits for room %d", n.Dropped, n.Malformed,
		n.WaitsForRoom)
	p.line("in flight   %s", count(n.CallsInFlight, "call"))
	for _, c := range n.Processes {
		waits := ""
		if text := vitals.WaitingOf(c); text != "" {
			waits = "; " + text
		}
		if c.Asks {
			waits += ", the one that asks"
		}
		p.line("client      pid %s: %s, %s in flight, received %d, sent %d, "+
			"waits for room %d%s", number(uint64(c.Pid)), count(c.Connections, "connection"),
			count(c.CallsInFlight, "call"), c.Received, c.Sent, c.WaitsForRoom, waits)
	}
	for _, protocol := range d.Protocols {
		kind := ""
		if protocol.Stream {
			kind = ", a stream"
		}
		if protocol.Topic != nil {
			kind = ", a topic"
		}
		if protocol.Definition < 0 {
			kind += ", without a schema"
		}
		p.line("serves      %s, fingerprint %016x%s", protocol.Name, protocol.Fingerprint, kind)
		if t := protocol.Topic; t != nil {
			p.line("            keeps %d messages of %s, %d subscribers, %d published",
				t.Depth, size(t.MaxMessage), t.Subscribers, t.Published)
		}
	}
	for _, m := range n.Methods {
		if m.Done == 0 && m.InFlight == 0 {
			continue
		}
		p.line("counted     %s.%s: %d done, %d in flight, %d failed, median %v, 99 %% %v",
			m.Protocol, m.Name, m.Done, m.InFlight, failures(m), vitals.Quantile(m.Histogram, 0.5),
			vitals.Quantile(m.Histogram, 0.99))
	}
	if p.err != nil {
		return p.err
	}
	_, err := fmt.Fprintf(w, "\n%s", fbstext.Write(s.Schema.Models()...))
	return err
}

// A printer prints comments until an error.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		// Names come from the server, and a line break in one would end the comment.
		_, p.err = fmt.Fprintf(p.w, "// %s\n", visible.Line(fmt.Sprintf(format, args...)))
	}
}

// size prints a number of bytes.
func size(n uint64) string {
	const units = "KMGTPE"
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	f, unit := float64(n)/(1<<10), 0
	for f >= 1<<10 {
		f /= 1 << 10
		unit++
	}
	return fmt.Sprintf("%.4g %ciB", f, units[unit])
}

func failures(m *introspect.MethodCountersT) (n uint64) {
	for _, e := range m.Errors {
		n += e.Count
	}
	return n
}

// printJSON prints everything that a program may want to know.
func printJSON(w io.Writer, name string, s *dynamic.Server, n *introspect.CountersT) error {
	return json.NewEncoder(w).Encode(struct {
		Name        string                   `json:"name"`
		Methods     []string                 `json:"methods"`
		Messages    []string                 `json:"messages"`
		Topics      []string                 `json:"topics"`
		Description *introspect.DescriptionT `json:"description"`
		Counters    *introspect.CountersT    `json:"counters"`
		Schema      string                   `json:"schema"`
	}{name, s.Schema.Methods(), s.Schema.Messages(), s.Schema.Topics(), s.Description, n,
		fbstext.Write(s.Schema.Models()...)})
}
