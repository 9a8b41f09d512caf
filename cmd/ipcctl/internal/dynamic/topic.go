package dynamic

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/ipcgen/ipcgen/internal/schema"
	"github.com/ipcgen/ipcgen/runtime/fbjson"
	"github.com/ipcgen/ipcgen/runtime/topic"
)

// A Topic is a topic whose messages are JSON for its users. A program without generated code
// subscribes to it, and publishes it, by its Info:
//
//	sub, err := topic.Subscribe(ctx, topic.Channel(name), t.Info, topic.SubscribeOptions{})
//	for message, err := range sub.All(ctx) {
//		text, err := t.Text(message)
//
//	pub := topic.NewPublisher(t.Info, topic.Options{MaxMessage: n}) // an option of a server
//	message, err := t.Buffer(text)
//	err = pub.Publish(ctx, message)
type Topic struct {
	Name string // with its namespace
	Info *topic.Info
	// Size is the length of each message if the messages are structs, and otherwise 0. With
	// Payload, raw bytes follow the struct.
	Size    int
	Payload bool
	// Properties are the members of the JSON of a message that is a struct, as a JSON schema has
	// them.
	Properties json.RawMessage

	typ *fbjson.Type
}

// A block is the JSON of a struct with raw bytes behind it, which are in base64.
type block struct {
	Header  json.RawMessage `json:"header"`
	Payload []byte          `json:"payload"`
}

// Topics returns the full names of all topics, in order.
func (s *Schema) Topics() (names []string) {
	for i := range s.protocols {
		if s.protocols[i].Topic != nil {
			names = append(names, s.protocols[i].Name)
		}
	}
	slices.Sort(names)
	return names
}

// Topic returns the topic of a name, which may leave out the namespace if one topic alone fits. For
// an empty name, it is the only topic that there is.
func (s *Schema) Topic(name string) (*Topic, error) {
	all := s.Topics()
	if name == "" && len(all) == 1 {
		name = all[0]
	}
	full, err := s.find(name, "topic", "subscribed to", all)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(s.protocols, func(p protocol) bool {
		return p.Topic != nil && p.Name == full
	})
	return newTopic(&s.protocols[i], s.protocols[i].Topic)
}

func newTopic(p *protocol, message *schema.Object) (*Topic, error) {
	t := &Topic{Name: p.Name, Payload: p.Payload}
	var err error
	if message.IsStruct {
		t.Size, t.Properties = message.Size, properties(message)
		if p.Payload {
			t.Properties = propertiesIn(&jsonType{Properties: map[string]*jsonType{
				"header":  structType(message),
				"payload": {Type: "string", Encoding: "base64"}}})
		}
		t.typ, err = p.json.Struct(p.Name)
	} else {
		t.typ, err = p.json.Table(p.Name)
	}
	if err != nil {
		return nil, fmt.Errorf("topic %s: %w", p.Name, err)
	}
	t.Info = &topic.Info{Protocol: p.identity(), Verify: t.verify}
	return t, nil
}

func (t *Topic) verify(message []byte) error {
	return t.typ.Verify(message[:t.header(message)])
}

// header returns the length of what the type describes of a message.
func (t *Topic) header(message []byte) int {
	if t.Payload {
		return min(len(message), t.Size)
	}
	return len(message)
}

// Text returns the JSON of a message, in one line. The message is verified. A struct with a payload
// is {"header": ..., "payload": ...}, the payload in base64.
func (t *Topic) Text(message []byte) ([]byte, error) {
	n := t.header(message)
	text, err := t.typ.AppendJSON(nil, message[:n], nil)
	if err != nil || !t.Payload {
		return text, err
	}
	return json.Marshal(block{text, message[n:]})
}

// Buffer returns the message that a text stands for. An error has line, column and the path of the
// field.
func (t *Topic) Buffer(text []byte) ([]byte, error) {
	if !t.Payload {
		return t.typ.AppendBuffer(nil, text, nil)
	}
	var b block
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&b); err != nil {
		return nil, fmt.Errorf(`{"header": ..., "payload": base64}: %w`, err)
	}
	message, err := t.typ.AppendBuffer(nil, b.Header, nil)
	if err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	return append(message, b.Payload...), nil
}
