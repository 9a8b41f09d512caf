package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v3"
	"golang.org/x/term"

	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/dynamic"
	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/reach"
	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/visible"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/fbjson"
)

const callHelp = `usage: ipcctl call [flags] name [[namespace.]Service.]Method [JSON]

Calls a method of a channel, an instance of the registry, or a group, of which
the primary answers. Request and reply are JSON. Without a request, each line of
standard input is one. Of a method to which the client streams, each line is an
item of one call, until the end of input; the server's items come as lines.

  ipcctl call greeter Greet '{"name": "world"}'
  ipcctl call -schema audio.fbs audio_compute SetParam <<<'{"value": 0.5}'

Flags:
  -schema file      the schema, .fbs or .bfbs (default: the server tells it)
  -I dir            look for included files in dir, too; may be repeated
  -domain name      the domain, a name or a path (default: as programs choose)
  -timeout d        the deadline (default: the schema's, 10s, none to stream)
  -metadata key=v   send metadata; may be repeated. That of replies is told
  -h                print this
Exit status: 0, or 64 and the number of the error's code, of the last call that
failed: 65 canceled, 66 deadline exceeded, 67 unavailable, 68 unimplemented,
69 invalid argument, 70 resource exhausted, 71 internal, 72 incompatible,
73 corrupt, 74 fenced, 75 permission denied, 76 too large, 77 already exists,
78 not found, 79 failed precondition, 80 unsupported, 81 unknown; 1 not sent.
`

// maxRequest is the longest line that is taken for a request.
const maxRequest = 64 << 20

func (t *terminal) call() *cli.Command {
	return &cli.Command{
		Name:  "call",
		Usage: "call a method with JSON",
		Flags: append(schemaFlags(), domainFlag(),
			&cli.DurationFlag{Name: "timeout", Value: patience}, metadataFlag()),
		CustomHelpTemplate: callHelp,
		Action:             t.doCall,
		// Metadata may have commas.
		DisableSliceFlagSeparator: true,
	}
}

func (t *terminal) doCall(ctx context.Context, c *cli.Command) error {
	switch {
	case c.NArg() < 2 || c.NArg() > 3:
		return usagef("call takes a name, a method, and a request or none; not %s",
			count(c.NArg(), "argument"))
	case c.Duration("timeout") <= 0:
		return usagef("-timeout %v: it must be positive", c.Duration("timeout"))
	}
	metadata, err := metadataOf(c)
	if err != nil {
		return err
	}
	request := []byte(c.Args().Get(2))
	var m *dynamic.Method
	caller, err := t.open(ctx, c, func(s *dynamic.Schema) (err error) {
		if m, err = s.Method(c.Args().Get(1)); err != nil || c.NArg() < 3 {
			return err
		}
		return checked(m.Check(request))
	})
	if err != nil {
		return err
	}
	defer caller.Close()
	ctx = ipc.WithMetadata(ctx, metadata...)
	if m.Streaming != ipc.Unary {
		return t.stream(ctx, c, m, caller, request)
	}
	limit := timeoutOf(c, m)
	one := func(request []byte) error {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		ctx, tell := t.replyMetadata(ctx)
		reply, err := m.Call(ctx, caller, request)
		tell()
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(t.out, "%s\n", reply)
		return err
	}
	if c.NArg() == 3 {
		return failedCall(one(request))
	}
	return t.callLines(ctx, one)
}

// patience is how long connecting may take, and a call whose deadline nothing else sets.
const patience = 10 * time.Second

// timeoutOf returns how long a call may take: what the flag says, or the schema.
func timeoutOf(c *cli.Command, m *dynamic.Method) time.Duration {
	if !c.IsSet("timeout") && m.Timeout > 0 {
		return m.Timeout
	}
	return c.Duration("timeout")
}

// callLines makes a call for each line of standard input. It goes on after a call that failed.
func (t *terminal) callLines(ctx context.Context, one func([]byte) error) (last error) {
	t.explainLines("a request")
	lines := bufio.NewReaderSize(t.in, 1<<16)
	for n := 1; ; n++ {
		line, err := await(ctx, func() ([]byte, error) { return readLine(lines) })
		if text := bytes.TrimSpace(line); len(text) > 0 && (err == nil || err == io.EOF) {
			if failed := one(text); failed != nil {
				var sent *ipc.Error
				if !errors.As(failed, &sent) {
					failed = fmt.Errorf("%d: %w", n, failed)
				}
				if ctx.Err() != nil || errors.Is(failed, os.ErrClosed) {
					return failed
				}
				last = failedCall(failed)
				fmt.Fprintf(t.err, "ipcctl: line %v\n", last)
				last = &exitError{code: statusOf(failed)}
			}
		}
		switch {
		case err == io.EOF:
			return last
		case ctx.Err() != nil:
			return err
		case err != nil:
			return fmt.Errorf("standard input, line %d: %w", n, err)
		}
	}
}

// explainLines says on a terminal what a line is.
func (t *terminal) explainLines(what string) {
	if f, ok := t.in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		fmt.Fprintf(t.err, "ipcctl: each line is %s; Ctrl-D ends\n", what)
	}
}

