package gogen

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/dave/jennifer/jen"

	"github.com/ipcgen/ipcgen/internal/schema"
)

// protocol writes the variable that identifies a service or an envelope to the peer.
func (f *file) protocol(name, schema, fullName, description string, d *definition) {
	f.decl(name+" identifies "+fullName+" to the peer.",
		jen.Var().Id(name).Op("=").Op("&").Add(f.protocolOf(schema, fullName, description, d)))
	f.decl("", jen.Const().Id(schema).Op("=").Add(text(description)))
}

// protocolOf returns the ipc.Protocol with the description that the constant schema holds, and with
// a definition, which may be nil.
func (f *file) protocolOf(schema, fullName, description string, d *definition) *jen.Statement {
	values := []jen.Code{
		value("Name", jen.Lit(fullName)),
		value("Fingerprint", hex(fmt.Sprintf("%016x", fingerprint(description)))),
		value("Schema", jen.Id(schema)),
	}
	if d != nil {
		values = append(values, value("Definition", jen.Id(d.name)))
	}
	return composite(ipc("Protocol"), values...)
}

// service writes the interface, the client and the server of an rpc_service.
func (f *file) service(s *service) {
	full := fullName(s.decl.Namespace, s.decl.Name)
	doc := []string{" " + s.iface + " is the rpc_service " + full + "."}
	if hasDoc(s.decl.Doc) {
		doc = docLines(s.decl.Doc)
	}
	doc = append(append(slices.Clone(doc), ""),
		wrap("Clients, servers, fakes and proxies implement it alike; all methods may be called "+
			"concurrently.")...)
	f.documented(doc, jen.Type().Id(s.iface).InterfaceFunc(func(g *jen.Group) {
		for _, m := range s.methods {
			g.Add(commented(docLines(m.decl.Doc), f.signature(m, true)))
		}
	}))
	d := f.plan.definitionOf(s.decl.Namespace, s.decl.File)
	f.protocol(s.protocol, s.schema, full, describeService(s), d)
	f.client(s)
	f.server(s)
	f.inPlace(s)
	for _, c := range s.codecs {
		f.codec(c)
	}
	for _, m := range s.methods {
		f.methodInfo(s, m)
	}
	f.definition(s, d)
}

// signature returns the name, the parameters and the results of a method. named says whether the
// parameters have names.
func (f *file) signature(m *method, named bool) *jen.Statement {
	param := func(name string) *jen.Statement {
		if named {
			return local(name)
		}
		return new(jen.Statement)
	}
	req := param("req").Add(ptr(f.objectObject(m.decl.Request)))
	if m.in() {
		req = param("in").Add(items(f.objectObject(m.decl.Request)))
	}
	sig := jen.Id(m.name).Params(param("ctx").Add(context()), req)
	if m.out() {
		return sig.Add(items(f.objectObject(m.decl.Reply)))
	}
	return sig.Params(ptr(f.objectObject(m.decl.Reply)), jen.Error())
}

// in reports whether the client sends items, out whether the server does.
func (m *method) in() bool {
	return m.decl.Streaming == schema.ClientStreaming || m.decl.Streaming == schema.BidiStreaming
}

func (m *method) out() bool {
	return m.decl.Streaming == schema.ServerStreaming || m.decl.Streaming == schema.BidiStreaming
}

// streaming returns the part of the runtime's names for the kind of a method: "" for one that does
// not stream, or "ServerStream".
func (m *method) streaming() string {
	switch m.decl.Streaming {
	case schema.ClientStreaming:
		return "ClientStream"
	case schema.ServerStreaming:
		return "ServerStream"
	case schema.BidiStreaming:
		return "BidiStream"
	}
	return ""
}

// items is the type of a sequence of items of type typ.
func items(typ string) *jen.Statement {
	return qualified("iter", "Seq2").Index(jen.List(ptr(typ), jen.Error()))
}

func (f *file) client(s *service) {
	f.decl(s.client+" calls "+article(s.iface)+
		" server. It is safe for concurrent use; every error of a call is an *ipc.Error.",
		jen.Type().Id(s.client).Struct(jen.Id("caller").Add(ipc("Caller"))))
	f.decl(s.newClient+" returns a client that calls through ℓc.",
		jen.Func().Id(s.newClient).Params(local("c").Add(ipc("Caller"))).Add(ptr(s.client)).Block(
			jen.Return(jen.Op("&").Id(s.client).Values(value("caller", local("c"))))))
	f.decl("", implements(s.iface, jen.Parens(ptr(s.client)).Parens(jen.Nil())))
	for _, m := range s.methods {
		sent := local("req")
		if m.in() {
			sent = local("in")
		}
		sentence := m.name + " calls " + s.decl.Name + "." + m.decl.Name + "."
		if m.out() {
			sentence += " The call begins when the result is ranged over, which it serves once: " +
				"see ipc.Invoke" + m.streaming() + "."
		}
		f.documented(methodDoc(sentence, m.decl),
			jen.Func().Params(local("c").Add(ptr(s.client))).Add(f.signature(m, true)).Block(
				jen.Return(ipc("Invoke"+m.streaming()).Call(local("ctx"),
					local("c").Dot("caller"), jen.Id(m.info), sent))))
	}
}

// methodDoc returns the comment of a method of a client: a sentence, followed by the timeout and
// the comment in the schema.
func methodDoc(sentence string, m *schema.Method) []string {
	if d, err := timeoutOf(m); err == nil && d > 0 {
		sentence += " The call takes " + d.String() +
			" at most, unless ipc.WithMethodTimeout is given."
	}
	doc := wrap(sentence)
	if hasDoc(m.Doc) {
		doc = append(append(doc, ""), docLines(m.Doc)...)
	}
	return doc
}

