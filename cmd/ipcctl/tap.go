package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/dynamic"
	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/recording"
	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/where"
	"github.com/ipcgen/ipcgen/internal/diag"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/group"
	"github.com/ipcgen/ipcgen/runtime/introspect"
)

const tapHelp = `usage: ipcctl tap [flags] name

Prints the calls and one-way messages of all clients of a channel, an instance
of the registry, or the primary of a group, each as a line of JSON when it has
ended: time, client, method, request, reply, error, and the time that the server
took. Items of calls that stream have lines of their own. It never slows the
server: it loses calls instead, and says how many. A group is followed from one
primary to the next.

  ipcctl tap -where 'request.value>0.5' -where code!=ok audio_compute
  ipcctl tap -method SetParam -n 10 audio_compute | jq .request

Flags:
  -domain name     the domain, a name or a path (default: as programs choose it)
  -method name     show this method or message alone; may be repeated. Service
                   and namespace may be left out
  -where condition show only lines for which it holds; may be repeated, then all
                   must. It is a path in the line, one of = != > >= < <= ~ (has
                   the text), and a value. Absent scalars have their defaults
  -max-body n      copy requests and replies of up to n bytes (default 65536);
                   of longer ones, show the length alone
  -n lines         end after so many (default: when interrupted)
  -timeout d       how long connecting may take (default 10s)
  -h               print this
`

func (t *terminal) tap() *cli.Command {
	return &cli.Command{
		Name:  "tap",
		Usage: "show the calls of all clients",
		Flags: []cli.Flag{domainFlag(), &cli.StringSliceFlag{Name: "method"},
			&cli.StringSliceFlag{Name: "where"}, &cli.IntFlag{Name: "max-body", Value: 64 << 10},
			&cli.IntFlag{Name: "n"}, &cli.DurationFlag{Name: "timeout", Value: patience}},
		CustomHelpTemplate: tapHelp,
		Action:             t.doTap,
		// A condition may have commas.
		DisableSliceFlagSeparator: true,
	}
}

func (t *terminal) doTap(ctx context.Context, c *cli.Command) error {
	switch {
	case c.NArg() != 1:
		return usagef("tap takes a name, not %s", count(c.NArg(), "argument"))
	case c.Duration("timeout") <= 0 || c.Int("n") < 0 || c.Int("max-body") <= 0:
		return usagef("-timeout, -n and -max-body are positive")
	}
	p := &tapPrinter{t: t, name: c.Args().First(), left: int(c.Int("n"))}
	for _, text := range c.StringSlice("where") {
		condition, err := where.Parse(text)
		if err != nil {
			return usagef("-where %s: %w", text, err)
		}
		p.conditions = append(p.conditions, condition)
	}
	w, err := watch(ctx, c, p.name)
	if err != nil {
		return err
	}
	if len(w.topics) > 0 {
		w.conn.Close()
		return usagef("tap shows no topics; ipcctl subscribe does")
	}
	_, isGroup := w.conn.(*group.Client)
	for {
		if err := p.check(w.server.Schema, c.StringSlice("method")); err != nil {
			w.conn.Close()
			return err
		}
		p.say("watching %s, process %d", p.name, w.server.Description.Pid)
		done, err := p.print(ctx, w)
		w.conn.Close()
		var own *ipc.Error
		switch {
		case done || ctx.Err() != nil || !errors.As(err, &own):
			return failedCall(err)
		case !isGroup && own.Code == ipc.CodeUnavailable:
			return &exitError{statusOf(err), fmt.Errorf("unavailable: the server of %s, process "+
				"%d, is gone, and %s were open", p.name, w.server.Description.Pid,
				count(p.open.len(), "call"))}
		case !isGroup:
			return failedCall(err)
		}
		p.say("process %d is no longer the primary of %s, and %d calls were open; "+
			"the next one is waited for", w.server.Description.Pid, p.name, p.open.len())
		if w, err = watchNext(ctx, c, p.name); err != nil {
			return err
		}
	}
}

// A tapPrinter prints what the taps of a name show.
type tapPrinter struct {
	t          *terminal
	name       string
	conditions []*where.Condition
	left       int // lines; 0: no end
	schema     *dynamic.Schema
	open       *openCalls[*introspect.TapRecordT]
}

func (p *tapPrinter) say(format string, args ...any) {
	fmt.Fprintf(p.t.err, "ipcctl: "+format+"\n", args...)
}

