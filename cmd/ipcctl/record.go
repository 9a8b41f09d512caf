package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/dynamic"
	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/recording"
	"github.com/ipcgen/ipcgen/internal/sys"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/introspect"
)

const recordHelp = `usage: ipcctl record -o file [flags] name...

Records the calls and one-way messages of all clients of channels, instances or
groups, and the topics that they publish, into an MCAP file, which ipcctl replay
sends again and Foxglove opens. It never slows the servers: it loses calls
instead, and says how many. A server that dies is waited for. A recorder that is
killed, and a full disk, leave a file that can be read. No file is overwritten.

  ipcctl record -o audio.mcap audio_compute
  ipcctl record -o move.mcap -duration 1m -method Move robot.0 arm.0

Flags:
  -o file          the file; - is standard output
  -domain name     the domain, a name or a path (default: as programs choose it)
  -method name     record this method, message or topic alone; may be repeated.
                   Service and namespace may be left out
  -duration d      end after that time (default: when interrupted)
  -max-size n      end before the file has more than n bytes; 10K, 10M and 10G
                   are understood
  -max-body n      record requests and replies of up to n bytes (default and
                   limit: 1 MiB, or half of the server's limit for messages); of
                   longer ones, record the length alone
  -timeout d       how long connecting may take (default 10s)
  -h               print this
`

func (t *terminal) record() *cli.Command {
	return &cli.Command{
		Name:  "record",
		Usage: "record calls into an MCAP file",
		Flags: []cli.Flag{&cli.StringFlag{Name: "o"}, domainFlag(),
			&cli.StringSliceFlag{Name: "method"}, &cli.DurationFlag{Name: "duration"},
			&cli.StringFlag{Name: "max-size"}, &cli.IntFlag{Name: "max-body", Value: 1 << 20},
			&cli.DurationFlag{Name: "timeout", Value: patience}},
		CustomHelpTemplate: recordHelp,
		Action:             t.doRecord,
	}
}

func (t *terminal) doRecord(ctx context.Context, c *cli.Command) error {
	most, err := parseSize(c.String("max-size"))
	path, names := c.String("o"), c.Args().Slice()
	switch {
	case path == "":
		return usagef("-o is missing")
	case len(names) == 0:
		return usagef("record takes a name, or several")
	case err != nil:
		return usagef("-max-size %s: %w", c.String("max-size"), err)
	case c.Duration("timeout") <= 0 || c.Int("max-body") <= 0:
		return usagef("-timeout and -max-body are positive")
	case c.IsSet("duration") && c.Duration("duration") <= 0:
		return usagef("-duration %v: it must be positive", c.Duration("duration"))
	case path == "-" && isTerminal(t.out):
		return usagef("-o -: a recording is no text for a terminal")
	}
	slices.Sort(names)
	names = slices.Compact(names)
	r := &recorder{t: t, name: path, ready: make(chan struct{})}
	// No file is made before all servers are connected.
	for _, name := range names {
		s := &source{recorder: r, name: name, flags: c}
		w, err := watch(ctx, c, name)
		if err != nil {
			return err
		}
		s.begin(w)
		defer s.close()
		r.sources = append(r.sources, s)
	}
	o := recording.Options{MaxSize: most, Program: "ipcctl " + version(),
		Metadata: map[string]string{"domain": c.String("domain"),
			"names": strings.Join(names, " ")}}
	if path == "-" {
		r.name = "standard output"
		r.file, err = recording.NewWriter(t.out, o)
	} else {
		r.file, err = recording.Create(path, o)
	}
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists, and no file is overwritten: name another one, or remove it",
			path)
	}
	if errors.Is(err, recording.ErrFull) {
		return usagef("-max-size %s: not even an empty recording is that small",
			c.String("max-size"))
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(t.err, "ipcctl: recording %s to %s\n", strings.Join(names, ", "), r.name)
	began := time.Now()
	stop := t.progress(func() string {
		return fmt.Sprintf("%v: %s", time.Since(began).Round(time.Second), totals(r.file.Totals()))
	})
	err = r.run(ctx, c.Duration("duration"))
	stop()
	if closed := r.file.Close(); err == nil || errors.Is(err, recording.ErrFull) {
		if closed == nil && err != nil {
			fmt.Fprintf(t.err, "ipcctl: %v\n", err)
		}
		err = closed
	}
	fmt.Fprintf(t.err, "ipcctl: %s: %s in %v\n", r.name, totals(r.file.Totals()),
		time.Since(began).Round(time.Millisecond))
	return err
}

