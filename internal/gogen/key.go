package gogen

import "github.com/ipcgen/ipcgen/internal/schema"

// key writes the functions that sort and find tables by the field marked (key).
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
	f.p("func (ℓrcv *", n.Type, ") LookupByKey(ℓkey ", f.keyType(o.Key),
		", ℓvectorLocation ℙflatbuffers.UOffsetT, ℓbuf []byte) bool {")
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

// structByKey writes the method that finds a struct in a sorted vector. It reads keys by position,
// for the same reason as structCompare.
func (f *file) structByKey(rcv string, n *fieldNames, o *schema.Object, slot string) {
	typ, key := f.objectType(o), o.Key
	f.p()
	f.p("// ", n.ByKey, " finds the element with the given key in a vector sorted by it.")
	f.p(rcv, n.ByKey, "(ℓobj *", typ, ", ℓkey ", f.keyType(key), ") bool {")
	f.p("ℓj := ℙfb.Search(ℙfb.FieldLen(&ℓrcv._tab, ", slot, "), func(ℓj int) int {")
	f.p("var ℓa ", typ)
	f.p("ℙfb.ElemStruct(&ℓrcv._tab, ", slot, ", &ℓa, ℓj, ", itoa(o.Size), ")")
	f.p("ℓx := ℓa.Table()")
	if key.Offset > 0 {
		f.p("ℓx.Pos += ", itoa(key.Offset))
	}
	e := elem(key.Type)
	switch t := key.Type; {
	case t.Base == schema.Obj:
		f.p("ℓy := ℓkey.Table()")
		f.compareFields(t.Object, 0, "", 0)
		f.p("return 0")
	case t.Base == schema.Array:
		f.p("for _, ℓb := range ℓkey {")
		if e.Base == schema.Obj {
			f.p("ℓy := ℓb.Table()")
			f.compareFields(e.Object, 0, "", 0)
		} else {
			f.p("if ℓc := ", comparison(e), "(ℓx.Get", methodOf(e), "(ℓx.Pos), ", toWire(e, "ℓb"),
				"); ℓc != 0 {")
			f.p("return ℓc")
			f.p("}")
		}
		f.p("ℓx.Pos += ", itoa(inlineSize(e)))
		f.p("}")
		f.p("return 0")
	default:
		f.p("return ", comparison(t), "(ℓx.Get", methodOf(t), "(ℓx.Pos), ", toWire(t, "ℓkey"), ")")
	}
	f.p("})")
	f.p("return ℓj >= 0 && ℙfb.ElemStruct(&ℓrcv._tab, ", slot, ", ℓobj, ℓj, ", itoa(o.Size), ")")
	f.p("}")
}

// comparison returns the function that compares scalars of a type.
func comparison(t schema.Type) string {
	if t.Base == schema.Bool {
		return "ℙfb.CompareBools"
	}
	return "ℙcmp.Compare"
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
	default:
		return comparison(t) + "(" + a + ", " + b + ")"
	}
}

// structCompare writes the function that orders structs that are keys of a table: by their first
// field that differs, as in C++. It reads them by position, because the accessors of another
// package may not be exported.
func (f *file) structCompare(o *schema.Object, n *objectNames) {
	f.p("// ", n.KeyStructCompare, " compares two keys, field by field.")
	f.p("func ", n.KeyStructCompare, "(ℓa, ℓb *", f.objectType(o), ") int {")
	f.p("ℓx, ℓy := ℓa.Table(), ℓb.Table()")
	f.compareFields(o, 0, "", 0)
	f.p("return 0")
	f.p("}")
	f.p()
}

// compareFields writes the statements that return the order of two structs, unless they are equal.
// The structs are at offset at in the key. index is the expression that the loops around them add,
// and depth the number of those loops.
func (f *file) compareFields(o *schema.Object, at int, index string, depth int) {
	for _, field := range o.Fields {
		t, pos, idx, d := field.Type, at+field.Offset, index, depth
		if t.Base == schema.Array {
			v := loopVar(depth)
			f.p("for ", v, " := range ℙflatbuffers.UOffsetT(", itoa(t.FixedLength), ") {")
			t = elem(t)
			idx, d = index+"+"+v+"*"+itoa(inlineSize(t)), depth+1
		}
		if t.Base == schema.Obj {
			f.compareFields(t.Object, pos, idx, d)
		} else {
			f.compareScalars(t, pos, idx)
		}
		if d > depth {
			f.p("}")
		}
	}
}

// compareScalars writes the statement that compares one scalar of two structs.
func (f *file) compareScalars(t schema.Type, pos int, index string) {
	get := func(of string) string {
		sum := of + ".Pos" + index
		if pos > 0 {
			sum += "+" + itoa(pos)
		}
		return of + ".Get" + methodOf(t) + "(" + sum + ")"
	}
	f.p("if ℓc := ", comparison(t), "(", get("ℓx"), ", ", get("ℓy"), "); ℓc != 0 {")
	f.p("return ℓc")
	f.p("}")
}