// check takes a server's schema, and checks that a line can have the fields of the conditions.
func (p *tapPrinter) check(s *dynamic.Schema, methods []string) error {
	p.schema = s
	for _, c := range p.conditions {
		first, rest := c.Path[0], c.Path[1:]
		if i := slices.Index(lineNames, first); i < 0 {
			hint := "it has " + strings.Join(lineNames, ", ")
			if near := diag.Nearest(first, lineNames); near != "" {
				hint = "did you mean " + near + "?"
			}
			return usagef("-where %s: a line has no %s; %s", strings.Join(c.Path, "."), first, hint)
		}
		if !slices.Contains(bodyNames, first) || len(rest) == 0 {
			continue
		}
		if err := checkAny(s, methods, first == "reply", rest); err != nil {
			return usagef("-where %s: %w", strings.Join(c.Path, "."), err)
		}
	}
	return nil
}

// checkAny returns an error if no method or message has a field, in its request or reply. An item
// is either.
func checkAny(s *dynamic.Schema, methods []string, reply bool, path []string) (err error) {
	names := append(s.Methods(), s.Messages()...)
	if len(methods) > 0 {
		names = nil
		for _, m := range methods {
			full, err := s.Find(m)
			if err != nil {
				return err
			}
			names = append(names, full)
		}
	}
	for _, reply := range []bool{reply, true} {
		for _, full := range names {
			if reply && !slices.Contains(s.Methods(), full) {
				continue // a message
			}
			failed := s.CheckField(full, reply, path)
			if failed == nil {
				return nil
			}
			if err == nil || strings.Contains(failed.Error(), "did you mean") {
				err = failed
			}
		}
	}
	return err
}

// print prints lines until there are enough, or the tap ends.
func (p *tapPrinter) print(ctx context.Context, w *watching) (done bool, err error) {
	p.open = new(openCalls[*introspect.TapRecordT])
	for before := uint64(0); ; {
		records, lost, err := w.next(ctx, time.Second, p.say)
		if err != nil {
			return false, err
		}
		for _, r := range records {
			if done, err := p.record(r); done || err != nil {
				return done, err
			}
		}
		if lost > before {
			p.say("%d beginnings or ends of calls, or items, were lost", lost-before)
			before = lost
		}
	}
}

// record prints what a record ends.
func (p *tapPrinter) record(r *introspect.TapRecordT) (done bool, err error) {
	switch r.Kind {
	case introspect.TapKindEnd:
		if begin, ok := p.open.end(r.Call); ok {
			return p.line(lineOf(begin, r), begin, r)
		}
	case introspect.TapKindRequestItem, introspect.TapKindReplyItem:
		return p.line(itemOf(r), r, r)
	default:
		if forgotten := p.open.begin(r.Call, r, weightOf(r)); forgotten > 0 {
			p.say("%d calls that had not ended were forgotten", forgotten)
		}
	}
	return false, nil
}

// line prints a line whose bodies are those of two records, if the conditions hold.
func (p *tapPrinter) line(l *tapLine, begin, end *introspect.TapRecordT) (done bool, err error) {
	l.fill(p.schema.Text, begin, end)
	if len(p.conditions) > 0 {
		full := *l
		full.fill(p.schema.FullText, begin, end)
		text, err := json.Marshal(&full)
		if err != nil {
			return false, err
		}
		v, err := where.Decode(text)
		if err != nil {
			return false, err
		}
		for _, c := range p.conditions {
			if !c.Holds(v) {
				return false, nil
			}
		}
	}
	out := json.NewEncoder(p.t.out)
	out.SetEscapeHTML(false)
	if err := out.Encode(l); err != nil {
		return false, err
	}
	p.left--
	return p.left == 0, nil
}

// A tapLine is a call or a message that has ended, or an item, as tap prints it.
type tapLine struct {
	At     time.Time `json:"at"`     // when it began
	Client uint32    `json:"client"` // the process
	Method string    `json:"method"`
	Kind   string    `json:"kind"`
	Call   uint64    `json:"call"` // the number that the server has given it
	Seq    uint64    `json:"seq,omitempty"`
	Epoch  uint64    `json:"epoch,omitempty"`

	Request      json.RawMessage `json:"request,omitempty"`
	RequestBytes *uint32         `json:"request_bytes,omitempty"`
	Reply        json.RawMessage `json:"reply,omitempty"`
	ReplyBytes   *uint32         `json:"reply_bytes,omitempty"`
	Item         json.RawMessage `json:"item,omitempty"`
	ItemBytes    *uint32         `json:"item_bytes,omitempty"`

	Code    string   `json:"code,omitempty"`
	Outcome string   `json:"outcome,omitempty"`
	Error   string   `json:"error,omitempty"`
	Micros  *float64 `json:"micros,omitempty"`
}

