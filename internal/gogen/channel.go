package gogen

import (
	"github.com/ipcgen/ipcgen/internal/diag"
	"github.com/ipcgen/ipcgen/internal/schema"
)

// This file decides which tables are envelopes, and which envelopes a service uses.

// An envelope is a table with one union field: a message that is one of several.
type envelope struct {
	table   *schema.Object
	payload *schema.Field // the union
	seq     *schema.Field // a uint64 named seq; nil if there is none
	refSeq  *schema.Field // a uint64 named ref_seq; nil if there is none
	members []*member     // without NONE

	codecs []*codec // written by its file

	sender, newSender, handler, unimplemented, newService, protocol, schema string
}

// A member is one message that an envelope carries.
type member struct {
	val   *schema.EnumVal
	index int    // of val among the values of the union
	name  string // exported: of SendX and HandleX
	info  string // the variable that holds its codec
}

// A service is an rpc_service, with the form in which its messages travel.
type service struct {
	decl           *schema.Service
	methods        []*method
	request, reply *envelope // nil if it travels in the runtime's frame
	codecs         []*codec  // written by its file

	iface, client, newClient, newService, unimplemented, protocol, schema string

	inPlaceClient, newInPlaceClient, inPlaceHandlers, newInPlaceService string
}

// A method is one call of a service.
type method struct {
	decl           *schema.Method
	name           string  // exported
	info, inPlace  string  // the variables that hold its codec
	request, reply *member // in the service's envelopes
}

// findEnvelopes finds the envelopes of the schema.
func (p *plan) findEnvelopes() {
	for _, o := range p.schema.Objects {
		if e := p.findEnvelope(o); e != nil {
			p.envelopes = append(p.envelopes, e)
			p.envelopeOf[o] = e
		}
	}
}

// nameChannels plans the envelopes, services, streams and topics of a part, and names their
// declarations. These names are the interface of a protocol, so a clash never changes them: the
// schema must be changed.
func (p *plan) nameChannels(part *part) {
	reports := p.diags
	if !p.generated(part.file) {
		p.diags = new(diag.List) // the run that generates the part reports
	}
	for _, o := range part.objects {
		if e := p.envelopeOf[o]; e != nil {
			p.nameEnvelope(e)
			p.envelopeCodecs(e)
		}
	}
	for _, decl := range part.services {
		if s := p.planService(decl, p.envelopesFor(decl)); s != nil {
			p.services = append(p.services, s)
			p.serviceCodecs(s)
		}
	}
	p.planStreams(part)
	p.planTopics(part)
	p.planGRPC(part)
	p.planDefinitions(part)
	p.diags = reports
}

// envelopesFor returns the envelopes that a service may use: those that its own file sees, whatever
// a file that includes it declares.
func (p *plan) envelopesFor(decl *schema.Service) []*envelope {
	seen := p.reach(decl.File)
	var found []*envelope
	for _, e := range p.envelopes {
		if decl.File == nil || seen[e.table.File] {
			found = append(found, e)
		}
	}
	return found
}

// findEnvelope returns o as an envelope, or nil if o is not one.
func (p *plan) findEnvelope(o *schema.Object) *envelope {
	if o.IsStruct {
		return nil
	}
	if v, ok := o.Attributes.Lookup(schema.AttrEnvelope); ok && v == "none" {
		return nil
	}
	e := &envelope{table: o}
	for _, f := range o.Fields {
		switch {
		case f.Deprecated || f.IsTag:
		case f.Type.Base == schema.Union && e.payload != nil, f.Type.Element == schema.Union:
			return nil
		case f.Type.Base == schema.Union:
			e.payload = f
		case f.Name == "seq" && isCounter(f):
			e.seq = f
		case f.Name == "ref_seq" && isCounter(f):
			e.refSeq = f
		case f.Required:
			return nil // no caller could set it
		}
	}
	if e.payload == nil {
		return nil
	}
	union := e.payload.Type.Enum
	for i, val := range union.Values {
		if val.Type.Base == schema.None {
			continue
		}
		e.members = append(e.members, &member{val: val, index: i, name: exported(val.Name)})
	}
	return e
}

// isCounter reports whether a field can hold a sequence number.
func isCounter(f *schema.Field) bool {
	return f.Type.Base == schema.ULong && f.Type.Enum == nil && !f.Optional
}

// planService decides the form in which a service travels, and names its declarations.
func (p *plan) planService(decl *schema.Service, all []*envelope) *service {
	s := &service{decl: decl}
	for _, m := range decl.Methods {
		s.methods = append(s.methods, &method{decl: m, name: exported(m.Name)})
	}
	if len(s.methods) == 0 {
		return nil
	}
	p.chooseEnvelopes(s, all)
	p.nameService(s)
	return s
}

