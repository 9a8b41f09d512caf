package dynamic

import (
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
	// Size is the length of each message if the messages are structs, and otherwise 0.
	Size int

	typ *fbjson.Type
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
	t := &Topic{Name: p.Name}
	var err error
	if message.IsStruct {
		t.Size = message.Size
		t.typ, err = p.json.Struct(p.Name)
	} else {
		t.typ, err = p.json.Table(p.Name)
	}
	if err != nil {
		return nil, fmt.Errorf("topic %s: %w", p.Name, err)
	}
	t.Info = &topic.Info{Protocol: p.identity(),
		Verify: func(message []byte) error { return t.typ.Verify(message) }}
	return t, nil
}

// Text returns the JSON of a message, in one line. The message is verified.
func (t *Topic) Text(message []byte) ([]byte, error) { return t.typ.AppendJSON(nil, message, nil) }

// Buffer returns the message that a text stands for. An error has line, column and the path of the
// field.
func (t *Topic) Buffer(text []byte) ([]byte, error) { return t.typ.AppendBuffer(nil, text, nil) }
