package schema

import (
	"cmp"
	"slices"
	"strings"

	"github.com/ipcgen/ipcgen/internal/fbs"
)

// enum links an enum or a union.
func (l *linker) enum(d *fbs.Enum) {
	e := &Enum{
		Name: d.Name.Text, Namespace: l.namespace, File: l.file,
		Span: l.span(d.Name.Range), Doc: d.Doc,
		IsUnion: d.Union, Underlying: Int,
	}
	if d.Union {
		e.Underlying = UType
	}
	if l.declare(d.Name) {
		// The enum can be named from here on, also in its own body.
		l.enums[string(l.qualified(e.Name))] = e
		l.schema.Enums = append(l.schema.Enums, e)
	}
	if d.Underlying != nil {
		t, _ := l.typeName(d.Underlying)
		if d.Underlying.Kind != fbs.Plain || !t.Base.IsInteger() || t.Base == Bool {
			l.errorf(d.Underlying.Range, "the underlying type of %s must be an integer", e.Name)
		} else {
			e.Underlying = t.Base
		}
	}
	e.Attributes = l.metadata(d.Meta)
	e.BitFlags = e.Attributes.Has("bit_flags")
	if e.BitFlags && e.IsUnion {
		l.diags.Errorf(e.Attributes.span("bit_flags"),
			"bit_flags may stand only at an enum; a union has one member at a time")
	} else if e.BitFlags && !e.Underlying.IsUnsigned() {
		l.diags.Warnf(e.Attributes.span("bit_flags"),
			"the underlying type of a bit_flags enum should be unsigned").
			Helpf("write enum %s: u%s", e.Name, strings.TrimPrefix(e.Underlying.String(), "u"))
	}
	if e.Attributes.Has("force_align") {
		l.diags.Errorf(e.Attributes.span("force_align"),
			"force_align may not stand at an enum or a union")
	}
	l.enumValues(e, d)
}

// enumValues links the values of an enum or the members of a union.
func (l *linker) enumValues(e *Enum, d *fbs.Enum) {
	values := make(map[string]*EnumVal, len(d.Values)+1)
	l.values[e] = values
	e.Values = make([]*EnumVal, 0, len(d.Values)+1)
	slab := make([]EnumVal, 0, len(d.Values)+1)
	add := func(v EnumVal) {
		slab = append(slab, v)
		e.Values = append(e.Values, &slab[len(slab)-1])
		values[v.Name] = &slab[len(slab)-1]
	}
	if e.IsUnion || len(d.Values) == 0 {
		add(EnumVal{Name: "NONE", Span: e.Span})
	}
	for i := range d.Values {
		if l.diags.Full() {
			return
		}
		dv := &d.Values[i]
		v := EnumVal{Name: dv.Name.Text, Span: l.span(dv.Name.Range), Doc: dv.Doc}
		if e.IsUnion {
			v.Name = strings.ReplaceAll(v.Name, ".", "_")
		}
		if first := values[v.Name]; first != nil {
			d := l.diags.Errorf(v.Span, "%s has two values %s", e.Name, v.Name)
			if v.Name == "NONE" && e.IsUnion {
				d.Helpf("every union has the member NONE; remove it")
			} else {
				d.Note(first.Span, "the first one is here")
			}
			continue
		}
		if e.IsUnion {
			v.Type = l.memberType(dv)
		}
		v.Attributes = l.metadata(dv.Meta)
		var ok bool
		if v.Value, ok = l.enumValue(e, dv); !ok {
			continue
		}
		add(v)
	}
	if e.BitFlags {
		l.applyBitFlags(e)
	}
	slices.SortStableFunc(e.Values, e.compare)
	for i := 1; i < len(e.Values); i++ {
		a, b := e.Values[i-1], e.Values[i]
		if a.Value == b.Value {
			l.diags.Errorf(b.Span, "values %s and %s of %s are both %d", a.Name, b.Name,
				e.Name, b.Value).
				Note(a.Span, "%s is here", a.Name)
		}
	}
}

// compare orders values by number, which is unsigned for ULong.
func (e *Enum) compare(a, b *EnumVal) int {
	if e.Underlying == ULong {
		return cmp.Compare(uint64(a.Value), uint64(b.Value))
	}
	return cmp.Compare(a.Value, b.Value)
}

// enumValue returns the value that a declaration gives, or the one after the last. With bit_flags,
// the value is the position of the bit.
func (l *linker) enumValue(e *Enum, dv *fbs.EnumVal) (int64, bool) {
	if dv.Value != nil {
		n, err := parseInteger(dv.Value.Text, e.Underlying)
		if err != nil {
			l.errorf(dv.Value.Range, "%v", err)
		}
		return n, err == nil
	}
	if len(e.Values) == 0 {
		return 0, true
	}
	last := e.Values[len(e.Values)-1].Value
	if _, greatest := e.Underlying.limits(); uint64(last) == greatest {
		if e.IsUnion && e.Underlying == UType {
			l.errorf(dv.Name.Range, "union %s has more than 255 members", e.Name)
		} else {
			l.errorf(dv.Name.Range, "the value of %s does not fit into %s: it follows %d",
				dv.Name.Text, e.Underlying, greatest)
		}
		return 0, false
	}
	return last + 1, true
}

// applyBitFlags converts positions of bits to masks.
func (l *linker) applyBitFlags(e *Enum) {
	bits := uint64(8 * e.Underlying.Size())
	for _, v := range e.Values {
		position := uint64(v.Value)
		switch {
		case position >= bits:
			l.diags.Errorf(v.Span, "bit %d of %s is not one of the %d bits of %s", v.Value, v.Name,
				bits, e.Underlying)
		case position == bits-1 && !e.Underlying.IsUnsigned():
			l.diags.Errorf(v.Span, "bit %d of %s is the sign of %s", v.Value, v.Name, e.Underlying).
				Helpf("make the underlying type unsigned")
		default:
			v.Value = int64(uint64(1) << position)
		}
	}
}

// memberType resolves the type of a union's member: its name, or the type that follows its alias.
func (l *linker) memberType(d *fbs.EnumVal) Type {
	if d.Type == nil {
		return Type{Base: Obj, Object: l.mention(d.Name.Text, d.Name.Range).object}
	}
	t, _ := l.typeName(d.Type)
	if d.Type.Kind != fbs.Plain || t.Base != Obj && t.Base != String {
		l.errorf(d.Type.Range, "a member of a union must be a table, a struct or a string").
			Helpf("wrap it in a table")
		return Type{}
	}
	return t
}
