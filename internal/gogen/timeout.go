package gogen

import (
	"fmt"
	"time"

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

// checkTimeouts reports timeouts that are none, and those of methods that are not answered once.
func (p *plan) checkTimeouts() {
	for _, s := range p.schema.Services {
		if !p.generated(s.File) {
			continue
		}
		for _, m := range s.Methods {
			at := spanOf(m.Attributes, schema.AttrTimeout, m.Span)
			_, err := timeoutOf(m)
			switch {
			case m.Streaming != schema.Unary && m.Attributes.Has(schema.AttrTimeout):
				p.diags.Errorf(at,
					"a timeout belongs to a method with one reply, not to a method that streams").
					Helpf("%s", helpTimeout)
			case err != nil:
				p.diags.Errorf(at, "%s of method %s: %v", schema.AttrTimeout, m.Name, err).
					Helpf(`write a number and its unit: (%s: "250ms")`, schema.AttrTimeout)
			}
		}
	}
}
