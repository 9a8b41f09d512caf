package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/dynamic"
	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/reach"
	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/recording"
	"github.com/ipcgen/ipcgen/runtime/topic"
)

// A republished topic is one of a recording, which has a publisher again.
type republished struct {
	topic *dynamic.Topic
	*topic.Publisher
}

// publish publishes the topics of a source on a channel of their own.
func (r *replay) publish(ctx context.Context, s *recording.Source, domain, channel string,
	subscribers int) error {
	all := make(map[string]*republished)
	var publishers []*topic.Publisher
	for _, t := range s.Topics {
		if t.Kind != recording.Published || all[t.Full()] != nil ||
			r.wanted != nil && !r.wanted[t.Full()] {
			continue
		}
		schema, err := r.schema(t)
		if err != nil {
			return &exitError{code: exitFile, err: err}
		}
		top, err := schema.Topic(t.Full())
		if err != nil {
			return &exitError{code: exitFile, err: err}
		}
		longest := s.Methods[t.Full()].Longest
		if t.JSON { // a struct, perhaps with a payload, in base64
			longest += top.Size
		}
		p := topic.NewPublisher(top.Info, topic.Options{MaxMessage: max(1, longest)})
		defer p.Close()
		all[t.Full()] = &republished{top, p}
		publishers = append(publishers, p)
	}
	if len(all) == 0 {
		return &exitError{code: exitFile, err: fmt.Errorf("%s has no topics of %s", r.path, r.from)}
	}
	stop, err := reach.Serve(ctx, domain, channel, publishers...)
	if err != nil {
		return failedCall(err)
	}
	defer stop()
	fmt.Fprintf(r.t.err, "ipcctl: publishing on %s\n", channel)
	for _, p := range all {
		if err := awaitSubscribers(ctx, p.Publisher, subscribers); err != nil {
			return err
		}
	}
	err = r.republish(ctx, all)
	fmt.Fprintf(r.t.err, "ipcctl: published %s\n", count(r.sent.Load(), "message"))
	return failedCall(err)
}

// republish publishes the messages of a recording.
func (r *replay) republish(ctx context.Context, all map[string]*republished) error {
	file, err := recording.Open(r.path)
	if err != nil {
		return err
	}
	defer file.Close()
	for {
		record, err := file.Next()
		if err == io.EOF || errors.Is(err, recording.ErrCut) {
			return nil
		}
		if err != nil {
			return err
		}
		t := record.Topic
		p := all[t.Full()]
		if t.Kind != recording.Published || t.Source != r.from || p == nil {
			continue
		}
		message, text := record.Data, record.Data
		if t.JSON {
			message, err = p.topic.Buffer(record.Data)
		} else if r.step {
			text, err = p.topic.Text(message)
		}
		if err != nil {
			return fmt.Errorf("%s: message %d of %s: %w", r.path, record.Seq, t.Full(), err)
		}
		switch err := r.due(ctx, record, t.Full(), text); {
		case err == errStopped:
			return nil
		case err != nil:
			return err
		}
		if err := p.Publish(ctx, slices.Clone(message)); err != nil {
			return err
		}
	}
}
