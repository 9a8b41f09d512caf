package gogen

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/dave/jennifer/jen"
	"github.com/ipcgen/ipcgen/internal/schema"
)

// A flat is the layout of a message that always has the same layout: the message has only scalars,
// and all of them are written, even if they equal their defaults. So its vtables and offsets are
// constants. Copying them and storing the values takes a fraction of the time that a builder needs
// to determine the same layout for each message.
type flat struct {
	name     string // of the variable that holds the template
	template []byte
	parts    []flatPart
	root     int                   // offset of the root table, from the end as builders count
	message  int                   // position of the message's table in the template
	at       map[*schema.Field]int // position of each value in the template
}

// A flatPart marks the start of a piece of the template, for readers of the generated code.
type flatPart struct {
	what  string
	start int
}

// longestFlat is the size of the longest template, in bytes. In longer messages it pays to omit
// defaults.
const longestFlat = 256

// flatten returns the layout of c's message in the code of key's package, or nil if the message has
// no constant layout. A buffer with a file identifier would be aligned differently, so builders
// write those.
func (p *plan) flatten(key codecKey, c *codec) *flat {
	if c.message() == nil || c.message().IsStruct || p.hasIdentifier(c.table) {
		return nil
	}
	var fields []*schema.Field
	for _, field := range c.message().Fields {
		switch {
		case field.Deprecated:
			continue
		case !isScalar(field.Type.Base) || field.IsTag || field.Optional:
			return nil
		case key.pkg != p.pkgOf(c.message().Namespace) && !isExported(memberName(field)):
			return nil
		}
		fields = append(fields, field)
	}
	l := &flat{at: make(map[*schema.Field]int)}
	l.place(c, fields)
	if len(l.template) > longestFlat {
		return nil
	}
	l.name = key.function("flat" + c.name)
	return l
}

// place lays out the message, and the envelope around it if there is one: the vtables first, then
// the tables.
func (l *flat) place(c *codec, fields []*schema.Field) {
	message := newFlatTable(c.message(), fields)
	if c.env == nil {
		l.vtable(&message)
		l.message = l.table(&message)
		l.root = l.message
	} else {
		tag, payload := c.env.payload.Tag, c.env.payload
		around := []*schema.Field{tag, payload}
		for _, field := range []*schema.Field{c.env.seq, c.env.refSeq} {
			if field != nil {
				around = append(around, field)
			}
		}
		env := newFlatTable(c.table, around)
		l.vtable(&env)
		l.vtable(&message)
		l.root = l.table(&env)
		l.put(tag, uint64(c.member.val.Value))
		l.message = l.table(&message)
		l.put(payload, uint64(l.message-l.at[payload]))
	}
	l.align(0, 8) // so that the buffer is aligned at its end
	l.root = len(l.template) - l.root
}

// flatHead is the number of bytes that precede a template in the buffer: the offset of the root,
// and the length of what the builder takes for a vector.
const flatHead = 8

// align pads the template until its length plus skip bytes is a multiple of n. As flatHead is a
// multiple of 8, everything is aligned in the buffer, too.
func (l *flat) align(skip, n int) {
	l.template = append(l.template, make([]byte, -(len(l.template)+skip)&(n-1))...)
}

// add appends a part to the template and returns the position of the part.
func (l *flat) add(what string, bytes []byte) int {
	start := len(l.template)
	l.parts = append(l.parts, flatPart{what, start})
	l.template = append(l.template, bytes...)
	return start
}

// put sets a value that is the same in all messages.
func (l *flat) put(field *schema.Field, v uint64) {
	var word [8]byte
	binary.LittleEndian.PutUint64(word[:], v)
	copy(l.template[l.at[field]:][:inlineSize(field.Type)], word[:])
}

// A flatTable is a table that is being laid out.
type flatTable struct {
	name   string
	fields []*schema.Field       // in the order of their values
	at     map[*schema.Field]int // the positions of the values in the table
	size   int
	vtable int // the position of the vtable in the template
}

