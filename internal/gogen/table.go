package gogen

import (
	"github.com/ipcgen/ipcgen/internal/schema"
)

// table writes all declarations for a table.
func (f *file) table(o *schema.Object) {
	n := f.plan.objects[o]
	f.tableObject(o, n)
	if hasDoc(o.Doc) {
		f.p("// ", n.Type, " reads the table ", fullName(o.Namespace, o.Name), " in its buffer.")
	} else {
		f.p("// ", n.Type, " reads the table ", fullName(o.Namespace, o.Name),
			" in its buffer, without copying it.")
	}
	f.p("type ", n.Type, " struct {")
	f.p("_tab ℙflatbuffers.Table")
	f.p("}")
	f.p()
	f.aliases(n.Type, n.Alias, n.Object, n.ObjectAlias)
	f.rootFuncs(o)
	f.verifier(o, n)
	f.initFuncs(n, "ℓrcv._tab")
	for _, field := range o.Fields {
		if !field.Deprecated {
			f.accessors(o, n, field)
		}
	}
	if o.Key != nil {
		f.key(o, n)
	}
	f.builders(o, n)
}

// rootFuncs writes the functions that return a table as the root of a buffer, and those that make
// it the root.
func (f *file) rootFuncs(o *schema.Object) {
	n := f.plan.objects[o]
	t := n.Type
	finish, finishSized, ident := "Finish(ℓoffset)", "FinishSizePrefixed(ℓoffset)", ""
	if n.Identifier != "" {
		ident = "[]byte(" + n.Identifier + ")"
		finish = "FinishWithFileIdentifier(ℓoffset, " + ident + ")"
		finishSized = "FinishSizePrefixedWithFileIdentifier(ℓoffset, " + ident + ")"
		f.p("// ", n.Identifier, " marks buffers whose root is ", article(t), ".")
		f.p("const ", n.Identifier, " = ", quote(o.File.Identifier))
		f.p()
	}
	f.p("// ", n.GetRootAs, " returns the ", t,
		" that is the root of the buffer at offset in ℓbuf,")
	f.p("// which must have been verified.")
	f.p("func ", n.GetRootAs, "(ℓbuf []byte, ℓoffset ℙflatbuffers.UOffsetT) *", t, " {")
	f.p("return ℙfb.RootTable[", t, "](ℓbuf, ℓoffset)")
	f.p("}")
	f.p()
	f.p("// ", n.FinishBuffer, " makes the ", t, " at offset the root of the buffer.")
	f.p("func ", n.FinishBuffer,
		"(ℓbuilder *ℙflatbuffers.Builder, ℓoffset ℙflatbuffers.UOffsetT) {")
	f.p("ℓbuilder.", finish)
	f.p("}")
	f.p()
	if n.Identifier != "" {
		f.p("// ", n.HasIdentifier, " reports whether ℓbuf is marked as holding ", article(t), ".")
		f.p("func ", n.HasIdentifier, "(ℓbuf []byte) bool {")
		f.p("return ℙflatbuffers.BufferHasIdentifier(ℓbuf, ", n.Identifier, ")")
		f.p("}")
		f.p()
	}
	f.p("// ", n.GetSizePrefixedRootAs, " is ", n.GetRootAs,
		" for a buffer that begins with its size.")
	f.p("func ", n.GetSizePrefixedRootAs, "(ℓbuf []byte, ℓoffset ℙflatbuffers.UOffsetT) *", t, " {")
	f.p("return ", n.GetRootAs, "(ℓbuf, ℓoffset+ℙflatbuffers.SizeUint32)")
	f.p("}")
	f.p()
	f.p("// ", n.FinishSizePrefixedBuffer, " is ", n.FinishBuffer,
		" for a buffer that begins with its size.")
	f.p("func ", n.FinishSizePrefixedBuffer,
		"(ℓbuilder *ℙflatbuffers.Builder, ℓoffset ℙflatbuffers.UOffsetT) {")
	f.p("ℓbuilder.", finishSized)
	f.p("}")
	f.p()
	if n.Identifier != "" {
		f.p("// ", n.SizePrefixedHasIdentifier, " is ", n.HasIdentifier,
			" for a buffer that begins with its")
		f.p("// size.")
		f.p("func ", n.SizePrefixedHasIdentifier, "(ℓbuf []byte) bool {")
		f.p("return ℙflatbuffers.SizePrefixedBufferHasIdentifier(ℓbuf, ", n.Identifier, ")")
		f.p("}")
		f.p()
	}
}

