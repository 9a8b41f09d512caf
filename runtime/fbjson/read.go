package fbjson

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/ipcgen/ipcgen/internal/schema"
)

// ReadOptions says how a text is read. The zero value, and nil, stand for flatc's defaults.
type ReadOptions struct {
	// Strict refuses names without quotes, and commas behind the last element.
	Strict bool
	// AllowUnknown skips members that the schema does not know.
	AllowUnknown bool
	// ForceDefaults writes fields whose value is the default; otherwise they are left out.
	ForceDefaults bool
	// NestedBytes accepts a nested buffer as a list of its bytes, which are verified, beside
	// the object that it stands for.
	NestedBytes bool
}

// AppendBuffer appends to dst the FlatBuffer that a text stands for, with the table as its root,
// and the schema's file identifier if the table is its root type; for a struct, its bytes. Offsets
// and alignment count from the end of dst. The text is not kept. An error of the text is an
// [*Error]; dst then comes back as it was.
func (t *Type) AppendBuffer(dst, text []byte, o *ReadOptions) ([]byte, error) {
	if o == nil {
		o = new(ReadOptions)
	}
	s := scanner{text: string(text), strict: o.Strict}
	err := s.scan()
	r := reader{schema: t.schema, options: o, text: s.text, nodes: s.nodes,
		buffer: buffer{b: dst, origin: len(dst), vtables: make(map[string]int)}}
	if err == nil {
		err = r.root(t, t.Identifier())
	}
	if err != nil {
		var f *fault
		errors.As(err, &f)
		return dst, locate(s.text, f.pos, r.failedPath(), f.msg)
	}
	return r.b, nil
}

// A reader writes the buffer that the nodes of a text stand for.
type reader struct {
	buffer
	schema  *Schema
	options *ReadOptions
	text    string
	nodes   []node
	// path leads from the root to the value that is being read; it stays there after an error.
	path []step
	// members has the members of the tables that are being read, and slots their fields; those
	// of the innermost come last.
	members []member
	slots   []slot
	depth   int
}

// A step is a field's name, or the index of an element.
type step struct {
	name  string
	index int
}

// A member is a member of an object in the text.
type member struct {
	field *schema.Field
	value int // its node
	order int // among all members of the object, those without a meaning included
}

func (r *reader) failedPath() string {
	var path strings.Builder
	for _, s := range r.path {
		switch {
		case s.name == "":
			fmt.Fprintf(&path, "[%d]", s.index)
		case path.Len() > 0:
			path.WriteByte('.')
			fallthrough
		default:
			path.WriteString(s.name)
		}
	}
	return path.String()
}

// in runs f one step further along the path.
func (r *reader) in(s step, f func() error) error {
	r.path = append(r.path, s)
	if err := f(); err != nil {
		return err
	}
	r.path = r.path[:len(r.path)-1]
	return nil
}

// faultf makes an error at a node.
func (r *reader) faultf(n int, format string, args ...any) error {
	return faultf(int(r.nodes[n].start), format, args...)
}

// after returns the node behind n and all that it contains.
func (r *reader) after(n int) int {
	if k := r.nodes[n].kind; k == isObject || k == isArray || k == isCall {
		return int(r.nodes[n].next)
	}
	return n + 1
}

// source returns the text of a node that contains nothing.
func (r *reader) source(n int) string { return r.text[r.nodes[n].start:r.nodes[n].next] }

// word returns the value of a string, or a word itself.
func (r *reader) word(n int) string {
	s := r.source(n)
	if r.nodes[n].kind == isString {
		return unquote(s[1 : len(s)-1])
	}
	return s
}

func (r *reader) isNull(n int) bool { return r.nodes[n].kind == isWord && r.source(n) == "null" }

// shape names what a node is, for errors.
func (r *reader) shape(n int) string {
	switch r.nodes[n].kind {
	case isObject:
		return "an object"
	case isArray:
		return "a list"
	case isString:
		return "a string"
	case isCall:
		return "a function"
	}
	return r.source(n)
}

