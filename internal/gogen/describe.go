package gogen

import (
	"time"

	"github.com/ipcgen/ipcgen/internal/diag"
	"github.com/ipcgen/ipcgen/internal/schema"
)

// A Protocol is a service, an envelope, a stream or a topic as the code generated for it identifies
// itself to the peer, for tools that talk to the peer without that code.
type Protocol struct {
	Name        string // with its namespace
	Fingerprint uint64
	Description string // the canonical text

	Service *schema.Service // nil for another kind of protocol
	Methods []Method        // of a service

	Envelope *schema.Object // nil for another kind of protocol
	Messages []Message      // of an envelope

	Block *schema.Object // the struct of a stream; nil for another kind of protocol

	Topic   *schema.Object // the message of a topic; nil for another kind of protocol
	Payload bool           // raw bytes are behind the struct of the topic
}

// A Method is a call of a service.
type Method struct {
	Decl           *schema.Method
	ID             uint32 // on the wire
	ReadOnly       bool
	Streaming      schema.Streaming
	Timeout        time.Duration // of a call; 0 for none
	Request, Reply Form
}

// A Message is a member of an envelope, which is sent one way.
type Message struct {
	Decl *schema.EnumVal
	ID   uint32 // on the wire
	Form Form
}

// A Form is the way in which a message travels: as the root of its buffer, or as a member of the
// union of an envelope.
type Form struct {
	Root    *schema.Object // the root of the buffer: the message itself, or the envelope
	Payload string         // the field of the union; empty without an envelope
	Member  string         // the name of the member that the message is
	Seq     string         // the envelope's field for the number of the message; may be empty
}

// maxDescriptions limits the texts of all protocols of a schema, in bytes. Each text has all types
// that its protocol reaches, so a schema of unknown origin could unfold to any length; a server
// whose texts are longer could not tell them in its handshake.
const maxDescriptions = 16 << 20

// Protocols returns the services, envelopes, streams and topics of a schema, each kind in the order
// of the schema. It reports to diags what the generator reports of them, and protocols whose texts
// are too long together.
func Protocols(s *schema.Schema, diags *diag.List) (all []Protocol) {
	p := newPlan(s, Options{All: true}, diags)
	left := maxDescriptions
	protocolOf := func(name string, describe func() string) Protocol {
		if left < 0 {
			return Protocol{}
		}
		text := describe()
		if left -= len(text); left < 0 {
			diags.Errorf(diag.Span{}, "the descriptions of the protocols have more than %d bytes",
				maxDescriptions)
		}
		return Protocol{Name: name, Fingerprint: fingerprint(text), Description: text}
	}
	for _, s := range p.services {
		service := protocolOf(s.decl.FullName(), func() string { return describeService(s) })
		service.Service = s.decl
		for _, m := range s.methods {
			timeout, _ := timeoutOf(m.decl) // an error of it was reported
			service.Methods = append(service.Methods, Method{Decl: m.decl,
				ID:        wireID(service.Name, m.decl.Name),
				ReadOnly:  m.decl.Attributes.Has(schema.AttrReadOnly),
				Streaming: m.decl.Streaming,
				Timeout:   timeout,
				Request:   formOf(s.request, m.request, m.decl.Request),
				Reply:     formOf(s.reply, m.reply, m.decl.Reply)})
		}
		all = append(all, service)
	}
	for _, e := range p.envelopes {
		envelope := protocolOf(e.table.FullName(), func() string { return describeEnvelope(e) })
		envelope.Envelope = e.table
		for _, m := range e.members {
			envelope.Messages = append(envelope.Messages, Message{Decl: m.val,
				ID: wireID(envelope.Name, m.val.Name), Form: formOf(e, m, nil)})
		}
		all = append(all, envelope)
	}
	for _, s := range p.streams {
		stream := protocolOf(s.header.FullName(), func() string { return describeStream(s) })
		stream.Block = s.header
		all = append(all, stream)
	}
	for _, t := range p.topics {
		topic := protocolOf(t.message.FullName(), func() string { return describeTopic(t) })
		topic.Topic, topic.Payload = t.message, t.payload
		all = append(all, topic)
	}
	return all
}

func formOf(e *envelope, m *member, message *schema.Object) Form {
	if e == nil {
		return Form{Root: message}
	}
	f := Form{Root: e.table, Payload: e.payload.Name, Member: m.val.Name}
	if e.seq != nil {
		f.Seq = e.seq.Name
	}
	return f
}
