package gogen

import "github.com/ipcgen/ipcgen/internal/schema"

// A codec is the pair of generated functions that write one message and read
// it: a member of an envelope, or a table as the root of its own buffer.
type codec struct {
	env    *envelope // nil for a table of its own
	member *member
	table  *schema.Object // the envelope's, or the message itself

	encode, decode string
}

// A codecKey identifies a codec: each package has its own.
type codecKey struct {
	pkg    *pkg
	object *schema.Object // the envelope, or the table that is a message by itself
	member string         // of the envelope
}

func memberKey(k *pkg, e *envelope, m *member) codecKey {
	return codecKey{k, e.table, m.val.Name}
}

func requestKey(k *pkg, s *service, m *method) codecKey {
	if s.request == nil {
		return codecKey{pkg: k, object: m.decl.Request}
	}
	return memberKey(k, s.request, m.request)
}

func replyKey(k *pkg, s *service, m *method) codecKey {
	if s.reply == nil {
		return codecKey{pkg: k, object: m.decl.Reply}
	}
	return memberKey(k, s.reply, m.reply)
}

// addCodec makes the codec of key, unless there is one, and returns codecs with
// it appended: those that one file writes.
func (p *plan) addCodec(codecs []*codec, key codecKey, e *envelope, m *member) []*codec {
	if p.codecs[key] != nil {
		return codecs
	}
	name := p.objects[key.object].Type
	c := &codec{env: e, member: m, table: key.object}
	if m != nil {
		name += m.name
	}
	c.encode = key.pkg.scope.claim("encode"+name, owner{what: "a function of ipcgen's"})
	c.decode = key.pkg.scope.claim("decode"+name, owner{what: "a function of ipcgen's"})
	p.codecs[key] = c
	return append(codecs, c)
}

// planCodecs lists the codecs that the files of envelopes and services write.
func (p *plan) planCodecs() {
	p.codecs = make(map[codecKey]*codec)
	for _, e := range p.envelopes {
		k := p.pkgOf(e.table.Namespace)
		for _, m := range e.members {
			e.codecs = p.addCodec(e.codecs, memberKey(k, e, m), e, m)
		}
	}
	for _, s := range p.services {
		k := p.pkgOf(s.decl.Namespace)
		for _, m := range s.methods {
			s.codecs = p.addCodec(s.codecs, requestKey(k, s, m), s.request, m.request)
			s.codecs = p.addCodec(s.codecs, replyKey(k, s, m), s.reply, m.reply)
		}
	}
}

// codec writes the two functions of a codec.
func (f *file) codec(c *codec) {
	f.useFlatbuffers()
	f.useIPC()
	if c.env == nil {
		f.tableCodec(c)
		return
	}
	f.encodeMember(c)
	f.decodeMember(c)
}

// tableCodec writes the codec of a table that is a message by itself.
func (f *file) tableCodec(c *codec) {
	q := f.qualifier(f.plan.pkgOf(c.table.Namespace))
	n := f.plan.objects[c.table]
	f.p("func ", c.encode, "(b *flatbuffers.Builder, _ uint64, m *", f.objectObject(c.table), ") error {")
	f.p("if m == nil {")
	f.p("return ipc.NilMessage(", quote(fullName(c.table.Namespace, c.table.Name)), ")")
	f.p("}")
	f.p(q, n.FinishBuffer, "(b, m.Pack(b))")
	f.p("return nil")
	f.p("}")
	f.p()
	f.p("func ", c.decode, "(buf []byte, m *", f.objectObject(c.table), ") (seq uint64, err error) {")
	f.p("if err := ", q, n.Verify, "(buf); err != nil {")
	f.p("return 0, err")
	f.p("}")
	f.p("var x ", f.objectType(c.table))
	f.p("x.Init(buf, flatbuffers.GetUOffsetT(buf))")
	f.p("x.UnPackTo(m)")
	f.p("return 0, nil")
	f.p("}")
	f.p()
}

