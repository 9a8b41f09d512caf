package fbjson

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// A kind is what a value in a text is.
type kind uint8

const (
	isObject kind = iota // its members are pairs of a key, isString or isWord, and a value
	isArray
	isString
	isWord  // true, null, the name of an enum's value, nan, -inf
	isInt   // decimal, or hexadecimal with 0x
	isFloat // with a point or an exponent
	isCall  // a function's name, and then its argument
)

// A node is a value of a text. The nodes of a text are in its order: what an object, an array or
// a call contains comes right behind it.
type node struct {
	start uint32 // in the text, of the first byte
	// next is the index of the node behind the value and all that it contains; for those that
	// contain nothing it is where the value ends in the text.
	next uint32
	kind kind
}

const (
	// maxDepth is how far tables, structs, functions and values of FlexBuffers may nest in each
	// other, as flatc has it. Objects and lists may alternate, so a text may nest twice as far.
	maxDepth = 64
	maxText  = math.MaxInt32
)

// A scanner turns a text into nodes.
type scanner struct {
	text   string
	strict bool
	pos    int
	depth  int
	nodes  []node
}

// A fault is an error at a position of the text.
type fault struct {
	pos int
	msg string
}

func (f *fault) Error() string { return f.msg }

func faultf(pos int, format string, args ...any) error {
	return &fault{pos, fmt.Sprintf(format, args...)}
}

// locate makes the error for a position of a text.
func locate(text string, pos int, path, msg string) *Error {
	before := text[:min(pos, len(text))]
	line := strings.LastIndexByte(before, '\n') + 1
	return &Error{Line: 1 + strings.Count(before, "\n"), Column: 1 + len(before) - line,
		Path: path, Msg: msg}
}

// scan scans a whole text, whose value must be an object.
func (s *scanner) scan() error {
	if len(s.text) > maxText {
		return faultf(0, "the text has %d bytes, and may have %d", len(s.text), maxText)
	}
	s.pos = len(s.text) - len(strings.TrimPrefix(s.text, "\ufeff")) // a byte order mark
	if err := s.space(); err != nil {
		return err
	}
	if s.peek() != '{' {
		return faultf(s.pos, "%s instead of the { of an object", s.found())
	}
	if err := s.value(); err != nil {
		return err
	}
	if err := s.space(); err != nil {
		return err
	}
	if s.pos < len(s.text) {
		return faultf(s.pos, "%s behind the end of the value", s.found())
	}
	return nil
}

// peek returns the next byte, or 0 at the end.
func (s *scanner) peek() byte { return s.at(s.pos) }

func (s *scanner) at(i int) byte {
	if i < len(s.text) {
		return s.text[i]
	}
	return 0
}

// found names what is at the position, for errors.
func (s *scanner) found() string {
	if s.pos >= len(s.text) {
		return "the end of the text"
	}
	r, n := utf8.DecodeRuneInString(s.text[s.pos:])
	if r == utf8.RuneError && n < 2 {
		return fmt.Sprintf("byte %#x", s.text[s.pos])
	}
	return fmt.Sprintf("%q", r)
}

// space skips white space and comments. One that documents, with a third slash, must stand on a
// line of its own, as in a schema.
func (s *scanner) space() error {
	fresh := s.pos == 0 // nothing but space is before it on the line
	for {
		switch c := s.peek(); {
		case c == ' ' || c == '\t' || c == '\r' || c == '\n':
			fresh = fresh || c == '\n'
			s.pos++
		case c == '/' && s.at(s.pos+1) == '/':
			if s.at(s.pos+2) == '/' && !fresh {
				return faultf(s.pos, "a comment with /// stands on a line of its own; // need not")
			}
			end := strings.IndexAny(s.text[s.pos:], "\r\n")
			if end < 0 {
				end = len(s.text) - s.pos
			}
			s.pos += end
		case c == '/' && s.at(s.pos+1) == '*':
			end := strings.Index(s.text[s.pos+2:], "*/")
			if end < 0 {
				return faultf(s.pos, "this comment has no end")
			}
			s.pos += 2 + end + 2
		default:
			return nil
		}
	}
}

