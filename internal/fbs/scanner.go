package fbs

import (
	"strings"
	"unicode/utf8"

	"github.com/ipcgen/ipcgen/internal/diag"
)

// A scanner splits a file into tokens. It reports text that it cannot read and continues after that
// text, so a parser always makes progress.
type scanner struct {
	file  *File
	diags *diag.List
	src   string
	pos   int
}

// at returns the byte at offset i from the current position, or 0 after the end. A file does not
// contain the byte 0.
func (s *scanner) at(i int) byte {
	if s.pos+i < len(s.src) {
		return s.src[s.pos+i]
	}
	return 0
}

// here returns the range from start to the current position.
func (s *scanner) here(start int) Range { return Range{int32(start), int32(s.pos)} }

func (s *scanner) errorf(r Range, format string, args ...any) *diag.Diagnostic {
	return s.diags.Errorf(s.file.Span(r), format, args...)
}

// newline records that a line starts at the current position.
func (s *scanner) newline() { s.file.lines = append(s.file.lines, int32(s.pos)) }

// next returns the next token. At the end of the file it returns tokEOF, in each further call as
// well.
func (s *scanner) next() token {
	var doc []string
	newline := s.pos == 0 || s.pos == len(byteOrderMark)
	for s.pos < len(s.src) {
		start := s.pos
		c := s.src[s.pos]
		s.pos++
		switch c {
		case ' ', '\t', '\r':
			continue
		case '\n':
			s.newline()
			newline = true
			continue
		case '/':
			switch s.at(0) {
			case '/':
				if text, isDoc := s.lineComment(); isDoc {
					if !newline {
						s.errorf(s.here(start), "a documentation comment must start its own line").
							Helpf("move it above what it documents, or write // instead of ///")
					}
					doc = append(doc, text)
				}
				continue
			case '*':
				s.blockComment(start)
				continue
			}
		case '{', '}', '(', ')', '[', ']', '<', '>', ',', ':', ';', '=':
			return token{Range: s.here(start), kind: tokenKind(c), newline: newline, doc: doc}
		case '"', '\'':
			t := s.quoted(c)
			t.newline, t.doc = newline, doc
			return t
		case '.':
			if !isDigit(s.at(0)) {
				return token{Range: s.here(start), kind: '.', newline: newline, doc: doc}
			}
		}
		if isLetter(c) {
			for isLetter(s.at(0)) || isDigit(s.at(0)) {
				s.pos++
			}
			return token{Range: s.here(start), kind: tokIdent, text: s.src[start:s.pos],
				newline: newline, doc: doc}
		}
		if isDigit(c) || c == '.' || c == '+' || c == '-' {
			t := s.number(c)
			t.newline, t.doc = newline, doc
			return t
		}
		s.illegal(start)
	}
	return token{Range: Range{int32(len(s.src)), int32(len(s.src))}, kind: tokEOF,
		newline: true, doc: doc}
}

