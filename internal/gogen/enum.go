package gogen

import (
	"slices"
	"strconv"

	"github.com/ipcgen/ipcgen/internal/schema"
)

// enum writes an enum, or a union with its object.
func (f *file) enum(e *schema.Enum) {
	n := f.plan.enums[e]
	base := scalars[tagType(e)]
	if hasDoc(e.Doc) {
		f.doc(e.Doc)
	} else if e.IsUnion {
		f.p("// ", n.Type, " is the type of a member of the union ",
			fullName(e.Namespace, e.Name), ".")
	} else {
		f.p("// ", n.Type, " is the enum ", fullName(e.Namespace, e.Name), ".")
	}
	f.p("type ", n.Type, " ", base.goType)
	f.p()
	f.aliases(n.Type, n.Alias, n.Object, n.ObjectAlias)
	f.enumConsts(e, n)
	f.enumTables(e, n)
	if e.BitFlags {
		f.p("// String returns the name of ℓv as the schema has it, or the names of its bits with")
		f.p("// a | between them; bits without a name are the last part, ", n.Type, "(n).")
	} else {
		f.p("// String returns the name of ℓv as the schema has it, or ", n.Type, "(n).")
	}
	f.p("func (ℓv ", n.Type, ") String() string {")
	f.p("if ℓs, ℓok := ", n.Names, "[ℓv]; ℓok {")
	f.p("return ℓs")
	f.p("}")
	parse := "ParseEnum"
	if e.BitFlags {
		parse = "ParseFlags"
		f.p("return ℙfb.FlagsString(ℓv, ", quote(n.Type), ", ", n.Names, ")")
	} else {
		f.p("return \"", n.Type, "(\" + ℙstrconv.FormatInt(int64(ℓv), 10) + \")\"")
	}
	f.p("}")
	f.p()
	f.p("// ", n.Parse, " returns the value whose String is ℓs, or an error.")
	f.p("func ", n.Parse, "(ℓs string) (", n.Type, ", error) {")
	f.p("return ℙfb.", parse, "(ℓs, ", quote(n.Type), ", ", n.Values, ")")
	f.p("}")
	if e.IsUnion {
		f.p()
		f.union(e, n)
	}
}

func (f *file) enumConsts(e *schema.Enum, n *enumNames) {
	rows := make([][]string, 0, len(e.Values))
	for i, val := range e.Values {
		for _, line := range docLines(val.Doc) {
			if !plainDoc(line) {
				f.needsFormat = true
			}
			rows = append(rows, []string{"//" + line})
		}
		rows = append(rows, []string{n.Consts[i], n.Type, "= " + enumValue(e, val)})
	}
	f.p("// The values of ", n.Type, ".")
	f.p("const (")
	f.columns(rows)
	f.p(")")
	f.p()
}

// enumTables writes the tables from values to names and from names to values. A value with two
// names is printed by the first.
func (f *file) enumTables(e *schema.Enum, n *enumNames) {
	var names, values [][2]string
	for i, val := range e.Values {
		if i == 0 || e.Values[i-1].Value != val.Value {
			names = append(names, [2]string{n.Consts[i], quote(val.Name)})
		}
		values = append(values, [2]string{quote(val.Name), n.Consts[i]})
	}
	f.p("// ", n.Names, " holds the name of each value.")
	f.p("var ", n.Names, " = map[", n.Type, "]string{")
	f.keyed(names)
	f.p("}")
	f.p()
	f.p("// ", n.Values, " holds the value of each name.")
	f.p("var ", n.Values, " = map[string]", n.Type, "{")
	f.keyed(values)
	f.p("}")
	f.p()
}

// enumValue returns the literal of a value.
func enumValue(e *schema.Enum, val *schema.EnumVal) string {
	if tagType(e) == schema.ULong {
		return strconv.FormatUint(uint64(val.Value), 10)
	}
	return strconv.FormatInt(val.Value, 10)
}

// union writes the object of a union, and its verifier.
func (f *file) union(e *schema.Enum, n *enumNames) {
	f.p("// ", n.Object, " holds one member of the union ", fullName(e.Namespace, e.Name), ".")
	fields := [][]string{{"Type", n.Type}, {"Value", "any"}}
	if slices.ContainsFunc(e.Values, func(v *schema.EnumVal) bool {
		return v.Type.Base == schema.String
	}) {
		f.p("// The field text belongs to fb.UnionText.")
		fields = append(fields, []string{"text", "*string"})
	}
	f.p("type ", n.Object, " struct {")
	f.columns(fields)
	f.p("}")
	f.p()
	f.unionPack(e, n)
	f.unionCheck(e, n)
	f.unionJSON(e, n)
	f.unionUnPack(e, n)
	f.unionVerify(e, n)
}

