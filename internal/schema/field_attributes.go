package schema

import (
	"errors"
	"fmt"
	"slices"

	"github.com/ipcgen/ipcgen/internal/fbs"
)

// applyAttributes checks the attributes of a field and applies them.
func (ol *objectLinker) applyAttributes(f *Field, meta []fbs.Attribute, s *symbol) {
	a := f.Attributes
	if len(a) == 0 && !ol.obj.IsStruct {
		return
	}
	t := f.Type
	// isStruct is the knowledge at this point: a struct that is declared later counts as a table,
	// as it does for flatc.
	isStruct := t.Base == Obj && !s.pending && t.Object.IsStruct
	misuse := func(attribute, format string, args ...any) {
		ol.diags.Errorf(a.span(attribute), attribute+" "+format, args...)
	}

	f.Deprecated = a.Has("deprecated")
	f.Key = a.Has("key")
	f.Required = a.Has("required") || f.Key && t.Base == String && !ol.obj.IsStruct
	f.Shared = a.Has("shared")

	if ol.obj.IsStruct {
		if a.Has("required") {
			misuse("required", "has no meaning in a struct, whose fields are always present")
		}
		if a.Has("optional") {
			misuse("optional", "has no meaning in a struct, whose fields are always present")
		}
		if f.Deprecated {
			misuse("deprecated", "is not possible in a struct, whose layout never changes")
		}
	} else if a.Has("required") && t.Base.IsScalar() {
		misuse("required", "may stand only at fields that are not numbers")
	}
	if f.Key {
		ol.applyKey(f, isStruct)
	}
	if algorithm, ok := a.Lookup("hash"); ok {
		f.Hash = algorithm
		if err := CheckHash(t, algorithm); err != nil {
			ol.diags.Errorf(a.span("hash"), "%v", err)
		}
	}
	if f.Shared && t.Base != String {
		misuse("shared", "may stand only at a string")
	}
	if a.Has("cpp_type") {
		if !a.Has("hash") {
			misuse("cpp_type", "may stand only at a field with hash")
		} else if !a.Has("cpp_ptr_type") {
			f.Attributes = append(f.Attributes,
				Attribute{Name: "cpp_ptr_type", Value: "naked", Span: a.span("cpp_type")})
			f.Attributes.sort()
		}
	}
	if a.Has("native_custom_alloc") {
		misuse("native_custom_alloc", "may stand only at a table or a struct")
	}
	if a.Has("native_inline") && !isStruct && !(t.Base == Vector && t.Element == Obj) {
		misuse("native_inline", "may stand only at a struct, or a vector of structs or tables")
	}
	if a.Has("vector64") || a.Has("offset64") {
		ol.refuse64(f)
	}
	ol.applyNested(f, meta)
}

// applyKey checks that a field can be the key of its table or struct.
func (ol *objectLinker) applyKey(f *Field, isStruct bool) {
	at := f.Attributes.span("key")
	if ol.obj.Key != nil {
		ol.diags.Errorf(at, "%s has two keys, %s and %s", ol.obj.Name, ol.obj.Key.Name, f.Name).
			Note(ol.obj.Key.Attributes.span("key"), "the first key is here")
		return
	}
	t := f.Type
	array := t.Base == Array // of numbers or structs, because nothing else is allowed
	if !t.Base.IsScalar() && t.Base != String && !isStruct && !array {
		ol.diags.Errorf(at,
			"a key must be a number, a string, a struct declared before, or an array in a "+
				"struct, not %s", describe(t))
		return
	}
	if f.Optional {
		ol.diags.Errorf(at, "a key may not be optional").Helpf("remove = null")
		return
	}
	ol.obj.Key = f
}

// CheckHash returns an error unless a field of type t can hold a hash of the given algorithm.
func CheckHash(t Type, algorithm string) error {
	base := t.Base
	if base == Vector {
		base = t.Element
	}
	switch width := base.Size() * 8; {
	case !base.IsInteger() || width < 16:
		return errors.New("hash may stand only at an integer of 16, 32 or 64 bits")
	case algorithm != fmt.Sprint("fnv1_", width) && algorithm != fmt.Sprint("fnv1a_", width):
		return fmt.Errorf(`%q is not a hash of %d bits; those are "fnv1a_%d" and "fnv1_%d"`,
			algorithm, width, width, width)
	}
	return nil
}

// refuse64 reports fields that Go cannot read, because the FlatBuffers runtime for Go supports only
// 32-bit offsets.
func (ol *objectLinker) refuse64(f *Field) {
	name := "vector64"
	if !f.Attributes.Has(name) {
		name = "offset64"
	}
	at := f.Attributes.span(name)
	t := f.Type
	switch {
	case name == "vector64" && t.Base != Vector:
		ol.diags.Errorf(at, "vector64 may stand only at a vector")
	case name == "offset64" && t.Base != Vector && t.Base != String:
		ol.diags.Errorf(at, "offset64 may stand only at a string or a vector")
	default:
		ol.diags.Errorf(at,
			"%s is not supported: the FlatBuffers runtime for Go cannot read 64-bit offsets", name).
			Helpf("remove it; without it the field holds up to 2 GiB")
	}
}

// applyNested applies nested_flatbuffer and flexbuffer.
func (ol *objectLinker) applyNested(f *Field, meta []fbs.Attribute) {
	bytes := f.Type.Base == Vector && f.Type.Element == UByte
	if root, ok := f.Attributes.Lookup("nested_flatbuffer"); ok {
		at := f.Attributes.span("nested_flatbuffer")
		i := slices.IndexFunc(meta, func(m fbs.Attribute) bool {
			return m.Name.Text == "nested_flatbuffer"
		})
		switch v := meta[i].Value; {
		case v == nil || v.Kind != fbs.StringValue:
			ol.diags.Errorf(at, "nested_flatbuffer needs the name of the root table, as a string")
		case !bytes:
			ol.diags.Errorf(at, "nested_flatbuffer may stand only at a [ubyte]")
		default:
			f.NestedFlatbuffer = ol.mention(root, v.Range).object
			ol.mustBeTable(f.NestedFlatbuffer, ol.span(v.Range), "the root of a nested buffer")
		}
	}
	if f.Attributes.Has("flexbuffer") {
		f.FlexBuffer = true
		if !bytes {
			ol.diags.Errorf(f.Attributes.span("flexbuffer"),
				"flexbuffer may stand only at a [ubyte]")
		}
	}
}
