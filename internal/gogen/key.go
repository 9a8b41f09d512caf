package gogen

import (
	"strings"

	"github.com/ipcgen/ipcgen/internal/schema"
)

// key writes what sorts and finds tables by the field marked (key).
func (f *file) key(o *schema.Object, n *objectNames) {
	get := f.plan.fields[o.Key].Get
	arg := "()"
	if isStruct(o.Key.Type) {
		arg = "(new(" + f.objectType(o.Key.Type.Object) + "))"
		f.structCompare(o.Key.Type.Object, n)
	}
	f.p("// ", n.KeyCompare, " reports whether the key of the table at ℓo1 is less than that of")
	f.p("// the table at ℓo2, as flatbuffers.Builder.CreateVectorOfSortedTables needs it.")
	f.p("func ", n.KeyCompare, "(ℓo1, ℓo2 ℙflatbuffers.UOffsetT, ℓbuf []byte) bool {")
	f.p("var ℓx, ℓy ", n.Type)
	f.p("ℓx.Init(ℓbuf, ℙflatbuffers.UOffsetT(len(ℓbuf))-ℓo1)")
	f.p("ℓy.Init(ℓbuf, ℙflatbuffers.UOffsetT(len(ℓbuf))-ℓo2)")
	f.p("return ", f.keyCompare(o.Key, n, "ℓx."+get+arg, "ℓy."+get+arg), " < 0")
	f.p("}")
	f.p()
	f.p("// LookupByKey points ℓrcv at the table with the given key, in the vector at")
	f.p("// ℓvectorLocation of ℓbuf that is sorted by it, and reports whether there is one.")
	f.p("func (ℓrcv *", n.Type, ") LookupByKey(ℓkey ", f.keyType(o.Key), ", ℓvectorLocation ℙflatbuffers.UOffsetT, ℓbuf []byte) bool {")
	f.p("ℓpos := ℙfb.LookupTable(ℓbuf, ℓvectorLocation, func(ℓpos ℙflatbuffers.UOffsetT) int {")
	f.p("var ℓx ", n.Type)
	f.p("ℓx.Init(ℓbuf, ℓpos)")
	f.p("return ", f.keyCompare(o.Key, n, "ℓx."+get+arg, "ℓkey"))
	f.p("})")
	f.p("if ℓpos == 0 {")
	f.p("return false")
	f.p("}")
	f.p("ℓrcv.Init(ℓbuf, ℓpos)")
	f.p("return true")
	f.p("}")
	f.p()
}

// structByKey writes the method that finds a struct in a sorted vector.
func (f *file) structByKey(rcv string, n *fieldNames, o *schema.Object, slot string) {
	typ, key := f.objectType(o), o.Key
	get := "ℓx." + f.plan.fields[key].Get
	f.p()
	f.p("// ", n.ByKey, " finds the element with the given key in a vector sorted by it.")
	f.p(rcv, n.ByKey, "(ℓobj *", typ, ", ℓkey ", f.keyType(key), ") bool {")
	f.p("ℓj := ℙfb.Search(ℙfb.FieldLen(&ℓrcv._tab, ", slot, "), func(ℓj int) int {")
	f.p("var ℓx ", typ)
	f.p("ℙfb.ElemStruct(&ℓrcv._tab, ", slot, ", &ℓx, ℓj, ", itoa(o.Size), ")")
	switch t := key.Type; {
	case t.Base == schema.Obj:
		f.p("ℓa := ", get, "(new(", f.objectType(t.Object), "))")
		f.compareFields(t.Object, "ℓa", "ℓkey", 0)
		f.p("return 0")
	case t.Base == schema.Array && t.Element == schema.Obj:
		f.p("for ℓi, ℓb := range ℓkey {")
		f.p("ℓa := ", get, "(new(", f.objectType(t.Object), "), ℓi)")
		f.compareFields(t.Object, "ℓa", "ℓb", 1)
		f.p("}")
		f.p("return 0")
	case t.Base == schema.Array:
		compare := "ℙcmp.Compare("
		if t.Element == schema.Bool {
			compare = "ℙfb.CompareBools("
		}
		f.p("for ℓi, ℓb := range ℓkey {")
		f.p("if ℓc := ", compare, get, "(ℓi), ℓb); ℓc != 0 {")
		f.p("return ℓc")
		f.p("}")
		f.p("}")
		f.p("return 0")
	case t.Base == schema.Bool:
		f.p("return ℙfb.CompareBools(", get, "(), ℓkey)")
	default:
		f.p("return ℙcmp.Compare(", get, "(), ℓkey)")
	}
	f.p("})")
	f.p("return ℓj >= 0 && ℙfb.ElemStruct(&ℓrcv._tab, ", slot, ", ℓobj, ℓj, ", itoa(o.Size), ")")
	f.p("}")
}