// newFlatTable lays out a table: large values first, which leaves no gaps.
func newFlatTable(o *schema.Object, fields []*schema.Field) flatTable {
	t := flatTable{name: fullName(o.Namespace, o.Name), fields: fields,
		at: make(map[*schema.Field]int), size: 4}
	slices.SortStableFunc(fields, func(a, b *schema.Field) int {
		return cmp.Compare(inlineSize(b.Type), inlineSize(a.Type))
	})
	for _, field := range fields {
		t.at[field] = t.size
		t.size += inlineSize(field.Type)
	}
	return t
}

// vtable appends the vtable of a table.
func (l *flat) vtable(t *flatTable) {
	slots := 0
	for _, field := range t.fields {
		slots = max(slots, field.ID+1)
	}
	v := make([]byte, 4+2*slots)
	binary.LittleEndian.PutUint16(v, uint16(len(v)))
	binary.LittleEndian.PutUint16(v[2:], uint16(t.size))
	for _, field := range t.fields {
		binary.LittleEndian.PutUint16(v[4+2*field.ID:], uint16(t.at[field]))
	}
	t.vtable = l.add("vtable of "+t.name, v)
}

// table appends a table, whose vtable was appended before, and returns the position of the table.
// Its first value, which is the largest, is aligned, and so are all values that follow.
func (l *flat) table(t *flatTable) int {
	largest := 4
	if len(t.fields) > 0 {
		largest = max(largest, inlineSize(t.fields[0].Type))
	}
	l.align(4, largest)
	start := l.add(t.name, make([]byte, t.size))
	binary.LittleEndian.PutUint32(l.template[start:], uint32(start-t.vtable))
	for field, at := range t.at {
		l.at[field] = start + at
	}
	return start
}

// flatTemplate writes the variable with the constant part of a message.
func (f *file) flatTemplate(c *codec) {
	var b strings.Builder
	for i, part := range c.flat.parts {
		end, then := len(c.flat.template), ","
		if i < len(c.flat.parts)-1 {
			end, then = c.flat.parts[i+1].start, " +"
		}
		b.WriteString("\n\"")
		for _, x := range c.flat.template[part.start:end] {
			fmt.Fprintf(&b, `\x%02x`, x)
		}
		b.WriteString("\"" + then + " // " + part.what)
	}
	for _, field := range c.flat.values(c) {
		fmt.Fprintf(&b, "\nℙfb.Value{At: %d, Size: %d}, // %s", c.flat.at[field],
			inlineSize(field.Type), field.Name)
	}
	f.decl(c.flat.name+" is what is the same in all these messages, and where their values lie.",
		jen.Var().Id(c.flat.name).Op("=").Add(fb("NewLayout")).Call(jen.Lit(c.flat.root),
			jen.Op(`"" +`+b.String()+"\n")))
}

// values returns the fields whose values differ between messages.
func (l *flat) values(c *codec) (fields []*schema.Field) {
	if c.env != nil {
		fields = append(fields, c.env.seq, c.env.refSeq)
	}
	fields = append(fields, c.message().Fields...)
	return slices.DeleteFunc(fields, func(field *schema.Field) bool {
		_, placed := l.at[field]
		return !placed
	})
}

// around reports whether a field is one of the envelope around the message.
func (c *codec) around(field *schema.Field) bool {
	return c.env != nil && (field == c.env.seq || field == c.env.refSeq)
}

// encodeFlat writes the statements that build the message m. refSeq is as for encode; number is the
// expression of its value.
func (f *file) encodeFlat(g *jen.Group, c *codec, refSeq *schema.Field, number *jen.Statement) {
	values := c.flat.values(c)
	x := localMark + "x"
	if len(values) == 0 {
		x = "_"
	}
	g.List(jen.Id(x), local("root")).Op(":=").Id(c.flat.name).Dot("Begin").Call(local("b"))
	for _, field := range values {
		v := jen.Op(toWire(field.Type, localMark+"m."+f.plan.fields[field].Member))
		switch {
		case c.env != nil && field == c.env.seq:
			v = local("seq")
		case c.env != nil && field == c.env.refSeq, field == refSeq:
			v = number.Clone()
		}
		g.Add(flatbuffers("Write"+
			methodOf(field.Type)).Call(local("x").Index(jen.Lit(c.flat.at[field]).Op(":")), v))
	}
	g.Add(f.imported(c, f.plan.objects[c.table].FinishBuffer)).Call(local("b"), local("root"))
}

