package dynamic

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	flatbuffers "github.com/google/flatbuffers/go"

	"github.com/ipcgen/ipcgen/internal/gogen"
	"github.com/ipcgen/ipcgen/internal/prebuilt"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/fbjson"
)

// A Method is a call that takes and returns JSON.
type Method struct {
	Name           string        // with service and namespace
	Timeout        time.Duration // of a call, by the schema; 0 for none
	Streaming      ipc.Streaming
	request, reply form
	method         *ipc.Method[message, message]
}

// A form is the way in which a message travels, and the types that it takes.
type form struct {
	gogen.Form
	root *fbjson.Type // of the buffer
	body *fbjson.Type // the message itself; nil if it is no table
}

// A message is JSON, or a buffer.
type message struct {
	text []byte
	buf  []byte // of a request: sent as it is; of a reply: verified, and not converted
	raw  bool
}

// Check returns an error, with line, column and path, if text does not stand for a request.
func (m *Method) Check(text []byte) error { return m.request.check(text) }

func (f *form) check(text []byte) error {
	if f.body == nil { // the envelope's text tells
		_, err := f.buffer(1, text)
		return err
	}
	_, err := f.body.AppendBuffer(nil, text, nil)
	return err
}

// Call makes the call. request is the text of the request, and reply that of the reply, which is
// exact JSON in one line. An error of the text has line, column and the path of the field; an error
// of the call is an [*ipc.Error].
//
// A method that streams is called by [Method.Stream].
func (m *Method) Call(ctx context.Context, c ipc.Caller, request []byte) (reply []byte, err error) {
	if err := m.unary(); err != nil {
		return nil, err
	}
	if err := m.Check(request); err != nil {
		return nil, err
	}
	rep, err := ipc.Invoke(ctx, c, m.method, &message{text: request})
	if err != nil {
		return nil, err
	}
	return rep.text, nil
}

// CallBuffer makes the call with a request that is a buffer, in its envelope if it has one. The
// buffer is verified, and sent as it is.
func (m *Method) CallBuffer(ctx context.Context, c ipc.Caller, request []byte) (reply []byte,
	err error) {
	if err := m.unary(); err != nil {
		return nil, err
	}
	if err := m.request.root.Verify(request); err != nil {
		return nil, err
	}
	rep, err := ipc.Invoke(ctx, c, m.method, &message{buf: slices.Clip(request), raw: true})
	if err != nil {
		return nil, err
	}
	return rep.text, nil
}

// unary returns an error if the method streams.
func (m *Method) unary() error {
	if m.Streaming == ipc.Unary {
		return nil
	}
	return fmt.Errorf("%s is a method that streams; ipcctl call calls it", m.Name)
}

// Stream makes a call of a method that streams. The texts of requests are the client's items, or,
// if the server alone sends items, the first one is the request. The texts of the result are the
// server's items, or the one reply. An error is the last that it yields: that of a text, as in
// [Method.Call], or an [*ipc.Error]. The method's in is ranged over on a goroutine of its own if
// the server sends items, too.
func (m *Method) Stream(ctx context.Context, c ipc.Caller,
	requests iter.Seq2[[]byte, error]) iter.Seq2[[]byte, error] {
	return m.stream(ctx, c, &items{method: m, texts: requests})
}

// StreamBuffers is like [Method.Stream], but the requests are buffers, in their envelopes if they
// have some. They are verified, and sent as they are.
func (m *Method) StreamBuffers(ctx context.Context, c ipc.Caller,
	requests iter.Seq2[[]byte, error]) iter.Seq2[[]byte, error] {
	return m.stream(ctx, c, &items{method: m, texts: requests, raw: true})
}

func (m *Method) stream(ctx context.Context, c ipc.Caller,
	in *items) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for reply, err := range m.replies(ctx, c, in) {
			if err != nil {
				if own := in.failed.Load(); own != nil {
					err = *own // the call has failed with it
				}
				yield(nil, err)
				return
			}
			if !yield(reply.text, nil) {
				return
			}
		}
	}
}

// replies makes the call.
func (m *Method) replies(ctx context.Context, c ipc.Caller,
	in *items) iter.Seq2[*message, error] {
	switch m.Streaming {
	case ipc.BidiStreaming:
		return ipc.InvokeBidiStream(ctx, c, m.method, in.all)
	case ipc.ClientStreaming:
		return func(yield func(*message, error) bool) {
			yield(ipc.InvokeClientStream(ctx, c, m.method, in.all))
		}
	}
	for request, err := range in.all {
		if err == nil {
			return ipc.InvokeServerStream(ctx, c, m.method, request)
		}
		return func(yield func(*message, error) bool) { yield(nil, err) }
	}
	return func(func(*message, error) bool) {}
}

// items are texts on their way to be the items of a call, or buffers.
type items struct {
	method *Method
	texts  iter.Seq2[[]byte, error]
	raw    bool                  // they are buffers
	failed atomic.Pointer[error] // why there are no more; nil at the end
}

// all is the sequence of the items.
func (i *items) all(yield func(*message, error) bool) {
	n := 0
	for text, err := range i.texts {
		item := &message{text: text}
		n++
		switch {
		case err != nil:
		case i.raw:
			item = &message{buf: slices.Clip(text), raw: true}
			err = i.method.request.root.Verify(text)
		default:
			if err = i.method.Check(text); err != nil {
				err = fmt.Errorf("item %d:%w", n, err)
			}
		}
		if err != nil {
			i.failed.Store(&err)
			yield(nil, err)
			return
		}
		if !yield(item, nil) {
			return
		}
	}
}

