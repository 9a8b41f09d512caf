package web

import (
	"fmt"
	"net/http"

	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/reach"
	"github.com/ipcgen/ipcgen/runtime/topic"
)

// shownHistory is how many messages from before a subscription a page gets.
const shownHistory = 20

// subscribe answers with the messages of a topic, until the page has enough.
func (a *api) subscribe(w http.ResponseWriter, r *http.Request) {
	var req struct{ Name, Schema, Item string }
	if !accept(w, r, &req) {
		return
	}
	s := a.schemas.get(w, req.Schema)
	if s == nil {
		return
	}
	t, err := s.topic(req.Item)
	if err != nil {
		refuse(w, http.StatusNotFound, "%v", err)
		return
	}
	out := newLines(w)
	fail := func(err error) { out.write(ended(err)) }
	conn, err := a.dial(r.Context(), req.Name)
	if err != nil {
		fail(err)
		return
	}
	defer conn.Close()
	from, err := reach.Source(a.domain, req.Name, conn)
	if err != nil {
		fail(err)
		return
	}
	sub, err := topic.Subscribe(r.Context(), from, t.Info, topic.SubscribeOptions{
		History: shownHistory, OnBreak: func(error) error {
			return out.write(line{Note: "the publisher is gone; the next one is waited for"})
		}})
	if err != nil {
		fail(err)
		return
	}
	defer sub.Close()
	out.write(line{Note: "subscribed to " + t.Name})
	for {
		message, arrival, err := sub.Next(r.Context(), nil)
		if err != nil {
			fail(err)
			return
		}
		text, err := t.Text(message)
		if err != nil {
			fail(err)
			return
		}
		about := fmt.Sprintf("number %d, %s", arrival.Number,
			arrival.Published.Format("15:04:05.000"))
		if arrival.Lost > 0 {
			about += fmt.Sprintf(", %d lost before it", arrival.Lost)
		}
		if arrival.Break {
			about += ", from another publisher"
		}
		if out.item(text, about) != nil {
			return
		}
	}
}

// The sizes of a topic that a page publishes.
const (
	publishedDepth  = 64
	publishedLength = 64 << 10
)

// publish publishes a topic on a channel of its own, for as long as the page wants.
func (a *api) publish(w http.ResponseWriter, r *http.Request) {
	var req struct{ Schema, Item, Channel, Text string }
	if !accept(w, r, &req) {
		return
	}
	s := a.schemas.get(w, req.Schema)
	if s == nil {
		return
	}
	t, err := s.topic(req.Item)
	if err != nil {
		refuse(w, http.StatusNotFound, "%v", err)
		return
	}
	out := newLines(w)
	check := func(text []byte) error { _, err := t.Buffer(text); return err }
	if err := check([]byte(req.Text)); err != nil {
		out.write(line{Fault: faultOf(err)})
		return
	}
	p, stop, err := reach.Publish(r.Context(), a.domain, req.Channel, t.Info,
		topic.Options{Depth: publishedDepth, MaxMessage: publishedLength})
	if err != nil {
		out.write(ended(err))
		return
	}
	defer stop()
	f := a.flows.open(r.Context(), check)
	defer a.flows.end(f)
	out.write(line{Note: fmt.Sprintf("publishing %s on %s; subscribers that come later get the "+
		"messages from before if they want", t.Name, req.Channel)})
	out.write(line{Open: f.number})
	for text, err := range f.all([]byte(req.Text)) {
		var message []byte
		if err == nil {
			message, err = t.Buffer(text)
		}
		if err == nil {
			err = p.Publish(r.Context(), message)
		}
		if err != nil {
			out.write(ended(err))
			return
		}
	}
	out.write(ended(nil))
}
