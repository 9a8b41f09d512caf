package bfbs

import (
	"cmp"
	"slices"

	"github.com/ipcgen/ipcgen/internal/schema"
)

// checkEnum checks that the values are distinct, in order, and of the underlying type, and that the
// members of a union have valid types.
func (r *reader) checkEnum(e *schema.Enum) {
	if len(e.Values) == 0 {
		r.errorf("%s has no value", e.FullName())
		return
	}
	unsigned := e.Underlying == schema.ULong
	compare := func(a, b *schema.EnumVal) int {
		if unsigned {
			return cmp.Compare(uint64(a.Value), uint64(b.Value))
		}
		return cmp.Compare(a.Value, b.Value)
	}
	slices.SortStableFunc(e.Values, compare)
	for i, v := range e.Values {
		if !e.Underlying.Holds(v.Value) {
			r.errorf("%s.%s is %d, which does not fit into %s", e.FullName(), v.Name,
				v.Value, e.Underlying)
		}
		if i > 0 && v.Value == e.Values[i-1].Value {
			r.errorf("%s has two values %d", e.FullName(), v.Value)
		}
		if !e.IsUnion {
			continue
		}
		none := v.Name == "NONE"
		if none != (v.Value == 0) || none != (v.Type.Base == schema.None) ||
			!none && v.Type.Base != schema.Obj && v.Type.Base != schema.String {
			r.errorf("%s.%s is not a member of a union", e.FullName(), v.Name)
		}
	}
	if e.IsUnion && e.Value(0) == nil {
		r.errorf("%s has no member NONE", e.FullName())
	}
}

// checkObject checks the rules of the language for a table or struct, and its layout in the buffer.
func (r *reader) checkObject(o *schema.Object) {
	if len(o.Fields) > schema.MaxFields {
		r.errorf("%s has %d fields", o.FullName(), len(o.Fields))
		return
	}
	for _, f := range o.Fields {
		if o.IsStruct {
			r.checkStructField(o, f)
		} else {
			r.checkTableField(o, f)
		}
		t := f.Type
		if f.Key && !t.Base.IsScalar() && t.Base != schema.String && !t.IsStruct() &&
			t.Base != schema.Array || f.Key && f.Optional {
			r.fail(o, f, "it cannot be a key")
		}
		if f.Shared && t.Base != schema.String {
			r.fail(o, f, "only a string can be shared")
		}
		bytes := t.Base == schema.Vector && t.Element == schema.UByte
		if (f.FlexBuffer || f.NestedFlatbuffer != nil) && !bytes {
			r.fail(o, f, "only a [ubyte] can hold a buffer")
		}
	}
}

func (r *reader) checkTableField(o *schema.Object, f *schema.Field) {
	t := f.Type
	switch {
	case t.Base == schema.None || t.Base == schema.Array:
		r.fail(o, f, "a table cannot hold %s", t.Base)
		return
	case f.Offset != 4+2*f.ID:
		r.fail(o, f, "its offset is %d, and its id %d", f.Offset, f.ID)
	case f.Required && t.Base.IsScalar():
		r.fail(o, f, "a number cannot be required")
	}
	if !t.Base.IsInteger() || f.IsTag {
		return
	}
	if !t.Base.Holds(f.Default.Int) {
		r.fail(o, f, "its default %d does not fit into %s", f.Default.Int, t.Base)
	}
	if e := t.Enum; e != nil && !f.Optional && !e.BitFlags && e.Value(f.Default.Int) == nil {
		d := r.fail(o, f, "its default %d is not a value of %s", f.Default.Int, e.FullName())
		if e.Underlying == schema.ULong && f.Default.Int == 0 {
			d.Helpf("flatc stores 0 for a default of 2^63 or more; generate from the .fbs file")
		}
	}
}

func (r *reader) checkStructField(o *schema.Object, f *schema.Field) {
	t := f.Type
	elem := t
	if t.Base == schema.Array {
		elem = t.Elem()
		if t.FixedLength < 1 {
			r.fail(o, f, "an array of length %d", t.FixedLength)
		}
	}
	if f.IsTag || !elem.Base.IsScalar() && !elem.IsStruct() {
		r.fail(o, f, "a struct cannot hold %s", t)
	}
	if f.Required || f.Deprecated {
		r.fail(o, f, "a field of a struct cannot be required or deprecated")
	}
	if e := elem.Enum; e != nil && !e.BitFlags && e.Value(0) == nil {
		r.fail(o, f, "%s has no value 0, which a field of a struct starts as", e.FullName())
	}
}

// layoutStructs computes the layout of every struct, inner ones first, and compares it with the
// layout in the buffer.
func (r *reader) layoutStructs() {
	const open, done = 1, 2
	state := make(map[*schema.Object]int)
	var visit func(o *schema.Object) bool
	visit = func(o *schema.Object) bool {
		if state[o] != 0 {
			if state[o] == open {
				r.errorf("struct %s contains itself", o.FullName())
			}
			return state[o] == done
		}
		state[o] = open
		for _, f := range o.Fields {
			if f.Type.Object != nil && !visit(f.Type.Object) {
				return false
			}
		}
		state[o] = done
		return r.layout(o)
	}
	for _, o := range r.objectList {
		if o.IsStruct && !visit(o) {
			return
		}
	}
}

// layout computes the layout of one struct and compares it.
func (r *reader) layout(o *schema.Object) bool {
	size, align := o.Size, o.Align
	offsets := make([]int, len(o.Fields))
	for i, f := range o.Fields {
		offsets[i] = f.Offset
	}
	if align < 1 || align > schema.MaxAlign || align&(align-1) != 0 {
		r.errorf("struct %s has the alignment %d", o.FullName(), align)
		return false
	}
	if err := o.Layout(align); err != nil {
		r.errorf("%v", err)
		return false
	}
	if o.Size != size || o.Align != align || size == 0 {
		r.errorf("struct %s has %d bytes aligned to %d, not %d aligned to %d", o.FullName(), o.Size,
			o.Align, size, align)
		return false
	}
	for i, f := range o.Fields {
		if f.Offset != offsets[i] {
			r.fail(o, f, "its offset is %d, not %d", f.Offset, offsets[i])
			return false
		}
	}
	return true
}
