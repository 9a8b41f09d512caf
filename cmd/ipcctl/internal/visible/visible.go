// Package visible keeps what a terminal would obey out of what it shows: control characters, and
// those that turn the direction of a text. Names and texts of servers may have any.
package visible

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Writer returns a writer to a terminal that shows control characters as escapes. Line breaks and
// tabs stay as they are.
func Writer(terminal io.Writer) io.Writer { return writer{terminal} }

type writer struct{ terminal io.Writer }

// Write implements [io.Writer]. A character must be in one piece.
func (w writer) Write(text []byte) (int, error) {
	shown := text
	if !safe(text) {
		shown = []byte(escape(text))
	}
	if _, err := w.terminal.Write(shown); err != nil {
		return 0, err
	}
	return len(text), nil
}

// Line returns a text for one line: line breaks and tabs are escapes, too.
func Line(text string) string {
	shown := text
	if !safe([]byte(text)) {
		shown = escape([]byte(text))
	}
	return strings.NewReplacer("\n", `\n`, "\t", `\t`).Replace(shown)
}

// safe reports whether nothing needs an escape.
func safe(text []byte) bool {
	return utf8.Valid(text) && !bytes.ContainsFunc(text, obeyed)
}

// obeyed reports whether a terminal does something at a character instead of showing it.
func obeyed(r rune) bool {
	switch {
	case r == '\n', r == '\t':
		return false
	case r < 0x20, r >= 0x7f && r < 0xa0: // the latter has one-character forms of escape sequences
		return true
	}
	// Marks, embeddings, overrides and isolates, and separators of lines.
	return r == 0x61c || r >= 0x200e && r <= 0x200f || r >= 0x2028 && r <= 0x202e ||
		r >= 0x2066 && r <= 0x2069
}

func escape(text []byte) string {
	var b strings.Builder
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, text[0])
		case obeyed(r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.Write(text[:n])
		}
		text = text[n:]
	}
	return b.String()
}