// root writes a whole buffer, from the end of what has been written on.
func (r *reader) root(t *Type, identifier string) error {
	if t.object.IsStruct {
		return r.structAt(t, 0, r.zeros(t.object.Size))
	}
	at := r.zeros(offsetSize)
	r.b = append(r.b, identifier...)
	to, err := r.table(t, 0)
	if err != nil {
		return err
	}
	r.refer(at, to)
	return nil
}

// checkSize fails at a node when the buffer has become too large.
func (r *reader) checkSize(n int) error {
	if len(r.b)-r.origin > maxBuffer {
		return r.faultf(n, "the buffer would be longer than %d bytes", maxBuffer)
	}
	return nil
}

// table writes a table, and then what it refers to, and returns its position.
func (r *reader) table(t *Type, n int) (at int, err error) {
	if r.depth++; r.depth > maxDepth {
		return 0, r.faultf(n, "tables nest too deep")
	}
	defer func() { r.depth-- }()
	members, slots := len(r.members), len(r.slots)
	defer func() { r.members, r.slots = r.members[:members], r.slots[:slots] }()
	if err := r.collect(t, n); err != nil {
		return 0, err
	}
	if err := r.checkMembers(t, n, r.members[members:]); err != nil {
		return 0, err
	}
	written := members // the members that get a slot are moved to the front
	for i := members; i < len(r.members); i++ {
		m := r.members[i]
		s := slot{field: m.field, size: offsetSize, align: offsetSize}
		switch typ := m.field.Type; {
		case typ.Base.IsScalar():
			s.size = scalarSize(typ)
			s.align = s.size
			bits, write, err := r.fieldBits(m)
			if err != nil {
				return 0, err
			}
			if !write {
				continue
			}
			s.bits = bits
		case typ.IsStruct():
			s.size, s.align = typ.Object.Size, typ.Object.Align
		}
		r.members[written] = m
		written++
		r.slots = append(r.slots, s)
	}
	r.members = r.members[:written]
	own := r.members[members:]
	if !t.object.OriginalOrder {
		sort.Stable(byAlign{own, r.slots[slots:]})
	}
	at, ok := r.buffer.table(r.slots[slots:])
	if !ok {
		return 0, r.faultf(n, "the fields of this table take more than %d bytes", math.MaxUint16)
	}
	if err := r.checkSize(n); err != nil {
		return 0, err
	}
	for i := range own {
		m, place := r.members[members+i], r.slots[slots+i]
		if m.field.Type.Base.IsScalar() {
			r.setScalar(place.at, place.size, place.bits)
			continue
		}
		if err := r.in(step{name: m.field.Name}, func() error {
			return r.field(m, place.at, r.members[members:written])
		}); err != nil {
			return 0, err
		}
	}
	return at, nil
}

// byAlign puts the greatest alignment first.
type byAlign struct {
	members []member
	slots   []slot
}

func (s byAlign) Len() int           { return len(s.slots) }
func (s byAlign) Less(i, j int) bool { return s.slots[i].align > s.slots[j].align }
func (s byAlign) Swap(i, j int) {
	s.members[i], s.members[j] = s.members[j], s.members[i]
	s.slots[i], s.slots[j] = s.slots[j], s.slots[i]
}

