package fbs

import "slices"

func (p *parser) parseObject() {
	o := &Object{Doc: p.tok.doc, Struct: p.tok.is("struct")}
	word := p.tok.text
	p.advance()
	var ok bool
	if o.Name, ok = p.name("the name of the " + word); !ok {
		p.skipStatement()
		return
	}
	p.file.Decls = append(p.file.Decls, o)
	if o.Meta, ok = p.metadata(); !ok || !p.expect('{') {
		p.skipHeader()
		return
	}
	p.fields = p.fields[:0]
	for p.inBody() {
		if f, ok := p.parseField(); ok {
			p.fields = append(p.fields, f)
		} else {
			p.skipStatement()
		}
	}
	o.Fields = slices.Clone(p.fields)
	p.closeBody(o.Name)
}

// skipHeader recovers from an error between the keyword of a declaration and its opening brace.
func (p *parser) skipHeader() {
	p.skipStatement()
	if p.tok.kind == '}' {
		p.advance()
	}
}

// inBody reports whether another member of a body follows.
func (p *parser) inBody() bool {
	return p.tok.kind != '}' && p.tok.kind != tokEOF && !p.startsDecl() && !p.diags.Full()
}

// closeBody consumes the brace that closes a declaration's body.
func (p *parser) closeBody(owner Name) {
	if p.tok.kind == '}' {
		p.advance()
		return
	}
	if !p.diags.Full() {
		p.unexpected(`"}"`).Note(p.file.Span(owner.Range),
			"the body of %s is not closed", owner.Text)
	}
}

func (p *parser) parseField() (f Field, ok bool) {
	f.Doc = p.tok.doc
	if f.Name, ok = p.name("the name of a field"); !ok {
		return f, false
	}
	if !p.expect(':') {
		return f, false
	}
	if f.Type, ok = p.parseType(); !ok {
		return f, false
	}
	if p.tok.kind == '=' {
		p.advance()
		if f.Default, ok = p.parseValue(0); !ok {
			return f, false
		}
		if p.tok.kind == '.' && f.Default.Kind == IdentValue {
			p.errorf(f.Default.Through(p.peek.Range), "a default names the enum's value alone").
				Helpf("write = %s", p.peek.String())
			return f, false
		}
	}
	if f.Meta, ok = p.metadata(); !ok {
		return f, false
	}
	if p.tok.kind == '=' {
		p.errorf(p.tok.Range, "the default must come before the metadata").
			Helpf("write name: type = default (metadata);")
		return f, false
	}
	p.endStatement()
	return f, true
}

// parseType parses a type.
func (p *parser) parseType() (t Type, ok bool) {
	start := p.tok.Range
	if p.tok.kind != '[' {
		t.Name, t.Builtin, ok = p.typeName()
		t.Range = t.Name.Range
		return t, ok
	}
	p.advance()
	t.Kind = Vector
	nested := false
	for p.tok.kind == '[' {
		nested = true
		p.advance()
	}
	if nested {
		p.errorf(start.Through(p.prev), "vectors do not nest").
			Helpf("wrap the inner vector in a table: table Row { items: [T]; }")
		return t, false
	}
	if t.Name, t.Builtin, ok = p.typeName(); !ok {
		return t, false
	}
	if p.tok.kind == ':' {
		p.advance()
		t.Kind = Array
		if p.tok.kind != tokInt {
			p.unexpected("the length of the array, an integer")
			return t, false
		}
		t.Length = Name{p.tok.Range, p.tok.text}
		p.advance()
	}
	ok = p.expect(']')
	t.Range = start.Through(p.prev)
	return t, ok
}

// typeName parses a built-in type name or a path.
func (p *parser) typeName() (n Name, builtin, ok bool) {
	if p.tok.kind == tokIdent && IsBuiltin(p.tok.text) {
		n, ok = p.name("")
		return n, true, ok
	}
	n, ok = p.path("a type")
	return n, false, ok
}
