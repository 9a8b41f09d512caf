package schema

import (
	"cmp"
	"slices"
	"strings"

	"github.com/ipcgen/ipcgen/internal/fbs"
)

// An objectLinker links the fields of one table or struct.
type objectLinker struct {
	*linker
	obj  *Object
	decl *fbs.Object
	slab []Field // backs Object.Fields, so that a table needs few allocations
}

// object links a table or a struct.
func (l *linker) object(d *fbs.Object) {
	var o *Object
	if l.declare(d.Name) {
		o = l.define(d.Name.Text)
		l.schema.Objects = append(l.schema.Objects, o)
	} else {
		o = &Object{Name: d.Name.Text, Namespace: l.namespace} // only for the errors in it
	}
	o.File, o.Span, o.Doc = l.file, l.span(d.Name.Range), d.Doc
	o.IsStruct = d.Struct
	o.Attributes = l.metadata(d.Meta)
	o.OriginalOrder = o.Attributes.Has("original_order")

	l.clearFields()
	ol := &objectLinker{linker: l, obj: o, decl: d}
	ol.slab = make([]Field, 0, ol.capacity())
	o.Fields = make([]*Field, 0, cap(ol.slab))
	for i := range d.Fields {
		if l.diags.Full() {
			return
		}
		ol.field(&d.Fields[i])
	}
	if d.Struct {
		ol.finishStruct()
	} else {
		ol.assignIDs()
	}
	ol.checkClashes()
}

// clearFields empties the scratch map. A map that a huge table has enlarged is dropped, because
// clearing it would cost the same for every later table.
func (l *linker) clearFields() {
	if len(l.fields) > 1000 {
		l.fields = make(map[string]*Field)
	}
	clear(l.fields)
}

// capacity bounds the number of fields: each field may be a union, which has two.
func (ol *objectLinker) capacity() int {
	n := len(ol.decl.Fields)
	for i := range ol.decl.Fields {
		if !ol.decl.Struct && !ol.decl.Fields[i].Type.Builtin {
			n++
		}
	}
	return n
}

// add appends a field under its name.
func (ol *objectLinker) add(name fbs.Name, t Type) *Field {
	if len(ol.obj.Fields) > MaxFields {
		return nil // reported when the table is complete
	}
	if first := ol.fields[name.Text]; first != nil {
		ol.errorf(name.Range, "field %s is declared twice", name.Text).
			Note(first.Span, "the first declaration is here")
		return nil
	}
	ol.slab = append(ol.slab, Field{Name: name.Text, Span: ol.span(name.Range), Type: t})
	f := &ol.slab[len(ol.slab)-1]
	ol.obj.Fields = append(ol.obj.Fields, f)
	ol.fields[name.Text] = f
	return f
}

// finishStruct lays out a struct.
func (ol *objectLinker) finishStruct() {
	if len(ol.decl.Fields) == 0 {
		ol.errorf(ol.decl.Name.Range, "struct %s has no field", ol.obj.Name).
			Helpf("give it one, or make it a table, which may be empty")
	}
	if err := ol.obj.Layout(ol.forcedAlign()); err != nil {
		ol.errorf(ol.decl.Name.Range, "%v",
			err).Helpf("use a table, or a vector instead of an array")
	}
}

// forcedAlign returns the alignment that force_align asks for, or 0.
func (ol *objectLinker) forcedAlign() int {
	value, ok := ol.obj.Attributes.Lookup("force_align")
	if !ok {
		return 0
	}
	natural := ol.obj.NaturalAlign()
	n, err := parseInteger(value, UByte)
	align := int(n)
	if err != nil || align&(align-1) != 0 || align < natural || align > MaxAlign {
		ol.diags.Errorf(ol.obj.Attributes.span("force_align"),
			"force_align of struct %s must be a power of two from %d, its natural alignment, to %d",
			ol.obj.Name, natural, MaxAlign)
		return 0
	}
	return align
}

