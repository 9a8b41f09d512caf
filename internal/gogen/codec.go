package gogen

import (
	"github.com/dave/jennifer/jen"
	"github.com/ipcgen/ipcgen/internal/schema"
)

// A codec is the set of generated functions that write one message and read it:
// a member of an envelope, or a table as the root of its own buffer.
type codec struct {
	env    *envelope // nil for a table of its own
	member *member
	table  *schema.Object // the envelope's, or the message itself
	name   string         // that its functions' names are made of

	// finish puts around a message what surrounds it, and open verifies a buffer
	// and finds the message in it. Both have all sequence numbers.
	finish, open string
	// encode and decode are for requests and one-way messages, encodeReply and
	// decodeReply for replies; "" when there are none.
	encode, decode           string
	encodeReply, decodeReply string

	flat *flat // the message's constant layout, or nil
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

// planCodecs lists the codecs that the files of envelopes and services write.
func (p *plan) planCodecs() {
	p.codecs = make(map[codecKey]*codec)
	for _, e := range p.envelopes {
		k := p.pkgOf(e.table.Namespace)
		for _, m := range e.members {
			p.codecOf(&e.codecs, memberKey(k, e, m), e, m).forMessages(k)
		}
	}
	for _, s := range p.services {
		k := p.pkgOf(s.decl.Namespace)
		for _, m := range s.methods {
			p.codecOf(&s.codecs, requestKey(k, s, m), s.request, m.request).forMessages(k)
			p.codecOf(&s.codecs, replyKey(k, s, m), s.reply, m.reply).forReplies(k)
		}
	}
}

// codecOf returns the codec of key. If there is none yet, it makes one and
// appends it to codecs, those that one file writes.
func (p *plan) codecOf(codecs *[]*codec, key codecKey, e *envelope, m *member) *codec {
	if c := p.codecs[key]; c != nil {
		return c
	}
	c := &codec{env: e, member: m, table: key.object, name: sentence(p.objects[key.object].Type)}
	if m != nil {
		c.name += m.name
	}
	c.finish = key.pkg.function("finish" + c.name)
	c.open = key.pkg.function("open" + c.name)
	c.flat = p.flatten(key.pkg, c)
	p.codecs[key] = c
	*codecs = append(*codecs, c)
	return c
}

// function claims the name of a function that nobody but generated code calls.
func (k *pkg) function(name string) string {
	return k.claim(name, &owner{what: "a function of ipcgen's"})
}

// forMessages and forReplies name the functions for one use of a codec.
func (c *codec) forMessages(k *pkg) {
	if c.encode == "" {
		c.encode, c.decode = k.function("encode"+c.name), k.function("decode"+c.name)
	}
}

func (c *codec) forReplies(k *pkg) {
	if c.encodeReply == "" {
		c.encodeReply, c.decodeReply = k.function("encode"+c.name+"Reply"), k.function("decode"+c.name+"Reply")
	}
}

// isText reports whether the message is a string.
func (c *codec) isText() bool { return c.member != nil && c.member.isText() }

// message returns the table or struct that is the message, or nil for a string.
func (c *codec) message() *schema.Object {
	if c.member != nil {
		return c.member.val.Type.Object
	}
	return c.table
}

// refSeq returns the field of the message that says which request it answers,
// or nil; it counts in envelopes only, where the schema has the numbers.
func (c *codec) refSeq() *schema.Field {
	if c.env == nil || c.isText() || c.message().IsStruct {
		return nil
	}
	for _, field := range c.message().Fields {
		if field.Name == "ref_seq" && isCounter(field) && !field.Deprecated {
			return field
		}
	}
	return nil
}

// numberField returns the field with the number that decode returns: "seq" or
// "refSeq"; nil if the message has none.
func (c *codec) numberField(number string) *schema.Field {
	switch field := c.refSeq(); {
	case c.env == nil:
		return nil
	case number == "seq":
		return c.env.seq
	case field != nil:
		return field
	default:
		return c.env.refSeq
	}
}

// codec writes the functions of a codec.
func (f *file) codec(c *codec) {
	if c.flat != nil {
		f.flatTemplate(c)
	}
	f.finishMessage(c)
	f.openMessage(c)
	if c.encode != "" {
		f.encode(c, c.encode, nil)
		f.decode(c, c.decode, "seq")
	}
	if c.encodeReply != "" {
		f.encode(c, c.encodeReply, c.refSeq())
		f.decode(c, c.decodeReply, "refSeq")
	}
}

// messageType returns the Go type of a member, as its codec has it by pointer.
func (f *file) messageType(m *member) string {
	if m.isText() {
		return "string"
	}
	return f.objectObject(m.val.Type.Object)
}

// imported qualifies an exported name of the package of c's table.
func (f *file) imported(c *codec, name string) *jen.Statement {
	return jen.Id(f.qualifier(f.plan.pkgOf(c.table.Namespace)) + name)
}

// konst returns the constant of a member's type. One whose name is not exported
// is out of reach for other packages, and stands as its value there.
func (f *file) konst(e *envelope, m *member) *jen.Statement {
	union := e.payload.Type.Enum
	k := f.plan.pkgOf(union.Namespace)
	if k != f.pkg && !isExported(m.konst) {
		return jen.Id(f.enumType(union)).Call(jen.Op(enumValue(union, m.val)))
	}
	return jen.Id(f.qualifier(k) + m.konst)
}

// finishMessage writes the function that finishes a buffer around a message. It
// writes slots as Pack does: the table's own builders may have names that other
// packages cannot use.
func (f *file) finishMessage(c *codec) {
	seq, refSeq := "_", "_"
	if c.env != nil && c.env.seq != nil {
		seq = localMark + "seq"
	}
	if c.env != nil && c.env.refSeq != nil {
		refSeq = localMark + "refSeq"
	}
	f.decl("", jen.Func().Id(c.finish).Params(builder(), jen.Id(seq), jen.Id(refSeq).Uint64(), local("m").Add(flatbuffers("UOffsetT"))).
		BlockFunc(func(g *jen.Group) {
			root := local("m")
			if e := c.env; e != nil {
				g.Add(fb("StartTable").Call(local("b"), jen.Lit(len(e.table.Fields))))
				for _, field := range e.table.Fields {
					slot := func(method string, v *jen.Statement) {
						g.Add(local("b")).Dot("Prepend"+method+"Slot").Call(jen.Lit(field.ID), v, jen.Lit(0))
					}
					switch field {
					case e.seq:
						slot("Uint64", jen.Id(seq))
					case e.refSeq:
						slot("Uint64", jen.Id(refSeq))
					case e.payload.Tag:
						tag := scalars[wire(field.Type)]
						slot(tag.method, jen.Id(tag.goType).Call(f.konst(e, c.member)))
					case e.payload:
						slot("UOffsetT", root)
					}
				}
				root = fb("EndTable").Call(local("b"))
			}
			g.Add(f.imported(c, f.plan.objects[c.table].FinishBuffer)).Call(local("b"), root)
		}))
}

// openMessage writes the function that verifies a buffer and finds the message
// in it.
func (f *file) openMessage(c *codec) {
	typ := jen.Index().Byte()
	if !c.isText() {
		typ = jen.Id(f.objectType(c.message()))
	}
	verify := f.imported(c, f.plan.objects[c.table].Verify)
	f.decl("", jen.Func().Id(c.open).Params(local("buf").Index().Byte()).
		Params(local("m").Add(typ), jen.List(local("seq"), local("refSeq")).Uint64(), local("err").Error()).
		BlockFunc(func(g *jen.Group) {
			g.If(local("err").Op(":=").Add(verify).Call(local("buf")), local("err").Op("!=").Nil()).Block(
				jen.Return(local("m"), jen.Lit(0), jen.Lit(0), local("err")))
			root := flatbuffers("GetUOffsetT").Call(local("buf"))
			if c.env == nil {
				g.Add(local("m")).Dot("Init").Call(local("buf"), root)
				g.Return(local("m"), jen.Lit(0), jen.Lit(0), jen.Nil())
				return
			}
			g.Var().Add(local("x")).Id(f.objectType(c.table))
			g.Add(local("x")).Dot("Init").Call(local("buf"), root)
			f.openMember(g, c)
		}))
}

// openMember writes the part of open that finds a member in its envelope x.
func (f *file) openMember(g *jen.Group, c *codec) {
	get := func(of string, field *schema.Field) *jen.Statement {
		if field == nil {
			return jen.Lit(0)
		}
		return local(of).Dot(f.plan.fields[field].Get).Call()
	}
	e := c.env
	seq, refSeq := get("x", e.seq), get("x", e.refSeq)
	tag, want := get("x", e.payload.Tag), f.konst(e, c.member)
	payload := local("x").Dot(f.plan.fields[e.payload].Get).Call(jen.Op("&").Add(local("u")))
	if f.plan.pkgOf(e.table.Namespace) != f.pkg && !isExported(f.plan.fields[e.payload].Get) {
		// What the accessors do, which are out of reach here.
		g.Add(local("t")).Op(":=").Add(local("x")).Dot("Table").Call()
		payload = fb("FieldUnion").Call(jen.Op("&").Add(local("t")), jen.Lit(e.payload.Offset), jen.Op("&").Add(local("u")))
		tag = jen.Id(f.enumType(e.payload.Type.Enum)).Call(
			local("t").Dot("Get"+methodOf(e.payload.Tag.Type)+"Slot").Call(jen.Lit(e.payload.Tag.Offset), jen.Lit(0)))
	}
	g.Var().Add(local("u")).Add(flatbuffers("Table"))
	g.If(jen.Op("!").Add(payload).Op("||").Add(tag).Op("!=").Add(want)).Block(
		jen.Return(local("m"), seq, refSeq,
			fb("WrongMember").Call(jen.Lit(e.table.Name+"."+e.payload.Name), want, tag)))
	if c.isText() {
		g.Return(fb("UnionBytes").Call(jen.Op("&").Add(local("u"))), seq, refSeq, jen.Nil())
		return
	}
	if field := c.refSeq(); field != nil {
		refSeq = get("m", field)
	}
	g.Add(local("m")).Dot("Init").Call(local("u").Dot("Bytes"), local("u").Dot("Pos"))
	g.Return(local("m"), seq, refSeq, jen.Nil())
}

// encode writes the function that builds a buffer from an object, for a
// MethodSpec or a MessageSpec. refSeq is the field of a reply that says which
// request it answers, or nil.
func (f *file) encode(c *codec, name string, refSeq *schema.Field) {
	typ, what := "string", fullName(c.table.Namespace, c.table.Name)
	if !c.isText() {
		typ = f.objectObject(c.message())
	}
	if c.member != nil {
		what += "." + c.member.val.Name
	}
	numbers, number := local("seq").Uint64(), jen.Lit(0)
	if name == c.encodeReply {
		numbers, number = jen.List(local("seq"), local("refSeq")).Uint64(), local("refSeq")
	}
	f.decl("", jen.Func().Id(name).Params(builder(), numbers, local("m").Add(ptr(typ))).Error().
		BlockFunc(func(g *jen.Group) {
			g.If(local("m").Op("==").Nil()).Block(jen.Return(ipc("NilMessage").Call(jen.Lit(what))))
			if c.flat != nil {
				f.encodeFlat(g, c, refSeq, number)
				g.Return(jen.Nil())
				return
			}
			if !c.isText() {
				if check := f.plan.objects[c.message()].Check; check != "" {
					g.If(local("err").Op(":=").Add(local("m")).Dot(check).Call(), local("err").Op("!=").Nil()).Block(jen.Return(local("err")))
				}
			}
			packed := local("m").Dot("Pack").Call(local("b"))
			switch {
			case c.isText():
				packed = local("b").Dot("CreateString").Call(jen.Op("*").Add(local("m")))
			case refSeq != nil:
				g.Add(local("answer")).Op(":=").Op("*").Add(local("m")).Comment("// which stays as the handler made it")
				g.Add(local("answer")).Dot(f.plan.fields[refSeq].Member).Op("=").Add(local("refSeq"))
				packed = local("answer").Dot("Pack").Call(local("b"))
			}
			g.Id(c.finish).Call(local("b"), local("seq"), number, packed)
			g.Return(jen.Nil())
		}))
}

// decode writes the function that reads a buffer into an object and returns one
// of its numbers, for a MethodSpec or a MessageSpec.
func (f *file) decode(c *codec, name, number string) {
	typ := jen.String()
	unpack := jen.Op("*").Add(local("m")).Op("=").String().Call(local("x"))
	if !c.isText() {
		typ = jen.Id(f.objectObject(c.message()))
		unpack = local("x").Dot("UnPackTo").Call(local("m"))
	}
	seq, refSeq := local(number), jen.Id("_")
	if number == "refSeq" {
		seq, refSeq = refSeq, seq
	}
	f.decl("", jen.Func().Id(name).Params(local("buf").Index().Byte(), local("m").Op("*").Add(typ)).
		Params(local(number).Uint64(), local("err").Error()).
		BlockFunc(func(g *jen.Group) {
			if c.flat != nil {
				f.decodeFlat(g, c, number)
			}
			g.List(local("x"), seq, refSeq, local("err")).Op(":=").Id(c.open).Call(local("buf"))
			g.If(local("err").Op("!=").Nil()).Block(jen.Return(local(number), local("err")))
			g.Add(unpack)
			g.Return(local(number), jen.Nil())
		}))
}
