package schema

import (
	"fmt"

	"github.com/ipcgen/ipcgen/internal/diag"
	"github.com/ipcgen/ipcgen/internal/fbs"
)

// service links an rpc_service.
func (l *linker) service(d *fbs.Service) {
	s := &Service{Name: d.Name.Text, Namespace: l.namespace, File: l.file,
		Span: l.span(d.Name.Range), Doc: d.Doc}
	full := string(l.qualified(d.Name.Text))
	if first := l.services[full]; first != nil {
		l.errorf(d.Name.Range, "service %s is declared twice", full).Note(first.Span,
			"the first declaration is here")
	} else {
		l.services[full] = s
		l.schema.Services = append(l.schema.Services, s)
	}
	s.Attributes = l.metadata(d.Meta)
	seen := make(map[string]diag.Span, len(d.Methods))
	for i := range d.Methods {
		m := &d.Methods[i]
		span := l.span(m.Name.Range)
		if first, ok := seen[m.Name.Text]; ok {
			l.errorf(m.Name.Range, "method %s is declared twice", m.Name.Text).Note(first,
				"the first declaration is here")
			continue
		}
		seen[m.Name.Text] = span
		attrs := l.metadata(m.Meta)
		s.Methods = append(s.Methods, &Method{
			Name: m.Name.Text, Span: span, Doc: m.Doc, Attributes: attrs,
			Request:    l.message(m.Request, "the request of a method"),
			Reply:      l.message(m.Reply, "the reply of a method"),
			Streaming:  l.streaming(attrs),
			Idempotent: attrs.Has("idempotent"),
		})
	}
}

// message resolves the request or the reply of a method, which is a table.
func (l *linker) message(name fbs.Name, what string) *Object {
	if e := l.findEnum(name.Text); e != nil {
		l.errorf(name.Range, "%s must be a table", what).Note(e.Span,
			"%s is declared here", name.Text)
		return &Object{Name: name.Text}
	}
	o := l.mention(name.Text, name.Range).object
	l.mustBeTable(o, l.span(name.Range), what)
	return o
}

// streaming reads the attribute for the side of a method that streams.
func (l *linker) streaming(attrs Attributes) Streaming {
	streaming, err := StreamingOf(attrs)
	if err != nil {
		l.diags.Errorf(attrs.span("streaming"), "%v",
			err).Helpf(`write "none", "client", "server" or "bidi"`)
	}
	return streaming
}

// StreamingOf returns the side that streams in a method with the given attributes.
func StreamingOf(attrs Attributes) (Streaming, error) {
	value, ok := attrs.Lookup("streaming")
	if !ok {
		return Unary, nil
	}
	for s := Unary; s <= BidiStreaming; s++ {
		if s.String() == value {
			return s, nil
		}
	}
	return Unary, fmt.Errorf("streaming has the unknown value %q", value)
}