// totals describes what was recorded.
func totals(n recording.Totals) string {
	text := fmt.Sprintf("%s, %s, %s", count(n.Calls, "call"), count(n.Messages, "message"),
		size(uint64(n.Bytes)))
	if n.Lost > 0 {
		text += fmt.Sprintf("; %d records were lost", n.Lost)
	}
	return text
}

// parseSize returns the number of bytes that a text stands for, or 0 for none.
func parseSize(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	digits, shift := text, 0
	if i := strings.IndexByte("KMG", text[len(text)-1]); i >= 0 {
		digits, shift = text[:len(text)-1], 10*(i+1)
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n <= 0 || n<<shift>>shift != n {
		return 0, errors.New("it is a number of bytes")
	}
	return n << shift, nil
}

// A recorder writes what its sources show.
type recorder struct {
	t       *terminal
	name    string // of the file
	file    *recording.Writer
	sources []*source
	ready   chan struct{} // closed when there is a file

	mu sync.Mutex // of messages
}

// say prints a message, also while a terminal shows the progress.
func (r *recorder) say(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if isTerminal(r.t.err) {
		clearLine(r.t.err)
	}
	fmt.Fprintf(r.t.err, "ipcctl: "+format+"\n", args...)
}

// run records until ctx is done, or for a time if it is not 0, or until nothing more can be
// recorded. It returns the first error.
func (r *recorder) run(ctx context.Context, limit time.Duration) error {
	close(r.ready)
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	if limit > 0 {
		end := time.AfterFunc(limit, func() { stop(nil) })
		defer end.Stop()
	}
	// A server that hangs does not hold up the end.
	hard, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	defer context.AfterFunc(ctx, func() {
		sys.Within(lastWords, hard.Done())
		cancel(fmt.Errorf("the server has not told them within %v", lastWords))
	})()
	errs := make(chan error, len(r.sources))
	for _, s := range r.sources {
		go func() { errs <- s.run(ctx, hard) }()
	}
	tick := time.NewTicker(time.Second / 2)
	defer tick.Stop()
	var first error
	fail := func(err error) {
		if err != nil && first == nil {
			first = err
		}
	}
	for left := len(r.sources); left > 0; {
		select {
		case err := <-errs:
			left--
			fail(err)
			var file *fileError
			if errors.As(err, &file) {
				stop(err)
			}
		case <-tick.C:
			if err := r.file.Flush(); err != nil {
				fail(err)
				stop(err)
			}
		}
	}
	return first
}

// lastWords is how long a server may take for its last calls when a recording ends.
const lastWords = 2 * time.Second

// A fileError is an error of the file, which ends the recording.
type fileError struct{ error }

func (e *fileError) Unwrap() error { return e.error }

// onFile marks an error of the file.
func onFile(err error) error {
	if err == nil {
		return nil
	}
	return &fileError{err}
}

// A source is a name that is recorded: one server after the other.
type source struct {
	*recorder
	name  string
	flags *cli.Command

	*watching               // nil while there is no server
	before    uint64        // records that earlier taps have lost
	lost      uint64        // and this one
	missed    atomic.Uint64 // messages of topics
	topics    func()        // ends what records the server's topics

	shapes map[string]*shape // by protocol and name
	calls  *openCalls[*begun]
}

// A shape is what the source knows of a method or message.
type shape struct {
	dynamic.Shape
	request, reply *recording.Topic
	items          [2]*recording.Topic // of the client, and of the server
}

// A begun is a call or message that has not ended.
type begun struct {
	seq    uint32
	at     int64
	record introspect.TapRecordT // without its body and text
	shape  *shape
	whole  bool       // the request is in the file
	items  [2]flowing // of the client, and of the server
}

// A flowing is one direction of a call that streams.
type flowing struct {
	next    uint64 // the number of the next item
	missing bool   // the file lacks items
}

// begin takes a server to record from.
func (s *source) begin(w *watching) {
	s.watching = w
	for _, p := range w.server.Description.Protocols {
		if p.Definition < 0 {
			s.say("%s: %s has no schema, and is not recorded; generate the server's code again",
				s.name, p.Name)
		}
	}
	s.before, s.lost = s.before+s.lost, 0
	s.shapes, s.calls = make(map[string]*shape), new(openCalls[*begun])
	s.topics = s.subscribe(w)
}

func (s *source) close() {
	if s.watching != nil {
		s.topics()
		s.conn.Close()
		s.watching = nil
	}
}

// run records until ctx is done, and then what is left; hard ends the latter.
func (s *source) run(ctx, hard context.Context) error {
	for {
		d := s.server.Description
		if err := s.event(&recording.Event{Event: recording.Watching, Pid: d.Pid,
			Program: d.Program, Epoch: d.Epoch}); err != nil {
			return err
		}
		err := s.watch(ctx, hard)
		s.close()
		var file *fileError
		switch {
		case errors.As(err, &file):
			return err
		case ctx.Err() != nil:
			if err != nil {
				if hard.Err() != nil {
					err = context.Cause(hard)
				}
				s.say("%s: the last calls may be missing: %v", s.name, err)
			}
			return s.event(&recording.Event{Event: recording.Ended})
		}
		if code := ipc.CodeOf(err); code == ipc.CodeUnavailable || code == ipc.CodeNotFound {
			err = errors.New("the server is gone")
		}
		s.say("%s: %v; waiting for the next one", s.name, err)
		if err := s.event(&recording.Event{Event: recording.Gone, Pid: d.Pid,
			Text: err.Error()}); err != nil {
			return err
		}
		next, err := watchNext(ctx, s.flags, s.name)
		if err != nil {
			if ctx.Err() != nil {
				return s.event(&recording.Event{Event: recording.Ended})
			}
			return fmt.Errorf("%s: %w", s.name, err)
		}
		s.begin(next)
		s.say("%s: recording again, process %d", s.name, s.server.Description.Pid)
	}
}

func (s *source) event(e *recording.Event) error {
	return onFile(s.file.WriteEvent(s.name, s.before+s.lost+s.missed.Load(), e))
}

// watch records from the tap until ctx is done, and then what the tap has.
func (s *source) watch(ctx, hard context.Context) error {
	const wait = time.Second / 4
	for {
		ending := ctx.Err() != nil
		limit := wait
		if ending {
			limit = 0
		}
		records, lost, err := s.next(hard, limit, func(format string, args ...any) {
			s.say("%s: "+format, append([]any{s.name}, args...)...)
		})
		if err != nil {
			return err
		}
		s.lost = max(s.lost, lost)
		for _, r := range records {
			if err := s.record(r); err != nil {
				return onFile(err)
			}
		}
		if err := s.event(nil); err != nil || ending && len(records) == 0 {
			return err
		}
	}
}

// record writes a record of the tap.
func (s *source) record(r *introspect.TapRecordT) error {
	switch r.Kind {
	case introspect.TapKindEnd:
		if begin, ok := s.calls.end(r.Call); ok {
			return s.end(begin, r)
		}
		return nil
	case introspect.TapKindRequestItem:
		return s.item(r, 0)
	case introspect.TapKindReplyItem:
		return s.item(r, 1)
	}
	b := s.open(r)
	if b == nil {
		return nil
	}
	if d := b.shape.Streaming; d == ipc.ClientStreaming || d == ipc.BidiStreaming {
		b.whole = true
		return s.file.WriteCall(s.name, b.seq, r.At, &recording.Call{Open: true, Client: r.Pid,
			Method: b.shape.request.Full(), Kind: recording.KindStream, Begin: r.At})
	}
	body := s.body(b.shape.request, false, r)
	b.whole = body != nil
	if !b.whole {
		return nil
	}
	return s.file.WriteBody(b.shape.request, b.seq, r.At, body)
}

// open notes a call or message that is seen for the first time. It returns nil if that is not
// recorded.
func (s *source) open(r *introspect.TapRecordT) *begun {
	shape := s.shape(r)
	if shape == nil {
		return nil
	}
	b := &begun{seq: s.file.NextCall(), at: r.At, record: *r, shape: shape}
	b.record.Body, b.record.Text = nil, ""
	s.calls.begin(r.Call, b, 0)
	return b
}

// item writes an item of the client, or of the server.
func (s *source) item(r *introspect.TapRecordT, direction int) error {
	b := s.calls.get(r.Call)
	if b == nil { // it began before the recording
		if b = s.open(r); b == nil {
			return nil
		}
		b.items[direction].next = r.Seq
	}
	f, topic := &b.items[direction], b.shape.items[direction]
	f.missing = f.missing || f.next != r.Seq
	f.next = r.Seq + 1
	body := s.body(topic, direction == 1, r)
	if body == nil {
		f.missing = true
		return nil
	}
	return s.file.WriteBody(topic, b.seq, r.At, body)
}

// body returns the body of a record of a topic, or nil if it is not whole, or no such message.
func (s *source) body(t *recording.Topic, reply bool, r *introspect.TapRecordT) []byte {
	if int(r.Length) != len(r.Body) || r.Length == 0 {
		return nil
	}
	extract := s.server.Schema.Extract
	if t.JSON {
		extract = s.server.Schema.Text
	}
	body, err := extract(t.Full(), reply, r.Body)
	if err != nil {
		return nil
	}
	return body
}

// end writes the end of a call or message.
func (s *source) end(b *begun, r *introspect.TapRecordT) error {
	code, oneWay := ipc.Code(r.Code), b.shape.OneWay
	hasReply := code == ipc.CodeOK && !oneWay && r.Length > 0
	var reply []byte
	if hasReply {
		reply = s.body(b.shape.reply, true, r)
	}
	c := &recording.Call{Client: b.record.Pid, Method: b.shape.request.Full(),
		Kind: recording.KindCall, Seq: b.record.Seq, Epoch: b.record.Epoch, Begin: b.at,
		Micros: microsOf(r), Code: code.String(), Error: r.Text,
		RequestBytes: b.record.Length, ReplyBytes: r.Length,
		NoRequest: !b.whole && b.record.Length > 0 || b.items[0].missing,
		NoReply:   hasReply && reply == nil || b.items[1].missing}
	switch {
	case oneWay:
		c.Kind = recording.KindMessage
	case b.shape.Streaming != ipc.Unary:
		c.Kind = recording.KindStream
	}
	if code != ipc.CodeOK {
		c.Outcome = ipc.Outcome(r.Outcome).String()
	}
	if reply != nil {
		if err := s.file.WriteBody(b.shape.reply, b.seq, r.At, reply); err != nil {
			return err
		}
	}
	return s.file.WriteCall(s.name, b.seq, r.At, c)
}

// shape returns what is known of the method or message of a record, or nil.
func (s *source) shape(r *introspect.TapRecordT) *shape {
	key := r.Protocol + "." + r.Name
	if known := s.shapes[key]; known != nil {
		return known
	}
	// What is not known is not kept: a server may tell of any number of names.
	form, err := s.server.Schema.Shape(key)
	if err != nil {
		return nil // it was said
	}
	definition, err := s.server.Definition(r.Protocol)
	if err != nil {
		return nil
	}
	topic := func(kind, table string) *recording.Topic {
		return &recording.Topic{Source: s.name, Kind: kind, Protocol: r.Protocol, Method: r.Name,
			Table: table, Definition: definition}
	}
	known := &shape{Shape: *form, request: topic(recording.Request, form.Request),
		reply: topic(recording.Reply, form.Reply),
		items: [2]*recording.Topic{topic(recording.RequestItem, form.Request),
			topic(recording.ReplyItem, form.Reply)}}
	if form.OneWay {
		known.request.Kind = recording.Message
		known.request.JSON = form.Properties != nil
		known.request.Properties = form.Properties
	}
	s.shapes[key] = known
	return known
}
