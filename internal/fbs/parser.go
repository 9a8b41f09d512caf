// Package fbs reads the text of FlatBuffers schemas. [Parse] scans and parses a file, recovers from
// errors, and keeps comments and positions. The package does not interpret names.
//
// The language is that of flatc 25.12. Package schema handles the meaning, including everything
// that depends on the order of declarations.
package fbs

import (
	"bytes"
	"strings"

	"github.com/ipcgen/ipcgen/internal/diag"
)

// MaxSize is the size of the largest file that is read, in bytes.
const MaxSize = 1 << 28

// maxCalls bounds the nesting of calls in a default, as in flatc.
const maxCalls = 64

const byteOrderMark = "\uFEFF"

// Parse parses a schema file. It accepts any bytes, and reports errors to diags. The result has the
// parts that were understood, and is never nil.
func Parse(path string, src []byte, diags *diag.List) *File {
	diags.AddSource(path, src)
	f := &File{Path: path, lines: []int32{0}}
	if len(src) > MaxSize {
		diags.Errorf(diag.Span{File: path}, "the file has %d bytes; a schema may have %d",
			len(src), MaxSize)
		return f
	}
	if bytes.IndexByte(src, 0) >= 0 {
		diags.Errorf(diag.Span{File: path}, "the file holds a zero byte, so it is no schema text").
			Helpf("a binary schema must be named *.bfbs")
		return f
	}
	p := &parser{scanner: scanner{file: f, diags: diags, src: string(src)}}
	if strings.HasPrefix(p.src, byteOrderMark) {
		p.pos = len(byteOrderMark)
	}
	p.tok = p.next()
	p.peek = p.next()
	p.parseFile()
	return f
}

// A parser is a recursive-descent parser with one token of look-ahead. Its methods return false
// after they have reported an error. The caller that owns a delimiter then skips to that delimiter.
type parser struct {
	scanner
	tok, peek token
	prev      Range   // of the token before tok
	prevBad   bool    // the scanner has reported an error in that token
	fields    []Field // scratch for the fields of one object
}

func (p *parser) advance() {
	p.prev, p.prevBad = p.tok.Range, p.tok.bad
	p.tok = p.peek
	if p.tok.kind != tokEOF {
		p.peek = p.next()
	}
}

// unexpected reports the current token.
func (p *parser) unexpected(want string) *diag.Diagnostic {
	at := p.tok.Range
	if p.tok.kind == tokEOF && p.prev.End > 0 {
		at = Range{p.prev.End - 1, p.prev.End} // a position that can be shown
	}
	return p.errorf(at, "expected %s, found %s", want, p.tok.String())
}

// expect consumes a token of the given kind, or reports the token that is there instead.
func (p *parser) expect(kind tokenKind) bool {
	if p.tok.kind == kind {
		p.advance()
		return true
	}
	if p.prevBad { // the bad token may have contained the missing one
		return p.tok.newline
	}
	if (kind == ';' || kind == ',') && p.tok.newline {
		// The token is missing at the end of the line before.
		p.errorf(Range{p.prev.End - 1, p.prev.End}, "expected %s after this", kind.describe())
		return false
	}
	p.unexpected(kind.describe())
	return false
}

// name consumes an identifier.
func (p *parser) name(what string) (Name, bool) {
	if p.tok.kind != tokIdent {
		p.unexpected(what)
		return Name{}, false
	}
	n := Name{p.tok.Range, p.tok.text}
	p.advance()
	return n, true
}

// path consumes identifiers joined by dots.
func (p *parser) path(what string) (Name, bool) {
	if p.tok.kind == '.' {
		p.unexpected(what).Helpf(
			"names are resolved from the current namespace outwards; leave out the leading dot")
		return Name{}, false
	}
	n, ok := p.name(what)
	if !ok || p.tok.kind != '.' {
		return n, ok
	}
	parts := []string{n.Text} // joined at the end, because a path can have any length
	for p.tok.kind == '.' {
		p.advance()
		part, ok := p.name("a name after the dot")
		if !ok {
			return n, false
		}
		parts = append(parts, part.Text)
		n.Range = n.Through(part.Range)
	}
	n.Text = strings.Join(parts, ".")
	return n, true
}

// quotedName consumes a string constant.
func (p *parser) quotedName(what string) (Name, bool) {
	if p.tok.kind != tokString {
		p.unexpected(what)
		return Name{}, false
	}
	n := Name{p.tok.Range, p.tok.text}
	p.advance()
	return n, true
}

// skipStatement skips to the token after the next ';', or to a '}' or a declaration.
func (p *parser) skipStatement() {
	for p.tok.kind != tokEOF && p.tok.kind != '}' && !p.startsDecl() {
		if p.tok.kind == ';' {
			p.advance()
			return
		}
		if p.tok.kind == '{' {
			p.skipBlock()
			return
		}
		p.advance()
	}
}

// endStatement consumes the ';' after a member that was parsed. If it is missing at the end of a
// line, no other token is skipped.
func (p *parser) endStatement() {
	if !p.expect(';') && !p.tok.newline {
		p.skipStatement()
	}
}

// skipBlock skips a balanced pair of braces.
func (p *parser) skipBlock() {
	depth := 0
	for p.tok.kind != tokEOF {
		switch p.tok.kind {
		case '{':
			depth++
		case '}':
			depth--
		}
		p.advance()
		if depth == 0 {
			return
		}
	}
}