// value scans a value.
func (s *scanner) value() error {
	switch c := s.peek(); {
	case c == '{' || c == '[':
		return s.container(c)
	case c == '"' || c == '\'':
		return s.str()
	case isLetter(c):
		return s.word()
	case (c == '-' || c == '+') && isLetter(s.at(s.pos+1)):
		s.pos++
		return s.signed()
	case c == '-' || c == '+' || c == '.' || isDigit(c):
		return s.number()
	}
	return faultf(s.pos, "%s instead of a value", s.found())
}

// open appends a node that contains others; close ends it.
func (s *scanner) open(k kind, start int) (index int, err error) {
	if s.depth++; s.depth > 2*maxDepth {
		return 0, faultf(start, "values nest too deep")
	}
	s.nodes = append(s.nodes, node{start: uint32(start), kind: k})
	return len(s.nodes) - 1, nil
}

func (s *scanner) close(index int) {
	s.depth--
	s.nodes[index].next = uint32(len(s.nodes))
}

// leaf appends a node that contains nothing and ends at the position.
func (s *scanner) leaf(k kind, start int) {
	s.nodes = append(s.nodes, node{start: uint32(start), next: uint32(s.pos), kind: k})
}

// container scans an object or an array.
func (s *scanner) container(opening byte) error {
	k, closing := isArray, byte(']')
	if opening == '{' {
		k, closing = isObject, '}'
	}
	index, err := s.open(k, s.pos)
	if err != nil {
		return err
	}
	s.pos++
	for first := true; ; first = false {
		if err := s.space(); err != nil {
			return err
		}
		if s.peek() == closing && (first || !s.strict) {
			break
		}
		if k == isObject {
			if err := s.key(); err != nil {
				return err
			}
		}
		if err := s.value(); err != nil {
			return err
		}
		if err := s.space(); err != nil {
			return err
		}
		if s.peek() == closing {
			break
		}
		if s.peek() != ',' {
			return faultf(s.pos, "%s instead of a comma or %c", s.found(), closing)
		}
		s.pos++
	}
	s.pos++
	s.close(index)
	return nil
}

// key scans the name of a member, the colon, and the space behind it.
func (s *scanner) key() error {
	switch c := s.peek(); {
	case c == '"' || c == '\'':
		if err := s.str(); err != nil {
			return err
		}
	case isLetter(c) && !s.strict:
		start := s.pos
		s.letters()
		s.leaf(isWord, start)
	case isLetter(c):
		return faultf(s.pos, "a name without quotes, in a text of strict JSON")
	default:
		return faultf(s.pos, "%s instead of a name", s.found())
	}
	if err := s.space(); err != nil {
		return err
	}
	if s.peek() != ':' {
		return faultf(s.pos, "%s instead of a colon", s.found())
	}
	s.pos++
	return s.space()
}

// letters skips the rest of a word.
func (s *scanner) letters() {
	for isLetter(s.peek()) || isDigit(s.peek()) {
		s.pos++
	}
}

// word scans a word, or a call of a function.
func (s *scanner) word() error {
	start := s.pos
	s.letters()
	if s.peek() == '(' {
		return s.call(start)
	}
	s.leaf(isWord, start)
	return nil
}

// signed scans a word whose sign has just been skipped.
func (s *scanner) signed() error {
	start := s.pos - 1
	s.letters()
	if s.peek() == '(' {
		return faultf(start, "a function cannot have a sign")
	}
	s.leaf(isWord, start)
	return nil
}

func (s *scanner) call(start int) error {
	index, err := s.open(isCall, start)
	if err != nil {
		return err
	}
	s.pos++
	if err := s.space(); err != nil {
		return err
	}
	if err := s.value(); err != nil {
		return err
	}
	if err := s.space(); err != nil {
		return err
	}
	if s.peek() != ')' {
		return faultf(s.pos, "%s instead of )", s.found())
	}
	s.pos++
	s.close(index)
	return nil
}

// number scans a number, in the forms of C++.
func (s *scanner) number() error {
	start := s.pos
	if c := s.peek(); c == '-' || c == '+' {
		s.pos++
	}
	hex := s.peek() == '0' && s.at(s.pos+1)|0x20 == 'x'
	digit, exponent := isDigit, byte('e')
	if hex {
		s.pos += 2
		digit, exponent = isHexDigit, 'p'
	}
	digits, k := 0, isInt
	for ; digit(s.peek()); s.pos++ {
		digits++
	}
	if s.peek() == '.' {
		k = isFloat
		s.pos++
		for ; digit(s.peek()); s.pos++ {
			digits++
		}
	}
	bad := digits == 0
	if s.peek()|0x20 == exponent && !bad {
		k = isFloat
		s.pos++
		if c := s.peek(); c == '-' || c == '+' {
			s.pos++
		}
		bad = !isDigit(s.peek())
		for isDigit(s.peek()) {
			s.pos++
		}
	} else if hex && k == isFloat {
		bad = true // its exponent is missing
	}
	if bad || s.peek() == '.' {
		return faultf(start, "%q is no number", s.text[start:s.pos])
	}
	s.leaf(k, start)
	return nil
}

