package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/dynamic"
	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/reach"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/topic"
)

const subscribeHelp = `usage: ipcctl subscribe [flags] name [[namespace.]Topic]

Prints the messages of a topic as JSON lines, with number, time and epoch. The
name is that of the publisher's channel, instance or group. When the publisher
ends, the next one is waited for, and its first line has "break": true. Lines
have "lost": n if n messages before them were lost. Standard error has both, and
whether a publisher of which nothing comes is stopped, gone, or back.

  ipcctl subscribe robot_status
  ipcctl subscribe -n 1 -history 1 robot_status Status | jq .message.speed

Flags:
  -n count        end after so many messages
  -history n      begin with at most n messages from before (default 0)
  -latest         skip all messages but the newest
  -lossless       make the publisher wait instead of losing messages
  -once           end when the publisher ends, instead of waiting for the next
  -schema file    the schema, .fbs or .bfbs (default: the server tells it)
  -I dir          look for included files in dir, too; may be repeated
  -domain name    the domain, a name or a path (default: as programs choose it)
  -timeout d      how long connecting may take (default 10s)
  -h              print this

Exit status: as that of ipcctl call.
`

func (t *terminal) subscribe() *cli.Command {
	return &cli.Command{
		Name:  "subscribe",
		Usage: "print the messages of a topic",
		Flags: append(schemaFlags(), domainFlag(), &cli.IntFlag{Name: "n"},
			&cli.IntFlag{Name: "history"}, &cli.BoolFlag{Name: "latest"},
			&cli.BoolFlag{Name: "lossless"}, &cli.BoolFlag{Name: "once"},
			&cli.DurationFlag{Name: "timeout", Value: patience}),
		CustomHelpTemplate: subscribeHelp,
		Action:             t.doSubscribe,
	}
}

// An arrivalLine is a message, as subscribe prints it.
type arrivalLine struct {
	Number  uint64          `json:"number"`
	At      time.Time       `json:"at"`
	Epoch   uint64          `json:"epoch,omitempty"`
	Lost    uint64          `json:"lost,omitempty"`
	Break   bool            `json:"break,omitempty"`
	Message json.RawMessage `json:"message"`
}

func (t *terminal) doSubscribe(ctx context.Context, c *cli.Command) error {
	switch {
	case c.NArg() < 1 || c.NArg() > 2:
		return usagef("subscribe takes a name, and a topic or none; not %s",
			count(c.NArg(), "argument"))
	case c.Int("n") < 0 || c.Int("history") < 0 || c.Duration("timeout") <= 0:
		return usagef("-n and -history must not be negative, and -timeout must be positive")
	case c.Bool("latest") && c.Bool("lossless"):
		return usagef("-latest skips messages, and -lossless skips none")
	}
	var top *dynamic.Topic
	conn, err := t.open(ctx, c, func(s *dynamic.Schema) (err error) {
		top, err = s.Topic(c.Args().Get(1))
		return err
	})
	if err != nil {
		return err
	}
	defer conn.Close()
	from, err := reach.Source(c.String("domain"), c.Args().First(), conn)
	if err != nil {
		return failedCall(err)
	}
	w := newPublisherWatch(t, reach.NewServer(c.String("domain"), c.Args().First()))
	o := topic.SubscribeOptions{History: int(c.Int("history")), OnBreak: func(why error) error {
		if c.Bool("once") {
			return why
		}
		w.breaks(why)
		return nil
	}}
	switch {
	case c.Bool("latest"):
		o.Policy = topic.Latest
	case c.Bool("lossless"):
		o.Policy = topic.Lossless
	}
	sub, err := topic.Subscribe(ctx, from, top.Info, o)
	if err != nil {
		return failedCall(err)
	}
	defer sub.Close()
	fmt.Fprintf(t.err, "ipcctl: subscribed to %s\n", top.Name)
	defer w.start(ctx)()
	return t.printMessages(ctx, c, sub, top, w)
}

func (t *terminal) printMessages(ctx context.Context, c *cli.Command, sub *topic.Subscription,
	top *dynamic.Topic, w *publisherWatch) error {
	out := json.NewEncoder(t.out)
	out.SetEscapeHTML(false)
	var buf []byte
	for printed := 0; ; {
		message, a, err := sub.Next(ctx, buf)
		if err != nil {
			return endOfTopic(c, err)
		}
		buf = message
		w.arrived.Add(1)
		text, err := top.Text(message)
		if err != nil {
			return err
		}
		if a.Lost > 0 && !c.Bool("latest") {
			w.say("%d messages were lost", a.Lost)
		}
		if a.Break {
			w.say("another publisher from here on")
		}
		if err := out.Encode(arrivalLine{Number: a.Number, At: a.Published, Epoch: a.Epoch,
			Lost: a.Lost, Break: a.Break, Message: text}); err != nil {
			return err
		}
		if printed++; printed == int(c.Int("n")) {
			return nil
		}
	}
}

