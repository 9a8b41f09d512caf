package gogen

import (
	"strings"

	"github.com/ipcgen/ipcgen/internal/schema"
)

// structType writes all declarations for a struct.
func (f *file) structType(o *schema.Object) {
	n := f.plan.objects[o]
	f.objectStruct(o, n)
	f.structPack(o, n)
	f.unPack(o, n)
	f.p("// ", n.Type, " reads the struct ", fullName(o.Namespace, o.Name),
		" in its buffer, without copying it.")
	f.p("type ", n.Type, " struct {")
	f.p("_tab ℙflatbuffers.Struct")
	f.p("}")
	f.p()
	f.aliases(n.Type, n.Alias, n.Object, n.ObjectAlias)
	f.initFuncs(n, "ℓrcv._tab.Table")
	for _, field := range o.Fields {
		f.structAccessors(n, field)
	}
	f.create(o, n)
}

// structAccessors writes the getters and mutators of a struct's field.
func (f *file) structAccessors(on *objectNames, field *schema.Field) {
	n, t := f.plan.fields[field], field.Type
	rcv := "func (ℓrcv *" + on.Type + ") "
	at := plus("ℓrcv._tab.Pos", field.Offset)
	f.doc(field.Doc)
	switch {
	case isScalar(t.Base):
		f.p(rcv, n.Get, "() ", f.scalarType(t), " {")
		f.p("return ", f.fromWire(t, "ℓrcv._tab.Get"+methodOf(t)+"("+alone(at)+")"))
		f.p("}")
		f.p()
		f.p(rcv, n.Mutate, "(ℓn ", f.scalarType(t), ") bool {")
		f.p("return ℓrcv._tab.Mutate", methodOf(t), "(", at, ", ", toWire(t, "ℓn"), ")")
		f.p("}")
	case t.Base == schema.Obj:
		typ := f.objectType(t.Object)
		f.p(rcv, n.Get, "(ℓobj *", typ, ") *", typ, " {")
		f.p("if ℓobj == nil {")
		f.p("ℓobj = new(", typ, ")")
		f.p("}")
		f.p("ℓobj.Init(ℓrcv._tab.Bytes, ", at, ")")
		f.p("return ℓobj")
		f.p("}")
	case t.Base == schema.Array:
		f.arrayAccessors(rcv, n, field)
	}
	f.p()
}

// arrayAccessors writes the accessors of a fixed-size array. They check the index as Go does,
// because the length of an array is part of its type.
func (f *file) arrayAccessors(rcv string, n *fieldNames, field *schema.Field) {
	e := elem(field.Type)
	at := "ℙfb.ArrayElem(" + plus("ℓrcv._tab.Pos", field.Offset) + ", ℓj, " +
		itoa(field.Type.FixedLength) + ", " + itoa(inlineSize(e)) + ")"
	if isScalar(e.Base) {
		f.p(rcv, n.Get, "(ℓj int) ", f.scalarType(e), " {")
		f.p("return ", f.fromWire(e, "ℓrcv._tab.Get"+methodOf(e)+"("+at+")"))
		f.p("}")
		f.p()
		f.p(rcv, n.Mutate, "(ℓj int, ℓn ", f.scalarType(e), ") bool {")
		f.p("return ℓrcv._tab.Mutate", methodOf(e), "(", at, ", ", toWire(e, "ℓn"), ")")
		f.p("}")
	} else {
		typ := f.objectType(e.Object)
		f.p(rcv, n.Get, "(ℓobj *", typ, ", ℓj int) *", typ, " {")
		f.p("if ℓobj == nil {")
		f.p("ℓobj = new(", typ, ")")
		f.p("}")
		f.p("ℓobj.Init(ℓrcv._tab.Bytes, ", at, ")")
		f.p("return ℓobj")
		f.p("}")
	}
	f.p()
	f.p(rcv, n.Length, "() int {")
	f.p("return ", itoa(field.Type.FixedLength))
	f.p("}")
	if n.Bytes != "" {
		f.p()
		f.p(rcv, n.Bytes, "() []byte {")
		f.p("return ℓrcv._tab.Bytes[", plus("ℓrcv._tab.Pos", field.Offset), ":][:",
			itoa(field.Type.FixedLength), "]")
		f.p("}")
	}
}

func plus(expr string, n int) string {
	if n == 0 {
		return expr
	}
	return expr + "+" + itoa(n)
}

// alone spaces a sum as gofmt does if the sum is the only argument of a call.
func alone(sum string) string {
	return strings.Replace(sum, "+", " + ", 1)
}

// A leaf is a scalar in a struct, or in its nested structs, with the parameter of Create that holds
// it.
type leaf struct {
	name string // raw names joined by underscores, as in flatc
	typ  string
}

// leaves returns the parameters of a struct's Create, in order. dims has the lengths of the arrays
// around it.
func (f *file) leaves(o *schema.Object, prefix, dims string, out []leaf) []leaf {
	for _, field := range o.Fields {
		name := prefix + field.Name
		if prefix == "" {
			name = lowerCamel(field.Name)
			if isNested(field.Type) {
				name = field.Name
			}
		}
		t, d := field.Type, dims
		if t.Base == schema.Array {
			d, t = dims+"["+itoa(t.FixedLength)+"]", elem(t)
		}
		if t.Base == schema.Obj {
			out = f.leaves(t.Object, name+"_", d, out)
		} else {
			out = append(out, leaf{name, d + f.scalarType(t)})
		}
	}
	return out
}

