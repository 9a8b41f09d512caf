package gogen

import (
	"time"

	"github.com/ipcgen/ipcgen/internal/diag"
	"github.com/ipcgen/ipcgen/internal/schema"
)

// A Service is an rpc_service as the code generated for it identifies itself to the peer, for tools
// that call it without that code.
type Service struct {
	Name        string // with its namespace
	Fingerprint uint64
	Description string // the canonical text
	Methods     []Method
}

// A Method is a call of a [Service].
type Method struct {
	Decl           *schema.Method
	ID             uint32 // on the wire
	ReadOnly       bool
	Timeout        time.Duration // of a call; 0 for none
	Request, Reply Form
}

// A Form is the way in which a message travels: as the root of its buffer, or as a member of the
// union of an envelope.
type Form struct {
	Root    *schema.Object // the root of the buffer: the message itself, or the envelope
	Payload string         // the field of the union; empty without an envelope
	Member  string         // the name of the member that the message is
	Seq     string         // the envelope's field for the number of the message; may be empty
}

// Services returns the services of a schema, in its order. Methods that the generated code leaves
// out are left out here. It reports to diags what the generator reports of services.
func Services(s *schema.Schema, diags *diag.List) []Service {
	p := newPlan(s, Options{All: true}, diags)
	all := make([]Service, len(p.services))
	for i, s := range p.services {
		text := describeService(s)
		all[i] = Service{Name: fullName(s.decl.Namespace, s.decl.Name), Description: text,
			Fingerprint: fingerprint(text)}
		for _, m := range s.methods {
			timeout, _ := timeoutOf(m.decl) // an error of it was reported
			all[i].Methods = append(all[i].Methods, Method{Decl: m.decl,
				ID:       wireID(all[i].Name, m.decl.Name),
				ReadOnly: m.decl.Attributes.Has(schema.AttrReadOnly),
				Timeout:  timeout,
				Request:  formOf(s.request, m.request, m.decl.Request),
				Reply:    formOf(s.reply, m.reply, m.decl.Reply)})
		}
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