// collect appends the members of an object, or of a list of all fields, ordered by field.
func (r *reader) collect(t *Type, n int) error {
	first := len(r.members)
	switch r.nodes[n].kind {
	case isObject:
		end := int(r.nodes[n].next)
		for key, order := n+1, 0; key < end; order++ {
			value := key + 1
			if err := r.member(t, key, value, order); err != nil {
				return err
			}
			key = r.after(value)
		}
	case isArray:
		fields, end := t.object.Fields, int(r.nodes[n].next)
		i, value := 0, n+1
		for ; value < end; i, value = i+1, r.after(value) {
			if i == len(fields) {
				return r.faultf(value, "more values than the %d fields of %s", i, t.Name())
			}
			if r.isNull(value) && !fields[i].Type.Base.IsScalar() {
				continue
			}
			r.members = append(r.members, member{fields[i], value, i})
		}
		if i < len(fields) {
			return r.faultf(n, "%d values in a list for the %d fields of %s", i, len(fields),
				t.Name())
		}
	default:
		return r.faultf(n, "%s for the %s %s, which wants an object", r.shape(n), t.word(),
			t.Name())
	}
	own := r.members[first:]
	byField := func(a, b member) int { return cmp.Compare(a.field.ID, b.field.ID) }
	if !slices.IsSortedFunc(own, byField) {
		slices.SortStableFunc(own, byField)
	}
	for i := 1; i < len(own); i++ {
		if own[i].field == own[i-1].field {
			return r.faultf(own[i].value, "field %s is set twice", own[i].field.Name)
		}
	}
	return nil
}

// word returns what the language calls the type.
func (t *Type) word() string {
	if t.object.IsStruct {
		return "struct"
	}
	return "table"
}

// member appends a member of an object, if it says something.
func (r *reader) member(t *Type, key, value, order int) error {
	var f *schema.Field
	if s := r.source(key); r.nodes[key].kind == isString {
		f = t.fields[unquote(s[1:len(s)-1])]
	} else {
		f = t.fields[s]
	}
	switch {
	case f != nil:
		if !r.isNull(value) || f.Type.Base.IsScalar() {
			r.members = append(r.members, member{f, value, order})
		}
		return nil
	case r.word(key) == "$schema":
		if r.nodes[value].kind != isString {
			return r.faultf(value, "%s for $schema, which wants a string", r.shape(value))
		}
		return nil
	case r.options.AllowUnknown:
		if r.depth+r.levels(value) > maxDepth {
			return r.faultf(value, "values nest too deep")
		}
		return nil
	}
	name := r.word(key)
	return r.faultf(key, "the %s %s has no field %q%s", t.word(), t.Name(), name,
		t.nearestField(name))
}

// levels returns how far values nest in a value that is skipped, which is a level of its own.
func (r *reader) levels(value int) (deepest int) {
	var open []int // the nodes behind the containers around the next one
	for n, end := value, r.after(value); n < end; n++ {
		for len(open) > 0 && n >= open[len(open)-1] {
			open = open[:len(open)-1]
		}
		deepest = max(deepest, len(open)+1)
		if k := r.nodes[n].kind; k == isObject || k == isArray || k == isCall {
			open = append(open, r.after(n))
		}
	}
	return deepest
}

// checkMembers checks what must hold of the members of a table as a whole.
func (r *reader) checkMembers(t *Type, n int, own []member) error {
	find := func(f *schema.Field) (member, bool) {
		i, ok := slices.BinarySearchFunc(own, f.ID, func(m member, id int) int {
			return cmp.Compare(m.field.ID, id)
		})
		if !ok {
			return member{}, false
		}
		return own[i], true
	}
	for _, f := range t.required {
		if _, ok := find(f); !ok {
			return r.faultf(n, "the required field %s of %s is missing", f.Name, t.Name())
		}
	}
	for _, m := range own {
		f := m.field
		if f.Tag != nil {
			tag, ok := find(f.Tag)
			switch {
			case !ok && r.otherTag(m, own) < 0:
				return r.faultf(m.value, "field %s wants its type, as field %s", f.Name, f.Tag.Name)
			case !ok:
			case f.Type.Base == schema.Union && tag.order > m.order+1,
				f.Type.Base == schema.Vector && tag.order > m.order:
				return r.faultf(tag.value, "field %s must come before field %s", f.Tag.Name, f.Name)
			}
		}
		if f.IsTag && f.Type.Base.IsScalar() {
			bits, err := r.scalar(f, f.Type, m.value)
			if err != nil {
				r.path = append(r.path, step{name: f.Name})
				return err
			}
			switch value, ok := find(unionOf(t, f)); {
			case ok && bits == 0:
				return r.faultf(value.value, "field %s has a value, and field %s is NONE",
					value.field.Name, f.Name)
			case !ok && bits != 0:
				return r.faultf(m.value, "field %s has no value, in field %s", f.Name,
					unionOf(t, f).Name)
			}
		} else if f.IsTag {
			if _, ok := find(unionOf(t, f)); !ok && r.after(m.value) > m.value+1 {
				return r.faultf(m.value, "field %s has no values, in field %s", f.Name,
					unionOf(t, f).Name)
			}
		}
	}
	return nil
}

