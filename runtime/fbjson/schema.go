package fbjson

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ipcgen/ipcgen/internal/bfbs"
	"github.com/ipcgen/ipcgen/internal/diag"
	"github.com/ipcgen/ipcgen/internal/schema"
	"github.com/ipcgen/ipcgen/runtime/fb"
)

// A Schema has the types of a binary schema. It does not change after [Load].
type Schema struct {
	types   map[*schema.Object]*Type
	tables  map[string]*Type
	structs map[string]*Type
	enums   map[string]*schema.Enum
	values  map[*schema.Enum]map[string]*schema.EnumVal
	members map[*schema.Enum]map[uint64]*schema.EnumVal // of unions, by their tags
	root    *Type
}

// A Type is a table or a struct of a [Schema]. The buffer of a table has it as its root; that of a
// struct is the bytes of the struct alone.
type Type struct {
	schema *Schema
	object *schema.Object
	fields map[string]*schema.Field
	// required has the fields that must be there: an instance costs time for those and for what it
	// has, and not for all fields that it could have.
	required []*schema.Field
	// rules and subs are what the verifier of a generated package has for the table.
	rules []fb.Rule
	subs  []fb.SubVerifier
	// align is the greatest alignment of anything that a buffer with this root may hold, where
	// such a buffer is nested in others.
	align int
}

// Load reads a binary schema. The bytes are checked first, and not kept. An error says what is
// wrong with them.
func Load(data []byte) (*Schema, error) {
	var diags diag.List
	model := bfbs.Read("binary schema", data, &diags)
	if model == nil {
		return nil, diags.Err()
	}
	s := &Schema{
		types:   make(map[*schema.Object]*Type, len(model.Objects)),
		tables:  make(map[string]*Type, len(model.Objects)),
		structs: make(map[string]*Type),
		enums:   make(map[string]*schema.Enum, len(model.Enums)),
		values:  make(map[*schema.Enum]map[string]*schema.EnumVal, len(model.Enums)),
		members: make(map[*schema.Enum]map[uint64]*schema.EnumVal),
	}
	for _, o := range model.Objects {
		t := &Type{schema: s, object: o, fields: make(map[string]*schema.Field, len(o.Fields))}
		for _, f := range o.Fields {
			t.fields[f.Name] = f
			if f.Required {
				t.required = append(t.required, f)
			}
		}
		s.types[o] = t
		if o.IsStruct {
			s.structs[o.FullName()] = t
		} else {
			s.tables[o.FullName()] = t
		}
	}
	for _, e := range model.Enums {
		s.enums[e.FullName()] = e
		s.values[e] = make(map[string]*schema.EnumVal, len(e.Values))
		for _, v := range e.Values {
			s.values[e][v.Name] = v
		}
		if !e.IsUnion {
			continue
		}
		s.members[e] = make(map[uint64]*schema.EnumVal, len(e.Values))
		for _, m := range e.Values {
			if m.Type.Base != schema.None {
				s.members[e][uint64(m.Value)&tagMask(e)] = m
			}
		}
	}
	for _, t := range s.types {
		t.makeRules()
	}
	for _, t := range s.types {
		for _, f := range t.object.Fields {
			if n := s.types[f.NestedFlatbuffer]; n != nil && n.align == 0 {
				n.align = s.alignment(n.object)
			}
		}
	}
	s.root = s.types[model.Root]
	return s, nil
}

// Root returns the table that the schema declares as root_type, or nil.
func (s *Schema) Root() *Type { return s.root }

// Table returns the table of the given name, with its namespace. The error for a name that is
// not there suggests the nearest one.
func (s *Schema) Table(name string) (*Type, error) {
	return typeOf(s.tables, "table", name)
}

// Struct returns the struct of the given name, with its namespace, as Table does.
func (s *Schema) Struct(name string) (*Type, error) { return typeOf(s.structs, "struct", name) }

func typeOf(types map[string]*Type, what, name string) (*Type, error) {
	if t := types[name]; t != nil {
		return t, nil
	}
	return nil, fmt.Errorf("the schema has no %s %q%s", what, name,
		nearest(name, slices.Sorted(maps.Keys(types))))
}

// Tables returns the names of all tables, with their namespaces, in order.
func (s *Schema) Tables() []string { return slices.Sorted(maps.Keys(s.tables)) }

// Name returns the name of the type with its namespace.
func (t *Type) Name() string { return t.object.FullName() }

