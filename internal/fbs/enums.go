package fbs

func (p *parser) parseEnum() {
	e := &Enum{Doc: p.tok.doc, Union: p.tok.is("union")}
	word := p.tok.text
	p.advance()
	var ok bool
	if e.Name, ok = p.name("the name of the " + word); !ok {
		p.skipStatement()
		return
	}
	p.file.Decls = append(p.file.Decls, e)
	if !p.parseUnderlying(e) {
		p.skipHeader()
		return
	}
	if e.Meta, ok = p.metadata(); !ok || !p.expect('{') {
		p.skipHeader()
		return
	}
	for p.inBody() {
		v, ok := p.parseEnumVal(e.Union)
		if ok {
			e.Values = append(e.Values, v)
			if p.tok.kind == ',' {
				p.advance()
				continue
			}
			if p.tok.kind == '}' {
				break
			}
		}
		if !p.separator(ok) {
			break
		}
	}
	p.closeBody(e.Name)
}

// parseUnderlying parses the type of an enum, which is mandatory, or of a union's tag, which is
// optional.
func (p *parser) parseUnderlying(e *Enum) bool {
	if p.tok.kind != ':' {
		if !e.Union {
			p.errorf(e.Name.Range, "enum %s needs an underlying integer type", e.Name.Text).
				Helpf("write enum %s: byte { ... }", e.Name.Text)
		}
		return true
	}
	p.advance()
	t, ok := p.parseType()
	if ok {
		e.Underlying = &t
	}
	return ok
}

// separator recovers after a value that is not followed by a comma or a brace. good means that the
// value itself was valid; separator then reports the missing comma. It returns false if no value
// can follow.
func (p *parser) separator(good bool) bool {
	if good {
		if p.tok.kind == ';' {
			p.errorf(p.tok.Range,
				"values are separated by commas").Helpf(`write "," instead of ";"`)
			p.advance()
			return true
		}
		p.expect(',')
		if p.tok.kind == tokIdent && !p.startsDecl() {
			return true // only the comma is missing
		}
	}
	for p.tok.kind != tokEOF && p.tok.kind != '}' && !p.startsDecl() {
		if p.tok.kind == ',' || p.tok.kind == ';' {
			p.advance()
			return true
		}
		p.advance()
	}
	return false
}

func (p *parser) parseEnumVal(union bool) (v EnumVal, ok bool) {
	v.Doc = p.tok.doc
	if union {
		v.Name, ok = p.path("the name of a member")
	} else {
		v.Name, ok = p.name("the name of a value")
	}
	if !ok {
		return v, false
	}
	if union && p.tok.kind == ':' {
		p.advance()
		t, ok := p.parseType()
		if !ok {
			return v, false
		}
		v.Type = &t
	}
	if p.tok.kind == '=' {
		p.advance()
		if p.tok.kind != tokInt {
			p.unexpected("an integer")
			return v, false
		}
		v.Value, _ = p.parseValue(0)
	}
	v.Meta, ok = p.metadata()
	return v, ok
}