// unionOf returns the union that a tag belongs to, which is the next field.
func unionOf(t *Type, tag *schema.Field) *schema.Field {
	i, _ := slices.BinarySearchFunc(t.object.Fields, tag.ID, func(f *schema.Field, id int) int {
		return cmp.Compare(f.ID, id)
	})
	return t.object.Fields[i+1]
}

// fieldBits returns the bits of a scalar field, and whether they need be written.
func (r *reader) fieldBits(m member) (bits uint64, write bool, err error) {
	f := m.field
	if f.Optional && r.isNull(m.value) {
		return 0, false, nil
	}
	if bits, err = r.scalar(f, f.Type, m.value); err != nil {
		r.path = append(r.path, step{name: f.Name})
		return 0, false, err
	}
	write = f.Optional || r.options.ForceDefaults || bits != defaultBits(f)
	if base := scalarBase(f.Type); base.IsFloat() && math.IsNaN(floatOf(base, bits)) {
		write = true // it equals no default
	}
	return bits, write, nil
}

// defaultBits returns the bits of the default of a scalar field.
func defaultBits(f *schema.Field) uint64 {
	base := scalarBase(f.Type)
	if base.IsFloat() {
		return floatBits(f.Default.Float, base)
	}
	return uint64(f.Default.Int) & (1<<(8*base.Size()) - 1)
}

// field writes the value of a field that is no scalar and whose slot is at place, and what it
// refers to.
func (r *reader) field(m member, place int, siblings []member) error {
	if typ := m.field.Type; typ.IsStruct() {
		return r.structAt(r.schema.types[typ.Object], m.value, place)
	}
	at, err := r.reference(m, siblings)
	if err != nil {
		return err
	}
	r.refer(place, at)
	return r.checkSize(m.value)
}

// reference writes what a field refers to and returns its position.
func (r *reader) reference(m member, siblings []member) (at int, err error) {
	f, typ, n := m.field, m.field.Type, m.value
	switch {
	case f.FlexBuffer:
		return r.flex(n)
	case f.NestedFlatbuffer != nil && r.nodes[n].kind != isArray:
		return r.nested(r.schema.types[f.NestedFlatbuffer], n)
	case f.NestedFlatbuffer != nil && !r.options.NestedBytes:
		return 0, r.faultf(n, "a list for a nested buffer, which wants an object")
	case typ.Base == schema.Union:
		tag := r.tagOf(m, siblings)
		if tag < 0 {
			return 0, r.faultf(n, "field %s wants its type, as field %s", f.Name, f.Tag.Name)
		}
		bits, err := r.scalar(f.Tag, f.Tag.Type, tag)
		if err != nil {
			return 0, err
		}
		return r.unionMember(f, typ.Enum, bits, n)
	case typ.Base == schema.Vector && typ.Element == schema.Union:
		return r.unions(f, n, r.tagOf(m, siblings))
	case typ.Base == schema.Vector:
		at, err := r.vector(f, n)
		if err == nil && f.NestedFlatbuffer != nil {
			err = r.checkNested(r.schema.types[f.NestedFlatbuffer], n, at)
		}
		return at, err
	case typ.Base == schema.String:
		return r.str(f, n)
	default:
		return r.table(r.schema.types[typ.Object], n)
	}
}

