package gogen

import (
	"fmt"

	"github.com/ipcgen/ipcgen/internal/schema"
)

// protocol writes what identifies a service or an envelope to the peer.
func (f *file) protocol(name, text, fullName, description string) {
	f.p("// ", name, " identifies ", fullName, " to the peer.")
	f.p("var ", name, " = &ipc.Protocol{")
	f.columns([][]string{
		{"Name:", quote(fullName) + ","},
		{"Fingerprint:", fmt.Sprintf("0x%016x,", fingerprint(description))},
		{"Schema:", text + ","},
	})
	f.p("}")
	f.p()
	f.p("const ", text, " = `", description, "`")
	f.p()
}

// service writes the interface, the client and the server of an rpc_service.
func (f *file) service(s *service) {
	f.needsFormat = true // for the alignment around function literals
	f.useIPC()
	f.useFlatbuffers()
	f.use("context")
	full := fullName(s.decl.Namespace, s.decl.Name)
	if hasDoc(s.decl.Doc) {
		f.doc(s.decl.Doc)
		f.p("//")
	} else {
		f.p("// ", s.iface, " is the rpc_service ", full, ".")
		f.p("//")
	}
	f.p("// Clients, servers, fakes and proxies implement it alike; all methods may be")
	f.p("// called concurrently.")
	f.p("type ", s.iface, " interface {")
	for _, m := range s.methods {
		f.doc(m.decl.Doc)
		f.p(m.name, f.signature(m, "req "))
	}
	f.p("}")
	f.p()
	f.protocol(s.protocol, s.schema, full, describeService(s))
	f.client(s)
	f.server(s)
	for _, c := range s.codecs {
		f.codec(c)
	}
	for _, m := range s.methods {
		f.methodInfo(s, m)
	}
}

// signature returns the parameters and results of a method. req stands before
// the type of the request: its name, or nothing.
func (f *file) signature(m *method, req string) string {
	ctx := "ctx "
	if req == "" {
		ctx = ""
	}
	return "(" + ctx + "context.Context, " + req + "*" + f.objectObject(m.decl.Request) + ") (*" + f.objectObject(m.decl.Reply) + ", error)"
}

func (f *file) client(s *service) {
	f.p("// ", s.client, " calls ", article(s.iface), " server. It is safe for concurrent use; every error of a")
	f.p("// call is an *ipc.Error.")
	f.p("type ", s.client, " struct {")
	f.p("caller ipc.Caller")
	f.p("}")
	f.p()
	f.p("// ", s.newClient, " returns a client that calls through c.")
	f.p("func ", s.newClient, "(c ipc.Caller) *", s.client, " {")
	f.p("return &", s.client, "{caller: c}")
	f.p("}")
	f.p()
	f.p("var _ ", s.iface, " = (*", s.client, ")(nil)")
	f.p()
	for _, m := range s.methods {
		f.p("// ", m.name, " calls ", s.decl.Name, ".", m.decl.Name, ".")
		f.p("func (c *", s.client, ") ", m.name, f.signature(m, "req "), " {")
		f.p("return ipc.Invoke(ctx, c.caller, ", m.info, ", req)")
		f.p("}")
		f.p()
	}
}

func (f *file) server(s *service) {
	f.p("// ", s.newService, " returns h as a service for ipc.NewServer.")
	f.p("func ", s.newService, "(h ", s.iface, ") *ipc.Service {")
	f.p("return ipc.NewService(")
	f.p(s.protocol, ",")
	for _, m := range s.methods {
		f.p("ipc.Handle(", m.info, ", h.", m.name, "),")
	}
	f.p(")")
	f.p("}")
	f.p()
	f.p("// ", s.unimplemented, " refuses all calls. Embedded in an implementation of ", s.iface, ", it")
	f.p("// answers the methods that a later version of the schema adds.")
	f.p("type ", s.unimplemented, " struct{}")
	f.p()
	f.p("var _ ", s.iface, " = ", s.unimplemented, "{}")
	f.p()
	for _, m := range s.methods {
		f.p("// ", m.name, " returns an error with code ipc.CodeUnimplemented.")
		f.p("func (", s.unimplemented, ") ", m.name, f.signature(m, ""), " {")
		f.p("return nil, ipc.Unimplemented(", quote(fullName(s.decl.Namespace, s.decl.Name)+"/"+m.decl.Name), ")")
		f.p("}")
		f.p()
	}
}

