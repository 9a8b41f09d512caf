package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/dynamic"
	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/recording"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/introspect"
)

const tapHelp = `usage: ipcctl tap [flags] name

Prints the calls and one-way messages of all clients of a channel, an instance
of the registry, or the primary of a group, each as a line of JSON when it has
ended: time, client, method, request, reply, error, and the time that the server
took. It never slows the server: it loses calls instead, and says how many.

  ipcctl tap audio_compute
  ipcctl tap -method SetParam -n 10 audio_compute | jq .request

Flags:
  -domain name     the domain, a name or a path (default: as programs choose it)
  -method name     show this method or message alone; may be repeated. Service
                   and namespace may be left out
  -max-body n      copy requests and replies of up to n bytes (default 65536);
                   of longer ones, show the length alone
  -n calls         end after so many (default: when interrupted)
  -timeout d       how long connecting may take (default 10s)
  -h               print this
`

func (t *terminal) tap() *cli.Command {
	return &cli.Command{
		Name:  "tap",
		Usage: "show the calls of all clients",
		Flags: []cli.Flag{domainFlag(), &cli.StringSliceFlag{Name: "method"},
			&cli.IntFlag{Name: "max-body", Value: 64 << 10}, &cli.IntFlag{Name: "n"},
			&cli.DurationFlag{Name: "timeout", Value: patience}},
		CustomHelpTemplate: tapHelp,
		Action:             t.doTap,
	}
}

func (t *terminal) doTap(ctx context.Context, c *cli.Command) error {
	switch {
	case c.NArg() != 1:
		return usagef("tap takes a name, not %d arguments", c.NArg())
	case c.Duration("timeout") <= 0 || c.Int("n") < 0 || c.Int("max-body") <= 0:
		return usagef("-timeout, -n and -max-body are positive")
	}
	name := c.Args().First()
	conn, server, err := meet(ctx, c, name)
	if err != nil {
		return err
	}
	defer conn.Close()
	methods, err := tapped(server.Schema, c.StringSlice("method"))
	if err != nil {
		return err
	}
	tap, err := ipc.OpenTap(ctx, conn, ipc.TapOptions{Methods: methods,
		MaxBody: int(c.Int("max-body"))})
	if err != nil {
		return failedCall(err)
	}
	fmt.Fprintf(t.err, "ipcctl: watching %s\n", name)
	open := make(openCalls[*introspect.TapRecordT])
	out := json.NewEncoder(t.out)
	out.SetEscapeHTML(false)
	printed, before := 0, uint64(0)
	for {
		records, lost, err := tap.Read(ctx)
		if err != nil {
			return failedCall(err)
		}
		for _, r := range records {
			if r.Kind != introspect.TapKindEnd {
				open.begin(r.Call, r)
				continue
			}
			begin, ok := open.end(r.Call)
			if !ok {
				continue
			}
			if err := out.Encode(lineOf(server.Schema, begin, r)); err != nil {
				return err
			}
			if printed++; printed == int(c.Int("n")) {
				return nil
			}
		}
		if lost > before {
			fmt.Fprintf(t.err, "ipcctl: %d beginnings or ends of calls were lost\n", lost-before)
			before = lost
		}
	}
}

// tapped returns the names that a tap wants for names of methods and messages.
func tapped(s *dynamic.Schema, names []string) (all []string, err error) {
	for _, name := range names {
		full, err := s.Find(name)
		if err != nil {
			return nil, err
		}
		i := strings.LastIndexByte(full, '.')
		all = append(all, full[:i]+"/"+full[i+1:])
	}
	return all, nil
}

// A tapLine is a call or a message that has ended, as tap prints it.
type tapLine struct {
	At     time.Time `json:"at"`     // when it began
	Client uint32    `json:"client"` // the process
	Method string    `json:"method"`
	Kind   string    `json:"kind"`
	Seq    uint64    `json:"seq,omitempty"`
	Epoch  uint64    `json:"epoch,omitempty"`

	Request      json.RawMessage `json:"request,omitempty"`
	RequestBytes uint32          `json:"request_bytes"`
	Reply        json.RawMessage `json:"reply,omitempty"`
	ReplyBytes   uint32          `json:"reply_bytes"`

	Code    string  `json:"code"`
	Outcome string  `json:"outcome,omitempty"`
	Error   string  `json:"error,omitempty"`
	Micros  float64 `json:"micros"`
}

// openCalls are the beginnings of calls and messages that have not ended, by their numbers.
type openCalls[T any] map[uint64]T

// mostOpen is how many calls may be without an end. The ends of some were lost.
const mostOpen = 1 << 16

func (o openCalls[T]) begin(call uint64, begin T) {
	if len(o) >= mostOpen {
		clear(o)
	}
	o[call] = begin
}

// end removes and returns the beginning of a call that ends, if it was seen.
func (o openCalls[T]) end(call uint64) (begin T, ok bool) {
	begin, ok = o[call]
	delete(o, call)
	return begin, ok
}

// lineOf returns the line of a call or message, from its two records.
func lineOf(s *dynamic.Schema, begin, end *introspect.TapRecordT) *tapLine {
	code := ipc.Code(end.Code)
	line := &tapLine{At: time.Unix(0, begin.At), Client: begin.Pid, Kind: recording.KindCall,
		Method: begin.Protocol + "." + begin.Name, Seq: begin.Seq, Epoch: begin.Epoch,
		RequestBytes: begin.Length, ReplyBytes: end.Length, Code: code.String(), Error: end.Text,
		Micros: microsOf(end)}
	if begin.Kind == introspect.TapKindMessage {
		line.Kind = recording.KindMessage
	}
	if code != ipc.CodeOK {
		line.Outcome = ipc.Outcome(end.Outcome).String()
	}
	line.Request = textOf(s, begin, false)
	if code == ipc.CodeOK && line.Kind == recording.KindCall {
		line.Reply = textOf(s, &introspect.TapRecordT{Protocol: begin.Protocol, Name: begin.Name,
			Body: end.Body, Length: end.Length}, true)
	}
	return line
}

// microsOf returns how long the server took, in microseconds.
func microsOf(end *introspect.TapRecordT) float64 { return float64(end.Duration) / 1000 }

// textOf returns the JSON of the body of a record, or nil if it is not whole or not known.
func textOf(s *dynamic.Schema, r *introspect.TapRecordT, reply bool) json.RawMessage {
	if int(r.Length) != len(r.Body) {
		return nil
	}
	text, err := s.Text(r.Protocol+"."+r.Name, reply, r.Body)
	if err != nil || !json.Valid(text) { // a FlexBuffer may hold a bare nan
		return nil
	}
	return text
}
