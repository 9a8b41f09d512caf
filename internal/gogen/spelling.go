package gogen

import (
	"cmp"
	"path"
	"strings"

	"github.com/ipcgen/ipcgen/internal/schema"
)

// This file spells the names of a schema in Go. Which names generated code declares is in names.go.

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

// snakeCase inserts an underscore where a capital follows a small letter or a digit, and converts
// all letters to lower case. A run of capitals stays one word.
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

// exported converts a name of the schema to an exported name in Go, and keeps the rest of it:
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

// unexported converts the initial of a name to lower case.
func unexported(name string) string { return string(lower(name[0])) + name[1:] }

// sentence converts the initial of a sentence to upper case.
func sentence(s string) string { return string(upper(s[0])) + s[1:] }

// grpcName converts the initial of a name to upper case, as flatc does for gRPC. A name without a
// letter at its start gets one, because others could not use it.
func grpcName(name string) string {
	if !isLetter(name[0]) {
		return exported(name)
	}
	return string(upper(name[0])) + name[1:]
}

// goName escapes a name that cannot be used at package level. flatc escapes only keywords, in the
// same way. A type called string or error would hide the type of Go with that name. A type called
// bytes, in any file of the package, would clash with the import of a package of that name.
func goName(name string) string {
	if spec := outside[name]; reserved(name) || spec != nil && !spec.rare {
		return name + "_"
	}
	return name
}

// goPackage escapes a namespace that cannot be the name of a package. A package main cannot be
// imported, and files of a package documentation are not built.
func goPackage(name string) string {
	if keywords[name] || name == "main" || name == "_" || name == "documentation" {
		return name + "_"
	}
	return name
}

func escapeKeyword(name string) string {
	if keywords[name] {
		return name + "_"
	}
	return name
}

// memberName returns the name of a field's accessor and of its member in objects, before clashes
// are resolved.
func memberName(f *schema.Field) string {
	if name := upperCamel(f.Name); name != "_" { // Go discards that name
		return name
	}
	return "X_"
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

// reserved reports whether Go gives a name a meaning on which generated code relies, or no meaning
// at all.
func reserved(name string) bool {
	if len(name) > len("fallthrough") || !isSmall(name[0]) && name != "_" {
		return false // the usual case
	}
	return keywords[name] || predeclared[name] || name == "init" || name == "_"
}

// keywords has the keywords of Go. An underscore is appended to them, as in flatc.
var keywords = set(
	"break", "case", "chan", "const", "continue", "default", "defer", "else",
	"fallthrough", "for", "func", "go", "goto", "if", "import", "interface",
	"map", "package", "range", "return", "select", "struct", "switch", "type",
	"var",
)

// predeclared has the predeclared identifiers of Go. A type or parameter with such a name would
// change the meaning of generated code.
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

// schemaFileName returns the name of the single file for a schema in a package, which is the
// schema's own.
func schemaFileName(f *schema.File) string {
	if f == nil {
		return "schema"
	}
	name := path.Base(strings.TrimSuffix(f.Name, path.Ext(f.Name)))
	name = strings.Map(func(r rune) rune {
		if r < 0x80 && (isLetter(byte(r)) || isDigit(byte(r))) {
			return r
		}
		return '_'
	}, name)
	return cmp.Or(name, "schema")
}

// fileName returns the name of the file for a type, without ".go". It changes a name that has a
// special meaning to the go command, and a name that a file system would take for one that is
// taken. taken gets names in lower case.
func fileName(name string, taken func(name string) bool) string {
	if i := strings.LastIndexByte(name, '_'); i >= 0 && buildSuffixes[name[i+1:]] {
		name += "_"
	}
	if name[0] == '_' {
		name = "X" + name
	}
	for taken(strings.ToLower(name)) {
		name += "_"
	}
	return name
}

// buildSuffixes has the suffixes of file names that restrict when a file is built.
var buildSuffixes = set(
	"test",
	"aix", "android", "darwin", "dragonfly", "freebsd", "hurd", "illumos",
	"ios", "js", "linux", "nacl", "netbsd", "openbsd", "plan9", "solaris",
	"wasip1", "windows", "zos",
	"386", "amd64", "amd64p32", "arm", "arm64", "arm64be", "armbe", "loong64",
	"mips", "mips64", "mips64le", "mips64p32", "mips64p32le", "mipsle", "ppc",
	"ppc64", "ppc64le", "riscv", "riscv64", "s390", "s390x", "sparc",
	"sparc64", "wasm",
)

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