// implements returns a declaration that makes the compiler check that v implements an interface.
func implements(iface string, v *jen.Statement) *jen.Statement {
	return jen.Var().Id("_").Id(iface).Op("=").Add(v)
}

func (f *file) server(s *service) {
	routes := []jen.Code{jen.Id(s.protocol)}
	for _, m := range s.methods {
		routes = append(routes, f.handle(m))
	}
	f.newService(s.newService, s.protocol, s.iface, routes)
	f.unimplemented(s.unimplemented, s.iface, "calls", "methods")
	for _, m := range s.methods {
		f.decl(m.name+" returns an error with code ipc.CodeUnimplemented.",
			jen.Func().Params(jen.Id(s.unimplemented)).Add(f.signature(m, false)).Block(
				jen.ReturnFunc(func(g *jen.Group) {
					full := jen.Lit(fullName(s.decl.Namespace, s.decl.Name) + "/" + m.decl.Name)
					if m.out() {
						g.Add(ipc("UnimplementedStream").Index(jen.Id(f.objectObject(
							m.decl.Reply))).Call(full))
						return
					}
					g.Nil()
					g.Add(ipc("Unimplemented").Call(full))
				})))
	}
}

// newService writes the function that returns a service for an implementation of iface. args are
// the protocol and the routes.
func (f *file) newService(name, protocol, iface string, args []jen.Code) {
	f.decl(name+" returns ℓh as a service for ipc.NewServer.",
		jen.Func().Id(name).Params(local("h").Id(iface)).Op("*").Add(ipc("Service")).Block(
			f.nilService(name, protocol, iface),
			jen.Return(call(ipc("NewService"), args...))))
}

// nilService returns the first statement of the constructor of a service: a nil implementation has
// no methods to which calls could be routed.
func (f *file) nilService(name, protocol, iface string) *jen.Statement {
	return jen.If(local("h").Op("==").Nil()).Block(
		jen.Return(ipc("NilService").Call(jen.Id(protocol), jen.Lit(f.pkg.name+"."+name),
			jen.Lit(f.pkg.name+"."+iface))))
}

// unimplemented writes the type that implements iface by refusing calls. what and parts are the
// plurals, for its comment, of the refused things and of the parts of iface.
func (f *file) unimplemented(name, iface, what, parts string) {
	f.decl(name+" refuses all "+what+". Embedded in an implementation of "+iface+
		", it answers the "+parts+" that a later version of the schema adds.",
		jen.Type().Id(name).Struct())
	f.decl("", implements(iface, jen.Id(name).Values()))
}

// handle returns the route from a method to h.
func (f *file) handle(m *method) *jen.Statement {
	return ipc("Handle"+m.streaming()).Call(jen.Id(m.info), local("h").Dot(m.name))
}

// methodInfo writes the variables that hold a method's codec.
func (f *file) methodInfo(s *service, m *method) {
	req, rep := f.plan.codecs[f.plan.requestKey(s, m)], f.plan.codecs[f.plan.replyKey(s, m)]
	spec := []jen.Code{
		value("Name", jen.Lit(m.decl.Name)),
		value("ID", hex(fmt.Sprintf("%08x",
			wireID(fullName(s.decl.Namespace, s.decl.Name), m.decl.Name)))),
	}
	if m.decl.Idempotent {
		spec = append(spec, value("Idempotent", jen.True()))
	}
	if m.decl.Attributes.Has(schema.AttrReadOnly) {
		spec = append(spec, value("ReadOnly", jen.True()))
	}
	if d, err := timeoutOf(m.decl); err == nil && d > 0 {
		// A number: a file does not import package time for this alone.
		spec = append(spec, value("Timeout", jen.Op(strconv.FormatInt(int64(d), 10)).
			Comment("/* "+d.String()+" */")))
	}
	if kind := m.decl.Streaming; kind != schema.Unary {
		name := map[schema.Streaming]string{schema.ClientStreaming: "ClientStreaming",
			schema.ServerStreaming: "ServerStreaming", schema.BidiStreaming: "BidiStreaming"}[kind]
		spec = append(spec, value("Streaming", ipc(name)))
	}
	spec = append(spec,
		value("EncodeRequest", jen.Id(req.encode)),
		value("DecodeRequest", jen.Id(req.decode)),
		value("EncodeReply", jen.Id(rep.encodeReply)),
		value("DecodeReply", jen.Id(rep.decodeReply)),
	)
	if req.recycle != "" {
		spec = append(spec, value("RecycleRequest", jen.Id(req.recycle)))
	}
	if rep.recycleReply != "" {
		spec = append(spec, value("RecycleReply", jen.Id(rep.recycleReply)))
	}
	f.decl("", jen.Var().Id(m.info).Op("=").Add(ipc("NewMethod")).Call(jen.Id(s.protocol),
		composite(ipc("MethodSpec").Index(jen.List(jen.Id(f.objectObject(m.decl.Request)),
			jen.Id(f.objectObject(m.decl.Reply)))), spec...)))
	if m.decl.Streaming != schema.Unary {
		return
	}
	f.decl("", jen.Var().Id(m.inPlace).Op("=").Add(ipc("NewInPlaceMethod")).Call(jen.Id(m.info).Dot(
		"Info").Call(),
		composite(ipc("InPlaceSpec").Index(jen.List(jen.Id(f.objectType(m.decl.Request)),
			jen.Id(f.objectType(m.decl.Reply)))),
			value("FinishRequest", jen.Id(req.place)),
			value("OpenRequest", jen.Id(req.view)),
			value("FinishReply", jen.Id(rep.place)),
			value("OpenReply", jen.Id(rep.view)),
		)))
}