// chooseEnvelopes chooses the envelopes of a service: those that its attributes name, or the only
// ones that have all its requests, and all its replies, as members.
func (p *plan) chooseEnvelopes(s *service, all []*envelope) {
	request, named1 := p.namedEnvelope(s, all, schema.AttrRequestEnvelope)
	reply, named2 := p.namedEnvelope(s, all, schema.AttrReplyEnvelope)
	if named1 != named2 {
		p.diags.Errorf(s.decl.Span, "rpc_service %s names one envelope only", s.decl.Name).
			Helpf("a service travels in two envelopes: name both %s and %s",
				schema.AttrRequestEnvelope, schema.AttrReplyEnvelope)
		return
	}
	if !named1 {
		requests := candidates(all, s.methods, func(m *method) *schema.Object {
			return m.decl.Request
		})
		replies := candidates(all, s.methods, func(m *method) *schema.Object {
			return m.decl.Reply
		})
		if len(requests) == 0 || len(replies) == 0 {
			return
		}
		if len(requests) == 1 && len(replies) == 1 && requests[0] == replies[0] {
			return // a single envelope for both directions needs the attributes
		}
		if len(requests) > 1 || len(replies) > 1 {
			p.reportAmbiguous(s, requests, replies)
			return
		}
		request, reply = requests[0], replies[0]
	}
	if request == nil || reply == nil {
		return // reported
	}
	for _, m := range s.methods {
		m.request = p.memberFor(s, request, m, m.decl.Request)
		m.reply = p.memberFor(s, reply, m, m.decl.Reply)
	}
	s.request, s.reply = request, reply
}

// namedEnvelope returns the envelope that an attribute of the service names, and whether the
// attribute is present.
func (p *plan) namedEnvelope(s *service, all []*envelope, attr string) (*envelope, bool) {
	name, ok := s.decl.Attributes.Lookup(attr)
	if !ok {
		return nil, false
	}
	for _, e := range all {
		if name == fullName(e.table.Namespace, e.table.Name) || name == e.table.Name &&
			sameNamespace(e.table.Namespace, s.decl.Namespace) {
			return e, true
		}
	}
	p.diags.Errorf(s.decl.Span, "%s %q of rpc_service %s is no envelope", attr, name, s.decl.Name).
		Helpf("name a table with exactly one union field, and no required field beside it")
	return nil, true
}

func sameNamespace(a, b schema.Namespace) bool {
	return fullName(a, "") == fullName(b, "")
}

// candidates returns the envelopes that have the types of all methods as members.
func candidates(all []*envelope, methods []*method, typ func(*method) *schema.Object) []*envelope {
	var found []*envelope
next:
	for _, e := range all {
		for _, m := range methods {
			if len(e.membersOf(typ(m))) == 0 {
				continue next
			}
		}
		found = append(found, e)
	}
	return found
}

// membersOf returns the members of an envelope that have type o.
func (e *envelope) membersOf(o *schema.Object) []*member {
	var found []*member
	for _, m := range e.members {
		if m.val.Type.Object == o {
			found = append(found, m)
		}
	}
	return found
}

// memberFor returns the only member of e with type o, or reports an error.
func (p *plan) memberFor(s *service, e *envelope, m *method, o *schema.Object) *member {
	found := e.membersOf(o)
	switch len(found) {
	case 1:
		return found[0]
	case 0:
		p.diags.Errorf(m.decl.Span,
			"%s is no member of envelope %s, in which rpc_service %s travels",
			fullName(o.Namespace, o.Name), e.table.Name, s.decl.Name).
			Note(e.payload.Span, "the envelope's union is here").Helpf("add it to the union")
	default:
		p.diags.Errorf(m.decl.Span, "%s is a member of envelope %s twice, as %s and %s",
			fullName(o.Namespace, o.Name), e.table.Name, found[0].val.Name, found[1].val.Name).
			Note(found[0].val.Span, "%s is here", found[0].val.Name).
			Note(found[1].val.Span, "%s is here", found[1].val.Name).
			Helpf("give the method a request or reply type that the union has once")
	}
	return &member{val: e.payload.Type.Enum.Values[0]}
}

func (p *plan) reportAmbiguous(s *service, requests, replies []*envelope) {
	what, found := "requests", requests
	if len(requests) == 1 {
		what, found = "replies", replies
	}
	d := p.diags.Errorf(s.decl.Span,
		"the %s of rpc_service %s could travel in envelope %s or in %s",
		what, s.decl.Name, found[0].table.Name, found[1].table.Name)
	for _, e := range found[:2] {
		d.Note(e.table.Span, "%s is here", e.table.Name)
	}
	d.Helpf("name both, as in (%s: %q, %s: %q), after declaring the two attributes",
		schema.AttrRequestEnvelope, requests[0].table.Name,
		schema.AttrReplyEnvelope, replies[0].table.Name)
}
