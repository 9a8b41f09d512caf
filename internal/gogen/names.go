package gogen

import (
	"strings"

	"github.com/ipcgen/ipcgen/internal/schema"
)

// All names of generated code are made in this file and in plan.go, which
// hands them out: those that flatc gives the same things, and ours beside them.

// upperCamel converts the name of a field as flatc does for Go: to snake case
// first, then each piece capitalised ("HTTPServer" becomes "Httpserver").
func upperCamel(name string) string {
	snake := snakeCase(name)
	out := make([]byte, 0, len(snake))
	for i := 0; i < len(snake); i++ {
		switch c := snake[i]; {
		case i == 0 && c == '_':
			out = append(out, c)
			// The letter after a leading underscore is a capital too.
			if len(snake) > 1 && isLetter(snake[1]) {
				i++
				out = append(out, upper(snake[i]))
			}
		case i == 0:
			out = append(out, upper(c))
		case c == '_' && i+1 < len(snake):
			i++
			out = append(out, upper(snake[i]))
		default:
			out = append(out, c)
		}
	}
	return string(out)
}

// lowerCamel converts the name of a field to that of a parameter.
func lowerCamel(name string) string {
	camel := upperCamel(name)
	return string(lower(camel[0])) + camel[1:]
}

// snakeCase inserts an underscore where a capital follows a small letter or a
// digit, and makes all letters small. A run of capitals stays one word.
func snakeCase(name string) string {
	out := make([]byte, 0, len(name)+4)
	for i := 0; i < len(name); i++ {
		c := name[i]
		if i > 0 && c != '_' && !isSmall(c) {
			prev := name[i-1]
			if isSmall(prev) || isDigit(prev) && !isDigit(c) {
				out = append(out, '_')
			}
		}
		out = append(out, lower(c))
	}
	return string(out)
}

// exported makes a name of the schema exported in Go, keeping the rest of it:
// "getParam" and "get_param" become "GetParam".
func exported(name string) string {
	var out strings.Builder
	for piece := range strings.SplitSeq(name, "_") {
		if piece != "" {
			out.WriteByte(upper(piece[0]))
			out.WriteString(piece[1:])
		}
	}
	if s := out.String(); s != "" && isLetter(s[0]) {
		return s
	}
	return "X" + name
}

func isSmall(c byte) bool  { return 'a' <= c && c <= 'z' }
func isDigit(c byte) bool  { return '0' <= c && c <= '9' }
func isLetter(c byte) bool { return isSmall(lower(c)) }

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

func upper(c byte) byte {
	if isSmall(c) {
		return c - 'a' + 'A'
	}
	return c
}

// keywords are the reserved words of Go; flatc appends an underscore to them,
// and so do we.
var keywords = set(
	"break", "case", "chan", "const", "continue", "default", "defer", "else",
	"fallthrough", "for", "func", "go", "goto", "if", "import", "interface",
	"map", "package", "range", "return", "select", "struct", "switch", "type",
	"var",
)

// predeclared are the identifiers of Go's universe: a type or parameter of
// that name would change the meaning of generated code.
var predeclared = set(
	"any", "append", "bool", "byte", "cap", "clear", "close", "comparable",
	"complex", "complex128", "complex64", "copy", "delete", "error", "false",
	"float32", "float64", "imag", "int", "int16", "int32", "int64", "int8",
	"iota", "len", "make", "max", "min", "new", "nil", "panic", "print",
	"println", "real", "recover", "rune", "string", "true", "uint", "uint16",
	"uint32", "uint64", "uint8", "uintptr",
)

// A nameSet is a set of names.
type nameSet map[string]bool

func set(names ...string) nameSet {
	s := make(nameSet, len(names))
	for _, name := range names {
		s[name] = true
	}
	return s
}

// reserved reports whether Go gives a name a meaning that generated code relies
// on, or none at all.
func reserved(name string) bool {
	if len(name) > len("fallthrough") || !isSmall(name[0]) && name != "_" {
		return false // as nearly all are
	}
	return keywords[name] || predeclared[name] || name == "init" || name == "_"
}

// goName escapes what cannot be a name at package level. flatc escapes keywords
// only, in the same way; a type called string or error would leave generated code
// without the type that Go calls so, and one called bytes, in whichever file of the
// package, would not go with the import of a package of that name.
func goName(name string) string {
	if spec := outside[name]; reserved(name) || spec != nil && !spec.rare {
		return name + "_"
	}
	return name
}

// isExported reports whether other packages may use a name.
func isExported(name string) bool {
	return 'A' <= name[0] && name[0] <= 'Z'
}

// fullName returns a schema's name with its namespace.
func fullName(ns schema.Namespace, name string) string {
	if len(ns) == 0 {
		return name
	}
	return strings.Join(ns, ".") + "." + name
}

// objectNames are the names made for a table or struct.
type objectNames struct {
	Type, Object string // the accessor, "SetParam", and the object, "SetParamT"
	Alias        string // exported alias of a type with a small initial, or ""
	ObjectAlias  string

	GetRootAs, GetSizePrefixedRootAs         string
	FinishBuffer, FinishSizePrefixedBuffer   string
	Identifier                               string
	HasIdentifier, SizePrefixedHasIdentifier string

	Start, End, Create            string
	KeyCompare, KeyStructCompare  string
	Verify, VerifySized, VerifyAt string
	FieldsOf                      string
	Check                         string // method of the object; "" where it has none
}

// fieldNames are the names made for a field.
type fieldNames struct {
	Get         string // accessor
	Member      string // of the object
	Mutate, Add string
	*listNames  // never nil
}

// listNames are the names made for a field that holds several values. They are apart
// because a schema has many fields, and few of them are such.
type listNames struct {
	Length, Bytes, Int8s, ByKey,
	NestedRoot, NestedObject, // what reads a nested buffer
	StartVector string
}

// noList stands for the names that a field does not have.
var noList listNames

// enumNames are the names made for an enum or a union.
type enumNames struct {
	Type, Object  string
	Alias         string
	ObjectAlias   string
	Names, Values string // the tables EnumNamesX and EnumValuesX
	Parse         string
	VerifyAt      string
	Consts        []string // of Values, in order
}
