package web

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/dynamic"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/fbjson"
)

// An api answers the requests of pages.
type api struct {
	domain  string
	schemas schemas
	flows   flows
}

// dialPatience is how long connecting may take, and a call whose deadline nothing else sets.
const dialPatience = 10 * time.Second

// A fault is what is wrong with the text of a request.
type fault struct {
	Line    int    `json:"line"`
	Column  int    `json:"column"`
	Path    string `json:"path"`
	Message string `json:"message"`
}

// A line is one of the answer to a call, a subscription or an order. It has one member.
type line struct {
	Open  string   `json:"open,omitempty"` // the number of a flow, which takes items from now on
	Item  *string  `json:"item,omitempty"` // a reply, an item or a message, as JSON in a text
	About string   `json:"about,omitempty"`
	Note  string   `json:"note,omitempty"`
	Fault *fault   `json:"fault,omitempty"`
	End   *outcome `json:"end,omitempty"`
}

// An outcome is how something has ended. Without a code, it has succeeded.
type outcome struct {
	Code     string      `json:"code,omitempty"`
	Outcome  string      `json:"outcome,omitempty"`
	Error    string      `json:"error,omitempty"`
	Micros   float64     `json:"micros,omitempty"`
	Metadata [][2]string `json:"metadata,omitempty"`
}

// ended returns the last line for an error, which may be nil.
func ended(err error) line {
	if err == nil {
		return line{End: &outcome{}}
	}
	o := &outcome{Code: "failed", Error: err.Error()}
	var e *ipc.Error
	if errors.As(err, &e) {
		o.Code, o.Outcome = e.Code.String(), e.Outcome.String()
	}
	return line{End: o}
}

// faultOf returns what is wrong with a text, as far as it is the text that is wrong.
func faultOf(err error) *fault {
	var e *fbjson.Error
	if errors.As(err, &e) {
		return &fault{e.Line, e.Column, e.Path, e.Msg}
	}
	return &fault{Line: 1, Column: 1, Message: err.Error()}
}

// check answers with what is wrong with the text of a request, a message, or a message of a topic.
func (a *api) check(w http.ResponseWriter, r *http.Request) {
	var req struct{ Schema, Kind, Item, Text string }
	if !accept(w, r, &req) {
		return
	}
	s := a.schemas.get(w, req.Schema)
	if s == nil {
		return
	}
	check, err := s.checker(req.Kind, req.Item)
	if err != nil {
		refuse(w, http.StatusNotFound, "%v", err)
		return
	}
	var result line
	if err := check([]byte(req.Text)); err != nil {
		result.Fault = faultOf(err)
	}
	answer(w, http.StatusOK, result)
}

// checker returns the function that checks the texts of an item of a kind.
func (s *schema) checker(kind, item string) (func([]byte) error, error) {
	switch kind {
	case "method":
		m, err := s.method(item)
		if err != nil {
			return nil, err
		}
		return m.Check, nil
	case "message":
		m, err := s.message(item)
		if err != nil {
			return nil, err
		}
		return m.Check, nil
	case "topic":
		t, err := s.topic(item)
		if err != nil {
			return nil, err
		}
		return func(text []byte) error { _, err := t.Buffer(text); return err }, nil
	}
	return nil, fmt.Errorf("there is no kind %q", kind)
}

// A request is a call, or a one-way message.
type request struct {
	Name      string      `json:"name"`
	Schema    string      `json:"schema"`
	Item      string      `json:"item"`
	Text      string      `json:"text"`
	TimeoutMS int64       `json:"timeout_ms"`
	Metadata  [][2]string `json:"metadata"`
}

// within returns a context with the metadata of a request and its deadline: the page's, or else a
// given one, or none if that is 0.
func (req *request) within(ctx context.Context, limit time.Duration) (context.Context,
	context.CancelFunc) {
	var pairs []string
	for _, p := range req.Metadata {
		if p[0] != "" || p[1] != "" {
			pairs = append(pairs, p[0], p[1])
		}
	}
	ctx = ipc.WithMetadata(ctx, pairs...)
	if req.TimeoutMS > 0 && req.TimeoutMS < int64(1<<63-1)/int64(time.Millisecond) {
		limit = time.Duration(req.TimeoutMS) * time.Millisecond
	}
	if limit <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, limit)
}

