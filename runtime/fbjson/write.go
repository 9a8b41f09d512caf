package fbjson

import (
	"encoding/binary"
	"fmt"
	"math"
	"sort"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/ipcgen/ipcgen/internal/schema"
	"github.com/ipcgen/ipcgen/runtime/fb"
)

// WriteOptions says how a text is written. The zero value, and nil, stand for exact JSON in one
// line.
type WriteOptions struct {
	// Indent is the number of spaces by which each level is indented, each member and element
	// on a line of its own; 0 stands for one line.
	Indent int
	// Defaults writes scalars that are absent, too, with their default, or null for optional
	// ones.
	Defaults bool
	// ReplaceInvalid writes U+FFFD for bytes of strings that are not UTF-8. Otherwise such a
	// string is an error, since no JSON stands for it.
	ReplaceInvalid bool

	// Flatc writes what flatc -t writes, byte for byte: indented by 2, names without quotes,
	// numbers with 6 or 12 digits behind the point, nan and inf as bare words. Not every such
	// text reads back as the same buffer.
	Flatc bool
	// Strict writes quotes around names, as flatc --strict-json. It matters with Flatc only.
	Strict bool
	// NaturalUTF8 writes characters beyond ASCII as they are, as flatc --natural-utf8. It
	// matters with Flatc only.
	NaturalUTF8 bool

	// Limits bounds the buffer, and MaxBytes the text: 64 MiB and 64 times the length of the
	// buffer if it is 0.
	Limits   fb.Limits
	MaxBytes int
}

// AppendJSON appends to dst the text of a buffer whose root is the table, or of a struct. The
// buffer is verified first, and not kept. The error for a buffer that cannot be read, or be written
// as JSON, is a [*fb.VerifyError]; dst then comes back as it was.
func (t *Type) AppendJSON(dst, buf []byte, o *WriteOptions) ([]byte, error) {
	if o == nil {
		o = new(WriteOptions)
	}
	if err := t.Verify(buf, o.Limits); err != nil {
		return dst, err
	}
	w := writer{schema: t.schema, o: *o, buf: buf, out: dst}
	w.limit = o.MaxBytes
	if w.limit == 0 {
		w.limit = 64<<20 + 64*len(buf)
	}
	w.limit += len(dst)
	if o.Flatc {
		w.o.Indent = 2
	}
	if err := w.root(t); err != nil {
		path := t.object.Name
		for i := len(w.path) - 1; i >= 0; i-- {
			path += w.path[i]
		}
		return dst, &fb.VerifyError{Path: path, Reason: err.Error()}
	}
	if o.Flatc {
		w.newline()
	}
	return w.out, nil
}

// A writer writes the text of a verified buffer.
type writer struct {
	schema *Schema
	o      WriteOptions
	buf    []byte // the whole, or a buffer nested in it
	out    []byte
	limit  int
	indent int
	path   []string // of an error, from the innermost step outwards
}

// root writes the whole buffer.
func (w *writer) root(t *Type) error {
	if t.object.IsStruct {
		return w.structAt(t.object, 0)
	}
	return w.table(t, int(binary.LittleEndian.Uint32(w.buf)))
}

// checkSize fails when the text has become too long.
func (w *writer) checkSize() error {
	if len(w.out) > w.limit {
		return fmt.Errorf("the text would be longer than %d bytes", w.limit)
	}
	return nil
}

// failed notes where an error came from.
func (w *writer) failed(err error, step string) error {
	if err != nil {
		w.path = append(w.path, step)
	}
	return err
}

func (w *writer) raw(s string) { w.out = append(w.out, s...) }

// newline begins a line, unless all is in one.
func (w *writer) newline() {
	if w.o.Indent <= 0 {
		return
	}
	w.out = append(w.out, '\n')
	for range w.indent * w.o.Indent {
		w.out = append(w.out, ' ')
	}
}

// colon separates a name from its value.
func (w *writer) colon() {
	w.out = append(w.out, ':')
	if w.o.Indent > 0 {
		w.out = append(w.out, ' ')
	}
}

// elements writes n elements between brackets.
func (w *writer) elements(opening, closing byte, n int, element func(int) error) error {
	w.out = append(w.out, opening)
	w.indent++
	for i := range n {
		if i > 0 {
			w.out = append(w.out, ',')
		}
		w.newline()
		if err := element(i); err != nil {
			return err
		}
		if err := w.checkSize(); err != nil {
			return err
		}
	}
	if n == 0 && w.o.Flatc {
		w.out = append(w.out, '\n')
	}
	w.indent--
	if n > 0 || w.o.Flatc {
		w.newline()
	}
	w.out = append(w.out, closing)
	return nil
}

// list writes n elements of a vector or an array.
func (w *writer) list(n int, element func(int) error) error {
	return w.elements('[', ']', n, func(i int) error {
		if err := element(i); err != nil {
			return w.failed(err, "["+strconv.Itoa(i)+"]")
		}
		return nil
	})
}

