package gogen

import (
	"fmt"

	"github.com/ipcgen/ipcgen/internal/schema"
)

// envelope writes the typed channel of an envelope: one method to send, and one
// to handle, for each member of its union.
func (f *file) envelope(e *envelope) {
	f.needsFormat = true // for the alignment around function literals
	f.useIPC()
	f.useFlatbuffers()
	f.use("context")
	full := fullName(e.table.Namespace, e.table.Name)
	f.protocol(e.protocol, e.schema, full, describeEnvelope(e))
	f.sender(e, full)
	f.handler(e, full)
	for _, c := range e.codecs {
		f.codec(c)
	}
	for _, m := range e.members {
		f.messageInfo(e, m, full)
	}
}

// argumentType returns the type by which a member is passed to users' code.
func (f *file) argumentType(m *member) string {
	if m.val.Type.Base == schema.String {
		return "string"
	}
	return "*" + f.messageType(m)
}

func (f *file) sender(e *envelope, full string) {
	f.p("// ", e.sender, " sends the members of ", full, " one way. It is safe for")
	f.p("// concurrent use.")
	f.p("type ", e.sender, " struct {")
	f.p("sender ipc.Sender")
	f.p("}")
	f.p()
	f.p("// ", e.newSender, " returns a sender that sends through s.")
	f.p("func ", e.newSender, "(s ipc.Sender) *", e.sender, " {")
	f.p("return &", e.sender, "{sender: s}")
	f.p("}")
	f.p()
	for _, m := range e.members {
		ref := "m"
		if m.val.Type.Base == schema.String {
			ref = "&m"
		}
		f.p("// Send", m.name, " sends m; a nil error means that it is on its way, not that it was")
		f.p("// handled.")
		f.p("func (s *", e.sender, ") Send", m.name, "(ctx context.Context, m ", f.argumentType(m), ") error {")
		f.p("return ipc.Send(ctx, s.sender, ", m.info, ", ", ref, ")")
		f.p("}")
		f.p()
	}
}

func (f *file) handler(e *envelope, full string) {
	f.p("// ", e.handler, " handles the members of ", full, ". Its methods may be called")
	f.p("// concurrently, and may keep m.")
	f.p("type ", e.handler, " interface {")
	for _, m := range e.members {
		f.p("Handle", m.name, "(ctx context.Context, m ", f.argumentType(m), ") error")
	}
	f.p("}")
	f.p()
	f.p("// ", e.newService, " returns h as a service for ipc.NewServer.")
	f.p("func ", e.newService, "(h ", e.handler, ") *ipc.Service {")
	f.p("return ipc.NewService(")
	f.p(e.protocol, ",")
	for _, m := range e.members {
		if m.val.Type.Base == schema.String {
			f.p("ipc.Receive(", m.info, ", func(ctx context.Context, m *string) error {")
			f.p("return h.Handle", m.name, "(ctx, *m)")
			f.p("}),")
			continue
		}
		f.p("ipc.Receive(", m.info, ", h.Handle", m.name, "),")
	}
	f.p(")")
	f.p("}")
	f.p()
	f.p("// ", e.unimplemented, " refuses all messages. Embedded in an implementation of")
	f.p("// ", e.handler, ", it answers the members that a later version of the schema adds.")
	f.p("type ", e.unimplemented, " struct{}")
	f.p()
	f.p("var _ ", e.handler, " = ", e.unimplemented, "{}")
	f.p()
	for _, m := range e.members {
		f.p("// Handle", m.name, " returns an error with code ipc.CodeUnimplemented.")
		f.p("func (", e.unimplemented, ") Handle", m.name, "(context.Context, ", f.argumentType(m), ") error {")
		f.p("return ipc.Unimplemented(", quote(full+"/"+m.val.Name), ")")
		f.p("}")
		f.p()
	}
}

// messageInfo writes the variable that holds a member's codec.
func (f *file) messageInfo(e *envelope, m *member, full string) {
	c := f.plan.codecs[memberKey(f.pkg, e, m)]
	typ := f.messageType(m)
	f.p("var ", m.info, " = ipc.NewMessage(", e.protocol, ", ipc.MessageSpec[", typ, "]{")
	rows := [][]string{
		{"Name:", quote(m.val.Name) + ","},
		{"ID:", fmt.Sprintf("0x%08x,", wireID(full, m.val.Name))},
	}
	if e.refSeq == nil {
		rows = append(rows, []string{"Encode:", c.encode + ","}, []string{"Decode:", c.decode + ","})
		f.columns(rows)
	} else {
		f.columns(rows)
		f.p("Encode: func(b *flatbuffers.Builder, seq uint64, m *", typ, ") error {")
		f.p("return ", c.encode, "(b, seq, 0, m)")
		f.p("},")
		f.p("Decode: func(buf []byte, m *", typ, ") (uint64, error) {")
		f.p("seq, _, err := ", c.decode, "(buf, m)")
		f.p("return seq, err")
		f.p("},")
	}
	f.p("})")
	f.p()
}
