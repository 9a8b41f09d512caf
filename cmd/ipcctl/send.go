package main

import (
	"context"

	"github.com/urfave/cli/v3"

	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/dynamic"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

const sendHelp = `usage: ipcctl send [flags] name [[namespace.]Envelope.]Member [JSON]

Sends a one-way message to a channel, an instance of the registry, or the
primary of a group. Without JSON, each line of standard input is a message. That
all were sent does not say that the server has handled them.

  ipcctl send jobs Progress '{"percent": 40}'
  ipcctl send -schema robot.fbs robot.0 Command.Move <moves.jsonl

Flags:
  -schema file    the schema, .fbs or .bfbs (default: the server tells it)
  -I dir          look for included files in dir, too; may be repeated
  -domain name    the domain, a name or a path (default: as programs choose it)
  -timeout d      how long connecting, and room for a message, may take
                  (default 10s)
  -metadata k=v   send metadata; may be repeated
  -h              print this

Exit status: as that of ipcctl call.
`

func (t *terminal) send() *cli.Command {
	return &cli.Command{
		Name:  "send",
		Usage: "send a one-way message",
		Flags: append(schemaFlags(), domainFlag(),
			&cli.DurationFlag{Name: "timeout", Value: patience}, metadataFlag()),
		CustomHelpTemplate: sendHelp,
		Action:             t.doSend,
		// Metadata may have commas.
		DisableSliceFlagSeparator: true,
	}
}

func (t *terminal) doSend(ctx context.Context, c *cli.Command) error {
	switch {
	case c.NArg() < 2 || c.NArg() > 3:
		return usagef("send takes a name, a message, and its content or none; not %s",
			count(c.NArg(), "argument"))
	case c.Duration("timeout") <= 0:
		return usagef("-timeout %v: it must be positive", c.Duration("timeout"))
	}
	metadata, err := metadataOf(c)
	if err != nil {
		return err
	}
	text := []byte(c.Args().Get(2))
	var m *dynamic.Message
	conn, err := t.open(ctx, c, func(s *dynamic.Schema) (err error) {
		if m, err = s.Message(c.Args().Get(1)); err != nil || c.NArg() < 3 {
			return err
		}
		return checked(m.Check(text))
	})
	if err != nil {
		return err
	}
	ctx = ipc.WithMetadata(ctx, metadata...)
	one := func(text []byte) error {
		ctx, cancel := context.WithTimeout(ctx, c.Duration("timeout"))
		defer cancel()
		return m.Send(ctx, conn, text)
	}
	if c.NArg() == 3 {
		err = failedCall(one(text))
	} else {
		err = t.callLines(ctx, one)
	}
	if closed := conn.Close(); err == nil { // the server gets what was sent before
		err = failedCall(closed)
	}
	return err
}
