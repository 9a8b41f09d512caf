package gogen

import (
	"slices"

	"github.com/ipcgen/ipcgen/internal/diag"
	"github.com/ipcgen/ipcgen/internal/schema"
)

// A place is a kind of declaration, as errors name it.
type place string

const (
	aTable   place = "a table"
	aStruct  place = "a struct"
	aField   place = "a field"
	anEnum   place = "an enum"
	aValue   place = "a value of an enum"
	aUnion   place = "a union"
	aMember  place = "a member of a union"
	aService place = "a service"
	aMethod  place = "a method"
)

// A rule says where an attribute beyond the language has a meaning. Anywhere else, a schema would
// say something that has no effect, so that is an error.
type rule struct {
	attribute string
	places    []place
	// bare attributes have no value: (read_only: "false") would not take anything back.
	bare  bool
	wrong string // the text of the error: what is said, with the wrong place for %s
	help  string
}

// What is said in more than one place.
const (
	helpEnvelopes = `name both where the service is declared: ` +
		`rpc_service S (request_envelope: "A", reply_envelope: "B")`
	helpTimeout = `state it at a method of an rpc_service: M(Request): Reply (timeout: "250ms");`
)

// rules has each attribute beyond the language.
var rules = []rule{
	{schema.AttrEnvelope, []place{aTable}, false,
		"envelope belongs to a table with a union, not to %s",
		`state at the table that it is no message: table T (envelope: "none") { ... }`},
	{schema.AttrReadOnly, []place{aMethod}, true,
		"read_only belongs to a method, not to %s",
		"state it at each method that changes nothing: M(Request): Reply (read_only);"},
	{schema.AttrReplyEnvelope, []place{aService}, false,
		"reply_envelope belongs to a service, not to %s", helpEnvelopes},
	{schema.AttrRequestEnvelope, []place{aService}, false,
		"request_envelope belongs to a service, not to %s", helpEnvelopes},
	{schema.AttrStream, []place{aStruct, aTable}, true, // planStreams speaks of tables
		"a stream's blocks begin with a struct, not with %s",
		`mark the struct: struct S (stream) { ... }; or the method: (streaming: "server")`},
	{schema.AttrTimeout, []place{aMethod}, false,
		"a timeout belongs to a method with one reply, not to %s", helpTimeout},
	{schema.AttrTopic, []place{aStruct, aTable}, false,
		"a topic is a struct or a table, not %s",
		"mark the type of the messages: table M (topic) { ... }"},
	{schema.AttrWas, []place{aField, aValue}, false,
		"%s cannot be renamed; its name travels",
		"keep the old one as it is, and add the new one beside it"},
}

// checkAttributes reports attributes at declarations for which they have no meaning, and values of
// those that have none.
func (p *plan) checkAttributes() {
	for _, o := range p.schema.Objects {
		if !p.generated(o.File) {
			continue
		}
		if o.IsStruct {
			p.checkPlace(o.Attributes, o.Span, aStruct)
		} else {
			p.checkPlace(o.Attributes, o.Span, aTable)
		}
		for _, f := range o.Fields {
			p.checkPlace(f.Attributes, f.Span, aField)
		}
	}
	for _, e := range p.schema.Enums {
		if !p.generated(e.File) {
			continue
		}
		what, part := anEnum, aValue
		if e.IsUnion {
			what, part = aUnion, aMember
		}
		p.checkPlace(e.Attributes, e.Span, what)
		for _, v := range e.Values {
			p.checkPlace(v.Attributes, v.Span, part)
		}
	}
	for _, s := range p.schema.Services {
		if !p.generated(s.File) {
			continue
		}
		p.checkPlace(s.Attributes, s.Span, aService)
		for _, m := range s.Methods {
			p.checkPlace(m.Attributes, m.Span, aMethod)
		}
	}
}

// checkPlace checks the attributes of one declaration.
func (p *plan) checkPlace(all schema.Attributes, at diag.Span, here place) {
	for _, a := range all {
		i := slices.IndexFunc(rules, func(r rule) bool { return r.attribute == a.Name })
		if i < 0 {
			continue
		}
		r := rules[i]
		switch {
		case !slices.Contains(r.places, here):
			help := r.help
			if a.Name == schema.AttrTopic && (here == aUnion || here == aMember) {
				help = "mark the table that has the union: table M (topic) { of: U; }"
			}
			p.diags.Errorf(spanOf(all, a.Name, at), r.wrong, here).Helpf("%s", help)
		case r.bare && !a.Bare:
			p.diags.Errorf(spanOf(all, a.Name, at), "%s has a value, %q, and takes none", a.Name,
				a.Value).Helpf("write (%s), or nothing where it does not hold", a.Name)
		case a.Name == schema.AttrEnvelope && a.Value != "none":
			p.diags.Errorf(spanOf(all, a.Name, at), "envelope has the unknown value %q", a.Value).
				Helpf(`write (envelope: "none"), or nothing: a table with one union is an envelope`)
		}
	}
}

// spanOf returns the position of an attribute among a, or at if that is not known.
func spanOf(a schema.Attributes, name string, at diag.Span) diag.Span {
	for _, attr := range a {
		if attr.Name == name && attr.Span.IsValid() {
			return attr.Span
		}
	}
	return at
}
