package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/survey"
)

const lsHelp = `usage: ipcctl ls [flags]

Lists the instances of the registry that live, and the channels that belong to
none. What dead processes have left is counted on standard error.

  ipcctl ls -rates
  ipcctl ls -json | jq -r .instances[].name

Flags:
  -domain name   the domain, a name or a path (default: as programs choose it)
  -rates         ask each server for its clients, its calls in flight, and its
                 calls and messages within a second; a server that does not tell
                 or answer has none
  -topics        ask each server for its topics, and list them below, each with
                 its subscriptions and the messages that were published
  -watch         print the list again whenever it changes, until interrupted
  -json          print JSON; with -watch, a line for each list
  -h             print this
`

func (t *terminal) ls() *cli.Command {
	return &cli.Command{
		Name:  "ls",
		Usage: "list what lives in a domain",
		Flags: []cli.Flag{domainFlag(), &cli.BoolFlag{Name: "watch"},
			&cli.BoolFlag{Name: "json"}, &cli.BoolFlag{Name: "rates"},
			&cli.BoolFlag{Name: "topics"}},
		CustomHelpTemplate: lsHelp,
		Action: func(ctx context.Context, c *cli.Command) error {
			if c.Args().Present() {
				return usagef("ls takes no argument, and %s is one", c.Args().First())
			}
			if c.Bool("watch") && (c.Bool("rates") || c.Bool("topics")) {
				return usagef("-watch prints changes, and -rates and -topics print what changes " +
					"all the time")
			}
			if c.Bool("watch") {
				return t.watch(ctx, c.String("domain"), c.Bool("json"))
			}
			s, err := survey.Of(c.String("domain"))
			if err != nil {
				return err
			}
			if n := len(s.Left()); n > 0 {
				fmt.Fprintf(t.err, "ipcctl: dead servers have left the files of %d channels; "+
					"ipcctl gc removes them\n", n)
			}
			if err := s.RegistryErr; err != nil {
				fmt.Fprintf(t.err, "ipcctl: instances cannot be listed: %v\n", err)
			}
			var busy activities
			if c.Bool("rates") {
				busy = activitiesOf(ctx, s)
			}
			var topics []publishedTopic
			if c.Bool("topics") {
				topics = topicsOf(ctx, s)
			}
			if err := list(t.out, s, busy, topics, c.Bool("json")); err != nil {
				return err
			}
			if s.RegistryErr != nil {
				return &exitError{code: exitFailed}
			}
			return nil
		},
	}
}

// watch prints the list, and again when it differs from the one before.
func (t *terminal) watch(ctx context.Context, domain string, asJSON bool) error {
	var before []byte
	trouble := ""
	for s, err := range survey.Follow(ctx, domain, survey.LookPeriod) {
		if err != nil {
			return err
		}
		if err := s.RegistryErr; err == nil {
			trouble = ""
		} else if trouble != err.Error() {
			trouble = err.Error()
			fmt.Fprintf(t.err, "ipcctl: instances cannot be listed: %v\n", err)
		}
		var now bytes.Buffer
		if err := list(&now, s, nil, nil, asJSON); err != nil {
			return err
		}
		if bytes.Equal(now.Bytes(), before) {
			continue
		}
		if before != nil && !asJSON {
			fmt.Fprintln(t.out)
		}
		if _, err := t.out.Write(now.Bytes()); err != nil {
			return err
		}
		before = now.Bytes()
	}
	return ctx.Err()
}

// An instance is an instance of the registry, as ls prints it.
type instance struct {
	Name     string    `json:"name"`
	Service  string    `json:"service,omitempty"`
	Role     string    `json:"role"`
	Epoch    uint64    `json:"epoch,omitempty"`
	PID      int       `json:"pid"`
	Since    time.Time `json:"since"`
	Channel  string    `json:"channel,omitempty"`
	Reply    string    `json:"reply,omitempty"`
	Protocol string    `json:"protocol,omitempty"`
	*activity
}

// A channel is a channel that belongs to no instance, as ls prints it.
type channel struct {
	survey.Channel
	*activity
}

// list prints a survey, with what its servers do, and their topics, if that is known.
func list(w io.Writer, s *survey.Survey, busy activities, topics []publishedTopic,
	asJSON bool) error {
	instances := make([]instance, len(s.Instances))
	for i, r := range s.Instances {
		instances[i] = instance{Name: r.Name, Service: r.Service, Role: r.Role.String(),
			Epoch: r.Epoch, PID: r.PID, Since: r.StartTime, Channel: r.Control, Reply: r.Reply,
			Protocol: r.Protocol, activity: busy[r.Control]}
	}
	plain := []channel{}
	for _, c := range s.Plain() {
		plain = append(plain, channel{c, busy[c.Name]})
	}
	if asJSON {
		return json.NewEncoder(w).Encode(struct {
			Domain    string           `json:"domain"`
			Instances []instance       `json:"instances"`
			Channels  []channel        `json:"channels"`
			Topics    []publishedTopic `json:"topics,omitempty"`
		}{s.Domain, instances, plain, topics})
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	heading := "NAME\tROLE\tEPOCH\tPID\tSINCE\tCHANNEL\tPROTOCOL"
	if busy != nil {
		heading += "\tCLIENTS\tCALLS/S\tIN FLIGHT"
	}
	fmt.Fprintln(tw, heading)
	for _, i := range instances {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%d\t%s\t%s\t%s%s\n", i.Name, i.Role, number(i.Epoch), i.PID,
			clock(i.Since), dash(i.Channel), dash(i.Protocol), busy.columns(i.Channel))
	}
	for _, c := range plain {
		fmt.Fprintf(tw, "-\t-\t-\t%s\t%s\t%s\t-%s\n", number(uint64(c.PID)), clock(c.Since),
			c.Name, busy.columns(c.Name))
	}
	if err := tw.Flush(); err != nil || topics == nil {
		return err
	}
	return listTopics(w, topics)
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func number(n uint64) string {
	if n == 0 {
		return "-"
	}
	return strconv.FormatUint(n, 10)
}

func clock(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04:05")
}