// str writes a string of a field and returns its position.
func (r *reader) str(f *schema.Field, n int) (at int, err error) {
	if r.nodes[n].kind != isString {
		return 0, r.faultf(n, "%s for a string", r.shape(n))
	}
	return r.buffer.string(r.word(n), f.Shared), nil
}

// tagOf returns the node of the type, or the types, of a union field.
func (r *reader) tagOf(union member, siblings []member) int {
	for _, m := range siblings {
		if m.field == union.field.Tag {
			return m.value
		}
	}
	return r.otherTag(union, siblings)
}

// otherTag returns the node of the type of another union that stands for that of a union whose
// own is missing: the last one, in the order of the schema, that comes before the value and is of
// the same union type. So does flatc read a value, which then has no type in the buffer either.
func (r *reader) otherTag(union member, siblings []member) int {
	tag := union.field.Tag.Type
	for _, m := range slices.Backward(siblings) {
		have := m.field.Type
		if m.field.IsTag && m.order < union.order && have.Enum == tag.Enum &&
			have.Base == tag.Base {
			return m.value
		}
	}
	return -1
}

// unionMember writes the member of a union that a tag names.
func (r *reader) unionMember(f *schema.Field, e *schema.Enum, tag uint64, n int) (int, error) {
	m := r.schema.members[e][tag]
	switch {
	case m == nil:
		return 0, r.faultf(n, "a value for a union %s whose type is %d", e.FullName(), tag)
	case m.Type.Base == schema.String:
		return r.str(f, n)
	case m.Type.IsStruct():
		r.pad(0, m.Type.Object.Align)
		at := r.zeros(m.Type.Object.Size)
		return at, r.structAt(r.schema.types[m.Type.Object], n, at)
	}
	return r.table(r.schema.types[m.Type.Object], n)
}

// unions writes a vector of unions.
func (r *reader) unions(f *schema.Field, n, tags int) (at int, err error) {
	count, err := r.length(n)
	if err != nil {
		return 0, err
	}
	tagCount, err := r.length(tags)
	if err != nil {
		return 0, err
	}
	if count != tagCount {
		return 0, r.faultf(n, "%d values for %d types in field %s", count, tagCount, f.Tag.Name)
	}
	at = r.buffer.vector(count, offsetSize, offsetSize)
	value, tag := n+1, tags+1
	for i := range count {
		if err := r.in(step{index: i}, func() error {
			bits, err := r.scalar(f.Tag, f.Tag.Type.Elem(), tag)
			if err != nil {
				return err
			}
			to, err := r.unionMember(f, f.Type.Enum, bits, value)
			if err != nil {
				return err
			}
			r.refer(at+offsetSize+offsetSize*i, to)
			return r.checkSize(value)
		}); err != nil {
			return 0, err
		}
		value, tag = r.after(value), r.after(tag)
	}
	return at, nil
}

// length returns the number of elements of a list.
func (r *reader) length(n int) (count int, err error) {
	if r.nodes[n].kind != isArray {
		return 0, r.faultf(n, "%s for a list", r.shape(n))
	}
	for i := n + 1; i < int(r.nodes[n].next); i = r.after(i) {
		count++
	}
	return count, nil
}

// vector writes a vector of anything but unions. One of tables or structs that have a key is
// sorted by it.
func (r *reader) vector(f *schema.Field, n int) (at int, err error) {
	count, err := r.length(n)
	if err != nil {
		return 0, err
	}
	elem := f.Type.Elem()
	size := elementSize(elem)
	if count > (maxBuffer-(len(r.b)-r.origin))/size {
		return 0, r.faultf(n, "the buffer would be longer than %d bytes", maxBuffer)
	}
	at = r.buffer.vector(count, size, vectorAlign(f))
	first := at + offsetSize
	value := n + 1
	for i := range count {
		if err := r.in(step{index: i}, func() error {
			return r.element(f, elem, value, first+i*size)
		}); err != nil {
			return 0, err
		}
		value = r.after(value)
	}
	if elem.Base == schema.Obj && elem.Object.Key != nil {
		r.sort(elem.Object, first, count)
	}
	return at, nil
}

