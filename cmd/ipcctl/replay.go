package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/dynamic"
	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/jsondiff"
	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/reach"
	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/recording"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

const replayHelp = `usage: ipcctl replay [flags] file name
       ipcctl replay -list [-json] file

Sends the requests, messages and items of a recording again, at their times, and
prints what differs. A request waits for the replies that were there before it.

  ipcctl replay audio.mcap audio_compute
  ipcctl replay -speed max -method SetParam -method GetParam move.mcap robot.0

Flags:
  -list           print what the recording has, and send nothing
  -domain name    the domain, a name or a path (default: as programs choose it)
  -from name      replay what was recorded of that name (default: the only one)
  -method name    replay this method or message alone; may be repeated
  -partial        leave out what the server lacks or would misread
  -speed n        n times as fast (default 1), or max for as fast as possible
  -step           wait for the Enter key before each request
  -publish        publish the topics instead, on a channel of that name
  -wait n         with -publish, wait until there are n subscribers
  -timeout d      the deadline of each call (default: the schema's, or 10s)
  -json           print JSON lines
  -h              print this
Exit status: 0 if all replies are as recorded, 1 if some differ, 2 for a file
that cannot be replayed, 72 if the server would misread it; else as ipcctl call.
`

// exitFile is the exit status for a file that cannot be replayed.
const exitFile = 2

func (t *terminal) replay() *cli.Command {
	return &cli.Command{
		Name:  "replay",
		Usage: "send the requests of a recording again",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "list"}, domainFlag(), &cli.StringFlag{Name: "from"},
			&cli.StringSliceFlag{Name: "method"}, &cli.StringFlag{Name: "speed", Value: "1"},
			&cli.BoolFlag{Name: "step"}, &cli.BoolFlag{Name: "publish"},
			&cli.IntFlag{Name: "wait"}, &cli.BoolFlag{Name: "json"},
			&cli.BoolFlag{Name: "partial"},
			&cli.DurationFlag{Name: "timeout", Value: patience}},
		CustomHelpTemplate: replayHelp,
		Action:             t.doReplay,
	}
}

func (t *terminal) doReplay(ctx context.Context, c *cli.Command) error {
	speed := math.Inf(1)
	if text := c.String("speed"); text != "max" {
		var err error
		if speed, err = strconv.ParseFloat(text, 64); err != nil || !(speed > 0) {
			return usagef("-speed %s: it is a positive number, or max", text)
		}
	}
	want := 2
	if c.Bool("list") {
		want = 1
	}
	switch {
	case c.NArg() != want:
		return usagef("replay takes a file and a name, or a file with -list; not %s",
			count(c.NArg(), "argument"))
	case c.Duration("timeout") <= 0:
		return usagef("-timeout %v: it must be positive", c.Duration("timeout"))
	case c.Int("wait") < 0 || c.Int("wait") > 0 && !c.Bool("publish"):
		return usagef("-wait is a number of subscribers, and goes with -publish")
	}
	path, name := c.Args().Get(0), c.Args().Get(1)
	// The whole file is looked at before anything is sent.
	contents, err := await(ctx, func() (*recording.Contents, error) { return recording.Scan(path) })
	switch {
	case ctx.Err() != nil:
		return err
	case err != nil:
		return &exitError{code: exitFile, err: err}
	case c.Bool("list"):
		return t.list(contents, c.Bool("json"))
	}
	r := &replay{t: t, path: path, speed: speed, step: c.Bool("step"), json: c.Bool("json"),
		timeout: c.Duration("timeout"), timeoutSet: c.IsSet("timeout"),
		schemas: make(map[string]*dynamic.Schema), targets: make(map[*recording.Topic]*target),
		calls: make(map[uint32]*replayed), lines: bufio.NewReader(t.in)}
	if err := r.choose(contents, name, c.String("from"), c.StringSlice("method")); err != nil {
		return &exitError{code: exitFile, err: err}
	}
	if c.Bool("publish") {
		return r.publish(ctx, contents.Sources[r.from], c.String("domain"), name, c.Int("wait"))
	}
	if r.expected == 0 && r.published > 0 && len(r.wanted) == 0 {
		return &exitError{code: exitFile, err: fmt.Errorf("%s has topics alone of %s; -publish "+
			"publishes them on a channel of their own", path, r.from)}
	}
	if r.to, err = reach.Dial(ctx, c.String("domain"), name, r.timeout); err != nil {
		return failedCall(err)
	}
	defer r.to.Close()
	if err := r.check(ctx, contents, name, c.Bool("partial")); err != nil {
		return failedCall(err)
	}
	err = r.run(ctx)
	fmt.Fprintf(t.err, "ipcctl: %s\n", r.summary())
	switch {
	case err != nil:
		return failedCall(err)
	case contents.Cut != nil:
		fmt.Fprintf(t.err, "ipcctl: %v; what comes before was replayed\n", contents.Cut)
	}
	if r.different.Load() > 0 {
		return &exitError{code: exitFailed}
	}
	return nil
}