// call makes a call, and answers with what comes back, as it comes.
func (a *api) call(w http.ResponseWriter, r *http.Request) {
	var req request
	if !accept(w, r, &req) {
		return
	}
	s := a.schemas.get(w, req.Schema)
	if s == nil {
		return
	}
	m, err := s.method(req.Item)
	if err != nil {
		refuse(w, http.StatusNotFound, "%v", err)
		return
	}
	out := newLines(w)
	if err := m.Check([]byte(req.Text)); err != nil {
		out.write(line{Fault: faultOf(err)})
		return
	}
	conn, err := a.dial(r.Context(), req.Name)
	if err != nil {
		out.write(ended(err))
		return
	}
	defer conn.Close()
	limit := m.Timeout
	if limit == 0 && m.Streaming == ipc.Unary {
		limit = dialPatience
	}
	ctx, cancel := req.within(r.Context(), limit)
	defer cancel()
	var metadata ipc.Metadata
	ctx = ipc.WithReplyMetadata(ctx, &metadata)
	began := time.Now()
	if m.Streaming == ipc.Unary {
		var reply []byte
		if reply, err = m.Call(ctx, conn, []byte(req.Text)); err == nil {
			took := time.Since(began)
			began = time.Now().Add(-took) // without the time of writing
			out.item(reply, "reply")
		}
	} else {
		err = a.stream(ctx, out, m, conn, []byte(req.Text))
	}
	last := ended(err)
	last.End.Micros = float64(time.Since(began).Nanoseconds()) / 1000
	if err == nil {
		last.End.Outcome = ipc.Executed.String()
	}
	for k, v := range metadata.All() {
		last.End.Metadata = append(last.End.Metadata, [2]string{k, v})
	}
	out.write(last)
}

// item writes a text that came.
func (l *lines) item(text []byte, about string) error {
	s := string(text)
	return l.write(line{Item: &s, About: about})
}

// stream makes a call of a method that streams. The first text is the request or the first item;
// if the client streams, the page sends more.
func (a *api) stream(ctx context.Context, out *lines, m *dynamic.Method, conn ipc.Caller,
	first []byte) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	items := func(yield func([]byte, error) bool) { yield(first, nil) }
	if m.Streaming != ipc.ServerStreaming {
		f := a.flows.open(ctx, m.Check)
		defer a.flows.end(f)
		if err := out.write(line{Open: f.number}); err != nil {
			return err
		}
		items = f.all(first)
	}
	for reply, err := range m.Stream(ctx, conn, items) {
		if err != nil {
			return err
		}
		if err := out.item(reply, ""); err != nil {
			return err
		}
	}
	return nil
}

// send sends a one-way message.
func (a *api) send(w http.ResponseWriter, r *http.Request) {
	var req request
	if !accept(w, r, &req) {
		return
	}
	s := a.schemas.get(w, req.Schema)
	if s == nil {
		return
	}
	m, err := s.message(req.Item)
	if err != nil {
		refuse(w, http.StatusNotFound, "%v", err)
		return
	}
	out := newLines(w)
	if err := m.Check([]byte(req.Text)); err != nil {
		out.write(line{Fault: faultOf(err)})
		return
	}
	conn, err := a.dial(r.Context(), req.Name)
	if err != nil {
		out.write(ended(err))
		return
	}
	ctx, cancel := req.within(r.Context(), dialPatience)
	defer cancel()
	began := time.Now()
	err = m.Send(ctx, conn, []byte(req.Text))
	if closed := conn.Close(); err == nil { // the server gets what was sent before
		err = closed
	}
	last := ended(err)
	last.End.Micros = float64(time.Since(began).Nanoseconds()) / 1000
	out.write(last)
}

// flows are what takes items from pages: calls to which the client streams, and publishers.
type flows struct {
	mu    sync.Mutex
	all   map[string]*flow
	count int
}

// A flow takes items until it is ended, or its context is done.
type flow struct {
	number string
	ctx    context.Context
	check  func([]byte) error
	items  chan []byte // nil is the end
}

// open returns a new flow, which must be ended.
func (fs *flows) open(ctx context.Context, check func([]byte) error) *flow {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.all == nil {
		fs.all = make(map[string]*flow)
	}
	fs.count++
	f := &flow{number: strconv.Itoa(fs.count), ctx: ctx, check: check, items: make(chan []byte)}
	fs.all[f.number] = f
	return f
}

func (fs *flows) end(f *flow) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	delete(fs.all, f.number)
}

// all is the sequence of the items that follow the first.
func (f *flow) all(first []byte) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for text := first; ; {
			if !yield(text, nil) {
				return
			}
			select {
			case <-f.ctx.Done():
				yield(nil, f.ctx.Err())
				return
			case text = <-f.items:
				if text == nil {
					return
				}
			}
		}
	}
}

// item passes an item on to a flow, or ends its items.
func (a *api) item(w http.ResponseWriter, r *http.Request) {
	var req struct {
		Stream, Text string
		Last         bool
	}
	if !accept(w, r, &req) {
		return
	}
	a.flows.mu.Lock()
	f := a.flows.all[req.Stream]
	a.flows.mu.Unlock()
	if f == nil {
		refuse(w, http.StatusNotFound, "the call has ended")
		return
	}
	text := []byte(req.Text)
	if req.Last {
		text = nil
	} else if err := f.check(text); err != nil {
		answer(w, http.StatusOK, line{Fault: faultOf(err)})
		return
	}
	select {
	case f.items <- text:
		answer(w, http.StatusOK, line{})
	case <-f.ctx.Done():
		refuse(w, http.StatusNotFound, "the call has ended")
	case <-r.Context().Done():
	}
}