// Identifier returns the file identifier that buffers with this root have: that of the file which
// makes it its root type, as far as the binary schema tells, and otherwise none.
func (t *Type) Identifier() string {
	if f := t.object.File; f.RootType == t.object {
		return f.Identifier
	}
	return ""
}

// nearestField returns the name that a misspelt field most likely means, as a question.
func (t *Type) nearestField(name string) string {
	names := make([]string, 0, len(t.object.Fields))
	for _, f := range t.object.Fields {
		names = append(names, f.Name)
	}
	return nearest(name, names)
}

// nearest returns the one of some names that a misspelt one most likely means, as a question.
func nearest(name string, names []string) string {
	if near := diag.Nearest(name, names); near != "" {
		return "; did you mean " + near + "?"
	}
	return ""
}

// alignment returns the greatest alignment of what a table may hold, at any depth.
func (s *Schema) alignment(root *schema.Object) int {
	align, seen, queue := offsetSize, map[*schema.Object]bool{root: true}, []*schema.Object{root}
	for len(queue) > 0 {
		o := queue[0]
		queue = queue[1:]
		align = max(align, o.Align)
		reach := func(o *schema.Object) {
			if o != nil && !seen[o] {
				seen[o] = true
				queue = append(queue, o)
			}
		}
		for _, f := range o.Fields {
			align = max(align, vectorAlign(f))
			if f.Type.Base.IsScalar() {
				align = max(align, scalarSize(f.Type))
			}
			reach(f.Type.Object)
			reach(f.NestedFlatbuffer)
			if f.Type.Enum != nil && f.Type.Enum.IsUnion {
				for _, m := range f.Type.Enum.Values {
					reach(m.Type.Object)
				}
			}
		}
	}
	return align
}

// scalarSize returns the size of a scalar; the base type of a union's tag does not tell it.
func scalarSize(t schema.Type) int {
	if t.Base == schema.UType {
		return t.Enum.Underlying.Size()
	}
	return t.Base.Size()
}

// scalarBase returns the type as which a scalar is stored.
func scalarBase(t schema.Type) schema.BaseType {
	if t.Base == schema.UType {
		return t.Enum.Underlying
	}
	return t.Base
}

// elementSize returns the size of an element of a vector.
func elementSize(elem schema.Type) int {
	switch {
	case elem.IsStruct():
		return elem.Object.Size
	case elem.Base.IsScalar():
		return scalarSize(elem)
	}
	return offsetSize
}

// vectorAlign returns the alignment of the first element of a vector field.
func vectorAlign(f *schema.Field) int {
	if f.Type.Base != schema.Vector {
		return 1
	}
	elem := f.Type.Elem()
	align := offsetSize
	switch {
	case elem.IsStruct():
		align = elem.Object.Align
	case elem.Base.IsScalar():
		align = scalarSize(elem)
	}
	if forced, ok := f.Attributes.Lookup("force_align"); ok {
		var n int
		if _, err := fmt.Sscan(forced, &n); err == nil && n > 0 && n&(n-1) == 0 {
			align = max(align, min(n, schema.MaxAlign))
		}
	}
	return align
}

// enumOf returns the enum that a name for a field without one begins with, and the rest.
func (s *Schema) enumOf(word string) (e *schema.Enum, enum, value string) {
	dot := strings.LastIndexByte(word, '.')
	if dot < 0 {
		return nil, "", word
	}
	return s.enums[word[:dot]], word[:dot], word[dot+1:]
}

// valueOf returns the first of an enum's values that equals v, or nil.
func valueOf(e *schema.Enum, v int64) *schema.EnumVal {
	i, ok := slices.BinarySearchFunc(e.Values, v, func(have *schema.EnumVal, v int64) int {
		switch {
		case have.Value == v:
			return 0
		case e.Underlying == schema.ULong && uint64(have.Value) < uint64(v),
			e.Underlying != schema.ULong && have.Value < v:
			return -1
		}
		return 1
	})
	if !ok {
		return nil
	}
	for i > 0 && e.Values[i-1].Value == v {
		i--
	}
	return e.Values[i]
}

// nearestValue returns the name that a misspelt one most likely means, as a question.
func nearestValue(e *schema.Enum, name string) string {
	names := make([]string, 0, len(e.Values))
	for _, v := range e.Values {
		names = append(names, v.Name)
	}
	return nearest(name, names)
}