// list prints what a recording has.
func (t *terminal) list(c *recording.Contents, asJSON bool) error {
	begin, length := time.Unix(0, c.First), time.Duration(c.Last-c.First)
	names := slices.Sorted(maps.Keys(c.Sources))
	var b bytes.Buffer
	if asJSON {
		type source struct {
			Name    string                       `json:"name"`
			Servers int                          `json:"servers"`
			Lost    uint64                       `json:"lost"`
			Methods map[string]*recording.Method `json:"methods"`
		}
		all := make([]source, len(names))
		for i, name := range names {
			s := c.Sources[name]
			all[i] = source{name, s.Servers, s.Lost, s.Methods}
		}
		if err := json.NewEncoder(&b).Encode(struct {
			Begin    time.Time `json:"begin"`
			Seconds  float64   `json:"seconds"`
			Complete bool      `json:"complete"`
			Names    []source  `json:"names"`
		}{begin, length.Seconds(), c.Cut == nil, all}); err != nil {
			return err
		}
	} else {
		if len(names) > 0 { // otherwise there is no time either
			fmt.Fprintf(&b, "recorded %s, %v\n", clock(begin), length.Round(time.Millisecond))
		}
		for _, name := range names {
			listSource(&b, name, c.Sources[name])
		}
	}
	if _, err := t.out.Write(b.Bytes()); err != nil {
		return err
	}
	if c.Cut != nil {
		fmt.Fprintf(t.err, "ipcctl: %v; what comes before is listed\n", c.Cut)
	}
	return nil
}

func listSource(b *bytes.Buffer, name string, s *recording.Source) {
	fmt.Fprintf(b, "%s: servers %d, lost %d\n", name, s.Servers, s.Lost)
	for _, full := range slices.Sorted(maps.Keys(s.Methods)) {
		m := s.Methods[full]
		if m.Kind == recording.KindTopic {
			fmt.Fprintf(b, "  %s: topic, %d messages\n", full, m.Requests)
			continue
		}
		fmt.Fprintf(b, "  %s: %s, %d ended", full, m.Kind, m.Ended)
		if m.Items > 0 {
			fmt.Fprintf(b, ", %d items", m.Items)
		}
		if n := m.Open(); n > 0 {
			fmt.Fprintf(b, ", %d did not end", n)
		}
		for _, code := range slices.Sorted(maps.Keys(m.Errors)) {
			fmt.Fprintf(b, ", %d %s", m.Errors[code], code)
		}
		if m.TooLong > 0 {
			fmt.Fprintf(b, ", %d without their requests", m.TooLong)
		}
		b.WriteByte('\n')
	}
}