// isNested reports whether a struct's field contains other structs.
func isNested(t schema.Type) bool {
	return t.Base == schema.Obj || t.Element == schema.Obj
}

// create writes the function that builds a struct from its scalars.
func (f *file) create(o *schema.Object, n *objectNames) {
	leaves := f.leaves(o, "", "", nil)
	taken := make(scope)
	params := make([]string, len(leaves))
	var list strings.Builder
	for i, l := range leaves {
		params[i] = fieldLocal(taken.claim(l.name, nil))
		list.WriteString(", " + params[i] + " " + l.typ)
	}
	f.p("// ", n.Create, " writes ", article(n.Type),
		" into the vector or table begun, and returns its offset.")
	f.p("func ", n.Create, "(ℓbuilder *ℙflatbuffers.Builder", list.String(),
		") ℙflatbuffers.UOffsetT {")
	f.prependStruct(o, params, "", 0)
	f.p("return ℓbuilder.Offset()")
	f.p("}")
}

// loopVar returns the variable of a loop over nested arrays.
func loopVar(depth int) string { return "ℓi" + itoa(depth) }

// prependStruct writes the statements that build a struct, last field first. params are the
// expressions of its leaves, index is the expression that selects elements of arrays, and depth is
// the number of loops around.
func (f *file) prependStruct(o *schema.Object, params []string, index string, depth int) {
	f.p("ℓbuilder.Prep(", itoa(o.Align), ", ", itoa(o.Size), ")")
	for i := len(o.Fields) - 1; i >= 0; i-- {
		field := o.Fields[i]
		if field.Padding > 0 {
			f.p("ℓbuilder.Pad(", itoa(field.Padding), ")")
		}
		t := field.Type
		n := 1
		if isNested(t) {
			n = len(f.leaves(t.Object, "", "", nil))
		}
		own := params[len(params)-n:]
		params = params[:len(params)-n]
		idx, d := index, depth
		if t.Base == schema.Array {
			v := loopVar(depth)
			idx, d = index+"["+v+"]", depth+1
			f.p("for ", v, " := ", itoa(t.FixedLength-1), "; ", v, " >= 0; ", v, "-- {")
			t = elem(t)
		}
		if t.Base == schema.Obj {
			f.prependStruct(t.Object, own, idx, d)
		} else {
			f.p("ℓbuilder.Prepend", methodOf(t), "(", toWire(t, own[0]+idx), ")")
		}
		if d > depth {
			f.p("}")
		}
	}
}

// structPack writes Pack for a struct.
func (f *file) structPack(o *schema.Object, n *objectNames) {
	f.p("// Pack writes ℓt inline, where the builder stands, and returns its offset, or 0")
	f.p("// when ℓt is nil.")
	f.p("func (ℓt *", n.Object, ") Pack(ℓbuilder *ℙflatbuffers.Builder) ℙflatbuffers.UOffsetT {")
	f.p("if ℓt == nil {")
	f.p("return 0")
	f.p("}")
	flat := true
	args := make([]string, len(o.Fields))
	for i, field := range o.Fields {
		flat = flat && !isNested(field.Type)
		args[i] = ", ℓt." + f.plan.fields[field].Member
	}
	if flat {
		f.p("return ", n.Create, "(ℓbuilder", strings.Join(args, ""), ")")
	} else {
		f.packFields(o)
		f.p("return ℓbuilder.Offset()")
	}
	f.p("}")
	f.p()
}

// packFields writes the statements that build a struct with nested structs from its object, last
// field first. A nil nested object counts as zero.
func (f *file) packFields(o *schema.Object) {
	f.p("ℓbuilder.Prep(", itoa(o.Align), ", ", itoa(o.Size), ")")
	for i := len(o.Fields) - 1; i >= 0; i-- {
		field := o.Fields[i]
		if field.Padding > 0 {
			f.p("ℓbuilder.Pad(", itoa(field.Padding), ")")
		}
		member := "ℓt." + f.plan.fields[field].Member
		switch t := field.Type; {
		case t.Base == schema.Array:
			f.p("for ℓj := ", itoa(t.FixedLength-1), "; ℓj >= 0; ℓj-- {")
			if t.Element == schema.Obj {
				f.p(member, "[ℓj].Pack(ℓbuilder)")
			} else {
				f.p("ℓbuilder.Prepend", methodOf(elem(t)), "(", toWire(elem(t), member+"[ℓj]"), ")")
			}
			f.p("}")
		case t.Base == schema.Obj:
			f.p("if ", member, ".Pack(ℓbuilder) == 0 {")
			f.p("ℓbuilder.Prep(", itoa(t.Object.Align), ", ", itoa(t.Object.Size), ")")
			f.p("ℓbuilder.Pad(", itoa(t.Object.Size), ")")
			f.p("}")
		default:
			f.p("ℓbuilder.Prepend", methodOf(t), "(", toWire(t, member), ")")
		}
	}
}

// unPackArray writes the statements that copy an array.
func (f *file) unPackArray(field *schema.Field, n *fieldNames, member string) {
	f.p("for ℓj := range ", member, " {")
	if e := elem(field.Type); e.Base == schema.Obj {
		f.p("ℓrcv.", n.Get, "(new(", f.objectType(e.Object), "), ℓj).UnPackInto(&", member,
			"[ℓj], ℓmemory)")
	} else {
		f.p(member, "[ℓj] = ℓrcv.", n.Get, "(ℓj)")
	}
	f.p("}")
}