// methodInfo writes the variable that holds a method's codec.
func (f *file) methodInfo(s *service, m *method) {
	req, rep := f.objectObject(m.decl.Request), f.objectObject(m.decl.Reply)
	f.p("var ", m.info, " = ipc.NewMethod(", s.protocol, ", ipc.MethodSpec[", req, ", ", rep, "]{")
	rows := [][]string{
		{"Name:", quote(m.decl.Name) + ","},
		{"ID:", fmt.Sprintf("0x%08x,", wireID(fullName(s.decl.Namespace, s.decl.Name), m.decl.Name))},
	}
	if m.decl.Idempotent {
		rows = append(rows, []string{"Idempotent:", "true,"})
	}
	if m.decl.Attributes.Has(attrReadOnly) {
		rows = append(rows, []string{"ReadOnly:", "true,"})
	}
	f.columns(rows)
	reqCodec, repCodec := f.codecsOf(s, m)
	if s.request == nil || s.request.refSeq == nil {
		f.columns([][]string{
			{"EncodeRequest:", reqCodec.encode + ","},
			{"DecodeRequest:", reqCodec.decode + ","},
		})
	} else {
		f.p("EncodeRequest: func(b *flatbuffers.Builder, seq uint64, req *", req, ") error {")
		f.p("return ", reqCodec.encode, "(b, seq, 0, req)")
		f.p("},")
		f.p("DecodeRequest: func(buf []byte, req *", req, ") (uint64, error) {")
		f.p("seq, _, err := ", reqCodec.decode, "(buf, req)")
		f.p("return seq, err")
		f.p("},")
	}
	f.replyCodec(s, m, repCodec, rep)
	f.p("})")
	f.p()
}

// replyCodec writes the part of a method's codec that handles replies: it fills
// in which request they answer, where the schema has a place for that.
func (f *file) replyCodec(s *service, m *method, c *codec, rep string) {
	var inEnvelope, inMember *schema.Field
	if s.reply != nil {
		inEnvelope, inMember = s.reply.refSeq, refSeqOf(m.decl.Reply)
	}
	refSeq, envRefSeq := "_", ""
	if inEnvelope != nil || inMember != nil {
		refSeq = "refSeq"
	}
	if inEnvelope != nil {
		envRefSeq = "refSeq, "
	}
	seq := "seq, "
	f.p("EncodeReply: func(b *flatbuffers.Builder, ", seq, refSeq, " uint64, rep *", rep, ") error {")
	if inMember != nil {
		f.p("answer := *rep // which stays as the handler made it")
		f.p("answer.", f.plan.fields[inMember].Member, " = refSeq")
		f.p("return ", c.encode, "(b, seq, ", envRefSeq, "&answer)")
	} else {
		f.p("return ", c.encode, "(b, seq, ", envRefSeq, "rep)")
	}
	f.p("},")
	f.p("DecodeReply: func(buf []byte, rep *", rep, ") (uint64, error) {")
	switch {
	case inMember != nil && inEnvelope != nil:
		f.p("_, _, err := ", c.decode, "(buf, rep)")
		f.p("return rep.", f.plan.fields[inMember].Member, ", err")
	case inMember != nil:
		f.p("_, err := ", c.decode, "(buf, rep)")
		f.p("return rep.", f.plan.fields[inMember].Member, ", err")
	case inEnvelope != nil:
		f.p("_, refSeq, err := ", c.decode, "(buf, rep)")
		f.p("return refSeq, err")
	default:
		f.p("_, err := ", c.decode, "(buf, rep)")
		f.p("return 0, err")
	}
	f.p("},")
}

// codecsOf returns the codecs of a method's request and reply.
func (f *file) codecsOf(s *service, m *method) (req, rep *codec) {
	return f.plan.codecs[requestKey(f.pkg, s, m)], f.plan.codecs[replyKey(f.pkg, s, m)]
}

// refSeqOf returns the field of a reply that says which request it answers, or
// nil.
func refSeqOf(o *schema.Object) *schema.Field {
	for _, field := range o.Fields {
		if field.Name == "ref_seq" && isCounter(field) && !field.Deprecated {
			return field
		}
	}
	return nil
}