// A replay sends the requests of a recording.
type replay struct {
	t          *terminal
	path       string
	speed      float64 // infinite: as fast as possible
	step, json bool
	timeout    time.Duration
	timeoutSet bool

	from      string // the name in the recording
	to        reach.Conn
	protocols map[string]bool            // that the recording has calls of
	wanted    map[string]bool            // full names; nil for all
	leftOut   map[string]bool            // full names, which the server cannot read
	schemas   map[string]*dynamic.Schema // by definition
	targets   map[*recording.Topic]*target

	byName    map[string]*recording.Topic // topics of methods, by their full names
	expected  int64                       // requests and messages that are to be sent
	published int64                       // messages of topics
	lines     *bufio.Reader
	start     time.Time // when the first one was sent
	first     int64     // its time in the recording
	calls     map[uint32]*replayed

	sent, different   atomic.Int64
	items             int64 // that were sent
	same, notCompared int64 // calls
	notSent           int64 // calls and messages
	omitted           int64 // those of methods that are left out
}

// A target is where the requests of a topic go. Both fields are nil if they are not sent.
type target struct {
	method  *dynamic.Method
	message *dynamic.Message
}

// A replayed call has been sent, and has not ended in the recording.
type replayed struct {
	seq     uint32
	topic   *recording.Topic
	request []byte // as JSON
	want    []byte // the recorded reply; nil for none
	cancel  context.CancelFunc
	done    chan struct{}
	reply   []byte        // as JSON, after done
	err     error         // likewise
	flow    *replayedFlow // nil unless the method streams
}

// choose decides what is replayed to name.
func (r *replay) choose(c *recording.Contents, name, from string, methods []string) error {
	names := slices.Sorted(maps.Keys(c.Sources))
	switch {
	case from != "":
		r.from = from
	case len(names) == 1:
		r.from = names[0]
	default:
		r.from = name
	}
	s := c.Sources[r.from]
	switch {
	case len(names) == 0:
		return fmt.Errorf("%s has no calls", r.path)
	case s == nil:
		return fmt.Errorf("%s has no calls of %s; -from chooses: %s", r.path, r.from,
			strings.Join(names, ", "))
	}
	r.protocols = make(map[string]bool)
	for _, t := range s.Topics {
		r.protocols[t.Protocol] = true
	}
	if len(methods) > 0 {
		r.wanted = make(map[string]bool)
	}
	for _, method := range methods {
		var err error
		for _, t := range s.Topics {
			var schema *dynamic.Schema
			if schema, err = r.schema(t); err != nil {
				return err
			}
			var full string
			if full, err = schema.Find(method); err != nil && t.Kind == recording.Published {
				var top *dynamic.Topic
				if top, err = schema.Topic(method); err == nil {
					full = top.Name
				}
			}
			if err == nil {
				r.wanted[full] = true
				break
			}
		}
		if err != nil {
			return err
		}
	}
	r.byName = make(map[string]*recording.Topic)
	for _, t := range s.Topics {
		if t.Kind == recording.Published {
			r.published += s.Methods[t.Full()].Requests
			continue
		}
		tgt, err := r.target(t)
		if err != nil {
			return err
		}
		if (tgt.method != nil || tgt.message != nil) && r.byName[t.Full()] == nil {
			r.expected += s.Methods[t.Full()].Requests
			r.byName[t.Full()] = t
		}
	}
	return nil
}

// schema returns the schema of a topic.
func (r *replay) schema(t *recording.Topic) (*dynamic.Schema, error) {
	s := r.schemas[string(t.Definition)]
	if s == nil {
		var err error
		if s, err = dynamic.Parse("the recording "+r.path, t.Definition,
			r.protocols); err != nil {
			return nil, err
		}
		r.schemas[string(t.Definition)] = s
	}
	return s, nil
}

