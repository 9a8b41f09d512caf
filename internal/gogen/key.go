package gogen

import "github.com/ipcgen/ipcgen/internal/schema"

// key writes what sorts and finds tables by the field marked (key).
func (f *file) key(o *schema.Object, n *objectNames) {
	get := f.plan.fields[o.Key].Get
	f.useIPC()
	f.p("// ", n.KeyCompare, " reports whether the key of the table at o1 is less than that of")
	f.p("// the table at o2, as flatbuffers.Builder.CreateVectorOfSortedTables needs it.")
	f.p("func ", n.KeyCompare, "(o1, o2 flatbuffers.UOffsetT, buf []byte) bool {")
	f.p("var x, y ", n.Type)
	f.p("x.Init(buf, flatbuffers.UOffsetT(len(buf))-o1)")
	f.p("y.Init(buf, flatbuffers.UOffsetT(len(buf))-o2)")
	f.p("return ", f.keyCompare(o.Key.Type, "x."+get+"()", "y."+get+"()"), " < 0")
	f.p("}")
	f.p()
	f.p("// LookupByKey points rcv at the table with the given key, in the vector at")
	f.p("// vectorLocation of buf that is sorted by it, and reports whether there is one.")
	f.p("func (rcv *", n.Type, ") LookupByKey(key ", f.keyType(o.Key), ", vectorLocation flatbuffers.UOffsetT, buf []byte) bool {")
	f.p("pos := ipc.LookupTable(buf, vectorLocation, func(pos flatbuffers.UOffsetT) int {")
	f.p("var x ", n.Type)
	f.p("x.Init(buf, pos)")
	f.p("return ", f.keyCompare(o.Key.Type, "x."+get+"()", "key"))
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
func (f *file) keyCompare(t schema.Type, a, b string) string {
	switch {
	case t.Base == schema.String && b == "key":
		return "ipc.CompareString(" + a + ", " + b + ")"
	case t.Base == schema.String:
		f.use("bytes")
		return "bytes.Compare(" + a + ", " + b + ")"
	case t.Base == schema.Bool:
		return "ipc.CompareBools(" + a + ", " + b + ")"
	default:
		f.use("cmp")
		return "cmp.Compare(" + a + ", " + b + ")"
	}
}