// article puts "a" or "an" in front of a type's name.
func article(name string) string {
	switch lower(name[0]) {
	case 'a', 'e', 'i', 'o':
		return "an " + name
	}
	return "a " + name
}

// initFuncs writes the methods that every accessor has. tab is the expression of its
// flatbuffers.Table.
func (f *file) initFuncs(n *objectNames, tab string) {
	f.p("// Init points ℓrcv at position ℓi of ℓbuf.")
	f.p("func (ℓrcv *", n.Type, ") Init(ℓbuf []byte, ℓi ℙflatbuffers.UOffsetT) {")
	f.p("ℓrcv._tab.Bytes = ℓbuf")
	f.p("ℓrcv._tab.Pos = ℓi")
	f.p("}")
	f.p()
	f.p("// Table returns the position that ℓrcv points at.")
	f.p("func (ℓrcv *", n.Type, ") Table() ℙflatbuffers.Table {")
	f.p("return ", tab)
	f.p("}")
	f.p()
}

// accessors writes the getters and mutators of a table's field.
func (f *file) accessors(o *schema.Object, on *objectNames, field *schema.Field) {
	n := f.plan.fields[field]
	t, slot := field.Type, itoa(field.Offset)
	f.doc(field.Doc)
	rcv := "func (ℓrcv *" + on.Type + ") "
	switch {
	case isScalar(t.Base):
		f.scalarAccessors(rcv, n, field, slot)
	case t.Base == schema.String:
		f.p(rcv, n.Get, "() []byte {")
		f.bytesOr(field, "ℙfb.FieldBytes(&ℓrcv._tab, "+slot+")")
		f.p("}")
	case t.Base == schema.Obj:
		typ := f.objectType(t.Object)
		get := "ℙfb.FieldTable"
		if t.Object.IsStruct {
			get = "ℙfb.FieldStruct"
		}
		f.p(rcv, n.Get, "(ℓobj *", typ, ") *", typ, " {")
		f.p("return ", get, "(&ℓrcv._tab, ", slot, ", ℓobj)")
		f.p("}")
	case t.Base == schema.Union:
		f.p(rcv, n.Get, "(ℓobj *ℙflatbuffers.Table) bool {")
		f.p("return ℙfb.FieldUnion(&ℓrcv._tab, ", slot, ", ℓobj)")
		f.p("}")
	case t.Base == schema.Vector:
		f.vectorAccessors(rcv, n, field, slot)
	}
	f.p()
}

// bytesOr writes the statement that returns the bytes of a string, or of its default.
func (f *file) bytesOr(field *schema.Field, expr string) {
	if field.Default.Str == "" {
		f.p("return ", expr)
		return
	}
	f.p("if ℓb := ", expr, "; ℓb != nil {")
	f.p("return ℓb")
	f.p("}")
	f.p("return []byte(", quote(field.Default.Str), ")")
}

func (f *file) scalarAccessors(rcv string, n *fieldNames, field *schema.Field, slot string) {
	t := field.Type
	typ, method := f.scalarType(t), methodOf(t)
	if field.Optional {
		f.p(rcv, n.Get, "() *", typ, " {")
		f.p("if ℓx := ℙfb.FieldPos(&ℓrcv._tab, ", slot, "); ℓx != 0 {")
		f.p("ℓv := ", f.optionalValue(field))
		f.p("return &ℓv")
		f.p("}")
		f.p("return nil")
		f.p("}")
	} else {
		f.p(rcv, n.Get, "() ", typ, " {")
		f.p("return ", f.scalarValue(field))
		f.p("}")
	}
	f.p()
	f.p(rcv, n.Mutate, "(ℓn ", typ, ") bool {")
	f.p("return ℓrcv._tab.Mutate", method, "Slot(", slot, ", ", toWire(t, "ℓn"), ")")
	f.p("}")
}

