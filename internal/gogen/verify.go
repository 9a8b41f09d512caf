package gogen

import (
	"slices"
	"strings"

	"github.com/ipcgen/ipcgen/internal/schema"
)

// verifier writes the functions that check a table as the root of a buffer,
// and as part of another table.
func (f *file) verifier(o *schema.Object, n *objectNames) {
	ident := `""`
	if n.Identifier != "" {
		ident = n.Identifier
	}
	f.p("// ", n.Verify, " checks that ℓbuf holds ", article(n.Type),
		" that can be read through every")
	f.p("// accessor; at most one set of limits counts. The error is a *fb.VerifyError.")
	f.verifyRoot(o, n, n.Verify, "VerifyRoot", ident)
	f.p("// ", n.VerifySized, " is ", n.Verify, " for a buffer that begins with its size.")
	f.verifyRoot(o, n, n.VerifySized, "VerifySizePrefixedRoot", ident)

	args := f.verifyFields(o, n)
	f.p("// ", n.VerifyAt, " checks the table at ℓpos; it serves the verifiers of other tables.")
	f.p("func ", n.VerifyAt, "(ℓv *ℙfb.Verifier, ℓpos uint32) bool {")
	f.p("return ℓv.Table(", strings.Join(args, ", "), ")")
	f.p("}")
	f.p()
}

func (f *file) verifyRoot(o *schema.Object, n *objectNames, name, root, ident string) {
	f.p("func ", name, "(ℓbuf []byte, ℓlimits ...ℙfb.Limits) error {")
	f.p("return ℙfb.", root, "(", quote(o.Name), ", ", n.VerifyAt, ", ℓbuf, ", ident, ", ℓlimits)")
	f.p("}")
	f.p()
}

// verifyFields writes the list of what is checked in a table, and returns the
// arguments of Verifier.Table.
func (f *file) verifyFields(o *schema.Object, n *objectNames) []string {
	var fields []*schema.Field
	for _, field := range o.Fields {
		if !field.Deprecated && !field.IsTag {
			fields = append(fields, field)
		}
	}
	if len(fields) == 0 {
		return []string{"ℓpos", "nil"}
	}
	var subs []string
	f.p("// ", n.FieldsOf, " says what ", n.VerifyAt, " checks.")
	f.p("var ", n.FieldsOf, " = []ℙfb.Rule{")
	for _, field := range fields {
		subs = f.verifyField(field, subs)
	}
	f.p("}")
	f.p()
	return append([]string{"ℓpos", n.FieldsOf}, subs...)
}

// verifyField writes what is checked of one field. subs are the verifiers of
// what the fields refer to; it returns them with this field's.
func (f *file) verifyField(field *schema.Field, subs []string) []string {
	kind, size, sub := f.verifyKind(field)
	line := "{Name: " + quote(field.Name) + ", Slot: " + itoa(field.Offset)
	if kind != "" {
		line += ", Kind: ℙfb." + kind
	}
	if size != 0 {
		line += ", Size: " + itoa(size)
	}
	if kind == "IsStruct" {
		line += ", Align: " + itoa(field.Type.Object.Align)
	}
	if field.Required {
		line += ", Required: true"
	}
	if sub != "" {
		i := slices.Index(subs, sub)
		if i < 0 {
			i = len(subs)
			subs = append(subs, sub)
		}
		if i > 0 {
			line += ", Sub: " + itoa(i)
		}
	}
	f.p(line, "},")
	return subs
}

// verifyKind returns what the runtime calls a field, "" for a scalar, with the
// size that it must know and the name of the verifier of what the field refers to.
func (f *file) verifyKind(field *schema.Field) (kind string, size int, sub string) {
	t, e := field.Type, elem(field.Type)
	switch {
	case t.Base == schema.String:
		return "IsString", 0, ""
	case isStruct(t) && t.Base == schema.Obj:
		return "IsStruct", t.Object.Size, ""
	case t.Base == schema.Obj:
		return "IsTable", 0, f.verifyAt(t.Object)
	case t.Base == schema.Union:
		return "IsUnion", tagSize(t), f.verifyUnion(t)
	case t.Base != schema.Vector:
		return "", inlineSize(t), ""
	case field.NestedFlatbuffer != nil:
		return "IsBuffer", 0, f.verifyAt(field.NestedFlatbuffer)
	case e.Base == schema.String:
		return "IsStrings", 0, ""
	case e.Base == schema.Union:
		return "IsUnions", tagSize(e), f.verifyUnion(e)
	case isTable(e):
		return "IsTables", 0, f.verifyAt(e.Object)
	default:
		return "IsVector", inlineSize(e), ""
	}
}

// tagSize returns the size of a union's tag in bytes.
func tagSize(t schema.Type) int {
	return scalars[tagType(t.Enum)].size
}

// verifyUnion returns the name of a union's verifier.
func (f *file) verifyUnion(t schema.Type) string {
	return f.qualifier(f.plan.pkgOf(t.Enum.Namespace)) + f.plan.enums[t.Enum].VerifyAt
}
