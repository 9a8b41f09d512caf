package gogen

import "github.com/ipcgen/ipcgen/internal/schema"

// tableObject writes the object of a table: a plain Go struct with the methods that copy it into a
// buffer and out of one.
func (f *file) tableObject(o *schema.Object, n *objectNames) {
	f.objectStruct(o, n)
	f.tablePack(o, n)
	f.tableCheck(o, n)
	f.unPack(o, n)
}

// objectStruct writes the type of an object.
func (f *file) objectStruct(o *schema.Object, n *objectNames) {
	if hasDoc(o.Doc) {
		f.doc(o.Doc)
	} else {
		f.p("// ", n.Object, " is the ", kindOf(o), " ", fullName(o.Namespace, o.Name),
			" as a Go value.")
	}
	var rows [][]string
	for _, field := range o.Fields {
		if field.Deprecated || field.IsTag {
			continue
		}
		for _, line := range docLines(field.Doc) {
			if !plainDoc(line) {
				f.needsFormat = true
			}
			rows = append(rows, []string{"//" + line})
		}
		member := []string{f.plan.fields[field].Member, f.memberType(field)}
		if isExported(member[0]) {
			member = append(member, "`json:\""+field.Name+"\"`")
		} else {
			f.needsFormat = true // a row of two cells among rows of three
		}
		rows = append(rows, member)
	}
	if len(rows) == 0 {
		f.p("type ", n.Object, " struct{}")
		f.p()
		return
	}
	f.p("type ", n.Object, " struct {")
	f.columns(rows)
	f.p("}")
	f.p()
}

// memberType returns the Go type of an object's field.
func (f *file) memberType(field *schema.Field) string {
	t := field.Type
	switch t.Base {
	case schema.Vector:
		return "[]" + f.valueType(elem(t))
	case schema.Array:
		if t.Element == schema.Obj {
			return "[" + itoa(t.FixedLength) + "]" + f.objectObject(t.Object)
		}
		return "[" + itoa(t.FixedLength) + "]" + f.valueType(elem(t))
	}
	if field.Optional {
		return "*" + f.valueType(t)
	}
	return f.valueType(t)
}

func (f *file) valueType(t schema.Type) string {
	switch t.Base {
	case schema.String:
		return "string"
	case schema.Obj:
		return "*" + f.objectObject(t.Object)
	case schema.Union:
		return "*" + f.unionObject(t.Enum)
	}
	return f.scalarType(t)
}

// tablePack writes Pack for a table: first the values that are stored outside the table, in the
// order of the fields, then the table itself.
func (f *file) tablePack(o *schema.Object, n *objectNames) {
	f.p("// Pack writes ℓt and all it holds, and returns its offset, or 0 when ℓt is nil.")
	f.p("func (ℓt *", n.Object, ") Pack(ℓbuilder *ℙflatbuffers.Builder) ℙflatbuffers.UOffsetT {")
	f.p("if ℓt == nil {")
	f.p("return 0")
	f.p("}")
	offsets := make(map[*schema.Field]string)
	taken := make(scope)
	for _, field := range o.Fields {
		if !field.Deprecated && storedApart(field.Type) {
			offsets[field] = fieldLocal(taken.claim(lowerCamel(field.Name)+"Offset", nil))
			if field.Type.Element == schema.Union {
				offsets[field.Tag] = fieldLocal(taken.claim(lowerCamel(field.Tag.Name)+
					"Offset", nil))
				f.packUnions(field, offsets[field.Tag], offsets[field], taken)
				continue
			}
			f.packApart(field, offsets[field])
		}
	}
	f.p("ℙfb.StartTable(ℓbuilder, ", itoa(len(o.Fields)), ")")
	for _, field := range o.Fields {
		if field.Deprecated || field.IsTag {
			continue
		}
		f.addMember(field, offsets)
	}
	f.p("return ℙfb.EndTable(ℓbuilder)")
	f.p("}")
	f.p()
}

// storedApart reports whether a table holds only the offset of a value.
func storedApart(t schema.Type) bool {
	switch t.Base {
	case schema.String, schema.Vector, schema.Union:
		return t.Element != schema.UType
	case schema.Obj:
		return !t.Object.IsStruct
	}
	return false
}

// packApart writes the statements that write a field's value and set the variable off to its
// offset, or to 0 if there is nothing to write.
func (f *file) packApart(field *schema.Field, off string) {
	member := "ℓt." + f.plan.fields[field].Member
	switch t := field.Type; t.Base {
	case schema.String:
		f.packString(field, member, off)
	case schema.Vector:
		f.packVector(field, member, off)
	default:
		f.p(off, " := ", member, ".Pack(ℓbuilder)")
	}
}