// u32 reads an offset or a length.
func (w *writer) u32(at int) int { return int(binary.LittleEndian.Uint32(w.buf[at:])) }

// vector returns the number of elements of the vector that the offset at a position leads to,
// and where the first is.
func (w *writer) vector(at int) (n, first int) {
	at += w.u32(at)
	return w.u32(at), at + offsetSize
}

// member begins a member of an object.
func (w *writer) member(f *schema.Field, first bool) {
	if !first {
		w.out = append(w.out, ',')
	}
	w.newline()
	if w.o.Flatc && !w.o.Strict {
		w.raw(f.Name)
	} else {
		w.out = append(append(append(w.out, '"'), f.Name...), '"')
	}
	w.colon()
}

// table writes a table.
func (w *writer) table(t *Type, at int) error {
	w.out = append(w.out, '{')
	w.indent++
	written := false
	fields := t.object.Fields
	if !w.o.Defaults && t.object.Key == nil { // what is behind the vtable is not written
		vtable := at - int(int32(binary.LittleEndian.Uint32(w.buf[at:])))
		end := int(binary.LittleEndian.Uint16(w.buf[vtable:]))
		fields = fields[:sort.Search(len(fields), func(i int) bool {
			return fields[i].Offset >= end
		})]
	}
	for _, f := range fields {
		place := fieldAt(w.buf, at, f.Offset)
		if place == 0 && !(f.Type.Base.IsScalar() && !f.Deprecated && (w.o.Defaults || f.Key)) {
			continue
		}
		if f.Tag != nil && fieldAt(w.buf, at, f.Tag.Offset) == 0 {
			continue // a value without a type, which nothing can tell
		}
		w.member(f, !written)
		written = true
		if err := w.field(f, at, place); err != nil {
			return w.failed(err, "."+f.Name)
		}
		if err := w.checkSize(); err != nil {
			return err
		}
	}
	w.indent--
	if written || w.o.Flatc {
		w.newline()
	}
	w.out = append(w.out, '}')
	return nil
}

// field writes the value of a field of the table at a position; place is 0 when it is absent.
func (w *writer) field(f *schema.Field, table, place int) error {
	typ := f.Type
	switch {
	case place == 0 && f.Optional:
		w.raw("null")
	case place == 0:
		w.scalar(typ, defaultBits(f))
	case typ.Base.IsScalar():
		w.scalar(typ, bitsAt(w.buf, place, scalarSize(typ)))
	case typ.IsStruct():
		return w.structAt(typ.Object, place)
	case typ.Base == schema.String:
		return w.string(place + w.u32(place))
	case typ.Base == schema.Union:
		tag := bitsAt(w.buf, fieldAt(w.buf, table, f.Tag.Offset), typ.Enum.Underlying.Size())
		return w.unionMember(typ.Enum, tag, place)
	case typ.Base == schema.Obj:
		return w.table(w.schema.types[typ.Object], place+w.u32(place))
	case f.FlexBuffer:
		return w.flexField(place)
	case f.NestedFlatbuffer != nil:
		return w.nested(w.schema.types[f.NestedFlatbuffer], place)
	case typ.Element == schema.Union:
		_, tags := w.vector(fieldAt(w.buf, table, f.Tag.Offset))
		size := typ.Enum.Underlying.Size()
		n, first := w.vector(place)
		return w.list(n, func(i int) error {
			return w.unionMember(typ.Enum, bitsAt(w.buf, tags+i*size, size), first+i*offsetSize)
		})
	default:
		n, first := w.vector(place)
		elem := typ.Elem()
		size := elementSize(elem)
		return w.list(n, func(i int) error { return w.element(elem, first+i*size) })
	}
	return nil
}

// element writes an element of a vector or an array, or a field of a struct.
func (w *writer) element(elem schema.Type, at int) error {
	switch {
	case elem.Base.IsScalar():
		w.scalar(elem, bitsAt(w.buf, at, scalarSize(elem)))
		return nil
	case elem.IsStruct():
		return w.structAt(elem.Object, at)
	case elem.Base == schema.String:
		return w.string(at + w.u32(at))
	}
	return w.table(w.schema.types[elem.Object], at+w.u32(at))
}

// structAt writes a struct.
func (w *writer) structAt(o *schema.Object, at int) error {
	w.out = append(w.out, '{')
	w.indent++
	for i, f := range o.Fields {
		w.member(f, i == 0)
		var err error
		if f.Type.Base == schema.Array {
			elem := f.Type.Elem()
			err = w.list(f.Type.FixedLength, func(i int) error {
				return w.element(elem, at+f.Offset+i*elementSize(elem))
			})
		} else {
			err = w.element(f.Type, at+f.Offset)
		}
		if err != nil {
			return w.failed(err, "."+f.Name)
		}
	}
	w.indent--
	w.newline()
	w.out = append(w.out, '}')
	return nil
}