// stream makes calls of a method that streams: one, with what was given as its only item or with
// all lines as its items, or, if the server alone sends items, one for each line.
func (t *terminal) stream(ctx context.Context, c *cli.Command, m *dynamic.Method, conn ipc.Caller,
	request []byte) error {
	one := func(items iter.Seq2[[]byte, error]) error {
		limited, cancel := ctx, context.CancelFunc(func() {})
		if c.IsSet("timeout") || m.Timeout > 0 {
			limited, cancel = context.WithTimeout(ctx, timeoutOf(c, m))
		}
		defer cancel()
		limited, tell := t.replyMetadata(limited)
		defer tell()
		for text, err := range m.Stream(limited, conn, items) {
			if err != nil {
				return err
			}
			if _, err := fmt.Fprintf(t.out, "%s\n", text); err != nil {
				return err
			}
		}
		return nil
	}
	switch {
	case c.NArg() == 3:
		return failedCall(one(oneText(request)))
	case m.Streaming == ipc.ServerStreaming:
		return t.callLines(ctx, func(text []byte) error { return one(oneText(text)) })
	}
	t.explainLines("an item")
	return failedCall(one(t.lines(ctx)))
}

// metadataFlag is the flag of commands that send metadata.
func metadataFlag() cli.Flag { return &cli.StringSliceFlag{Name: "metadata"} }

// metadataOf returns the keys and values of the flags.
func metadataOf(c *cli.Command) (pairs []string, err error) {
	for _, pair := range c.StringSlice("metadata") {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return nil, usagef("-metadata %s: it is key=value", pair)
		}
		pairs = append(pairs, key, value)
	}
	if _, err := ipc.NewMetadata(pairs...); err != nil {
		return nil, usagef("-metadata: %w", err)
	}
	return pairs, nil
}

// replyMetadata returns a context whose calls note the metadata of replies, and a function that
// tells it.
func (t *terminal) replyMetadata(ctx context.Context) (_ context.Context, tell func()) {
	var got ipc.Metadata
	return ipc.WithReplyMetadata(ctx, &got), func() {
		for key, value := range got.All() {
			fmt.Fprintf(t.err, "ipcctl: metadata %s=%s\n", key, visible.Line(value))
		}
	}
}

// oneText is the sequence of one text.
func oneText(text []byte) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) { yield(text, nil) }
}

// lines is the sequence of the lines of standard input that are not empty.
func (t *terminal) lines(ctx context.Context) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		lines := bufio.NewReaderSize(t.in, 1<<16)
		for n := 1; ; n++ {
			line, err := await(ctx, func() ([]byte, error) { return readLine(lines) })
			text := bytes.TrimSpace(line)
			if len(text) > 0 && (err == nil || err == io.EOF) && !yield(text, nil) {
				return
			}
			switch {
			case err == io.EOF:
				return
			case ctx.Err() != nil:
				yield(nil, err)
				return
			case err != nil:
				yield(nil, fmt.Errorf("standard input, line %d: %w", n, err))
				return
			}
		}
	}
}

// readLine reads a line of at most maxRequest bytes.
func readLine(r *bufio.Reader) (line []byte, err error) {
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > maxRequest {
			return nil, fmt.Errorf("more than %d bytes", maxRequest)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}

// failedCall gives the error of a call its exit status.
func failedCall(err error) error {
	if err == nil {
		return nil
	}
	return &exitError{code: statusOf(err), err: err}
}

func statusOf(err error) int {
	var e *ipc.Error
	if errors.As(err, &e) {
		return exitCall + int(e.Code)
	}
	return exitFailed
}

// open connects to what the first argument names, and lets pick choose from the schema: that of the
// flags, before anything is connected, or that of the server.
func (t *terminal) open(ctx context.Context, c *cli.Command,
	pick func(*dynamic.Schema) error) (reach.Conn, error) {
	name, timeout := c.Args().Get(0), c.Duration("timeout")
	if path := c.String("schema"); path != "" {
		s, err := await(ctx, func() (*dynamic.Schema, error) { // it may be a pipe
			return dynamic.Load(path, c.StringSlice("I"), t.err)
		})
		if err == nil {
			err = pick(s)
		}
		if err != nil {
			return nil, err
		}
		conn, err := reach.Dial(ctx, c.String("domain"), name, timeout)
		return conn, failedCall(err)
	}
	conn, server, err := meet(ctx, c, name)
	if err != nil {
		return nil, err
	}
	if len(server.Definitions) == 0 && len(server.Description.Protocols) > 0 {
		err = fmt.Errorf("the server %s does not tell its schema; give it with -schema, or "+
			"generate the server's code again", name)
	}
	if err == nil {
		err = pick(server.Schema)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// meet connects to the server for which a name stands, and asks it about itself.
func meet(ctx context.Context, c *cli.Command, name string) (reach.Conn, *dynamic.Server,
	error) {
	timeout := c.Duration("timeout")
	end := whileSilent(hesitation, func() {
		fmt.Fprintf(c.Root().ErrWriter, "ipcctl: %s has not answered yet\n", name)
	})
	defer end()
	conn, err := reach.Dial(ctx, c.String("domain"), name, timeout)
	if err != nil {
		return nil, nil, failedCall(err)
	}
	server, err := ask(ctx, conn, name, timeout)
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	return conn, server, nil
}

// ask asks a server about itself.
func ask(ctx context.Context, c ipc.Caller, name string, timeout time.Duration) (*dynamic.Server,
	error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	s, err := dynamic.Ask(ctx, c, name)
	switch ipc.CodeOf(err) {
	case ipc.CodeUnimplemented, ipc.CodePermissionDenied:
		err = fmt.Errorf("the server %s does not tell of itself; -schema says what it serves: %w",
			name, err)
	}
	return s, failedCall(err)
}

// checked is the error of a request that was looked at before anything is sent. One that does not
// fit its schema says at which line and column.
func checked(err error) error {
	if _, ok := errors.AsType[*fbjson.Error](err); ok {
		return fmt.Errorf("request:%w", err)
	}
	return err
}
