package dynamic

import (
	"bytes"
	"io"
	"path/filepath"
	"testing"
)

// TestExtract takes requests out of their envelopes, and puts them back.
func TestExtract(t *testing.T) {
	s, err := Load(filepath.Join("..", "..", "..", "..", "schema", "audio_protocol.fbs"), nil,
		io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	const set, get = "audio.AudioControl.SetParam", "audio.AudioControl.GetParam"
	m, err := s.Method(set)
	if err != nil {
		t.Fatal(err)
	}
	buf, err := m.request.buffer(7, []byte(`{"param_id": "Pan", "value": 0.5}`))
	if err != nil {
		t.Fatal(err)
	}
	before := bytes.Clone(buf)
	inner, err := s.Extract(set, false, buf)
	if err != nil {
		t.Fatal(err)
	}
	shape, err := s.Shape(set)
	if err != nil || shape.Request != "audio.SetParam" || shape.Reply != "audio.Ack" {
		t.Errorf("%+v, %v", shape, err)
	}
	text, err := m.request.body.AppendJSON(nil, inner, nil)
	if err != nil || string(text) != `{"param_id":"Pan","value":0.5}` {
		t.Errorf("%s, %v", text, err)
	}
	again, err := s.Restore(set, false, inner)
	if err != nil || !bytes.Equal(again, before) || !bytes.Equal(buf, before) {
		t.Errorf("restored: %v", err)
	}
	if _, err := s.Extract(get, false, buf); err == nil {
		t.Error("another member of the union is taken for the message")
	}
	for n := range inner {
		// Parts of it are refused, or are some message; they do no harm.
		if cut, err := s.Restore(set, false, inner[:n]); err == nil {
			_, _ = s.Text(set, false, cut)
		}
		_, _ = s.Extract(set, false, inner[:n])
	}
}