// startsDecl reports whether the current token starts a line and, together with the next one, looks
// like a declaration. Keywords are also names, but a field continues with a colon and an enum value
// with a comma.
func (p *parser) startsDecl() bool {
	if p.tok.kind != tokIdent || !p.tok.newline {
		return false
	}
	switch p.tok.text {
	case "table", "struct", "enum", "union", "rpc_service", "namespace", "root_type":
		return p.peek.kind == tokIdent
	case "file_identifier", "file_extension", "include", "native_include":
		return p.peek.kind == tokString
	case "attribute":
		return p.peek.kind == tokIdent || p.peek.kind == tokString
	}
	return false
}

func (p *parser) parseFile() {
	if p.tok.kind == tokEOF {
		p.diags.Errorf(diag.Span{File: p.file.Path},
			"the file declares nothing").Helpf("declare at least one table")
		return
	}
	p.parseIncludes()
	for p.tok.kind != tokEOF && !p.diags.Full() {
		p.parseDecl()
	}
}

func keywords() []string {
	return []string{"table", "struct", "enum", "union", "rpc_service", "namespace",
		"root_type", "file_identifier", "file_extension", "attribute", "include"}
}

// parseIncludes parses the include statements, which come first.
func (p *parser) parseIncludes() {
	for p.tok.is("include") || p.tok.is("native_include") {
		p.parseInclude()
	}
}

func (p *parser) parseInclude() {
	native := p.tok.is("native_include") // names a C++ header, which is ignored
	p.advance()
	name, ok := p.quotedName("the file to include, as a string")
	if ok && !native {
		p.file.Includes = append(p.file.Includes, Include{name})
	}
	if !ok || !p.expect(';') {
		p.skipStatement()
	}
}

// parseDecl parses one declaration. It always consumes a token.
func (p *parser) parseDecl() {
	if p.tok.kind == ';' {
		p.unexpected("a declaration").Helpf("remove it; no \";\" follows a closing brace")
		p.advance()
		return
	}
	var d Decl
	ok := false
	switch {
	case p.tok.kind != tokIdent:
		p.unexpectedDecl()
	case p.tok.is("include"), p.tok.is("native_include"):
		p.errorf(p.tok.Range, "%s must come before all declarations", p.tok.text).
			Helpf("move it to the top of the file, above the namespace")
		p.advance()
	case p.tok.is("namespace"):
		d, ok = p.parseNamespace()
	case p.tok.is("attribute"):
		d, ok = p.parseAttributeDecl()
	case p.tok.is("root_type"):
		p.advance()
		var n Name
		n, ok = p.path("the name of a table")
		d, ok = &RootType{n}, ok && p.expect(';')
	case p.tok.is("file_identifier"):
		p.advance()
		var n Name
		n, ok = p.quotedName("four characters, as a string")
		d, ok = &FileIdentifier{n}, ok && p.expect(';')
	case p.tok.is("file_extension"):
		p.advance()
		var n Name
		n, ok = p.quotedName("the extension, as a string")
		d, ok = &FileExtension{n}, ok && p.expect(';')
	case p.tok.is("table"), p.tok.is("struct"):
		p.parseObject()
		return
	case p.tok.is("enum"), p.tok.is("union"):
		p.parseEnum()
		return
	case p.tok.is("rpc_service"):
		p.parseService()
		return
	default:
		p.unexpectedDecl()
	}
	if ok {
		p.file.Decls = append(p.file.Decls, d)
		return
	}
	p.skipStatement()
	if p.tok.kind == '}' {
		p.advance()
	}
}

// unexpectedDecl reports a token that cannot start a declaration, and consumes it if that is needed
// to make progress.
func (p *parser) unexpectedDecl() {
	const want = "a declaration (table, struct, enum, union, rpc_service, namespace, root_type, " +
		"...)"
	switch {
	case p.tok.kind == '{':
		p.errorf(p.tok.Range, "a schema may not hold data").Helpf("keep JSON in a file of its own")
	case p.tok.kind == '}':
		p.errorf(p.tok.Range, "this brace closes nothing").Helpf("remove it")
	case p.tok.is("message"), p.tok.is("package"), p.tok.is("syntax"), p.tok.is("import"):
		p.unexpected(want).Helpf("this looks like Protocol Buffers, which ipcgen does not read")
		p.advance()
	default:
		d := p.unexpected(want)
		if near := diag.Nearest(p.tok.text, keywords()); near != "" {
			d.Helpf("did you mean %s?", near)
		}
		p.advance()
	}
}

func (p *parser) parseNamespace() (Decl, bool) {
	p.advance()
	if p.tok.kind == ';' {
		p.advance()
		return &Namespace{}, true
	}
	n, ok := p.path("a namespace")
	return &Namespace{n}, ok && p.expect(';')
}

func (p *parser) parseAttributeDecl() (Decl, bool) {
	p.advance()
	var n Name
	var ok bool
	if p.tok.kind == tokIdent {
		n, ok = p.name("")
	} else {
		n, ok = p.quotedName("the name of an attribute")
	}
	return &AttributeDecl{n}, ok && p.expect(';')
}
