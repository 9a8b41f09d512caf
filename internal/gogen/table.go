package gogen

import (
	"strconv"

	"github.com/ipcgen/ipcgen/internal/schema"
)

// table writes all that is generated for a table.
func (f *file) table(o *schema.Object) {
	n := f.plan.objects[o]
	f.useFlatbuffers()
	f.tableObject(o, n)
	if hasDoc(o.Doc) {
		f.p("// ", n.Type, " reads the table ", fullName(o.Namespace, o.Name), " in its buffer.")
	} else {
		f.p("// ", n.Type, " reads the table ", fullName(o.Namespace, o.Name), " in its buffer, without copying it.")
	}
	f.p("type ", n.Type, " struct {")
	f.p("_tab flatbuffers.Table")
	f.p("}")
	f.p()
	f.aliases(n.Type, n.Alias, n.Object, n.ObjectAlias)
	f.rootFuncs(o)
	f.verifier(o, n)
	f.initFuncs(n, "rcv._tab")
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

// rootFuncs writes what finds a table as the root of a buffer, and what makes
// it one.
func (f *file) rootFuncs(o *schema.Object) {
	n := f.plan.objects[o]
	t := n.Type
	finish, finishSized, ident := "Finish(offset)", "FinishSizePrefixed(offset)", ""
	if n.Identifier != "" {
		ident = "[]byte(" + n.Identifier + ")"
		finish = "FinishWithFileIdentifier(offset, " + ident + ")"
		finishSized = "FinishSizePrefixedWithFileIdentifier(offset, " + ident + ")"
		f.p("// ", n.Identifier, " marks buffers whose root is ", article(t), ".")
		f.p("const ", n.Identifier, " = ", strconv.Quote(o.File.Identifier))
		f.p()
	}
	f.p("// ", n.GetRootAs, " returns the ", t, " that is the root of the buffer at offset in buf,")
	f.p("// which must have been verified.")
	f.p("func ", n.GetRootAs, "(buf []byte, offset flatbuffers.UOffsetT) *", t, " {")
	f.p("return fb.RootTable[", t, "](buf, offset)")
	f.p("}")
	f.p()
	f.p("// ", n.FinishBuffer, " makes the ", t, " at offset the root of the buffer.")
	f.p("func ", n.FinishBuffer, "(builder *flatbuffers.Builder, offset flatbuffers.UOffsetT) {")
	f.p("builder.", finish)
	f.p("}")
	f.p()
	if n.Identifier != "" {
		f.p("// ", n.HasIdentifier, " reports whether buf is marked as holding ", article(t), ".")
		f.p("func ", n.HasIdentifier, "(buf []byte) bool {")
		f.p("return flatbuffers.BufferHasIdentifier(buf, ", n.Identifier, ")")
		f.p("}")
		f.p()
	}
	f.p("// ", n.GetSizePrefixedRootAs, " is ", n.GetRootAs, " for a buffer that begins with its size.")
	f.p("func ", n.GetSizePrefixedRootAs, "(buf []byte, offset flatbuffers.UOffsetT) *", t, " {")
	f.p("return ", n.GetRootAs, "(buf, offset+flatbuffers.SizeUint32)")
	f.p("}")
	f.p()
	f.p("// ", n.FinishSizePrefixedBuffer, " is ", n.FinishBuffer, " for a buffer that begins with its size.")
	f.p("func ", n.FinishSizePrefixedBuffer, "(builder *flatbuffers.Builder, offset flatbuffers.UOffsetT) {")
	f.p("builder.", finishSized)
	f.p("}")
	f.p()
	if n.Identifier != "" {
		f.p("// ", n.SizePrefixedHasIdentifier, " is ", n.HasIdentifier, " for a buffer that begins with its")
		f.p("// size.")
		f.p("func ", n.SizePrefixedHasIdentifier, "(buf []byte) bool {")
		f.p("return flatbuffers.SizePrefixedBufferHasIdentifier(buf, ", n.Identifier, ")")
		f.p("}")
		f.p()
	}
}

// article puts "a" or "an" before a type's name.
func article(name string) string {
	switch lower(name[0]) {
	case 'a', 'e', 'i', 'o':
		return "an " + name
	}
	return "a " + name
}

// initFuncs writes the methods that every accessor has. tab is the expression
// of its flatbuffers.Table.
func (f *file) initFuncs(n *objectNames, tab string) {
	f.p("// Init points rcv at position i of buf.")
	f.p("func (rcv *", n.Type, ") Init(buf []byte, i flatbuffers.UOffsetT) {")
	f.p("rcv._tab.Bytes = buf")
	f.p("rcv._tab.Pos = i")
	f.p("}")
	f.p()
	f.p("// Table returns the position that rcv points at.")
	f.p("func (rcv *", n.Type, ") Table() flatbuffers.Table {")
	f.p("return ", tab)
	f.p("}")
	f.p()
}

// accessors writes the getters and mutators of a table's field.
func (f *file) accessors(o *schema.Object, on *objectNames, field *schema.Field) {
	n := f.plan.fields[field]
	t, slot := field.Type, itoa(field.Offset)
	f.doc(field.Doc)
	rcv := "func (rcv *" + on.Type + ") "
	switch {
	case isScalar(t.Base):
		f.scalarAccessors(rcv, n, field, slot)
	case t.Base == schema.String:
		f.p(rcv, n.Get, "() []byte {")
		f.bytesOr(field, "fb.FieldBytes(&rcv._tab, "+slot+")")
		f.p("}")
	case t.Base == schema.Obj:
		typ := f.objectType(t.Object)
		get := "fb.FieldTable"
		if t.Object.IsStruct {
			get = "fb.FieldStruct"
		}
		f.useFB()
		f.p(rcv, n.Get, "(obj *", typ, ") *", typ, " {")
		f.p("return ", get, "(&rcv._tab, ", slot, ", obj)")
		f.p("}")
	case t.Base == schema.Union:
		f.useFB()
		f.p(rcv, n.Get, "(obj *flatbuffers.Table) bool {")
		f.p("return fb.FieldUnion(&rcv._tab, ", slot, ", obj)")
		f.p("}")
	case t.Base == schema.Vector:
		f.vectorAccessors(rcv, n, field, slot)
	}
	f.p()
}

// bytesOr writes the return of a string's bytes, or of its default.
func (f *file) bytesOr(field *schema.Field, expr string) {
	f.useFB()
	if field.Default.Str == "" {
		f.p("return ", expr)
		return
	}
	f.p("if b := ", expr, "; b != nil {")
	f.p("return b")
	f.p("}")
	f.p("return []byte(", strconv.Quote(field.Default.Str), ")")
}

func (f *file) scalarAccessors(rcv string, n *fieldNames, field *schema.Field, slot string) {
	t := field.Type
	typ, method := f.scalarType(t), methodOf(t)
	if field.Optional {
		f.useFB()
		f.p(rcv, n.Get, "() *", typ, " {")
		f.p("if x := fb.FieldPos(&rcv._tab, ", slot, "); x != 0 {")
		f.p("v := ", f.fromWire(t, "rcv._tab.Get"+method+"(x)"))
		f.p("return &v")
		f.p("}")
		f.p("return nil")
		f.p("}")
	} else {
		f.p(rcv, n.Get, "() ", typ, " {")
		f.p("return ", f.scalarValue(field))
		f.p("}")
	}
	f.p()
	f.p(rcv, n.Mutate, "(n ", typ, ") bool {")
	f.p("return rcv._tab.Mutate", method, "Slot(", slot, ", ", toWire(t, "n"), ")")
	f.p("}")
}

// literal returns the expression of a field's default, importing what it needs.
func (f *file) literal(field *schema.Field) string {
	if needsMath(field) {
		f.use("math")
	}
	return literal(field)
}

func (f *file) vectorAccessors(rcv string, n *fieldNames, field *schema.Field, slot string) {
	e := elem(field.Type)
	size := itoa(inlineSize(e))
	f.useFB()
	switch {
	case isScalar(e.Base):
		f.p(rcv, n.Get, "(j int) ", f.scalarType(e), " {")
		f.p("return ", f.fromWire(e, "fb.Elem"+methodOf(e)+"(&rcv._tab, "+slot+", j)"))
		f.p("}")
	case e.Base == schema.String:
		f.p(rcv, n.Get, "(j int) []byte {")
		f.p("return fb.FieldElemBytes(&rcv._tab, ", slot, ", j)")
		f.p("}")
	case e.Base == schema.Union:
		f.p(rcv, n.Get, "(obj *flatbuffers.Table, j int) bool {")
		f.p("return fb.ElemUnion(&rcv._tab, ", slot, ", obj, j)")
		f.p("}")
	default:
		f.p(rcv, n.Get, "(obj *", f.objectType(e.Object), ", j int) bool {")
		if e.Object.IsStruct {
			f.p("return fb.ElemStruct(&rcv._tab, ", slot, ", obj, j, ", size, ")")
		} else {
			f.p("return fb.ElemTable(&rcv._tab, ", slot, ", obj, j)")
		}
		f.p("}")
	}
	if n.ByKey != "" {
		f.p()
		f.p("// ", n.ByKey, " finds the element with the given key in a vector sorted by it.")
		f.p(rcv, n.ByKey, "(obj *", f.objectType(e.Object), ", key ", f.keyType(e.Object.Key), ") bool {")
		f.p("x := fb.FieldElem(&rcv._tab, ", slot, ", 0, 4)")
		f.p("return x != 0 && obj.LookupByKey(key, x, rcv._tab.Bytes)")
		f.p("}")
	}
	f.p()
	f.p(rcv, n.Length, "() int {")
	f.p("return fb.FieldLen(&rcv._tab, ", slot, ")")
	f.p("}")
	if n.Bytes != "" {
		f.p()
		f.p(rcv, n.Bytes, "() []byte {")
		f.p("return fb.FieldBytes(&rcv._tab, ", slot, ")")
		f.p("}")
	}
	if n.Mutate != "" {
		f.p()
		f.p(rcv, n.Mutate, "(j int, n ", f.scalarType(e), ") bool {")
		f.p("return fb.MutateElem", methodOf(e), "(&rcv._tab, ", slot, ", j, ", toWire(e, "n"), ")")
		f.p("}")
	}
}

// builders writes the functions that build a table field by field.
func (f *file) builders(o *schema.Object, on *objectNames) {
	f.p("// ", on.Start, " begins ", article(on.Type), ", which the builder then expects the fields of.")
	f.p("func ", on.Start, "(builder *flatbuffers.Builder) {")
	f.p("fb.StartTable(builder, ", itoa(len(o.Fields)), ")")
	f.p("}")
	f.p()
	for _, field := range o.Fields {
		if field.Deprecated {
			continue
		}
		n, t := f.plan.fields[field], field.Type
		param := paramName(field.Name)
		typ := "flatbuffers.UOffsetT"
		if isScalar(t.Base) {
			typ = f.scalarType(t)
		}
		f.p("func ", n.Add, "(builder *flatbuffers.Builder, ", param, " ", typ, ") {")
		f.addField(field, param)
		f.p("}")
		f.p()
		if n.StartVector != "" {
			e := elem(t)
			f.p("func ", n.StartVector, "(builder *flatbuffers.Builder, numElems int) flatbuffers.UOffsetT {")
			f.p("return builder.StartVector(", itoa(inlineSize(e)), ", numElems, ", itoa(inlineAlign(e)), ")")
			f.p("}")
			f.p()
		}
	}
	f.p("// ", on.End, " ends the ", on.Type, " begun last and returns its offset.")
	f.p("func ", on.End, "(builder *flatbuffers.Builder) flatbuffers.UOffsetT {")
	f.p("return fb.EndTable(builder)")
	f.p("}")
}

// addField writes the statements that put a value into a field of the table
// begun: the body of its Add function. Pack has them too, instead of calls of
// Add, because inlining those is a good part of what the Go compiler would do.
func (f *file) addField(field *schema.Field, value string) {
	t, slot := field.Type, itoa(field.ID)
	switch {
	case isScalar(t.Base) && field.Optional:
		f.p("builder.Prepend", methodOf(t), "(", toWire(t, value), ")")
		f.p("builder.Slot(", slot, ")")
	case isNegativeZero(field):
		// The builder's slot would leave out 0, which compares equal.
		f.use("math")
		double := value
		if t.Base == schema.Float {
			double = "float64(" + value + ")"
		}
		f.p("if ", value, " != 0 || !math.Signbit(", double, ") {")
		f.p("builder.Prepend", methodOf(t), "(", value, ")")
		f.p("builder.Slot(", slot, ")")
		f.p("}")
	case isScalar(t.Base):
		f.p("builder.Prepend", methodOf(t), "Slot(", slot, ", ", toWire(t, value), ", ", f.literal(field), ")")
	case t.Base == schema.Obj && isStruct(t):
		f.p("fb.AddStruct(builder, ", slot, ", ", value, ")")
	default:
		f.p("builder.PrependUOffsetTSlot(", slot, ", ", value, ", 0)")
	}
}

// scalarValue returns the expression that reads a scalar field: the body of
// its accessor, which UnPackTo has too, for the same reason as Pack.
func (f *file) scalarValue(field *schema.Field) string {
	t := field.Type
	return f.fromWire(t, "rcv._tab.Get"+methodOf(t)+"Slot("+itoa(field.Offset)+", "+f.literal(field)+")")
}
