package gogen

import (
	"slices"

	"github.com/ipcgen/ipcgen/internal/schema"
)

// An object can have a value that no buffer can hold: a union whose Type and Value contradict each
// other. This file writes the methods that detect it. The functions that send messages call them,
// because Pack cannot return an error.

// planChecks finds the tables whose objects may contain a union, at any depth, and removes the name
// of the check method from the others.
func (p *plan) planChecks() {
	needs := make(map[*schema.Object]bool)
	for again := true; again; {
		again = false
		for _, o := range p.schema.Objects {
			if !o.IsStruct && !needs[o] &&
				slices.ContainsFunc(o.Fields, func(field *schema.Field) bool {
					return canHoldUnion(field, needs)
				}) {
				needs[o], again = true, true
			}
		}
	}
	for _, o := range p.schema.Objects {
		if !needs[o] {
			p.objects[o].Check = ""
		}
	}
}

// canHoldUnion reports whether a field is a union, a table that needs a check, or a vector of
// these.
func canHoldUnion(field *schema.Field, needs map[*schema.Object]bool) bool {
	if field.Deprecated || field.IsTag {
		return false
	}
	t := field.Type
	return t.Base == schema.Union || t.Element == schema.Union || t.Object != nil && needs[t.Object]
}

// tableCheck writes the method Check of a table's object, if the object has one.
func (f *file) tableCheck(o *schema.Object, n *objectNames) {
	if n.Check == "" {
		return
	}
	f.p("// ", n.Check, " reports the first union within ℓt whose Type and Value do not fit each")
	f.p("// other, as an *ℙfb.UnionError. Pack panics with such an error, or leaves the union")
	f.p("// out if it has no Value; what is sent is checked first.")
	f.p("func (ℓt *", n.Object, ") ", n.Check, "() error {")
	f.p("if ℓt == nil {")
	f.p("return nil")
	f.p("}")
	for _, field := range o.Fields {
		if field.Deprecated || field.IsTag {
			continue
		}
		t, member := field.Type, "ℓt."+f.plan.fields[field].Member
		method := ""
		switch {
		case t.Base == schema.Union || t.Element == schema.Union:
			method = "Check"
		case t.Object != nil:
			method = f.plan.objects[t.Object].Check
		}
		switch {
		case method == "":
		case t.Base == schema.Vector:
			f.p("for ℓj, ℓu := range ", member, " {")
			f.p("if ℓerr := ℓu.", method, "(); ℓerr != nil {")
			f.p("return ℙfb.InElement(ℓerr, ", quote(field.Name), ", ℓj)")
			f.p("}")
			f.p("}")
		default:
			f.p("if ℓerr := ", member, ".", method, "(); ℓerr != nil {")
			f.p("return ℙfb.InField(ℓerr, ", quote(field.Name), ")")
			f.p("}")
		}
	}
	f.p("return nil")
	f.p("}")
	f.p()
}

// unionCheck writes the method Check of a union's object.
func (f *file) unionCheck(e *schema.Enum, n *enumNames) {
	f.p("// Check reports a Type and a Value that do not fit each other, here or in the")
	f.p("// member, as an *ℙfb.UnionError.")
	f.p("func (ℓt *", n.Object, ") Check() error {")
	f.p("if ℓt == nil {")
	f.p("return nil")
	f.p("}")
	f.p("switch ℓt.Type {")
	if none := e.Value(0); none != nil {
		f.p("case 0:")
		f.p("if ℓt.Value == nil {")
		f.p("return nil")
		f.p("}")
	}
	f.eachMember(e, n, func(name string, val *schema.EnumVal) {
		f.p("case ", name, ":")
		if val.Type.Base == schema.String {
			f.p("if _, ℓok := ℓt.Value.(string); ℓok {")
			f.p("return nil")
			f.p("}")
			return
		}
		f.p("if ℓm, ℓok := ℓt.Value.(*", f.objectObject(val.Type.Object), "); ℓok && ℓm != nil {")
		if check := f.plan.objects[val.Type.Object].Check; check != "" {
			f.p("if ℓerr := ℓm.", check, "(); ℓerr != nil {")
			f.p("return ℙfb.InField(ℓerr, ", quote("("+val.Name+")"), ")")
			f.p("}")
		}
		f.p("return nil")
		f.p("}")
	})
	f.p("}")
	f.p("return ℙfb.BadUnion(", quote(fullName(e.Namespace, e.Name)), ", ℓt.Type, ℓt.Value)")
	f.p("}")
	f.p()
}

// unionJSON writes the method that tells package encoding/json that a union cannot be decoded.
func (f *file) unionJSON(e *schema.Enum, n *enumNames) {
	f.p("// UnmarshalJSON returns an error: JSON does not tell the Go type of Value.")
	f.p("func (ℓt *", n.Object, ") UnmarshalJSON([]byte) error {")
	f.p("return ℙfb.NoUnionFromJSON(", quote(fullName(e.Namespace, e.Name)), ")")
	f.p("}")
	f.p()
}
