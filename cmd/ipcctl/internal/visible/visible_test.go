package visible

import (
	"bytes"
	"testing"
)

func TestVisible(t *testing.T) {
	for text, want := range map[string]string{
		"plain äöü 日本\n\tx":     "plain äöü 日本\n\tx",
		"\x1b]0;title\a\x1b[2J": `\u001b]0;title\u0007\u001b[2J`,
		"\u009b31m \x9b31m":     `\u009b31m \x9b31m`,
		"a\rb\bc\x7f":           `a\u000db\u0008c\u007f`,
		"\u202egpj.exe\u2066":   `\u202egpj.exe\u2066`,
	} {
		var b bytes.Buffer
		if n, err := Writer(&b).Write([]byte(text)); n != len(text) || err != nil {
			t.Errorf("%q: %d, %v", text, n, err)
		}
		if b.String() != want {
			t.Errorf("%q is shown as %q", text, &b)
		}
	}
	if got := Line("a\nb\x1b"); got != `a\nb\u001b` {
		t.Errorf("a line: %q", got)
	}
}
