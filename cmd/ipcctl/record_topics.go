package main

import (
	"context"
	"sync"

	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/dynamic"
	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/reach"
	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/recording"
	"github.com/ipcgen/ipcgen/runtime/topic"
)

// subscribe records the topics of a server until the function that it returns is called.
func (s *source) subscribe(w *watching) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, name := range w.server.Schema.Topics() {
		if w.topics != nil && !w.topics[name] {
			continue
		}
		top, err := w.server.Schema.Topic(name)
		if err != nil {
			s.say("%s: the topic %s is not recorded: %v", s.name, name, err)
			continue
		}
		definition, err := w.server.Definition(name)
		if err != nil {
			continue // it was said
		}
		from, err := reach.Source(s.flags.String("domain"), s.name, w.conn)
		if err != nil {
			s.say("%s: the topic %s is not recorded: %v", s.name, name, err)
			continue
		}
		limited, done := context.WithTimeout(ctx, s.flags.Duration("timeout"))
		sub, err := topic.Subscribe(limited, from, top.Info, topic.SubscribeOptions{
			OnBreak: func(why error) error { return why }}) // the tap sees it as well
		done()
		if err != nil {
			s.say("%s: the topic %s is not recorded: %v", s.name, name, err)
			continue
		}
		running.Go(func() {
			defer sub.Close()
			select {
			case <-s.ready:
			case <-ctx.Done():
				return
			}
			s.take(ctx, sub, top, &recording.Topic{Source: s.name, Kind: recording.Published,
				Protocol: name, Table: name, Definition: definition, JSON: top.Size > 0,
				Properties: top.Properties})
		})
	}
	return func() { cancel(); running.Wait() }
}

// take records the messages of a subscription. What does not fit its schema is counted as lost.
func (s *source) take(ctx context.Context, sub *topic.Subscription, top *dynamic.Topic,
	to *recording.Topic) {
	var buf []byte
	for {
		message, a, err := sub.Next(ctx, buf)
		if err != nil {
			return
		}
		buf = message
		s.missed.Add(a.Lost)
		data := message
		if to.JSON {
			data, err = top.Text(message)
		} else {
			err = top.Info.Verify(message)
		}
		if err != nil {
			s.missed.Add(1)
			continue
		}
		if s.file.WriteBody(to, uint32(a.Number), a.Published.UnixNano(), data) != nil {
			return // what watches the calls meets the same error
		}
	}
}
