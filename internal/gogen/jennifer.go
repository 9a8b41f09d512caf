package gogen

import (
	"bytes"
	"strings"

	"github.com/dave/jennifer/jen"
)

// The channel layer, of which a schema has a few files, is written with jennifer. (Accessors, of
// which it has thousands, use the writer.) This file has all functions that the emitters need in
// addition to jennifer's own.

// decl writes a declaration below a comment, which is wrapped and may be empty.
func (f *file) decl(doc string, code *jen.Statement) {
	f.documented(wrap(doc), code)
}

// documented writes a declaration below a comment of the given lines, with a blank line in front.
func (f *file) documented(doc []string, code *jen.Statement) {
	if len(f.buf) > 0 && !bytes.HasSuffix(f.buf, []byte("\n\n")) {
		f.p()
	}
	var b bytes.Buffer
	if err := commented(doc, code).Render(&b); err != nil {
		// The formatter of the whole file reports the error.
		b.WriteString(err.Error())
	}
	f.needsFormat = true // jennifer counts marks as characters when it aligns
	f.buf = append(f.buf, b.Bytes()...)
	f.p()
}

// commented returns code below a comment of the given lines.
func commented(doc []string, code *jen.Statement) *jen.Statement {
	s := new(jen.Statement)
	for _, line := range doc {
		s.Comment("//" + line).Line()
	}
	return s.Add(code)
}

// wrap breaks a text into the lines of a comment, each with a leading blank.
func wrap(text string) []string {
	const columns = 78
	var lines []string
	for word := range strings.FieldsSeq(text) {
		if n := len(lines); n > 0 && width(lines[n-1])+1+width(word) <= columns {
			lines[n-1] += " " + word
		} else {
			lines = append(lines, " "+word)
		}
	}
	return lines
}

// local returns the name of a parameter or variable.
func local(name string) *jen.Statement { return jen.Id(localMark + name) }

// qualified returns a name of a package outside the output.
func qualified(pkg, name string) *jen.Statement { return jen.Id(packageMark + pkg).Dot(name) }

func ipc(name string) *jen.Statement         { return qualified("ipc", name) }
func fb(name string) *jen.Statement          { return qualified("fb", name) }
func flatbuffers(name string) *jen.Statement { return qualified("flatbuffers", name) }
func context() *jen.Statement                { return qualified("context", "Context") }

// ctx and builder return the first parameters of most functions.
func ctx() *jen.Statement     { return local("ctx").Add(context()) }
func builder() *jen.Statement { return local("b").Op("*").Add(flatbuffers("Builder")) }

// ptr returns the pointer type of the named type.
func ptr(typ string) *jen.Statement { return jen.Op("*").Id(typ) }

// value returns an element of a composite literal. (jen.Dict would sort the elements.)
func value(key string, v jen.Code) jen.Code { return jen.Id(key).Op(":").Add(v) }

// composite returns a composite literal with one element per line.
func composite(typ *jen.Statement, elements ...jen.Code) *jen.Statement {
	return typ.Custom(jen.Options{Open: "{", Close: "}", Separator: ",", Multi: true}, elements...)
}

// call returns a call with one argument per line.
func call(fun *jen.Statement, args ...jen.Code) *jen.Statement {
	return fun.Custom(jen.Options{Open: "(", Close: ")", Separator: ",", Multi: true}, args...)
}

// hex returns a number in hexadecimal notation, which jennifer does not support.
func hex(digits string) *jen.Statement { return jen.Op("0x" + digits) }

// text returns a string literal over several lines, if that is possible.
func text(s string) *jen.Statement {
	if strings.Contains(s, "`") {
		return jen.Lit(s)
	}
	return jen.Op("`" + s + "`")
}