// assignIDs numbers the fields of a table, in their order or by their id attributes.
func (ol *objectLinker) assignIDs() {
	if len(ol.obj.Fields) > MaxFields {
		ol.errorf(ol.decl.Name.Range, "table %s has more than %d fields", ol.obj.Name, MaxFields)
		return
	}
	before := ol.diags.Errors()
	var with, without *Field
	for _, f := range ol.obj.Fields {
		id, has := ol.id(f)
		if !has {
			without = cmp.Or(without, f)
			continue
		}
		with = cmp.Or(with, f)
		f.ID = id
	}
	switch {
	case with == nil:
		for i, f := range ol.obj.Fields {
			f.ID = i
		}
	case without != nil:
		ol.diags.Errorf(without.Span, "field %s has no id, but field %s has one",
			without.Name, with.Name).
			Note(with.Attributes.span("id"), "the id of field %s is here", with.Name).
			Helpf("give an id to every field of the table, or to none")
		return
	case ol.diags.Errors() > before:
		return
	default:
		slices.SortStableFunc(ol.obj.Fields, func(a, b *Field) int {
			return cmp.Compare(a.ID, b.ID)
		})
		ol.checkIDs()
	}
	for _, f := range ol.obj.Fields {
		f.Offset = 4 + 2*f.ID
	}
}

// id returns the id that the schema gives to a field. The hidden tag of a union has the id before
// that of the union.
func (ol *objectLinker) id(f *Field) (id int, ok bool) {
	owner := f
	if f.IsTag {
		owner = ol.fields[strings.TrimSuffix(f.Name, tagSuffix)]
	}
	value, ok := owner.Attributes.Lookup("id")
	if !ok {
		return 0, false
	}
	n, err := parseInteger(cmp.Or(value, "0"), UShort)
	if err != nil {
		ol.diags.Errorf(owner.Attributes.span("id"),
			"the id of field %s is not a number from 0 to %d", owner.Name, MaxFields-1)
		return 0, true
	}
	if f.IsTag {
		if n == 0 {
			ol.diags.Errorf(owner.Attributes.span("id"),
				"the id of union field %s must be at least 1", owner.Name).
				Helpf("a union takes two ids, and its own is the second; the first is that of "+
					"the hidden field %s", f.Name)
		}
		n = max(n-1, 0)
	}
	return int(n), true
}

// checkIDs checks that the ids of the sorted fields are 0, 1, 2, ...
func (ol *objectLinker) checkIDs() {
	for i, f := range ol.obj.Fields {
		switch {
		case f.ID == i:
			continue
		case i > 0 && f.ID == ol.obj.Fields[i-1].ID:
			twin := ol.obj.Fields[i-1]
			d := ol.diags.Errorf(f.Span, "fields %s and %s both have id %d", twin.Name,
				f.Name, f.ID).
				Note(twin.Span, "field %s is here", twin.Name)
			if f.IsTag || twin.IsTag {
				d.Helpf("a union takes two ids, and its own is the second")
			}
		default:
			ol.diags.Errorf(f.Span, "id %d is missing; the next one is %d, of field %s", i,
				f.ID, f.Name).
				Helpf("ids must be 0, 1, 2, ... without gaps; mark a field deprecated instead " +
					"of removing it")
		}
		return // the following ids are shifted
	}
}

// checkClashes refuses fields whose name is that of a function that flatc generates for another
// field in some language.
func (ol *objectLinker) checkClashes() {
	for _, f := range ol.obj.Fields {
		if f.IsTag {
			continue
		}
		for _, c := range [...]struct {
			suffix string
			base   BaseType
		}{
			{tagSuffix, Union}, {"Type", Union},
			{"_length", Vector}, {"Length", Vector},
			{"_byte_vector", String}, {"ByteVector", String},
		} {
			stem, ok := strings.CutSuffix(f.Name, c.suffix)
			if !ok || stem == "" {
				continue
			}
			if other := ol.fields[stem]; other != nil && other.Type.Base == c.base {
				ol.diags.Errorf(f.Span, "field %s clashes with what is generated for field %s",
					f.Name, stem).
					Note(other.Span, "field %s is here", stem).
					Helpf("rename one of them")
			}
		}
	}
}