// placeFlat writes the function that finishes a message, which a builder has made field by field,
// for a call in place: it writes the message again in its constant layout, so that the reader
// recognizes it.
func (f *file) placeFlat(c *codec) {
	_, refSeq := c.numbers()
	f.decl("", jen.Func().Id(c.place).Params(builder(), local("seq"), local("refSeq").Uint64(),
		local("at").Add(flatbuffers("UOffsetT"))).
		BlockFunc(func(g *jen.Group) {
			g.Add(local("pos")).Op(":=").Id(c.flat.name).Dot("Built").Call(local("b"),
				local("at"))
			g.If(local("pos").Op("==").Lit(0)).Block(
				jen.Id(c.finish).Call(local("b"), local("seq"), local("refSeq"), local("at")),
				jen.Return())
			g.Var().Add(local("v")).Id(f.objectType(c.message()))
			g.Add(local("v")).Dot("Init").Call(local("b").Dot("Bytes"), local("pos"))
			g.Var().Add(local("m")).Id(f.objectObject(c.message()))
			g.Add(local("v")).Dot("UnPackTo").Call(jen.Op("&").Add(local("m")))
			g.Add(local("b")).Dot("Reset").Call()
			f.encodeFlat(g, c, nil, jen.Id(refSeq))
		}))
}

// viewFlat writes the function that verifies a buffer for a call in place, and returns the message
// in it.
func (f *file) viewFlat(c *codec) {
	number := func(field *schema.Field) *jen.Statement {
		if field == nil {
			return jen.Lit(0)
		}
		return flatbuffers("GetUint64").Call(local("x").Index(jen.Lit(c.flat.at[field]).Op(":")))
	}
	match := local("x").Op(":=").Id(c.flat.name).Dot("Match").Call(local("buf"))
	f.decl("", jen.Func().Id(c.view).Params(local("buf").Index().Byte()).
		Params(local("m").Id(f.objectType(c.message())), jen.List(local("seq"),
			local("refSeq")).Uint64(), local("err").Error()).
		Block(
			jen.If(match, local("x").Op("!=").Nil()).Block(
				local("m").Dot("Init").Call(local("buf"), jen.Lit(flatHead+c.flat.message)),
				jen.Return(local("m"), number(c.numberField("seq")),
					number(c.numberField("refSeq")), jen.Nil())),
			jen.Return(jen.Id(c.open).Call(local("buf")))))
}

// decodeFlat writes the statements that read a message with this layout into m and return its
// number.
func (f *file) decodeFlat(g *jen.Group, c *codec, number string) {
	match := local("x").Op(":=").Id(c.flat.name).Dot("Match").Call(local("buf"))
	g.If(match, local("x").Op("!=").Nil()).BlockFunc(func(g *jen.Group) {
		for _, field := range c.flat.values(c) {
			value := flatbuffers("Get" +
				methodOf(field.Type)).Call(local("x").Index(jen.Lit(c.flat.at[field]).Op(":")))
			if !c.around(field) {
				if field.Type.Enum != nil {
					value = jen.Id(f.enumType(field.Type.Enum)).Call(value)
				}
				member := local("m").Dot(f.plan.fields[field].Member)
				g.Add(member.Clone()).Op("=").Add(value)
				value = member
			}
			if field == c.numberField(number) {
				g.Add(local(number)).Op("=").Add(value)
			}
		}
		g.Return(local(number), jen.Nil())
	})
}