func (f *file) vectorAccessors(rcv string, n *fieldNames, field *schema.Field, slot string) {
	e := elem(field.Type)
	size := itoa(inlineSize(e))
	switch {
	case isScalar(e.Base):
		f.p(rcv, n.Get, "(ℓj int) ", f.scalarType(e), " {")
		f.p("return ", f.fromWire(e, "ℙfb.Elem"+methodOf(e)+"(&ℓrcv._tab, "+slot+", ℓj)"))
		f.p("}")
	case e.Base == schema.String:
		f.p(rcv, n.Get, "(ℓj int) []byte {")
		f.p("return ℙfb.FieldElemBytes(&ℓrcv._tab, ", slot, ", ℓj)")
		f.p("}")
	case e.Base == schema.Union:
		f.p(rcv, n.Get, "(ℓobj *ℙflatbuffers.Table, ℓj int) bool {")
		f.p("return ℙfb.ElemUnion(&ℓrcv._tab, ", slot, ", ℓobj, ℓj)")
		f.p("}")
	default:
		f.p(rcv, n.Get, "(ℓobj *", f.objectType(e.Object), ", ℓj int) bool {")
		if e.Object.IsStruct {
			f.p("return ℙfb.ElemStruct(&ℓrcv._tab, ", slot, ", ℓobj, ℓj, ", size, ")")
		} else {
			f.p("return ℙfb.ElemTable(&ℓrcv._tab, ", slot, ", ℓobj, ℓj)")
		}
		f.p("}")
	}
	if n.ByKey != "" && e.Object.IsStruct {
		f.structByKey(rcv, n, e.Object, slot)
	} else if n.ByKey != "" {
		f.p()
		f.p("// ", n.ByKey, " finds the element with the given key in a vector sorted by it.")
		f.p(rcv, n.ByKey, "(ℓobj *", f.objectType(e.Object), ", ℓkey ",
			f.keyType(e.Object.Key), ") bool {")
		f.p("ℓx := ℙfb.FieldElem(&ℓrcv._tab, ", slot, ", 0, 4)")
		f.p("return ℓx != 0 && ℓobj.LookupByKey(ℓkey, ℓx, ℓrcv._tab.Bytes)")
		f.p("}")
	}
	f.p()
	f.p(rcv, n.Length, "() int {")
	f.p("return ℙfb.FieldLen(&ℓrcv._tab, ", slot, ")")
	f.p("}")
	if n.Bytes != "" {
		f.p()
		f.p(rcv, n.Bytes, "() []byte {")
		f.p("return ℙfb.FieldBytes(&ℓrcv._tab, ", slot, ")")
		f.p("}")
	}
	if n.Int8s != "" {
		f.p()
		f.p("// ", n.Int8s, " returns the vector without copying it: what is written to it is in")
		f.p("// the buffer.")
		f.p(rcv, n.Int8s, "() []int8 {")
		f.p("return ℙfb.Int8s(ℙfb.FieldBytes(&ℓrcv._tab, ", slot, "))")
		f.p("}")
	}
	if n.NestedRoot != "" {
		f.nestedAccessors(rcv, n, field, slot)
	}
	if n.Mutate != "" {
		f.p()
		f.p(rcv, n.Mutate, "(ℓj int, ℓn ", f.scalarType(e), ") bool {")
		f.p("return ℙfb.MutateElem", methodOf(e), "(&ℓrcv._tab, ", slot, ", ℓj, ",
			toWire(e, "ℓn"), ")")
		f.p("}")
	}
}

// nestedAccessors writes the methods that read the buffer in a field.
func (f *file) nestedAccessors(rcv string, n *fieldNames, field *schema.Field, slot string) {
	root := field.NestedFlatbuffer
	typ := f.objectType(root)
	f.p()
	f.p("// ", n.NestedRoot,
		" returns the root of the buffer in the field, or nil when the field is")
	f.p("// absent or empty.")
	f.p(rcv, n.NestedRoot, "() *", typ, " {")
	f.p("if ℓbuf := ℙfb.FieldBytes(&ℓrcv._tab, ", slot, "); len(ℓbuf) != 0 {")
	f.p("return ", f.qualifier(f.plan.pkgOf(root.Namespace)), f.plan.objects[root].GetRootAs,
		"(ℓbuf, 0)")
	f.p("}")
	f.p("return nil")
	f.p("}")
	f.p()
	f.p("// ", n.NestedObject, " returns a copy of what ", n.NestedRoot, " reads, or nil.")
	f.p(rcv, n.NestedObject, "() *", f.objectObject(root), " {")
	f.p("return ℓrcv.", n.NestedRoot, "().UnPack()")
	f.p("}")
}

