package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/survey"
	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/visible"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/introspect"
)

// A publishedTopic is a topic that a server publishes, as ls prints it.
type publishedTopic struct {
	Name        string `json:"name"`
	Channel     string `json:"channel"`
	Subscribers uint32 `json:"subscribers"`
	Published   uint64 `json:"published"`
	Depth       uint64 `json:"depth"`
	MaxMessage  uint64 `json:"max_message"`
}

// topicsOf asks all live servers of a survey for their topics.
func topicsOf(ctx context.Context, s *survey.Survey) []publishedTopic {
	all := []publishedTopic{}
	for channel, d := range askAll(ctx, s, describeChannel) {
		for _, p := range d.Protocols {
			if t := p.Topic; t != nil {
				all = append(all, publishedTopic{Name: p.Name, Channel: channel,
					Subscribers: t.Subscribers, Published: t.Published, Depth: t.Depth,
					MaxMessage: t.MaxMessage})
			}
		}
	}
	slices.SortFunc(all, func(a, b publishedTopic) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		return strings.Compare(a.Channel, b.Channel)
	})
	return all
}

// describeChannel asks the server of a channel what it is.
func describeChannel(ctx context.Context, domain, channel string) (*introspect.DescriptionT,
	error) {
	conn, err := ipc.Dial(ctx, channel, ipc.WithDomain(domain))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return ipc.Describe(ctx, conn)
}

// listTopics prints the topics below the list of what lives.
func listTopics(w io.Writer, topics []publishedTopic) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "\nTOPIC\tCHANNEL\tSUBSCRIBERS\tPUBLISHED\tKEPT\tLONGEST")
	for _, t := range topics {
		fmt.Fprintf(tw, "%s\t%s\t%d\t%d\t%d\t%s\n", visible.Line(t.Name), t.Channel,
			t.Subscribers, t.Published, min(t.Published, t.Depth), size(t.MaxMessage))
	}
	return tw.Flush()
}
