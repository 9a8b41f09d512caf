package fbs

// parseValue parses a value nested in depth calls.
func (p *parser) parseValue(depth int) (*Value, bool) {
	v := &Value{Range: p.tok.Range, Text: p.tok.text}
	switch p.tok.kind {
	case '+', '-':
		// The scanner returns a sign token only if a name follows.
		sign := string(rune(p.tok.kind))
		p.advance()
		v.Kind, v.Text, v.Range = IdentValue, sign+p.tok.text, v.Through(p.tok.Range)
	case tokIdent:
		v.Kind = IdentValue
	case tokString:
		v.Kind, v.Escaped = StringValue, p.tok.escaped
	case tokInt:
		v.Kind = IntValue
	case tokFloat:
		v.Kind = FloatValue
	case '[':
		v.Kind = EmptyVector
		p.advance()
		v.Range = v.Through(p.tok.Range)
		if p.tok.kind != ']' {
			p.unexpected(`"]" (the only default of a vector is [])`)
			return v, false
		}
	default:
		p.unexpected("a value")
		return v, false
	}
	// A name directly followed by a parenthesis is a call; with a space
	// between, it is a default followed by metadata.
	call := v.Kind == IdentValue && p.peek.kind == '(' && p.peek.Start == p.tok.End
	p.advance()
	if !call {
		return v, true
	}
	if !isFunction(v.Text) {
		p.errorf(v.Range, "%s is not a function", v.Text).
			Helpf("the functions are deg, rad, sin, cos, tan, asin, acos and atan; put a space " +
				"before the metadata of a field whose default is a name")
		return v, false
	}
	if depth >= maxCalls {
		p.errorf(v.Range, "calls nest more than %d deep", maxCalls)
		return v, false
	}
	v.Kind = CallValue
	p.advance()
	var ok bool
	if v.Arg, ok = p.parseValue(depth + 1); !ok {
		return v, false
	}
	ok = p.expect(')')
	v.Range = v.Through(p.prev)
	return v, ok
}

func isFunction(name string) bool {
	switch name {
	case "deg", "rad", "sin", "cos", "tan", "asin", "acos", "atan":
		return true
	}
	return false
}

// metadata parses a list of attributes, if one follows.
func (p *parser) metadata() (list []Attribute, ok bool) {
	if p.tok.kind != '(' {
		return nil, true
	}
	p.advance()
	for {
		var a Attribute
		switch p.tok.kind {
		case tokIdent, tokString:
			a.Name = Name{p.tok.Range, p.tok.text}
			p.advance()
		default:
			p.unexpected("the name of an attribute")
			return list, false
		}
		if p.tok.kind == ':' {
			p.advance()
			if p.tok.kind != tokInt && p.tok.kind != tokString {
				p.unexpected("the attribute's value, an integer or a string")
				return list, false
			}
			a.Value, _ = p.parseValue(0)
		}
		list = append(list, a)
		if p.tok.kind == ')' {
			p.advance()
			return list, true
		}
		if !p.expect(',') {
			return list, false
		}
	}
}
