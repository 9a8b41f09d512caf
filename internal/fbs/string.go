package fbs

import (
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// quoted scans a string constant whose opening quote was read. A string ends on its line. Errors in
// it are reported once.
func (s *scanner) quoted(quote byte) token {
	start := s.pos - 1
	t := token{kind: tokString}
	begin := s.pos
	for { // the common case: nothing to decode
		c := s.at(0)
		if c == quote {
			t.text = s.src[begin:s.pos]
			s.pos++
			t.Range = s.here(start)
			return t
		}
		if c < ' ' || c > '~' || c == '\\' {
			break
		}
		s.pos++
	}
	t.escaped = true
	var text strings.Builder
	text.WriteString(s.src[begin:s.pos])
	ok := true
	fail := func(from int, format string, args ...any) {
		if ok {
			s.errorf(s.here(from), format, args...)
		}
		ok = false
	}
	for {
		if s.pos >= len(s.src) || s.src[s.pos] == '\n' || s.src[s.pos] == '\r' {
			fail(start, "the string is not closed")
			break
		}
		at := s.pos
		c := s.src[s.pos]
		s.pos++
		if c == quote {
			break
		}
		switch {
		case c == '\\':
			if msg := s.escape(&text); msg != "" {
				fail(at, "%s", msg)
			}
		case c < ' ':
			fail(at, "a string may not hold the control character %q", c)
		default:
			text.WriteByte(c)
		}
	}
	t.text = text.String()
	if ok && !utf8.ValidString(t.text) {
		fail(start, "the string is not valid UTF-8")
	}
	t.Range, t.bad = s.here(start), !ok
	return t
}

// escape decodes an escape sequence whose backslash was read. It returns an error message if the
// sequence is invalid.
func (s *scanner) escape(text *strings.Builder) string {
	c := s.at(0)
	if i := strings.IndexByte(`ntrbf/\'"`, c); c != 0 && i >= 0 {
		s.pos++
		text.WriteByte("\n\t\r\b\f/\\'\""[i])
		return ""
	}
	switch c {
	case 'x':
		s.pos++
		v, ok := s.hex(2)
		if !ok {
			return `\x must be followed by 2 hexadecimal digits`
		}
		text.WriteByte(byte(v))
		return ""
	case 'u':
		return s.unicode(text)
	}
	if c != 0 && c != '\n' && c != '\r' {
		_, size := utf8.DecodeRuneInString(s.src[s.pos:])
		s.pos += size
	}
	return "unknown escape sequence"
}

// unicode decodes \uXXXX, or two of them that form a surrogate pair.
func (s *scanner) unicode(text *strings.Builder) string {
	const digits = `\u must be followed by 4 hexadecimal digits`
	s.pos++
	v, ok := s.hex(4)
	if !ok {
		return digits
	}
	if !utf16.IsSurrogate(v) {
		text.WriteRune(v)
		return ""
	}
	if s.at(0) == '\\' && s.at(1) == 'u' {
		s.pos += 2
		low, ok := s.hex(4)
		if !ok {
			return digits
		}
		if r := utf16.DecodeRune(v, low); r != utf8.RuneError {
			text.WriteRune(r)
			return ""
		}
	}
	return "a surrogate must be half of a pair"
}

// hex reads n hexadecimal digits.
func (s *scanner) hex(n int) (v rune, ok bool) {
	for range n {
		c := s.at(0)
		if !isHex(c) {
			return 0, false
		}
		s.pos++
		v <<= 4
		switch {
		case isDigit(c):
			v += rune(c - '0')
		default:
			v += rune(c|0x20) - 'a' + 10
		}
	}
	return v, true
}