// endOfTopic returns the error of a subscription that has ended. With -once, the end of the
// publisher is none.
func endOfTopic(c *cli.Command, err error) error {
	if c.Bool("once") && ipc.CodeOf(err) == ipc.CodeUnavailable {
		return nil
	}
	return failedCall(err)
}

const publishHelp = `usage: ipcctl publish [flags] -schema file channel [[namespace.]Topic] [JSON]

Publishes a topic on a channel of its own: the message, or each line of standard
input. A program that publishes the topic already keeps its channel. At the end
of input, subscriptions that exist still read all messages; ones that are made
later find them with -keep.

  ipcctl publish -wait 1 -schema robot.fbs robot_status Status '{"speed": 0.5}'
  ipcctl publish -schema robot.fbs -keep robot_status Status <status.jsonl

Flags:
  -schema file      the schema, .fbs or .bfbs
  -I dir            look for included files in dir, too; may be repeated
  -wait n           wait until there are n subscribers (default 0)
  -keep             stay until interrupted
  -depth n          the messages that are kept (default 64)
  -max-message n    the length of the longest message in bytes (default 65536)
  -domain name      the domain, a name or a path
  -h                print this

Exit status: as that of ipcctl call; 77 if the channel has a server.
`

func (t *terminal) publish() *cli.Command {
	return &cli.Command{
		Name:  "publish",
		Usage: "publish the messages of a topic",
		Flags: append(schemaFlags(), domainFlag(), &cli.IntFlag{Name: "wait"},
			&cli.BoolFlag{Name: "keep"}, &cli.IntFlag{Name: "depth", Value: 64},
			&cli.IntFlag{Name: "max-message", Value: 64 << 10}),
		CustomHelpTemplate: publishHelp,
		Action:             t.doPublish,
	}
}

func (t *terminal) doPublish(ctx context.Context, c *cli.Command) error {
	switch {
	case c.NArg() < 1 || c.NArg() > 3:
		return usagef("publish takes a channel, a topic, and a message or none; not %s",
			count(c.NArg(), "argument"))
	case c.String("schema") == "":
		return usagef("publish needs -schema: there is no server that could tell it")
	case c.Int("wait") < 0 || c.Int("depth") < 2 || c.Int("max-message") < 1:
		return usagef("-wait must not be negative, -depth at least 2, and -max-message positive")
	}
	s, err := await(ctx, func() (*dynamic.Schema, error) { // it may be a pipe
		return dynamic.Load(c.String("schema"), c.StringSlice("I"), t.err)
	})
	if err != nil {
		return err
	}
	top, err := s.Topic(c.Args().Get(1))
	if err != nil {
		return err
	}
	texts := t.lines(ctx)
	if c.NArg() == 3 {
		if _, err := top.Buffer([]byte(c.Args().Get(2))); err != nil {
			return fmt.Errorf("message:%w", err)
		}
		texts = oneText([]byte(c.Args().Get(2)))
	}
	p, stop, err := reach.Publish(ctx, c.String("domain"), c.Args().First(), top.Info,
		topic.Options{Depth: int(c.Int("depth")), MaxMessage: int(c.Int("max-message"))})
	if err != nil {
		return failedCall(err)
	}
	defer stop()
	fmt.Fprintf(t.err, "ipcctl: publishing %s on %s\n", top.Name, c.Args().First())
	if err := awaitSubscribers(ctx, p, int(c.Int("wait"))); err != nil {
		return err
	}
	n := 0
	for text, err := range texts {
		if err != nil {
			return err
		}
		n++
		message, err := top.Buffer(text)
		if err != nil {
			return fmt.Errorf("message %d:%w", n, err)
		}
		if err := p.Publish(ctx, message); err != nil {
			return failedCall(err)
		}
	}
	fmt.Fprintf(t.err, "ipcctl: published %s\n", count(n, "message"))
	if c.Bool("keep") {
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

// awaitSubscribers waits until a topic has n subscribers. A publisher does not tell of them, so it
// looks.
func awaitSubscribers(ctx context.Context, p *topic.Publisher, n int) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for p.Subscribers() < n {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