// illegal reports the character at start, and skips a run of such characters so that binary data is
// reported once.
func (s *scanner) illegal(start int) {
	if s.src[start] == '#' {
		s.errorf(s.here(start), "illegal character '#'").Helpf("a comment starts with //")
		if end := strings.IndexAny(s.src[s.pos:], "\r\n"); end >= 0 {
			s.pos += end
		} else {
			s.pos = len(s.src)
		}
		return
	}
	r, size := utf8.DecodeRuneInString(s.src[start:])
	s.pos = start + size
	s.errorf(s.here(start), "illegal character %q", r)
	for s.pos < len(s.src) &&
		(s.src[s.pos] >= utf8.RuneSelf || s.src[s.pos] < ' ' && !isSpace(s.src[s.pos])) {
		s.pos++
	}
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// lineComment skips a comment whose first slash was read. It returns the text of a doc comment.
func (s *scanner) lineComment() (doc string, isDoc bool) {
	s.pos++
	isDoc = s.at(0) == '/'
	rest := s.src[s.pos:]
	if end := strings.IndexAny(rest, "\r\n"); end >= 0 {
		rest = rest[:end]
	}
	s.pos += len(rest)
	if !isDoc {
		return "", false
	}
	return CleanDoc(rest[1:]), true
}

// CleanDoc converts a line of documentation for a comment in Go source: one line of UTF-8 without
// byte order marks and zeros.
func CleanDoc(line string) string {
	plain := true
	for i := range len(line) {
		c := line[i]
		plain = plain && c < utf8.RuneSelf && c != 0 && c != '\n' && c != '\r'
	}
	if plain {
		return line
	}
	return strings.Map(func(r rune) rune {
		switch r {
		case 0, '\uFEFF':
			return -1
		case '\n', '\r':
			return ' '
		}
		return r // the decoder has replaced invalid UTF-8
	}, line)
}

// blockComment skips a comment that starts at start. It does not nest.
func (s *scanner) blockComment(start int) {
	s.pos++
	for s.pos < len(s.src) {
		c := s.src[s.pos]
		s.pos++
		if c == '\n' {
			s.newline()
		}
		if c == '*' && s.at(0) == '/' {
			s.pos++
			return
		}
	}
	s.errorf(Range{int32(start), int32(start) + 2}, "the comment is not closed").Helpf("add */")
}

// number scans a number whose first character c was read, or returns a sign token if a name follows
// the sign. Decimal and hexadecimal integers and floats are as in C++. The exponent of a
// hexadecimal float is mandatory.
func (s *scanner) number(c byte) token {
	start := s.pos - 1
	if c == '+' || c == '-' {
		if strings.HasPrefix(s.src[s.pos:], "inf") && !isLetter(s.at(3)) && !isDigit(s.at(3)) {
			s.pos += 3
			return token{Range: s.here(start), kind: tokFloat, text: s.src[start:s.pos]}
		}
		if isLetter(s.at(0)) {
			return token{Range: s.here(start), kind: tokenKind(c)}
		}
		c = s.at(0)
		if isDigit(c) {
			s.pos++
		}
	}
	digit := isDigit
	isFloat := c == '.' && s.src[start] == '.'
	hex := c == '0' && (s.at(0) == 'x' || s.at(0) == 'X')
	begin := s.pos
	if isDigit(c) {
		begin-- // the digit that was read counts, too
	}
	if hex {
		digit = isHex
		s.pos++
		begin = s.pos
	}
	ok := true
	for {
		for digit(s.at(0)) {
			s.pos++
		}
		if s.at(0) != '.' {
			break
		}
		s.pos++
		if isFloat {
			ok = false
			break
		}
		isFloat = true
	}
	ok = ok && s.pos > begin
	exponent := s.at(0) | 0x20
	if ok && (hex && exponent == 'p' || !hex && exponent == 'e') {
		isFloat = true
		s.pos++
		if s.at(0) == '+' || s.at(0) == '-' {
			s.pos++
		}
		ok = isDigit(s.at(0))
		for isDigit(s.at(0)) {
			s.pos++
		}
		if s.at(0) == '.' {
			s.pos++
			ok = false
		}
	} else if ok && hex && isFloat {
		ok = false
	}
	text := s.src[start:s.pos]
	if !ok {
		for isLetter(s.at(0)) || isDigit(s.at(0)) || s.at(0) == '.' {
			s.pos++ // characters directly after it belong to the mistake
		}
		d := s.errorf(s.here(start), "invalid number %s", s.src[start:s.pos])
		switch {
		case hex && isFloat:
			d.Helpf("a hexadecimal float needs an exponent, as in 0x1.8p3")
		case s.pos == start+1:
			d.Helpf("write the sign directly before the number")
		}
		text = "0"
	}
	kind := tokInt
	if isFloat {
		kind = tokFloat
	}
	return token{Range: s.here(start), kind: kind, text: text, bad: !ok}
}
