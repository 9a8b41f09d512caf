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
	f.useFB()
	f.p("// ", n.KeyCompare, " reports whether the key of the table at o1 is less than that of")
	f.p("// the table at o2, as flatbuffers.Builder.CreateVectorOfSortedTables needs it.")
	f.p("func ", n.KeyCompare, "(o1, o2 flatbuffers.UOffsetT, buf []byte) bool {")
	f.p("var x, y ", n.Type)
	f.p("x.Init(buf, flatbuffers.UOffsetT(len(buf))-o1)")
	f.p("y.Init(buf, flatbuffers.UOffsetT(len(buf))-o2)")
	f.p("return ", f.keyCompare(o.Key, n, "x."+get+arg, "y."+get+arg), " < 0")
	f.p("}")
	f.p()
	f.p("// LookupByKey points rcv at the table with the given key, in the vector at")
	f.p("// vectorLocation of buf that is sorted by it, and reports whether there is one.")
	f.p("func (rcv *", n.Type, ") LookupByKey(key ", f.keyType(o.Key), ", vectorLocation flatbuffers.UOffsetT, buf []byte) bool {")
	f.p("pos := fb.LookupTable(buf, vectorLocation, func(pos flatbuffers.UOffsetT) int {")
	f.p("var x ", n.Type)
	f.p("x.Init(buf, pos)")
	f.p("return ", f.keyCompare(o.Key, n, "x."+get+arg, "key"))
	f.p("})")
	f.p("if pos == 0 {")
	f.p("return false")
	f.p("}")
	f.p("rcv.Init(buf, pos)")
	f.p("return true")
	f.p("}")
	f.p()
}

// keyType returns the type of the key that a lookup takes.
func (f *file) keyType(key *schema.Field) string {
	switch {
	case key.Type.Base == schema.String:
		return "string"
	case key.Type.Base == schema.Obj:
		return "*" + f.objectType(key.Type.Object)
	}
	return f.scalarType(key.Type)
}

// keyCompare returns an expression that compares two keys.
func (f *file) keyCompare(key *schema.Field, n *objectNames, a, b string) string {
	switch t := key.Type; {
	case isStruct(t):
		return "fb.CompareStructs(" + a + ", " + b + ", " + n.KeyStructCompare + ")"
	case t.Base == schema.String && b == "key":
		return "fb.CompareString(" + a + ", " + b + ")"
	case t.Base == schema.String:
		f.use("bytes")
		return "bytes.Compare(" + a + ", " + b + ")"
	case t.Base == schema.Bool:
		return "fb.CompareBools(" + a + ", " + b + ")"
	default:
		f.use("cmp")
		return "cmp.Compare(" + a + ", " + b + ")"
	}
}

// structCompare writes the function that orders the structs that are the keys
// of a table: by their first field that differs, as in C++.
func (f *file) structCompare(o *schema.Object, n *objectNames) {
	typ := f.objectType(o)
	f.p("// ", n.KeyStructCompare, " compares two keys, field by field.")
	f.p("func ", n.KeyStructCompare, "(a, b *", typ, ") int {")
	f.compareFields(o, "a", "b", 0)
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
			x, y := "x"+itoa(depth), "y"+itoa(depth)
			args := strings.TrimSuffix("(new("+f.objectType(t.Object)+"), "+index, ", ") + ")"
			if index == "" {
				f.p("{")
			}
			f.p(x, ", ", y, " := ", a, ".", get, args, ", ", b, ".", get, args)
			f.compareFields(t.Object, x, y, depth+1)
			f.p("}")
			continue
		}
		compare := "fb.CompareBools("
		if t.Base != schema.Bool {
			compare = "cmp.Compare("
			f.use("cmp")
		}
		f.p("if c := ", compare, a, ".", get, "(", index, "), ", b, ".", get, "(", index, ")); c != 0 {")
		f.p("return c")
		f.p("}")
		if index != "" {
			f.p("}")
		}
	}
}