// target returns the target of a topic of requests or messages.
func (r *replay) target(t *recording.Topic) (*target, error) {
	if known := r.targets[t]; known != nil {
		return known, nil
	}
	tgt := new(target)
	s, err := r.schema(t)
	if err != nil {
		return nil, err
	}
	shape, err := s.Shape(t.Full())
	switch {
	case err != nil:
		return nil, err
	case !r.wants(t.Full()):
	case t.Kind == recording.Message && shape.OneWay:
		tgt.message, err = s.Message(t.Full())
	case t.Kind == recording.Request && !shape.OneWay,
		(t.Kind == recording.RequestItem || t.Kind == recording.ReplyItem) &&
			shape.Streaming != ipc.Unary:
		tgt.method, err = s.Method(t.Full())
	}
	if err != nil {
		return nil, err
	}
	r.targets[t] = tgt
	return tgt, nil
}

// errStopped is the end of a replay that the user stops between two steps.
var errStopped = errors.New("stopped")

// run replays the recording.
func (r *replay) run(ctx context.Context) error {
	file, err := recording.Open(r.path)
	if err != nil {
		return err
	}
	defer file.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the calls that are left after an error
	if !r.step {
		defer r.t.progress(func() string {
			return fmt.Sprintf("%d of %d sent, %d replies differ", r.sent.Load(), r.expected,
				r.different.Load())
		})()
	}
	for {
		record, err := file.Next()
		if err == io.EOF || errors.Is(err, recording.ErrCut) {
			break
		}
		if err == nil && record.Topic.Source == r.from {
			err = r.take(ctx, record)
		}
		switch {
		case err == errStopped:
			return nil
		case err != nil:
			return err
		}
	}
	for _, c := range r.calls { // the recording ends before they do
		if c.flow != nil {
			c.cancel() // it may have no end
		}
		if err := c.wait(ctx); err != nil {
			return err
		}
		r.notCompared++
	}
	return nil
}

// take takes a record.
func (r *replay) take(ctx context.Context, record *recording.Record) error {
	switch record.Topic.Kind {
	case recording.Request, recording.Message:
		tgt, err := r.target(record.Topic)
		if err != nil || tgt.method == nil && tgt.message == nil {
			return err
		}
		return r.send(ctx, tgt, record)
	case recording.RequestItem:
		if c := r.calls[record.Seq]; c != nil && c.flow != nil {
			return r.sendItem(ctx, c, record)
		}
	case recording.ReplyItem:
		if c := r.calls[record.Seq]; c != nil && c.flow != nil {
			return r.expectItem(ctx, c, record)
		}
	case recording.Reply:
		if c := r.calls[record.Seq]; c != nil {
			c.want = slices.Clone(record.Data)
		}
	case recording.Calls:
		call, err := record.Call()
		if err != nil {
			return err
		}
		if call.Open {
			return r.openFlow(ctx, record, call.Method)
		}
		if call.NoRequest && r.wants(call.Method) {
			r.notSent++
		}
		if c := r.calls[record.Seq]; c != nil {
			delete(r.calls, record.Seq)
			return r.end(ctx, c, call, record.At)
		}
	}
	return nil
}

// send sends a request or message at its time.
func (r *replay) send(ctx context.Context, tgt *target, record *recording.Record) error {
	t := record.Topic
	schema, err := r.schema(t)
	if err != nil {
		return err
	}
	body, text, err := textIn(schema, t, false, record.Data)
	if err != nil {
		return fmt.Errorf("%s: request %d of %s: %w", r.path, record.Seq, t.Full(), err)
	}
	if err := r.due(ctx, record, t.Full(), text); err != nil {
		return err
	}
	if tgt.message != nil {
		ctx, cancel := context.WithTimeout(ctx, r.timeout)
		defer cancel()
		if t.JSON {
			return tgt.message.Send(ctx, r.to, text)
		}
		return tgt.message.SendBuffer(ctx, r.to, body)
	}
	c := &replayed{seq: record.Seq, topic: t, request: text, done: make(chan struct{})}
	ctx, err = r.begin(ctx, c, tgt.method)
	if err != nil {
		return err
	}
	if tgt.method.Streaming != ipc.Unary {
		c.follow(ctx, tgt.method, r.to)
		c.flow.requests <- body
		close(c.flow.requests)
		c.flow.closed = true
		return nil
	}
	go func() {
		defer close(c.done)
		defer c.cancel()
		c.reply, c.err = tgt.method.CallBuffer(ctx, r.to, body)
	}()
	return nil
}