// A Message is a one-way message that is made from JSON.
type Message struct {
	Name    string // with envelope and namespace
	form    form
	message *ipc.Message[message]
}

func newMessage(p *protocol, m *gogen.Message) (*Message, error) {
	full := &Message{Name: p.Name + "." + m.Decl.Name}
	var err error
	if table := m.Decl.Type.Object; table != nil && !table.IsStruct {
		full.form, err = newForm(p, m.Form, table)
	} else {
		full.form.Form = m.Form
		full.form.root, err = p.json.Table(m.Form.Root.FullName())
	}
	full.message = ipc.NewMessage(p.identity(), ipc.MessageSpec[message]{
		Name: m.Decl.Name, ID: m.ID, Encode: full.form.encode, Decode: notServed,
	})
	return full, err
}

// Check returns an error, with line, column and path, if text does not stand for the message.
func (m *Message) Check(text []byte) error { return m.form.check(text) }

// Send sends the message that a text stands for.
func (m *Message) Send(ctx context.Context, s ipc.Sender, text []byte) error {
	if err := m.Check(text); err != nil {
		return err
	}
	return ipc.Send(ctx, s, m.message, &message{text: text})
}

// SendBuffer sends a message that is a buffer, in its envelope if it has one. The buffer is
// verified, and sent as it is.
func (m *Message) SendBuffer(ctx context.Context, s ipc.Sender, buf []byte) error {
	if err := m.form.root.Verify(buf); err != nil {
		return err
	}
	return ipc.Send(ctx, s, m.message, &message{buf: slices.Clip(buf), raw: true})
}

// A Request is a request that is converted once and sent often. It has one number, so a service
// whose handlers look at the numbers of messages sees the same one in all calls.
type Request struct {
	method  *Method
	message message
}

// Prepare converts the text of a request.
func (m *Method) Prepare(text []byte) (*Request, error) {
	if err := m.unary(); err != nil {
		return nil, err
	}
	if err := m.Check(text); err != nil {
		return nil, err
	}
	buf, err := m.request.buffer(1, text)
	return &Request{m, message{buf: buf, raw: true}}, err
}

// Call makes a call with the request. The reply is verified, and not converted.
func (r *Request) Call(ctx context.Context, c ipc.Caller) error {
	request, reply := r.message, message{raw: true}
	return c.Invoke(ctx, ipc.Call{Method: r.method.method.Info(), Request: &request,
		Reply: &reply})
}

// Len returns the length of the request's buffer.
func (r *Request) Len() int { return len(r.message.buf) }

func (f *form) encode(b *flatbuffers.Builder, seq uint64, req *message) error {
	buf := req.buf
	if !req.raw {
		var err error
		if buf, err = f.buffer(seq, req.text); err != nil {
			return err
		}
	}
	return place(b, buf)
}

// buffer returns the buffer that a text stands for, in its envelope.
func (f *form) buffer(seq uint64, text []byte) ([]byte, error) {
	if f.Payload != "" {
		text = f.wrap(seq, text)
	}
	return f.root.AppendBuffer(nil, text, nil)
}

// wrap puts the text of a message into that of its envelope.
func (f *form) wrap(seq uint64, text []byte) []byte {
	var b bytes.Buffer
	b.WriteByte('{')
	if f.Seq != "" {
		fmt.Fprintf(&b, "%s: %s, ", f.Seq, strconv.FormatUint(seq, 10))
	}
	fmt.Fprintf(&b, "%s_type: %s, %s: ", f.Payload, strconv.Quote(f.Member), f.Payload)
	b.Write(text)
	b.WriteString("\n}") // the text may end in a comment
	return b.Bytes()
}

func (m *Method) decodeReply(buf []byte, rep *message) (refSeq uint64, err error) {
	if rep.raw {
		return 0, m.reply.root.Verify(buf)
	}
	text, err := m.reply.root.AppendJSON(nil, buf, nil)
	if err != nil {
		return 0, err
	}
	rep.text, err = m.reply.unwrap(text)
	return 0, err
}

// unwrap returns the message in the text of an envelope.
func (f *form) unwrap(text []byte) ([]byte, error) {
	if f.Payload == "" {
		return text, nil
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil {
		// The text has what JSON has not, a bare nan in a FlexBuffer. The whole envelope tells more
		// than an error.
		return text, nil
	}
	var tag string
	if err := json.Unmarshal(members[f.Payload+"_type"], &tag); err != nil || tag != f.Member {
		return nil, fmt.Errorf("the reply holds %s instead of %s", members[f.Payload+"_type"],
			f.Member)
	}
	return members[f.Payload], nil
}

// place makes buf the finished message of a builder. A builder counts from the end of its message,
// and buf from its start, so buf is filled up to a multiple of the greatest alignment.
func place(b *flatbuffers.Builder, buf []byte) error {
	const align = 16
	for len(buf)%align != 0 {
		buf = append(buf, 0)
	}
	if err := prebuilt.Place(b, buf); err != nil {
		return err
	}
	if !bytes.Equal(b.FinishedBytes(), buf) {
		return errors.New("the message cannot be built: its alignment is beyond 16 bytes")
	}
	return nil
}

func notServed([]byte, *message) (uint64, error) {
	return 0, errors.New("a tool does not serve")
}

func notAnswered(*flatbuffers.Builder, uint64, uint64, *message) error {
	return errors.New("a tool does not serve")
}
