package fbs

func (p *parser) parseService() {
	s := &Service{Doc: p.tok.doc}
	p.advance()
	var ok bool
	if s.Name, ok = p.name("the name of the service"); !ok {
		p.skipStatement()
		return
	}
	p.file.Decls = append(p.file.Decls, s)
	if s.Meta, ok = p.metadata(); !ok || !p.expect('{') {
		p.skipHeader()
		return
	}
	if p.tok.kind == '}' {
		p.errorf(s.Name.Range, "service %s has no method", s.Name.Text).
			Helpf("declare one: Method(Request): Reply;")
	}
	for p.inBody() {
		if m, ok := p.parseMethod(); ok {
			s.Methods = append(s.Methods, m)
		} else {
			p.skipStatement()
		}
	}
	p.closeBody(s.Name)
}

func (p *parser) parseMethod() (m Method, ok bool) {
	m.Doc = p.tok.doc
	if m.Name, ok = p.name("the name of a method"); !ok {
		return m, false
	}
	if !p.expect('(') {
		return m, false
	}
	if m.Request, ok = p.path("the request, a table"); !ok || !p.expect(')') || !p.expect(':') {
		return m, false
	}
	if m.Reply, ok = p.path("the reply, a table"); !ok {
		return m, false
	}
	if m.Meta, ok = p.metadata(); !ok {
		return m, false
	}
	p.endStatement()
	return m, true
}