// element writes an element of a vector or an array, whose place is at.
func (r *reader) element(f *schema.Field, elem schema.Type, n, at int) error {
	var to int
	var err error
	switch {
	case elem.Base.IsScalar():
		bits, err := r.scalar(f, elem, n)
		if err == nil {
			r.setScalar(at, scalarSize(elem), bits)
		}
		return err
	case elem.IsStruct():
		return r.structAt(r.schema.types[elem.Object], n, at)
	case elem.Base == schema.String:
		to, err = r.str(f, n)
	default:
		to, err = r.table(r.schema.types[elem.Object], n)
	}
	if err != nil {
		return err
	}
	r.refer(at, to)
	return r.checkSize(n)
}

// structAt writes a struct at a place that is zero.
func (r *reader) structAt(t *Type, n, at int) error {
	if r.depth++; r.depth > maxDepth {
		return r.faultf(n, "tables and structs nest too deep")
	}
	defer func() { r.depth-- }()
	first := len(r.members)
	defer func() { r.members = r.members[:first] }()
	if err := r.collect(t, n); err != nil {
		return err
	}
	if have := len(r.members) - first; have < len(t.object.Fields) {
		for i, f := range t.object.Fields {
			if i == have || r.members[first+i].field != f {
				return r.faultf(n, "field %s of struct %s is missing", f.Name, t.Name())
			}
		}
	}
	for i, f := range t.object.Fields {
		value := r.members[first+i].value
		if err := r.in(step{name: f.Name}, func() error {
			if f.Type.Base == schema.Array {
				return r.array(f, value, at+f.Offset)
			}
			return r.element(f, f.Type, value, at+f.Offset)
		}); err != nil {
			return err
		}
	}
	return nil
}

// array writes an array of a struct.
func (r *reader) array(f *schema.Field, n, at int) error {
	count, err := r.length(n)
	if err != nil {
		return err
	}
	if count != f.Type.FixedLength {
		return r.faultf(n, "%d elements for an array of %d", count, f.Type.FixedLength)
	}
	elem := f.Type.Elem()
	value := n + 1
	for i := range count {
		if err := r.in(step{index: i}, func() error {
			return r.element(f, elem, value, at+i*elementSize(elem))
		}); err != nil {
			return err
		}
		value = r.after(value)
	}
	return nil
}

// nested writes a buffer within the buffer, as the vector of its bytes.
func (r *reader) nested(t *Type, n int) (at int, err error) {
	if r.nodes[n].kind != isObject {
		return 0, r.faultf(n, "%s for a nested buffer, which wants an object", r.shape(n))
	}
	at = r.buffer.vector(0, 1, t.align)
	outer := r.buffer
	r.origin, r.vtables, r.shared = len(r.b), make(map[string]int), nil
	root := r.zeros(offsetSize)
	to, err := r.table(t, n)
	if err != nil {
		return 0, err
	}
	r.refer(root, to)
	binary.LittleEndian.PutUint32(r.b[at:], uint32(len(r.b)-r.origin))
	r.origin, r.vtables, r.shared = outer.origin, outer.vtables, outer.shared
	return at, nil
}

// checkNested verifies a nested buffer that was given as bytes.
func (r *reader) checkNested(t *Type, n, at int) error {
	if err := t.Verify(r.b[at+offsetSize:]); err != nil {
		return r.faultf(n, "the bytes are no such buffer: %v", err)
	}
	return nil
}

