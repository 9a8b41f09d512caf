package fbs

import "strconv"

// A tokenKind is the kind of a token. A punctuation character is its own kind.
type tokenKind byte

const (
	tokEOF   tokenKind = 0
	tokIdent tokenKind = iota + 0x80
	tokString
	tokInt
	tokFloat
)

// A token is a lexical element with the doc comment that precedes it.
type token struct {
	Range
	kind    tokenKind
	escaped bool   // of a string: not plain printable ASCII
	newline bool   // this is the first token of its line
	bad     bool   // the scanner has reported an error in it
	text    string // of an identifier or a number; decoded for a string
	doc     []string
}

// is reports whether the token is the given word.
func (t *token) is(word string) bool { return t.kind == tokIdent && t.text == word }

// String describes the token for a message.
func (t *token) String() string {
	switch t.kind {
	case tokEOF:
		return "the end of the file"
	case tokIdent, tokInt, tokFloat:
		return t.text
	case tokString:
		return "a string"
	}
	return strconv.Quote(string(rune(t.kind)))
}

// describe names a kind of token for a message.
func (k tokenKind) describe() string {
	switch k {
	case tokEOF:
		return "the end of the file"
	case tokIdent:
		return "a name"
	case tokString:
		return "a string"
	case tokInt:
		return "an integer"
	case tokFloat:
		return "a number"
	}
	return strconv.Quote(string(rune(k)))
}

func isLetter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' }
func isDigit(c byte) bool  { return '0' <= c && c <= '9' }
func isHex(c byte) bool {
	return isDigit(c) || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

// IsName reports whether s is an identifier of the schema language.
func IsName(s string) bool {
	for i := range len(s) {
		if !isLetter(s[i]) && (i == 0 || !isDigit(s[i])) {
			return false
		}
	}
	return s != ""
}

// Builtins lists the names of the built-in types.
var Builtins = []string{
	"bool", "byte", "int8", "ubyte", "uint8", "short", "int16", "ushort", "uint16",
	"int", "int32", "uint", "uint32", "long", "int64", "ulong", "uint64",
	"float", "float32", "double", "float64", "string",
}

var isBuiltin = func() map[string]bool {
	set := make(map[string]bool, len(Builtins))
	for _, name := range Builtins {
		set[name] = true
	}
	return set
}()

// IsBuiltin reports whether name is a built-in type. Such a name always means the built-in type,
// even if a table has the same name.
func IsBuiltin(name string) bool { return isBuiltin[name] }