// unionMember writes the member of a union that the offset at a position leads to. One of a
// later version, of which the schema knows nothing, is null.
func (w *writer) unionMember(e *schema.Enum, tag uint64, at int) error {
	m := w.schema.members[e][tag]
	if m == nil {
		w.raw("null")
		return nil
	}
	at += w.u32(at)
	switch {
	case m.Type.Base == schema.String:
		return w.string(at)
	case m.Type.IsStruct():
		return w.structAt(m.Type.Object, at)
	}
	return w.table(w.schema.types[m.Type.Object], at)
}

// nested writes the buffer whose vector the offset at a position leads to.
func (w *writer) nested(t *Type, at int) error {
	n, first := w.vector(at)
	outer := w.buf
	w.buf = outer[first : first+n]
	err := w.table(t, w.u32(0))
	w.buf = outer
	return err
}

func (w *writer) flexField(at int) error {
	n, first := w.vector(at)
	if n == 0 {
		w.raw("null")
		return nil
	}
	root, err := flexRoot(w.buf[first : first+n])
	if err != nil {
		return err
	}
	return w.flex(root)
}

// scalar writes a number, or the name of an enum's value.
func (w *writer) scalar(typ schema.Type, bits uint64) {
	base := scalarBase(typ)
	switch {
	case base == schema.Bool:
		w.out = strconv.AppendBool(w.out, bits != 0)
		return
	case base.IsFloat():
		w.float(floatOf(base, bits), base.Size())
		return
	}
	v := signed(bits, base.Size())
	if base.IsUnsigned() {
		v = int64(bits)
	}
	switch {
	case typ.Enum != nil && w.names(typ.Enum, v):
	case base.IsUnsigned():
		w.out = strconv.AppendUint(w.out, bits, 10)
	default:
		w.out = strconv.AppendInt(w.out, v, 10)
	}
}

// names writes an enum's value by its name, or flags by theirs, and reports whether it can.
func (w *writer) names(e *schema.Enum, v int64) bool {
	if value := valueOf(e, v); value != nil {
		w.out = append(append(append(w.out, '"'), value.Name...), '"')
		return true
	}
	if !e.BitFlags || v == 0 {
		return false
	}
	start, rest := len(w.out), uint64(v)
	w.out = append(w.out, '"')
	for _, value := range e.Values {
		if uint64(v)&uint64(value.Value) != 0 {
			rest &^= uint64(value.Value)
			w.out = append(append(w.out, value.Name...), ' ')
		}
	}
	if rest != 0 {
		w.out = w.out[:start]
		return false
	}
	w.out[len(w.out)-1] = '"'
	return true
}

func (w *writer) float(f float64, size int) {
	switch {
	case w.o.Flatc:
		digits := 12
		if size == 4 {
			digits = 6
		}
		w.out = appendFixed(w.out, f, digits)
	case math.IsNaN(f):
		w.raw(`"nan"`)
	case math.IsInf(f, 1):
		w.raw(`"inf"`)
	case math.IsInf(f, -1):
		w.raw(`"-inf"`)
	default:
		w.out = appendFloat(w.out, f, size)
	}
}

// string writes the string at a position.
func (w *writer) string(at int) error {
	return w.quote(w.buf[at+offsetSize:][:w.u32(at)], false)
}

// quote writes a string. escapeBytes writes what is not UTF-8 as \x escapes, as flatc does in
// FlexBuffers.
func (w *writer) quote(s []byte, escapeBytes bool) error {
	w.out = append(w.out, '"')
	for len(s) > 0 {
		c := s[0]
		if c < utf8.RuneSelf {
			w.char(c)
			s = s[1:]
			continue
		}
		r, n := utf8.DecodeRune(s)
		switch {
		case r == utf8.RuneError && n < 2 && escapeBytes:
			w.out = fmt.Appendf(w.out, `\x%02X`, c)
		case r == utf8.RuneError && n < 2 && !w.o.ReplaceInvalid:
			return fmt.Errorf("the string is not UTF-8 at byte %#x, and no JSON stands for it", c)
		case w.o.Flatc && !w.o.NaturalUTF8 && r > 0xffff:
			high, low := utf16.EncodeRune(r)
			w.out = fmt.Appendf(w.out, `\u%04X\u%04X`, high, low)
		case w.o.Flatc && !w.o.NaturalUTF8:
			w.out = fmt.Appendf(w.out, `\u%04X`, r)
		default:
			w.out = utf8.AppendRune(w.out, r)
		}
		s = s[n:]
	}
	w.out = append(w.out, '"')
	return w.checkSize()
}

// char writes an ASCII character of a string.
func (w *writer) char(c byte) {
	switch c {
	case '\n':
		w.raw(`\n`)
	case '\t':
		w.raw(`\t`)
	case '\r':
		w.raw(`\r`)
	case '\b':
		w.raw(`\b`)
	case '\f':
		w.raw(`\f`)
	case '"':
		w.raw(`\"`)
	case '\\':
		w.raw(`\\`)
	default:
		if c < ' ' || c == 0x7f && w.o.Flatc && !w.o.NaturalUTF8 {
			w.out = fmt.Appendf(w.out, `\u%04X`, c)
			return
		}
		w.out = append(w.out, c)
	}
}