// scalar returns the bits of a scalar.
func (r *reader) scalar(f *schema.Field, typ schema.Type, n int) (uint64, error) {
	base := scalarBase(typ)
	k := r.nodes[n].kind
	named := k == isString || k == isWord
	if f.Hash != "" && named && base.Size() >= 4 && base.IsInteger() {
		return hashOf(f.Hash, r.word(n)), nil
	}
	if r.isNull(n) {
		return 0, r.faultf(n, "null for %s, which is not optional", typ)
	}
	if base.IsFloat() {
		v, err := r.float(base, n)
		return floatBits(v, base), err
	}
	switch {
	case k == isInt:
		return r.integer(base, n, r.source(n))
	case !named:
		return 0, r.faultf(n, "%s for %s", r.shape(n), typ)
	}
	text := r.word(n)
	switch {
	case base == schema.Bool && (text == "true" || text == "false"):
		if text == "true" {
			return 1, nil
		}
		return 0, nil
	case base == schema.Bool && k == isWord:
		return 0, r.faultf(n, "%s for bool, which wants true or false", text)
	case base != schema.Bool && text != "" && isLetter(text[0]):
		return r.named(typ, base, text, n)
	case k == isString && strings.ContainsRune(r.source(n), '\\'):
		return 0, r.faultf(n, "a number with escape sequences")
	}
	return r.integer(base, n, text)
}

func (r *reader) integer(base schema.BaseType, n int, text string) (uint64, error) {
	bits, err := parseInt(text, base)
	if err != nil {
		return 0, r.faultf(n, "%v", err)
	}
	return bits & (1<<(8*base.Size()) - 1), nil
}

// named returns the value of names of an enum's values, or-ed.
func (r *reader) named(typ schema.Type, base schema.BaseType, text string, n int) (uint64, error) {
	if typ.Enum == nil && r.nodes[n].kind == isWord {
		return 0, r.faultf(n, "%s for %s", text, typ)
	}
	var bits uint64
	for word := range strings.SplitSeq(text, " ") {
		e, name := typ.Enum, word
		if e == nil {
			var enum string
			if e, enum, name = r.schema.enumOf(word); e == nil {
				const format = "%q for %s is neither a number nor a value of an enum, such as %q"
				return 0, r.faultf(n, format, word, typ, cmp.Or(enum, "Enum")+".Value")
			}
		}
		v := r.schema.values[e][name]
		if v == nil {
			return 0, r.faultf(n, "enum %s has no value %q%s", e.FullName(), name,
				nearestValue(e, name))
		}
		bits |= uint64(v.Value)
	}
	decimal := strconv.FormatInt(int64(bits), 10)
	if base.IsUnsigned() {
		decimal = strconv.FormatUint(bits, 10)
	}
	return r.integer(base, n, decimal)
}

// float returns a number, or what a function makes of one.
func (r *reader) float(base schema.BaseType, n int) (float64, error) {
	switch r.nodes[n].kind {
	case isCall:
		source := r.text[r.nodes[n].start:]
		name := source[:strings.IndexByte(source, '(')]
		f := conversions[name]
		if f == nil {
			return 0, r.faultf(n, "there is no function %s", name)
		}
		if r.depth++; r.depth > maxDepth {
			return 0, r.faultf(n, "functions nest too deep")
		}
		defer func() { r.depth-- }()
		v, err := r.float(base, n+1)
		return f(v), err
	case isObject, isArray:
		return 0, r.faultf(n, "%s for %s", r.shape(n), base)
	case isString:
		if strings.ContainsRune(r.source(n), '\\') {
			return 0, r.faultf(n, "a number with escape sequences")
		}
	}
	v, err := parseFloat(r.word(n), base)
	if err != nil {
		return 0, r.faultf(n, "%v", err)
	}
	return v, nil
}

