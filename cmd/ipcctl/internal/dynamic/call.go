package dynamic

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	flatbuffers "github.com/google/flatbuffers/go"

	"github.com/ipcgen/ipcgen/internal/gogen"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/fbjson"
)

// A Method is a call that takes and returns JSON.
type Method struct {
	Name           string // with service and namespace
	request, reply form
	method         *ipc.Method[message, message]
}

// A form is the way in which a message travels, and the types that it takes.
type form struct {
	gogen.Form
	root *fbjson.Type // of the buffer
	body *fbjson.Type // the message itself
}

// A message is JSON.
type message struct{ text []byte }

// Options are the options of the JSON of calls.
type Options struct {
	Read  fbjson.ReadOptions
	Write fbjson.WriteOptions
}

// Check returns an error, with line, column and path, if text does not stand for a request.
func (m *Method) Check(text []byte) error {
	_, err := m.request.body.AppendBuffer(nil, text, nil)
	return err
}

// Call makes the call. request is the text of the request, and reply that of the reply, which is
// exact JSON in one line. An error of the text has line, column and the path of the field; an error
// of the call is an [*ipc.Error].
func (m *Method) Call(ctx context.Context, c ipc.Caller, request []byte) (reply []byte, err error) {
	if err := m.Check(request); err != nil {
		return nil, err
	}
	rep, err := ipc.Invoke(ctx, c, m.method, &message{request})
	if err != nil {
		return nil, err
	}
	return rep.text, nil
}

func (m *Method) encodeRequest(b *flatbuffers.Builder, seq uint64, req *message) error {
	text := req.text
	if m.request.Payload != "" {
		text = m.request.wrap(seq, text)
	}
	buf, err := m.request.root.AppendBuffer(nil, text, nil)
	if err != nil {
		return err
	}
	return place(b, buf)
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
	b.Prep(align, len(buf))
	for i := len(buf) - 1; i >= flatbuffers.SizeUOffsetT; i-- {
		b.PlaceByte(buf[i])
	}
	b.Finish(flatbuffers.UOffsetT(len(buf)) - flatbuffers.GetUOffsetT(buf))
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
