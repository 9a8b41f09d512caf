package schema

import "github.com/ipcgen/ipcgen/internal/fbs"

// tagSuffix is the suffix of the name of the hidden field that holds a union's tag.
const tagSuffix = "_type"

// field links one field. It reports errors, but adds the field all the same if that avoids further
// errors that follow from the first.
func (ol *objectLinker) field(d *fbs.Field) {
	if s := ol.findObject(d.Name.Text); s != nil {
		at := s.object.Span
		if s.pending {
			at = s.use
		}
		ol.errorf(d.Name.Range, "field %s has the name of a table or a struct", d.Name.Text).
			Note(at, "the table or struct %s", s.object.Name).
			Helpf("rename the field")
	}
	t, s, ok := ol.fieldType(&d.Type)
	if !ok || !ol.allowed(d, t, s) {
		return
	}
	var tag *Field
	if t.Base == Union || t.Base == Vector && t.Element == Union {
		tagType := Type{Base: UType, Enum: t.Enum}
		if t.Base == Vector {
			tagType = Type{Base: Vector, Element: UType, Enum: t.Enum}
		}
		tag = ol.add(fbs.Name{Range: d.Name.Range, Text: d.Name.Text + tagSuffix}, tagType)
		if tag == nil {
			return
		}
		tag.IsTag = true
	}
	f := ol.add(d.Name, t)
	if f == nil {
		if tag != nil {
			ol.obj.Fields = ol.obj.Fields[:len(ol.obj.Fields)-1] // meaningless without its union
			delete(ol.fields, tag.Name)
		}
		return
	}
	f.Tag = tag
	f.Doc = d.Doc
	f.Attributes = ol.metadata(d.Meta)
	ol.setDefault(f, d.Default, s)
	ol.applyAttributes(f, d.Meta, s)
	if tag != nil {
		tag.Deprecated = f.Deprecated
		tag.Required = f.Required && t.Base == Vector
	}
}

// fieldType resolves the type of a field. The symbol is that of a table or struct, and tells
// whether the table or struct is declared yet.
func (ol *objectLinker) fieldType(d *fbs.Type) (t Type, s *symbol, ok bool) {
	t, s = ol.typeName(d)
	switch d.Kind {
	case fbs.Vector:
		t.Element, t.Base = t.Base, Vector
	case fbs.Array:
		t.Element, t.Base = t.Base, Array
		n, err := parseInteger(d.Length.Text, UShort)
		if err != nil || n < 1 {
			ol.errorf(d.Length.Range, "the length of an array must be from 1 to 65535")
			return t, s, false
		}
		t.FixedLength = int(n)
	}
	return t, s, true
}

// typeName resolves the name in a type: a built-in type, an enum or union of this or an enclosing
// namespace, or else a table or struct.
func (l *linker) typeName(d *fbs.Type) (Type, *symbol) {
	if d.Builtin {
		return Type{Base: builtin(d.Name.Text)}, nil
	}
	if e := l.findEnum(d.Name.Text); e != nil {
		if e.IsUnion {
			return Type{Base: Union, Enum: e}, nil
		}
		return Type{Base: e.Underlying, Enum: e}, nil
	}
	s := l.mention(d.Name.Text, d.Name.Range)
	return Type{Base: Obj, Object: s.object}, s
}

// allowed reports whether the table or struct may have a field of the type.
func (ol *objectLinker) allowed(d *fbs.Field, t Type, s *symbol) bool {
	at := d.Type.Range
	if !ol.obj.IsStruct {
		if t.Base == Array {
			ol.errorf(at, "an array of fixed length may stand in a struct only").
				Helpf("wrap it in a struct, or write [%s] for a vector", d.Type.Name.Text)
			return false
		}
		return true
	}
	elem := t
	if t.Base == Array {
		elem = t.Elem()
	}
	switch {
	case s != nil && s.object == ol.obj:
		ol.errorf(at, "struct %s contains itself", ol.obj.Name)
		return false
	case s != nil && s.pending:
		ol.errorf(at, "struct %s must be declared before it is used in a struct", s.name)
		return false
	case elem.Base.IsScalar() || elem.IsStruct():
		return true
	}
	ol.errorf(at, "a struct may hold only numbers, enums, structs and arrays of them, not %s",
		describe(t)).
		Helpf("make %s a table", ol.obj.Name)
	return false
}

// describe returns the kind of a type for a message.
func describe(t Type) string {
	switch {
	case t.Base == Vector:
		return "a vector"
	case t.Base == Array:
		return "an array of " + describe(t.Elem())[len("a "):] + "s"
	case t.Base == String:
		return "a string"
	case t.Base == Union:
		return "a union"
	case t.Base == Obj && t.Object.IsStruct:
		return "a struct"
	case t.Base == Obj:
		return "a table"
	}
	return "a number"
}