// hashOf returns the hash of a string for a field marked (hash). flatc begins the hashes of 64
// bits with another number than FNV does (FnvTraits in include/flatbuffers/hash.h).
func hashOf(function, s string) uint64 {
	const (
		basis32, prime32 = 0x811c9dc5, 0x01000193
		basis64, prime64 = 0xcbf29ce484222645, 0x00000100000001b3
	)
	hash, prime, mask := uint64(basis32), uint64(prime32), uint64(math.MaxUint32)
	if strings.HasSuffix(function, "64") {
		hash, prime, mask = basis64, prime64, math.MaxUint64
	}
	// As in flatc, a string ends at its first zero byte.
	s, _, _ = strings.Cut(s, "\x00")
	for i := range len(s) {
		if strings.HasPrefix(function, "fnv1a") {
			hash = (hash ^ uint64(s[i])) * prime & mask
		} else {
			hash = hash*prime&mask ^ uint64(s[i])
		}
	}
	return hash
}

// sort sorts a vector of count tables or structs by their key; at is its first element. Keys
// that are structs or arrays have no order in flatc's texts either.
func (r *reader) sort(o *schema.Object, at, count int) {
	key, size := o.Key, offsetSize
	if o.IsStruct {
		size = o.Size
	}
	if b := key.Type.Base; !b.IsScalar() && b != schema.String {
		return
	}
	type element struct {
		at   int // of the struct, or the table
		bits uint64
		text []byte
	}
	elements := make([]element, count)
	base := scalarBase(key.Type)
	for i := range elements {
		e := &elements[i]
		e.at = at + i*size
		place := e.at + key.Offset
		if !o.IsStruct {
			e.at += int(binary.LittleEndian.Uint32(r.b[e.at:]))
			place = fieldAt(r.b, e.at, key.Offset)
		}
		switch {
		case base == schema.String && place != 0:
			place += int(binary.LittleEndian.Uint32(r.b[place:]))
			n := int(binary.LittleEndian.Uint32(r.b[place:]))
			e.text = r.b[place+offsetSize:][:n]
		case base == schema.String:
		case place == 0:
			e.bits = defaultBits(key)
		default:
			e.bits = bitsAt(r.b, place, base.Size())
		}
	}
	compare := func(a, b element) int {
		if base == schema.String {
			return bytes.Compare(a.text, b.text)
		}
		return compareScalars(base, a.bits, b.bits)
	}
	if slices.IsSortedFunc(elements, compare) {
		return
	}
	slices.SortStableFunc(elements, compare)
	if !o.IsStruct {
		for i, e := range elements {
			r.refer(at+i*size, e.at)
		}
		return
	}
	old := slices.Clone(r.b[at : at+count*size])
	for i, e := range elements {
		copy(r.b[at+i*size:], old[e.at-at:][:size])
	}
}

// fieldAt returns where a field of a table is, or 0.
func fieldAt(b []byte, table, slot int) int {
	vtable := table - int(int32(binary.LittleEndian.Uint32(b[table:])))
	if slot+2 > int(binary.LittleEndian.Uint16(b[vtable:])) {
		return 0
	}
	if at := int(binary.LittleEndian.Uint16(b[vtable+slot:])); at != 0 {
		return table + at
	}
	return 0
}

// bitsAt reads the bits of a scalar.
func bitsAt(b []byte, at, size int) (bits uint64) {
	for i := range size {
		bits |= uint64(b[at+i]) << (8 * i)
	}
	return bits
}

// signed returns the value of an integer's bits, for types that are not unsigned.
func signed(bits uint64, size int) int64 {
	shift := 64 - 8*size
	return int64(bits<<shift) >> shift
}

func compareScalars(base schema.BaseType, a, b uint64) int {
	switch {
	case base.IsFloat():
		return cmp.Compare(floatOf(base, a), floatOf(base, b))
	case base.IsUnsigned() || base == schema.Bool:
		return cmp.Compare(a, b)
	}
	return cmp.Compare(signed(a, base.Size()), signed(b, base.Size()))
}

func floatOf(base schema.BaseType, bits uint64) float64 {
	if base == schema.Float {
		return float64(math.Float32frombits(uint32(bits)))
	}
	return math.Float64frombits(bits)
}
