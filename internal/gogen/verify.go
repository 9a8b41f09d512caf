package gogen

import (
	"slices"

	"github.com/ipcgen/ipcgen/internal/schema"
)

// verifier writes the functions that check a table as the root of a buffer,
// and as part of another table.
func (f *file) verifier(o *schema.Object, n *objectNames) {
	f.useIPC()
	ident := `""`
	if n.Identifier != "" {
		ident = n.Identifier
	}
	f.p("// ", n.Verify, " checks that buf holds ", article(n.Type), " that can be read through every")
	f.p("// accessor; at most one set of limits counts. The error is a *ipc.VerifyError.")
	f.verifyRoot(o, n, n.Verify, "Begin(buf, "+ident+", limits)")
	f.p("// ", n.VerifySized, " is ", n.Verify, " for a buffer that begins with its size.")
	f.verifyRoot(o, n, n.VerifySized, "BeginSizePrefixed(buf, "+ident+", limits)")

	f.p("// ", n.VerifyAt, " checks the table at pos; it serves the verifiers of other tables.")
	f.p("func ", n.VerifyAt, "(v *ipc.Verifier, pos uint32) bool {")
	f.p("if pos == 0 {")
	f.p("return true")
	f.p("}")
	t := "t"
	if !slices.ContainsFunc(o.Fields, func(field *schema.Field) bool { return !field.Deprecated }) {
		t = "_"
	}
	f.p(t, ", ok := v.Table(pos)")
	if slices.ContainsFunc(o.Fields, isWalked) {
		f.p("var e ipc.Elements")
	}
	if slices.ContainsFunc(o.Fields, isNestedBuffer) {
		f.p("var outer ipc.Outer")
	}
	for _, field := range o.Fields {
		if !field.Deprecated && !field.IsTag {
			f.verifyField(field)
		}
	}
	f.p("return ok && v.EndTable()")
	f.p("}")
	f.p()
}

func (f *file) verifyRoot(o *schema.Object, n *objectNames, name, root string) {
	f.p("func ", name, "(buf []byte, limits ...ipc.VerifyLimits) error {")
	f.p("var v ipc.Verifier")
	f.p(n.VerifyAt, "(&v, v.", root, ")")
	f.p("return v.Err(", quote(o.Name), ")")
	f.p("}")
	f.p()
}

// isWalked reports whether the verifier visits the elements of a field.
func isWalked(field *schema.Field) bool {
	e := elem(field.Type)
	return !field.Deprecated && field.Type.Base == schema.Vector && (isTable(e) || e.Base == schema.Union)
}

// isNestedBuffer reports whether a field holds a buffer that is verified too.
func isNestedBuffer(field *schema.Field) bool {
	return !field.Deprecated && field.NestedFlatbuffer != nil
}

// verifyField writes the check of one field.
func (f *file) verifyField(field *schema.Field) {
	t, slot, name := field.Type, itoa(field.Offset), quote(field.Name)
	if field.Required {
		f.p("ok = ok && t.Required(", slot, ", ", name, ")")
	}
	switch t.Base {
	case schema.String:
		f.p("ok = ok && t.String(", slot, ", ", name, ")")
	case schema.Obj:
		if t.Object.IsStruct {
			f.p("ok = ok && t.Struct(", slot, ", ", itoa(t.Object.Size), ", ", itoa(t.Object.Align), ", ", name, ")")
			return
		}
		f.p("ok = ok && t.Table(", slot, ", ", name, ") && (", f.verifyAt(t.Object), "(v, t.Sub) || v.In(", name, "))")
	case schema.Union:
		typ := f.enumType(t.Enum)
		f.p("ok = ok && t.Union(", slot, ", ", tagSize(t), ", ", name, ") &&")
		f.p("\t(", f.verifyUnion(t), "(v, ", typ, "(t.Tag), t.Sub) || v.InMember(", name, ", ", typ, "(t.Tag)))")
	case schema.Vector:
		f.verifyVector(field, slot, name)
	default:
		f.p("ok = ok && t.Scalar(", slot, ", ", itoa(inlineSize(t)), ", ", name, ")")
	}
}

func (f *file) verifyVector(field *schema.Field, slot, name string) {
	switch e := elem(field.Type); {
	case field.NestedFlatbuffer != nil:
		f.p("ok = ok && t.Nested(", slot, ", ", name, ", &outer) && (", f.verifyAt(field.NestedFlatbuffer), "(v, t.Sub) || v.In(", name, ")) && v.EndNested(outer)")
	case e.Base == schema.String:
		f.p("ok = ok && t.Strings(", slot, ", ", name, ")")
	case e.Base == schema.Union:
		typ := f.enumType(e.Enum)
		f.p("ok = ok && t.Unions(", slot, ", ", tagSize(e), ", ", name, ", &e)")
		f.p("for ok && e.Next(v) {")
		f.p("ok = ", f.verifyUnion(e), "(v, ", typ, "(e.Tag), e.Sub) || v.InElemMember(", name, ", e.Index, ", typ, "(e.Tag))")
		f.p("}")
	case isTable(e):
		f.p("ok = ok && t.Tables(", slot, ", ", name, ", &e)")
		f.p("for ok && e.Next(v) {")
		f.p("ok = ", f.verifyAt(e.Object), "(v, e.Sub) || v.InElem(", name, ", e.Index)")
		f.p("}")
	default:
		f.p("ok = ok && t.Vector(", slot, ", ", itoa(inlineSize(e)), ", ", name, ")")
	}
}

// tagSize returns the size of a union's tag in bytes.
func tagSize(t schema.Type) string {
	return itoa(scalars[tagType(t.Enum)].size)
}

// verifyUnion returns the name of a union's verifier.
func (f *file) verifyUnion(t schema.Type) string {
	return f.qualifier(f.plan.pkgOf(t.Enum.Namespace)) + f.plan.enums[t.Enum].VerifyAt
}