// bodyNames and lineNames are the members of a line, those with bodies and all.
var (
	bodyNames = []string{"request", "reply", "item"}
	lineNames = append([]string{"at", "client", "method", "kind", "call", "seq", "epoch",
		"request_bytes", "reply_bytes", "item_bytes", "code", "outcome", "error", "micros"},
		bodyNames...)
)

// openCalls are the beginnings of calls and messages that have not ended, by their numbers. The
// zero openCalls has none.
type openCalls[T any] struct {
	all   map[uint64]opened[T]
	bytes int // of the bodies
}

// An opened is the beginning of a call, which keeps so many bytes.
type opened[T any] struct {
	begin T
	bytes int
}

// weightOf returns the memory of the parts of a record that can be long.
func weightOf(r *introspect.TapRecordT) int {
	return len(r.Body) + len(r.Text) + len(r.Protocol) + len(r.Name)
}

// Limits of calls without an end. The ends of some were lost, or the server tells what is not so.
const (
	mostOpen      = 1 << 16
	mostOpenBytes = 64 << 20
)

// begin notes the beginning of a call, whose body has n bytes. If there are too many, all that came
// before are forgotten, and their number is returned.
func (o *openCalls[T]) begin(call uint64, begin T, n int) (forgotten int) {
	if len(o.all) >= mostOpen || o.bytes > mostOpenBytes-n {
		forgotten = len(o.all)
		*o = openCalls[T]{}
	}
	if o.all == nil {
		o.all = make(map[uint64]opened[T])
	}
	o.end(call) // a number that comes again
	o.all[call] = opened[T]{begin, n}
	o.bytes += n
	return forgotten
}

// get returns the beginning of a call, if it was seen.
func (o *openCalls[T]) get(call uint64) T { return o.all[call].begin }

// end removes and returns the beginning of a call that ends, if it was seen.
func (o *openCalls[T]) end(call uint64) (begin T, ok bool) {
	one, ok := o.all[call]
	delete(o.all, call)
	o.bytes -= one.bytes
	return one.begin, ok
}

func (o *openCalls[T]) len() int { return len(o.all) }

// lineOf returns the line of a call or message, from its two records, without its bodies.
func lineOf(begin, end *introspect.TapRecordT) *tapLine {
	code, micros := ipc.Code(end.Code), microsOf(end)
	line := &tapLine{At: time.Unix(0, begin.At), Client: begin.Pid, Kind: recording.KindCall,
		Method: begin.Protocol + "." + begin.Name, Call: begin.Call, Seq: begin.Seq,
		Epoch: begin.Epoch, RequestBytes: &begin.Length, ReplyBytes: &end.Length,
		Code: code.String(), Error: end.Text, Micros: &micros}
	if begin.Kind == introspect.TapKindMessage {
		line.Kind = recording.KindMessage
	}
	if code != ipc.CodeOK {
		line.Outcome = ipc.Outcome(end.Outcome).String()
	}
	return line
}

// itemOf returns the line of an item, without its body.
func itemOf(r *introspect.TapRecordT) *tapLine {
	line := &tapLine{At: time.Unix(0, r.At), Client: r.Pid, Kind: recording.RequestItem,
		Method: r.Protocol + "." + r.Name, Call: r.Call, Seq: r.Seq, Epoch: r.Epoch,
		ItemBytes: &r.Length}
	if r.Kind == introspect.TapKindReplyItem {
		line.Kind = recording.ReplyItem
	}
	return line
}

// fill fills in the bodies that two records of one call have, as JSON by text.
func (l *tapLine) fill(text func(full string, reply bool, buf []byte) ([]byte, error),
	begin, end *introspect.TapRecordT) {
	switch {
	case l.ItemBytes != nil:
		l.Item = textOf(text, l.Method, l.Kind == recording.ReplyItem, end)
		return
	case l.Code == ipc.CodeOK.String() && l.Kind == recording.KindCall:
		l.Reply = textOf(text, l.Method, true, end)
	}
	l.Request = textOf(text, l.Method, false, begin)
}

// microsOf returns how long the server took, in microseconds.
func microsOf(end *introspect.TapRecordT) float64 { return float64(end.Duration) / 1000 }

// textOf returns the JSON of the body of a record, or nil if it is not whole or not known.
func textOf(text func(full string, reply bool, buf []byte) ([]byte, error), method string,
	reply bool, r *introspect.TapRecordT) json.RawMessage {
	if int(r.Length) != len(r.Body) {
		return nil
	}
	got, err := text(method, reply, r.Body)
	if err != nil || !json.Valid(got) { // a FlexBuffer may hold a bare nan
		return nil
	}
	return got
}
