package dynamic

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// load loads a schema of one file.
func load(t *testing.T, text string) *Schema {
	t.Helper()
	file := filepath.Join(t.TempDir(), "a.fbs")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var diagnostics strings.Builder
	s, err := Load(file, nil, &diagnostics)
	if err != nil {
		t.Fatal(err, diagnostics.String())
	}
	return s
}

// TestTopicTexts converts messages of each kind of topic to JSON and back.
func TestTopicTexts(t *testing.T) {
	s := load(t, `namespace a; attribute "topic";
		struct Point (topic) { x:int; y:int; }
		struct Frame (topic: "payload") { n:ushort; }
		table Note (topic) { text:string; }`)
	for name, texts := range map[string][2]string{
		"Point":   {`{"x":1,"y":-2}`, `{"x":1}`},
		"a.Frame": {`{"header":{"n":7},"payload":"cGl4ZWxz"}`, `{"header":{"m":7}}`},
		"Note":    {`{"text":"hello"}`, `{"txt":""}`},
	} {
		topic, err := s.Topic(name)
		if err != nil {
			t.Fatal(err)
		}
		message, err := topic.Buffer([]byte(texts[0]))
		if err != nil {
			t.Fatal(name, err)
		}
		if err := topic.Info.Verify(message); err != nil {
			t.Error(name, err)
		}
		back, err := topic.Text(message)
		if err != nil || string(back) != texts[0] {
			t.Errorf("%s: %s, %v", name, back, err)
		}
		if _, err := topic.Buffer([]byte(texts[1])); err == nil {
			t.Errorf("%s is %s", texts[1], name)
		}
		if topic.Info.Verify(message[:1]) == nil {
			t.Errorf("%s: one byte is a message", name)
		}
		if _, err := topic.Text(message[:1]); err == nil {
			t.Errorf("%s: one byte has a text", name)
		}
	}
	if _, err := s.Topic(""); err == nil {
		t.Error("one of three topics was chosen")
	}
}