// due waits until a request is to be sent.
func (r *replay) due(ctx context.Context, record *recording.Record, method string,
	text []byte) error {
	if err := r.await(ctx, record.At); err != nil {
		return err
	}
	if r.step {
		line := fmt.Sprintf("%d %s %s", record.Seq, method, text)
		fmt.Fprintf(r.t.err, "%s [Enter] ", strings.TrimRight(line, " "))
		_, err := await(ctx, func() ([]byte, error) { return readLine(r.lines) })
		switch {
		case err == io.EOF:
			fmt.Fprintln(r.t.err)
			return errStopped
		case err != nil:
			return err
		}
	}
	r.sent.Add(1)
	return nil
}

// begin notes a call, and returns its context. A call that streams has no deadline but its own.
func (r *replay) begin(ctx context.Context, c *replayed, m *dynamic.Method) (context.Context,
	error) {
	if len(r.calls) >= mostOpen || r.calls[c.seq] != nil {
		return nil, fmt.Errorf("%s: %d calls at once, or two with the number %d", r.path,
			len(r.calls)+1, c.seq)
	}
	r.calls[c.seq] = c
	timeout := r.timeout
	if !r.timeoutSet && m.Timeout > 0 {
		timeout = m.Timeout
	} else if m.Streaming != ipc.Unary && !r.timeoutSet {
		ctx, c.cancel = context.WithCancel(ctx)
		return ctx, nil
	}
	ctx, c.cancel = context.WithTimeout(ctx, timeout)
	return ctx, nil
}

// textIn returns a message of a recording as it has travelled, and its JSON. Of one that the
// recording has as JSON, there is nothing else.
func textIn(s *dynamic.Schema, t *recording.Topic, reply bool, data []byte) (buf, text []byte,
	err error) {
	if t.JSON {
		return nil, slices.Clone(data), nil
	}
	if buf, err = s.Restore(t.Full(), reply, slices.Clone(data)); err != nil {
		return nil, nil, err
	}
	text, err = s.Text(t.Full(), reply, buf)
	return buf, text, err
}