// builders writes the functions that build a table field by field.
func (f *file) builders(o *schema.Object, on *objectNames) {
	f.p("// ", on.Start, " begins ", article(on.Type),
		", which the builder then expects the fields of.")
	f.p("func ", on.Start, "(ℓbuilder *ℙflatbuffers.Builder) {")
	f.p("ℙfb.StartTable(ℓbuilder, ", itoa(len(o.Fields)), ")")
	f.p("}")
	f.p()
	for _, field := range o.Fields {
		if field.Deprecated {
			continue
		}
		n, t := f.plan.fields[field], field.Type
		param := paramName(field)
		typ := "ℙflatbuffers.UOffsetT"
		if isScalar(t.Base) {
			typ = f.scalarType(t)
		}
		f.p("func ", n.Add, "(ℓbuilder *ℙflatbuffers.Builder, ", param, " ", typ, ") {")
		f.addField(field, param)
		f.p("}")
		f.p()
		if n.StartVector != "" {
			e := elem(t)
			f.p("func ", n.StartVector,
				"(ℓbuilder *ℙflatbuffers.Builder, ℓnumElems int) ℙflatbuffers.UOffsetT {")
			f.p("return ℓbuilder.StartVector(", itoa(inlineSize(e)), ", ℓnumElems, ",
				itoa(inlineAlign(e)), ")")
			f.p("}")
			f.p()
		}
	}
	f.p("// ", on.End, " ends the ", on.Type, " begun last and returns its offset.")
	f.p("func ", on.End, "(ℓbuilder *ℙflatbuffers.Builder) ℙflatbuffers.UOffsetT {")
	f.p("return ℙfb.EndTable(ℓbuilder)")
	f.p("}")
}

// addField writes the statements that store a value in a field of the table started last: the body
// of its Add function. Pack has the same statements instead of calls of Add, because inlining the
// calls would be a large part of the work of the Go compiler.
func (f *file) addField(field *schema.Field, value string) {
	t, slot := field.Type, itoa(field.ID)
	switch {
	case isScalar(t.Base) && field.Optional:
		f.p("ℓbuilder.Prepend", methodOf(t), "(", toWire(t, value), ")")
		f.p("ℓbuilder.Slot(", slot, ")")
	case isNegativeZero(field):
		// The builder would omit -0, because it compares equal to 0.
		double := value
		if t.Base == schema.Float {
			double = "float64(" + value + ")"
		}
		f.p("if ", value, " != 0 || !ℙmath.Signbit(", double, ") {")
		f.p("ℓbuilder.Prepend", methodOf(t), "(", value, ")")
		f.p("ℓbuilder.Slot(", slot, ")")
		f.p("}")
	case isScalar(t.Base):
		f.p("ℓbuilder.Prepend", methodOf(t), "Slot(", slot, ", ", toWire(t, value), ", ",
			literal(field), ")")
	case t.Base == schema.Obj && isStruct(t):
		f.p("ℙfb.AddStruct(ℓbuilder, ", slot, ", ", value, ")")
	default:
		f.p("ℓbuilder.PrependUOffsetTSlot(", slot, ", ", value, ", 0)")
	}
}

// optionalValue returns the expression that reads an optional scalar at ℓx.
func (f *file) optionalValue(field *schema.Field) string {
	return f.fromWire(field.Type, "ℓrcv._tab.Get"+methodOf(field.Type)+"(ℓx)")
}

// scalarValue returns the expression that reads a scalar field: the body of its accessor, which
// UnPackTo contains, too, for the same reason as Pack.
func (f *file) scalarValue(field *schema.Field) string {
	t := field.Type
	return f.fromWire(t, "ℓrcv._tab.Get"+methodOf(t)+"Slot("+itoa(field.Offset)+", "+
		literal(field)+")")
}