// messageType returns the Go type of a member, as its codec has it by pointer.
func (f *file) messageType(m *member) string {
	if m.val.Type.Base == schema.String {
		return "string"
	}
	return f.objectObject(m.val.Type.Object)
}

// encodeMember writes the function that builds an envelope around a member.
func (f *file) encodeMember(c *codec) {
	e := c.env
	q := f.qualifier(f.plan.pkgOf(e.table.Namespace))
	n := f.plan.objects[e.table]
	seq, refSeq := "seq", ""
	if e.seq == nil {
		seq = "_"
	}
	if e.refSeq != nil {
		refSeq = ", refSeq"
	}
	f.p("func ", c.encode, "(b *flatbuffers.Builder, ", seq, refSeq, " uint64, m *", f.messageType(c.member), ") error {")
	f.p("if m == nil {")
	f.p("return ipc.NilMessage(", quote(fullName(e.table.Namespace, e.table.Name)+"."+c.member.val.Name), ")")
	f.p("}")
	if c.member.val.Type.Base == schema.String {
		f.p("payload := b.CreateString(*m)")
	} else {
		f.p("payload := m.Pack(b)")
	}
	f.p(q, n.Start, "(b)")
	for _, field := range e.table.Fields {
		switch add := q + f.plan.fields[field].Add; field {
		case e.seq:
			f.p(add, "(b, seq)")
		case e.refSeq:
			f.p(add, "(b, refSeq)")
		case e.payload.Tag:
			f.p(add, "(b, ", f.konst(e, c.member), ")")
		case e.payload:
			f.p(add, "(b, payload)")
		}
	}
	f.p(q, n.FinishBuffer, "(b, ", q, n.End, "(b))")
	f.p("return nil")
	f.p("}")
	f.p()
}

// konst returns the qualified constant of a member's type.
func (f *file) konst(e *envelope, m *member) string {
	return f.qualifier(f.plan.pkgOf(e.payload.Type.Enum.Namespace)) + m.konst
}

// decodeMember writes the function that reads a member out of its envelope. It
// returns the envelope's sequence numbers.
func (f *file) decodeMember(c *codec) {
	e := c.env
	q := f.qualifier(f.plan.pkgOf(e.table.Namespace))
	n, payload := f.plan.objects[e.table], f.plan.fields[e.payload].Get
	tag := f.plan.fields[e.payload.Tag].Get
	results, values := "seq uint64, err error", "0"
	if e.seq != nil {
		values = "x." + f.plan.fields[e.seq].Get + "()"
	}
	zeros := "0"
	if e.refSeq != nil {
		results = "seq, refSeq uint64, err error"
		values += ", x." + f.plan.fields[e.refSeq].Get + "()"
		zeros = "0, 0"
	}
	f.p("func ", c.decode, "(buf []byte, m *", f.messageType(c.member), ") (", results, ") {")
	f.p("if err := ", q, n.Verify, "(buf); err != nil {")
	f.p("return ", zeros, ", err")
	f.p("}")
	f.p("var x ", f.objectType(e.table))
	f.p("x.Init(buf, flatbuffers.GetUOffsetT(buf))")
	f.p("var u flatbuffers.Table")
	f.p("if !x.", payload, "(&u) || x.", tag, "() != ", f.konst(e, c.member), " {")
	f.p("return ", values, ", ipc.WrongMember(", quote(e.table.Name+"."+e.payload.Name), ", ", f.konst(e, c.member), ", x.", tag, "())")
	f.p("}")
	if c.member.val.Type.Base == schema.String {
		f.p("*m = string(ipc.UnionBytes(&u))")
	} else {
		f.p("var y ", f.objectType(c.member.val.Type.Object))
		f.p("y.Init(u.Bytes, u.Pos)")
		f.p("y.UnPackTo(m)")
	}
	f.p("return ", values, ", nil")
	f.p("}")
	f.p()
}