// str scans a string and checks it; unquote makes its value.
func (s *scanner) str() error {
	start, quote := s.pos, s.peek()
	ascii, raw := true, true // raw: no escape makes a byte above ASCII
	s.pos++
	for {
		switch c := s.peek(); {
		case s.pos >= len(s.text):
			return faultf(start, "this string has no end")
		case c == quote:
			s.pos++
			s.leaf(isString, start)
			if inner := s.text[start+1 : s.pos-1]; !ascii {
				if raw && !utf8.ValidString(inner) || !raw && !utf8.ValidString(unquote(inner)) {
					return faultf(start, "this string is not valid UTF-8")
				}
			}
			return nil
		case c == '\\':
			above, err := s.escape()
			if err != nil {
				return err
			}
			if above {
				ascii, raw = false, false
			}
		case c < ' ':
			return faultf(s.pos, "%s in a string; write it as an escape", s.found())
		default:
			ascii = ascii && c < utf8.RuneSelf
			s.pos++
		}
	}
}

// escape skips an escape sequence, and the second one of a surrogate pair. above reports that it
// stands for a byte above ASCII, which need not be a character.
func (s *scanner) escape() (above bool, err error) {
	start := s.pos
	c := s.at(s.pos + 1)
	s.pos += 2
	switch {
	case c == 'x':
		r, ok := s.hex(2)
		if !ok {
			return false, faultf(start, `\x wants two hexadecimal digits`)
		}
		return r >= utf8.RuneSelf, nil
	case c == 'u':
		r, ok := s.hex(4)
		if !ok {
			return false, faultf(start, `\u wants four hexadecimal digits`)
		}
		if !utf16.IsSurrogate(r) {
			return false, nil
		}
		low := rune(0)
		if s.peek() == '\\' && s.at(s.pos+1) == 'u' {
			s.pos += 2
			low, _ = s.hex(4)
		}
		if utf16.DecodeRune(r, low) == utf8.RuneError {
			return false, faultf(start, "half of a surrogate pair")
		}
		return false, nil
	case strings.IndexByte(`ntrbf"'\/`, c) >= 0:
		return false, nil
	}
	s.pos = start + 1
	return false, faultf(start, `%s cannot follow a backslash`, s.found())
}

// hex reads n hexadecimal digits.
func (s *scanner) hex(n int) (rune, bool) {
	if s.pos+n > len(s.text) {
		return 0, false
	}
	r, err := strconv.ParseUint(s.text[s.pos:s.pos+n], 16, 32)
	s.pos += n
	return rune(r), err == nil
}

// unquote returns the value of what stands between the quotes of a string that has been scanned.
func unquote(s string) string {
	at := strings.IndexByte(s, '\\')
	if at < 0 {
		return s
	}
	out := make([]byte, 0, len(s))
	for ; at >= 0; at = strings.IndexByte(s, '\\') {
		out = append(out, s[:at]...)
		c := s[at+1]
		s = s[at+2:]
		switch c {
		case 'x':
			b, _ := strconv.ParseUint(s[:2], 16, 8)
			out, s = append(out, byte(b)), s[2:]
		case 'u':
			u, _ := strconv.ParseUint(s[:4], 16, 32)
			r := rune(u)
			s = s[4:]
			if utf16.IsSurrogate(r) {
				low, _ := strconv.ParseUint(s[2:6], 16, 32)
				r = utf16.DecodeRune(r, rune(low))
				s = s[6:]
			}
			out = utf8.AppendRune(out, r)
		default:
			if i := strings.IndexByte("ntrbf", c); i >= 0 {
				c = "\n\t\r\b\f"[i]
			}
			out = append(out, c)
		}
	}
	return string(append(out, s...))
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_' }

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isHexDigit(c byte) bool { return isDigit(c) || c|0x20 >= 'a' && c|0x20 <= 'f' }