// await waits for the time of a record.
func (r *replay) await(ctx context.Context, at int64) error {
	if r.start.IsZero() {
		r.start, r.first = time.Now(), at
	}
	if r.step || math.IsInf(r.speed, 1) {
		return ctx.Err()
	}
	const longest = 1e9 // seconds
	due := min(float64(at-r.first)/r.speed/1e9, longest)
	wait := time.NewTimer(time.Until(r.start.Add(time.Duration(due * 1e9))))
	defer wait.Stop()
	select {
	case <-wait.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// wait waits for the end of a call. It returns an error if the rest cannot be replayed.
func (c *replayed) wait(ctx context.Context) error {
	<-c.done
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var e *ipc.Error
	if errors.As(c.err, &e) && (e.Code == ipc.CodeIncompatible ||
		e.Code == ipc.CodeUnavailable && e.Outcome == ipc.NotSent) {
		return c.err
	}
	return nil
}

// end compares a call that ends in the recording at this place.
func (r *replay) end(ctx context.Context, c *replayed, call *recording.Call, at int64) error {
	given := call.Code == ipc.CodeCanceled.String() ||
		call.Code == ipc.CodeDeadlineExceeded.String()
	if given { // the client has given up
		select {
		case <-c.done:
		default:
			if err := r.await(ctx, at); err != nil {
				return err
			}
		}
		c.cancel()
	}
	if c.flow != nil && !given {
		if err := r.endFlow(ctx, c, at); err != nil {
			return err
		}
	}
	if err := c.wait(ctx); err != nil {
		return err
	}
	var differences []jsondiff.Difference
	code, ok := ipc.CodeOf(c.err).String(), c.err == nil
	switch {
	case given, ok && call.OK() && c.want == nil && (c.flow == nil || !c.flow.serverSends),
		c.flow != nil && (call.NoRequest || call.NoReply):
		r.notCompared++
		return nil
	case code != call.Code:
		differences = []jsondiff.Difference{{Path: "code", Before: quoted(call.Code),
			After: quoted(code)}}
	case c.flow != nil && c.flow.serverSends:
		differences = c.flow.result()
	case ok:
		schema, err := r.schema(c.topic)
		if err != nil {
			return err
		}
		_, want, err := textIn(schema, c.topic, true, c.want)
		if err != nil {
			return fmt.Errorf("%s: reply %d of %s: %w", r.path, c.seq, c.topic.Full(), err)
		}
		differences = jsondiff.Compare(want, c.reply, maxDifferences)
	}
	if len(differences) == 0 {
		r.same++
	} else {
		r.different.Add(1)
	}
	if len(differences) == 0 && !r.step {
		return nil
	}
	return r.print(c, differences)
}

// maxDifferences is how many differences of a call are printed.
const maxDifferences = 20

func quoted(text string) json.RawMessage { return json.RawMessage(strconv.Quote(text)) }

// print prints a call that differs, or, in steps, any one.
func (r *replay) print(c *replayed, differences []jsondiff.Difference) error {
	failure := ""
	if c.err != nil {
		failure = c.err.Error()
	}
	if r.json {
		line := struct {
			Call        uint32                `json:"call"`
			Method      string                `json:"method"`
			Request     json.RawMessage       `json:"request,omitempty"`
			Reply       json.RawMessage       `json:"reply,omitempty"`
			Error       string                `json:"error,omitempty"`
			Differences []jsondiff.Difference `json:"differences"`
		}{Call: c.seq, Method: c.topic.Full(), Error: failure, Differences: differences}
		if json.Valid(c.request) { // a FlexBuffer may hold a bare nan
			line.Request = c.request
		}
		if json.Valid(c.reply) {
			line.Reply = c.reply
		}
		out := json.NewEncoder(r.t.out)
		out.SetEscapeHTML(false)
		return out.Encode(line)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%d %s %s\n", c.seq, c.topic.Full(), c.request)
	for _, d := range differences {
		before, after := "nothing", "nothing"
		if d.Before != nil {
			before = string(d.Before)
		}
		if d.After != nil {
			after = string(d.After)
		}
		b.WriteString("  ")
		if d.Path != "" {
			b.WriteString(d.Path + ": ")
		}
		fmt.Fprintf(&b, "%s, now %s\n", before, after)
	}
	switch {
	case failure != "":
		fmt.Fprintf(&b, "  %s\n", failure)
	case r.step:
		fmt.Fprintf(&b, "  %s\n", c.reply)
	}
	_, err := r.t.out.Write(b.Bytes())
	return err
}

// summary tells what was done.
func (r *replay) summary() string {
	different := r.different.Load()
	same, differ := fmt.Sprintf("%d replies are as recorded", r.same), "differ"
	if r.same == 1 {
		same = "1 reply is as recorded"
	}
	if different == 1 {
		differ = "differs"
	}
	text := fmt.Sprintf("%d of %d sent; %s, %d %s", r.sent.Load(), r.expected, same, different,
		differ)
	if r.notCompared > 0 {
		text += fmt.Sprintf(", %d cannot be compared", r.notCompared)
	}
	if r.items > 0 {
		text += fmt.Sprintf("; with %d items", r.items)
	}
	if r.published > 0 {
		text += fmt.Sprintf("; %d messages of topics were not sent, which -publish publishes",
			r.published)
	}
	if r.notSent > 0 {
		text += fmt.Sprintf("; %d requests are not in the recording", r.notSent)
	}
	if r.omitted > 0 {
		text += fmt.Sprintf("; %d requests do not fit the server", r.omitted)
	}
	return text
}
