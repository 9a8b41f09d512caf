package bfbs

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"github.com/ipcgen/ipcgen/internal/schema"
)

// readFields reads the fields of a table or a struct, which the buffer orders by name, and orders
// them by id.
func (r *reader) readFields(o *schema.Object, t table) {
	names := make(map[string]*schema.Field)
	for _, ft := range t.tables(objectFields) {
		f := r.readField(o, ft)
		if names[f.Name] != nil {
			r.errorf("%s has two fields %s", o.FullName(), f.Name)
			return
		}
		names[f.Name] = f
		o.Fields = append(o.Fields, f)
	}
	slices.SortStableFunc(o.Fields, func(a, b *schema.Field) int { return cmp.Compare(a.ID, b.ID) })
	for i, f := range o.Fields {
		if f.ID != i {
			r.fail(o, f, "its id is %d, and %d is the next", f.ID, i)
			return
		}
		if f.Key {
			if o.Key != nil {
				r.fail(o, f, "%s is a key as well", o.Key.Name)
			}
			o.Key = f
		}
		if f.IsTag {
			f.Attributes = nil // flatc stores the id that it derives
			continue
		}
		if base(f.Type) == schema.Union {
			f.Tag = names[f.Name+"_type"]
			if f.Tag == nil || !f.Tag.IsTag || f.Tag.ID != f.ID-1 ||
				f.Tag.Type.Enum != f.Type.Enum ||
				(f.Tag.Type.Base == schema.Vector) != (f.Type.Base == schema.Vector) {
				r.fail(o, f, "the field with its tag does not precede it")
			}
		}
	}
	for i, f := range o.Fields {
		if f.IsTag && (i+1 == len(o.Fields) || o.Fields[i+1].Tag != f) {
			r.fail(o, f, "it is the tag of no union")
		}
	}
}

// base returns the type of a field, or of its elements.
func base(t schema.Type) schema.BaseType {
	if t.Base == schema.Vector || t.Base == schema.Array {
		return t.Element
	}
	return t.Base
}

func (r *reader) readField(o *schema.Object, t table) *schema.Field {
	f := &schema.Field{
		Name: r.name(t, fieldName, o.FullName()), Span: r.at,
		Doc: r.doc(t, fieldDoc), Attributes: r.attributes(t, fieldAttributes),
		ID: int(t.u16(fieldID)), Offset: int(t.u16(fieldOffset)),
		Required: t.bool(fieldRequired), Deprecated: t.bool(fieldDeprecated), Key: t.bool(fieldKey),
	}
	typ, _ := t.table(fieldType) // it is required, so it is present
	f.Type = r.readType(typ, o.FullName()+"."+f.Name)
	f.IsTag = base(f.Type) == schema.UType
	f.Shared = f.Attributes.Has("shared")
	f.FlexBuffer = f.Attributes.Has("flexbuffer")
	if algorithm, ok := f.Attributes.Lookup("hash"); ok {
		f.Hash = algorithm
		if err := schema.CheckHash(f.Type, algorithm); err != nil {
			r.fail(o, f, "%v", err)
		}
	}
	if t.bool(fieldOffset64) && f.Type.Base != schema.Vector64 { // reported by readType
		r.unsupported64(o.FullName() + "." + f.Name)
	}
	if root, ok := f.Attributes.Lookup("nested_flatbuffer"); ok {
		if f.NestedFlatbuffer = r.nested(o.Namespace, root); f.NestedFlatbuffer == nil ||
			f.NestedFlatbuffer.IsStruct {
			r.fail(o, f, "the root of its nested buffer, %q, is not one of the tables", root)
		}
	}
	r.readDefault(o, f, t)
	return f
}

// readDefault reads the presence of a field, and the value of an absent one.
func (r *reader) readDefault(o *schema.Object, f *schema.Field, t table) {
	optional := t.bool(fieldOptional)
	text, exact := r.exact(&f.Attributes, attrDefault, o.FullName()+"."+f.Name)
	if exact && (f.Type.Base != schema.String || o.IsStruct || f.Required) {
		r.fail(o, f, "it cannot have the default %q", text)
		return
	}
	switch b := f.Type.Base; {
	case o.IsStruct || f.IsTag:
	case b.IsInteger():
		f.Optional = optional
		f.Default.Int = t.i64(fieldDefaultInteger)
		f.Default.Set = f.Default.Int != 0
	case b.IsFloat():
		f.Optional = optional
		f.Default.Float = t.f64(fieldDefaultReal)
		if math.IsNaN(f.Default.Float) {
			f.Default.Float = math.NaN() // whatever its bits
		}
		f.Default.Set = math.Float64bits(f.Default.Float) != 0
	case b == schema.Vector:
		f.Default.Set = !optional && !f.Required
	case exact:
		f.Default.Set, f.Default.Str = true, text
	case b == schema.String && !optional && !f.Required:
		r.lostStrings = append(r.lostStrings, o.FullName()+"."+f.Name)
		f.Default.Set = true
	}
}

// warnStrings lists the strings whose defaults are lost.
func (r *reader) warnStrings() {
	if len(r.lostStrings) > 0 {
		r.diags.Warnf(r.at,
			"a binary schema does not hold the defaults of strings; these are taken for empty: %s",
			list(r.lostStrings)).
			Helpf("generate from the .fbs file to have them")
	}
}

// nested returns the root of a nested buffer by the name in its attribute. The name is resolved
// from the namespace of the field's table outwards, or else it is the name of only one table.
func (r *reader) nested(ns schema.Namespace, name string) *schema.Object {
	for n := len(ns); n >= 0; n-- {
		if o := r.objects[strings.Join(append(slices.Clone(ns[:n]), name), ".")]; o != nil {
			return o
		}
	}
	if named := r.byName[name]; len(named) == 1 {
		return named[0]
	}
	return nil
}
