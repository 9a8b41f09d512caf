package gogen

import (
	"fmt"
	"time"

	"github.com/ipcgen/ipcgen/internal/diag"
	"github.com/ipcgen/ipcgen/internal/schema"
)

// The attribute "timeout" of a method limits how long its calls take: (timeout: "250ms"). It is a
// policy of clients and no part of the protocol: descriptions leave it out, so that clients with
// different timeouts call the same server.

// timeoutOf returns the timeout of a method, or 0 if it has none.
func timeoutOf(m *schema.Method) (time.Duration, error) {
	v, ok := m.Attributes.Lookup(schema.AttrTimeout)
	if !ok {
		return 0, nil
	}
	d, err := time.ParseDuration(v)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%q is no duration", v)
	case d <= 0:
		return 0, fmt.Errorf("%q is not positive", v)
	}
	return d, nil
}

// checkTimeouts reports timeouts that are none, and those of something that is not answered once.
func (p *plan) checkTimeouts() {
	for _, o := range p.schema.Objects {
		if !p.generated(o.File) {
			continue
		}
		what := "a table"
		if o.IsStruct {
			what = "a struct"
		}
		p.refuseTimeout(o.Attributes, o.Span, what)
		for _, f := range o.Fields {
			p.refuseTimeout(f.Attributes, f.Span, "a field")
		}
	}
	for _, e := range p.schema.Enums {
		if !p.generated(e.File) {
			continue
		}
		what, part := "an enum", "a value of an enum"
		if e.IsUnion {
			what, part = "a union", "a member of a union"
		}
		p.refuseTimeout(e.Attributes, e.Span, what)
		for _, v := range e.Values {
			p.refuseTimeout(v.Attributes, v.Span, part)
		}
	}
	for _, s := range p.schema.Services {
		if !p.generated(s.File) {
			continue
		}
		p.refuseTimeout(s.Attributes, s.Span, "a service")
		for _, m := range s.Methods {
			if m.Streaming != schema.Unary {
				p.refuseTimeout(m.Attributes, m.Span, "a method that streams")
			} else if _, err := timeoutOf(m); err != nil {
				p.diags.Errorf(spanOf(m.Attributes, schema.AttrTimeout, m.Span),
					"%s of method %s: %v", schema.AttrTimeout, m.Name, err).
					Helpf(`write a number and its unit: (%s: "250ms")`, schema.AttrTimeout)
			}
		}
	}
}

func (p *plan) refuseTimeout(a schema.Attributes, at diag.Span, what string) {
	if a.Has(schema.AttrTimeout) {
		p.diags.Errorf(spanOf(a, schema.AttrTimeout, at),
			"a %s belongs to a method with one reply, not to %s", schema.AttrTimeout, what).
			Helpf("state it at a method of an rpc_service: M(Request): Reply (%s: \"250ms\");",
				schema.AttrTimeout)
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
