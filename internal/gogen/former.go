package gogen

import (
	"strings"

	"github.com/ipcgen/ipcgen/internal/diag"
	"github.com/ipcgen/ipcgen/internal/schema"
)

// The attribute "was" of a field or an enum value gives its former names: (was: "old") or
// (was: "older, old"). Nothing else distinguishes a field that was renamed from one that was
// removed and whose number another field has got.

// formerNames returns the names in an attribute was.
func formerNames(a schema.Attributes) []string {
	v, _ := a.Lookup(schema.AttrWas)
	return strings.FieldsFunc(v, func(r rune) bool { return r == ',' || r == ' ' })
}

// formerText returns the notation of former names in a description. The tag of a union is renamed
// together with the union.
func formerText(o *schema.Object, i int) string {
	f := o.Fields[i]
	if f.IsTag {
		union := o.Fields[i+1]
		return formerWords(union.Attributes, strings.TrimPrefix(f.Name, union.Name))
	}
	return formerWords(f.Attributes, "")
}

func formerWords(a schema.Attributes, suffix string) string {
	var b strings.Builder
	for _, name := range formerNames(a) {
		b.WriteString(" was:" + name + suffix)
	}
	return b.String()
}

// checkFormerNames reports attributes that give no former name, or that give a name twice.
func (p *plan) checkFormerNames() {
	for _, o := range p.schema.Objects {
		if !p.generated(o.File) {
			continue
		}
		seen := make(map[string]diag.Span)
		for _, f := range o.Fields {
			p.checkWas(f.Attributes, f.Span, f.Name, seen)
		}
	}
	for _, e := range p.schema.Enums {
		if !p.generated(e.File) || e.IsUnion {
			continue
		}
		seen := make(map[string]diag.Span)
		for _, v := range e.Values {
			p.checkWas(v.Attributes, v.Span, v.Name, seen)
		}
	}
}

func (p *plan) checkWas(a schema.Attributes, at diag.Span, name string, seen map[string]diag.Span) {
	if !a.Has(schema.AttrWas) {
		return
	}
	names := formerNames(a)
	if len(names) == 0 {
		p.diags.Errorf(at, "%s states no name of %s", schema.AttrWas,
			name).Helpf(`state the former one: (%s: "old")`, schema.AttrWas)
	}
	for _, former := range names {
		first, twice := seen[former]
		switch {
		case !isIdentifier(former):
			p.diags.Errorf(at, "%s of %s states %q, which is no name", schema.AttrWas, name, former)
		case former == name:
			p.diags.Errorf(at, "%s of %s states its present name", schema.AttrWas, name)
		case twice:
			p.diags.Errorf(at, "%s of %s states %s, which another one was", schema.AttrWas, name,
				former).Note(first, "the other one is here")
		default:
			seen[former] = at
		}
	}
}

func isIdentifier(s string) bool {
	for i, r := range s {
		letter := r == '_' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		if !letter && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return s != ""
}