// keyType returns the type of the key that a lookup takes.
func (f *file) keyType(key *schema.Field) string {
	switch {
	case key.Type.Base == schema.String:
		return "string"
	case key.Type.Base == schema.Obj:
		return "*" + f.objectType(key.Type.Object)
	case key.Type.Base == schema.Array && key.Type.Element == schema.Obj:
		return "[" + itoa(key.Type.FixedLength) + "]*" + f.objectType(key.Type.Object)
	case key.Type.Base == schema.Array:
		return "[" + itoa(key.Type.FixedLength) + "]" + f.scalarType(elem(key.Type))
	}
	return f.scalarType(key.Type)
}

// keyCompare returns an expression that compares two keys.
func (f *file) keyCompare(key *schema.Field, n *objectNames, a, b string) string {
	switch t := key.Type; {
	case isStruct(t):
		return "ℙfb.CompareStructs(" + a + ", " + b + ", " + n.KeyStructCompare + ")"
	case t.Base == schema.String && b == "ℓkey":
		return "ℙfb.CompareString(" + a + ", " + b + ")"
	case t.Base == schema.String:
		return "ℙbytes.Compare(" + a + ", " + b + ")"
	case t.Base == schema.Bool:
		return "ℙfb.CompareBools(" + a + ", " + b + ")"
	default:
		return "ℙcmp.Compare(" + a + ", " + b + ")"
	}
}

// structCompare writes the function that orders the structs that are the keys
// of a table: by their first field that differs, as in C++.
func (f *file) structCompare(o *schema.Object, n *objectNames) {
	typ := f.objectType(o)
	f.p("// ", n.KeyStructCompare, " compares two keys, field by field.")
	f.p("func ", n.KeyStructCompare, "(ℓa, ℓb *", typ, ") int {")
	f.compareFields(o, "ℓa", "ℓb", 0)
	f.p("return 0")
	f.p("}")
	f.p()
}

// compareFields writes the statements that return how two structs compare,
// unless they are equal. depth counts the structs around them.
func (f *file) compareFields(o *schema.Object, a, b string, depth int) {
	for _, field := range o.Fields {
		t, get := field.Type, f.plan.fields[field].Get
		var index string
		if t.Base == schema.Array {
			index = loopVar(depth)
			f.p("for ", index, " := range ", itoa(t.FixedLength), " {")
			t = elem(t)
		}
		if t.Base == schema.Obj {
			x, y := "ℓx"+itoa(depth), "ℓy"+itoa(depth)
			args := strings.TrimSuffix("(new("+f.objectType(t.Object)+"), "+index, ", ") + ")"
			if index == "" {
				f.p("{")
			}
			f.p(x, ", ", y, " := ", a, ".", get, args, ", ", b, ".", get, args)
			f.compareFields(t.Object, x, y, depth+1)
			f.p("}")
			continue
		}
		compare := "ℙfb.CompareBools("
		if t.Base != schema.Bool {
			compare = "ℙcmp.Compare("
		}
		f.p("if ℓc := ", compare, a, ".", get, "(", index, "), ", b, ".", get, "(", index, ")); ℓc != 0 {")
		f.p("return ℓc")
		f.p("}")
		if index != "" {
			f.p("}")
		}
	}
}