// packString writes a string. An empty string is omitted, unless its absence would have another
// meaning.
func (f *file) packString(field *schema.Field, member, off string) {
	create := "CreateString("
	if field.Shared {
		create = "CreateSharedString("
	}
	if field.Required || field.Key || field.Default.Str != "" {
		f.p(off, " := ℓbuilder.", create, member, ")")
		return
	}
	f.p(off, " := ℙfb.", create, "ℓbuilder, ", member, ")")
}

// packVector writes a vector. A nil vector is omitted, unless the table requires it.
func (f *file) packVector(field *schema.Field, member, off string) {
	e := elem(field.Type)
	if field.Required {
		member = "ℙfb.OrEmpty(" + member + ")"
	}
	var call string
	switch {
	case e.Base == schema.UByte && e.Enum == nil:
		// With a zero byte after it, as in flatc.
		call = "ℙfb.CreateByteString(ℓbuilder, " + member + ")"
	case isScalar(e.Base):
		call = "ℙfb.Pack" + methodOf(e) + "s(ℓbuilder, " + member + ")"
	case e.Base == schema.String:
		call = "ℙfb.PackStrings(ℓbuilder, " + member + ")"
	case e.Object.IsStruct:
		call = "ℙfb.PackStructs(ℓbuilder, " + member + ", " + itoa(e.Object.Size) + ", " +
			itoa(e.Object.Align) + ")"
	default:
		call = "ℙfb.PackTables(ℓbuilder, " + member + ")"
	}
	f.p(off, " := ", call)
}

// packUnions writes a vector of unions and the vector of their types.
func (f *file) packUnions(field *schema.Field, typesOff, off string, taken scope) {
	member := "ℓt." + f.plan.fields[field].Member
	values := fieldLocal(taken.claim(lowerCamel(field.Name)+"Values", nil))
	tag := schema.Type{Base: schema.UType, Enum: field.Type.Enum}
	size := itoa(inlineSize(tag))
	f.p("var ", typesOff, ", ", off, " ℙflatbuffers.UOffsetT")
	f.p("if ", member, " != nil {")
	f.p(values, " := ℙfb.TakeOffsets(len(", member, "))")
	f.p("for ℓj, ℓu := range ", member, " {")
	f.p("(*", values, ")[ℓj] = ℓu.Pack(ℓbuilder)")
	f.p("}")
	f.p("ℓbuilder.StartVector(", size, ", len(", member, "), ", size, ")")
	f.p("for ℓj := len(", member, ") - 1; ℓj >= 0; ℓj-- {")
	f.p("if (*", values, ")[ℓj] != 0 {")
	f.p("ℓbuilder.Place", methodOf(tag), "(", toWire(tag, member+"[ℓj].Type"), ")")
	f.p("} else {")
	f.p("ℓbuilder.Place", methodOf(tag), "(0)")
	f.p("}")
	f.p("}")
	f.p(typesOff, " = ℓbuilder.EndVector(len(", member, "))")
	f.p(off, " = ℙfb.PackOffsets(ℓbuilder, ", values, ")")
	f.p("}")
}

// addMember writes the statements that store a field in the table started last.
func (f *file) addMember(field *schema.Field, offsets map[*schema.Field]string) {
	member := "ℓt." + f.plan.fields[field].Member
	switch t := field.Type; {
	case t.Base == schema.Union:
		f.p("if ", offsets[field], " != 0 {")
		f.addField(field.Tag, member+".Type")
		f.addField(field, offsets[field])
		f.p("}")
	case t.Element == schema.Union:
		// Both vectors or none: an offset of 0 is not stored.
		f.addField(field.Tag, offsets[field.Tag])
		f.addField(field, offsets[field])
	case storedApart(t):
		f.addField(field, offsets[field])
	case t.Base == schema.Obj:
		f.addField(field, member+".Pack(ℓbuilder)")
	case field.Optional:
		f.p("if ", member, " != nil {")
		f.addField(field, "*"+member)
		f.p("}")
	default:
		f.addField(field, member)
	}
}