func (f *file) unionPack(e *schema.Enum, n *enumNames) {
	f.p("// Pack writes the member that ℓt holds and returns its offset, or 0 when ℓt is")
	f.p("// nil or holds none. It panics with the error of Check when ℓt has a Value that")
	f.p("// does not fit its Type.")
	f.p("func (ℓt *", n.Object, ") Pack(ℓbuilder *ℙflatbuffers.Builder) ℙflatbuffers.UOffsetT {")
	f.p("if ℓt == nil || ℓt.Value == nil {")
	f.p("return 0")
	f.p("}")
	f.p("switch ℓt.Type {")
	f.eachMember(e, n, func(name string, val *schema.EnumVal) {
		f.p("case ", name, ":")
		if val.Type.Base == schema.String {
			f.p("if ℓs, ℓok := ℓt.Value.(string); ℓok {")
			f.p("return ℓbuilder.CreateString(ℓs)")
		} else {
			f.p("if ℓm, ℓok := ℓt.Value.(*", f.objectObject(val.Type.Object), "); ℓok {")
			f.p("return ℓm.Pack(ℓbuilder)")
		}
		f.p("}")
	})
	f.p("}")
	f.p("panic(ℓt.Check())")
	f.p("}")
	f.p()
}

func (f *file) unionUnPack(e *schema.Enum, n *enumNames) {
	f.p("// UnPack returns the object of the member at ℓtable, or nil when ℓrcv is the type")
	f.p("// of none.")
	f.p("func (ℓrcv ", n.Type, ") UnPack(ℓtable ℙflatbuffers.Table) *", n.Object, " {")
	f.p("return ℓrcv.UnPackInto(nil, ℓtable, ℙfb.Own)")
	f.p("}")
	f.p()
	f.p("// UnPackInto is UnPack for an object that is unpacked again, in ℓt unless that is nil.")
	f.p("// ℓmemory says where the parts of the object are.")
	f.p("func (ℓrcv ", n.Type, ") UnPackInto(ℓt *", n.Object,
		", ℓtable ℙflatbuffers.Table, ℓmemory ℙfb.Memory) *", n.Object, " {")
	f.p("if ℓrcv == 0 {")
	f.p("return nil")
	f.p("}")
	f.p("if ℓt == nil {")
	f.p("ℓt = new(", n.Object, ")")
	f.p("}")
	f.p("switch ℓrcv {")
	f.eachMember(e, n, func(name string, val *schema.EnumVal) {
		f.p("case ", name, ":")
		if val.Type.Base == schema.String {
			f.p("ℓt.Type = ℓrcv")
			f.p("ℓt.Value = ℙfb.UnionText(&ℓt.text, ℙfb.UnionBytes(&ℓtable), ℓmemory)")
			f.p("return ℓt")
			return
		}
		f.p("var ℓx ", f.objectType(val.Type.Object))
		f.p("ℓx.Init(ℓtable.Bytes, ℓtable.Pos)")
		f.p("ℓm, _ := ℙfb.Former(ℓt.Value, ℓmemory).(*", f.objectObject(val.Type.Object), ")")
		f.p("ℓt.Type, ℓt.Value = ℓrcv, ℓx.UnPackInto(ℓm, ℓmemory)")
		f.p("return ℓt")
	})
	f.p("}")
	f.p("return nil")
	f.p("}")
	f.p()
}

func (f *file) unionVerify(e *schema.Enum, n *enumNames) {
	f.p("// ", n.VerifyAt, " checks the member at ℓpos whose type is ℓv.Tag(); it serves the")
	f.p("// verifiers of tables. A type that is not known here, of a later version, is not")
	f.p("// checked.")
	f.p("func ", n.VerifyAt, "(ℓv *ℙfb.Verifier, ℓpos uint32) bool {")
	f.p("ℓok, ℓtag := true, ", n.Type, "(ℓv.Tag())")
	f.p("switch ℓtag {")
	f.eachMember(e, n, func(name string, val *schema.EnumVal) {
		f.p("case ", name, ":")
		switch {
		case val.Type.Base == schema.String:
			f.p("ℓok = ℓv.String(ℓpos)")
		case val.Type.Object.IsStruct:
			f.p("ℓok = ℓv.Struct(ℓpos, ", itoa(val.Type.Object.Size), ", ",
				itoa(val.Type.Object.Align), ")")
		default:
			f.p("ℓok = ", f.verifyAt(val.Type.Object), "(ℓv, ℓpos)")
		}
	})
	f.p("}")
	f.p("return ℓok || ℓv.InMember(ℓtag)")
	f.p("}")
}

// eachMember calls emit for each member of a union except NONE, once per value.
func (f *file) eachMember(e *schema.Enum, n *enumNames,
	emit func(name string, val *schema.EnumVal)) {
	for i, val := range e.Values {
		if val.Type.Base != schema.None && (i == 0 || e.Values[i-1].Value != val.Value) {
			emit(n.Consts[i], val)
		}
	}
}