// unPack writes UnPackTo and UnPack, and UnPackInto, by which they work.
func (f *file) unPack(o *schema.Object, n *objectNames) {
	f.p("// UnPackTo copies what ℓrcv reads into ℓt, replacing all of its fields.")
	f.p("func (ℓrcv *", n.Type, ") UnPackTo(ℓt *", n.Object, ") {")
	f.p("ℓrcv.UnPackInto(ℓt, ℙfb.Own)")
	f.p("}")
	f.p()
	f.p("// UnPack returns a copy of what ℓrcv reads, or nil when ℓrcv is nil.")
	f.p("func (ℓrcv *", n.Type, ") UnPack() *", n.Object, " {")
	f.p("return ℓrcv.UnPackInto(nil, ℙfb.Own)")
	f.p("}")
	f.p()
	f.p("// UnPackInto returns what ℓrcv reads, in ℓt unless that is nil, or nil when ℓrcv is nil.")
	f.p("// ℓmemory says where the parts of the object are.")
	f.p("func (ℓrcv *", n.Type, ") UnPackInto(ℓt *", n.Object, ", ℓmemory ℙfb.Memory) *", n.Object,
		" {")
	f.p("if ℓrcv == nil {")
	f.p("return nil")
	f.p("}")
	f.p("if ℓt == nil {")
	f.p("ℓt = new(", n.Object, ")")
	f.p("}")
	for _, field := range o.Fields {
		if !field.Deprecated && !field.IsTag {
			f.unPackMember(o, field)
		}
	}
	f.p("return ℓt")
	f.p("}")
	f.p()
}

// former returns the expression of a part that the object had before, if it may be used.
func former(member string) string { return "ℙfb.Former(" + member + ", ℓmemory)" }

func (f *file) unPackMember(o *schema.Object, field *schema.Field) {
	n := f.plan.fields[field]
	member := "ℓt." + n.Member
	switch t := field.Type; t.Base {
	case schema.String:
		f.p(member, " = ℙfb.TextIn(ℓrcv.", n.Get, "(), ℓmemory)")
	case schema.Obj:
		// An accessor on the stack saves an allocation.
		f.p(member, " = ℓrcv.", n.Get, "(new(", f.objectType(t.Object), ")).UnPackInto(",
			former(member), ", ℓmemory)")
	case schema.Union:
		f.p("if ℓu := (ℙflatbuffers.Table{}); ℓrcv.", n.Get, "(&ℓu) {")
		f.p(member, " = ℓrcv.", f.plan.fields[field.Tag].Get, "().UnPackInto(", former(member),
			", ℓu, ℓmemory)")
		f.p("} else {")
		f.p(member, " = nil")
		f.p("}")
	case schema.Vector:
		f.unPackVector(field, n, member)
	case schema.Array:
		f.unPackArray(field, n, member)
	default:
		switch {
		case field.Optional:
			f.p("if ℓx := ℙfb.FieldPos(&ℓrcv._tab, ", itoa(field.Offset), "); ℓx != 0 {")
			f.p(member, " = ℙfb.ValueIn(", former(member), ", ", f.optionalValue(field), ")")
			f.p("} else {")
			f.p(member, " = nil")
			f.p("}")
		case o.IsStruct:
			f.p(member, " = ℓrcv.", n.Get, "()")
		default:
			f.p(member, " = ", f.scalarValue(field))
		}
	}
}

func (f *file) unPackVector(field *schema.Field, n *fieldNames, member string) {
	e := elem(field.Type)
	slot := itoa(field.Offset)
	if e.Base == schema.UByte && e.Enum == nil {
		f.p(member, " = ℙfb.BytesIn(ℓrcv.", n.Bytes, "(), ℓmemory)")
		return
	}
	if isScalar(e.Base) {
		f.p(member, " = ℙfb.UnPack", methodOf(e), "s(", former(member), ", &ℓrcv._tab, ", slot,
			")")
		return
	}
	if e.Base == schema.String {
		f.p(member, " = ℙfb.UnPackStrings(", former(member), ", &ℓrcv._tab, ", slot, ", ℓmemory)")
		return
	}
	f.p(member, " = ℙfb.Parts(", former(member), ", ℓrcv.", n.Length, "())")
	f.p("for ℓj := range ", member, " {")
	switch {
	case e.Base == schema.Union:
		f.p("if ℓu := (ℙflatbuffers.Table{}); ℓrcv.", n.Get, "(&ℓu, ℓj) {")
		f.p(member, "[ℓj] = ℓrcv.", f.plan.fields[field.Tag].Get, "(ℓj).UnPackInto(", member,
			"[ℓj], ℓu, ℓmemory)")
		f.p("} else {")
		f.p(member, "[ℓj] = nil")
		f.p("}")
	default:
		f.p("var ℓx ", f.objectType(e.Object))
		f.p("ℓrcv.", n.Get, "(&ℓx, ℓj)")
		f.p(member, "[ℓj] = ℓx.UnPackInto(", member, "[ℓj], ℓmemory)")
	}
	f.p("}")
}
