package gogen

import (
	"fmt"

	"github.com/dave/jennifer/jen"
	"github.com/ipcgen/ipcgen/internal/schema"
)

// envelope writes the typed channel of an envelope, with a method to send and a method to handle
// each member of its union.
func (f *file) envelope(e *envelope) {
	full := fullName(e.table.Namespace, e.table.Name)
	d := f.plan.definitionOf(e.table.Namespace, e.table.File)
	f.protocol(e.protocol, e.schema, full, describeEnvelope(e), d)
	f.sender(e, full)
	f.handler(e, full)
	for _, c := range e.codecs {
		f.codec(c)
	}
	for _, m := range e.members {
		f.messageInfo(e, m, full)
	}
	f.definition(e, d)
}

// isText reports whether a member is a string, which users pass by value.
func (m *member) isText() bool { return m.val.Type.Base == schema.String }

// argument returns the type of a member in the signatures of users' code.
func (f *file) argument(m *member) *jen.Statement {
	if m.isText() {
		return jen.String()
	}
	return ptr(f.messageType(m))
}

func (f *file) sender(e *envelope, full string) {
	f.decl(e.sender+" sends the members of "+full+" one way. It is safe for concurrent use.",
		jen.Type().Id(e.sender).Struct(jen.Id("sender").Add(ipc("Sender"))))
	f.decl(e.newSender+" returns a sender that sends through ℓs.",
		jen.Func().Id(e.newSender).Params(local("s").Add(ipc("Sender"))).Add(ptr(e.sender)).Block(
			jen.Return(jen.Op("&").Id(e.sender).Values(value("sender", local("s"))))))
	for _, m := range e.members {
		ref := local("m")
		if m.isText() {
			ref = jen.Op("&").Add(local("m"))
		}
		f.decl("Send"+m.name+
			" sends ℓm; a nil error means that it is on its way, not that it was handled.",
			jen.Func().Params(local("s").Add(ptr(e.sender))).Id("Send"+m.name).Params(ctx(),
				local("m").Add(f.argument(m))).Error().Block(
				jen.Return(ipc("Send").Call(local("ctx"), local("s").Dot("sender"),
					jen.Id(m.info), ref))))
	}
}

func (f *file) handler(e *envelope, full string) {
	methods := make([]jen.Code, len(e.members))
	routes := []jen.Code{jen.Id(e.protocol)}
	for i, m := range e.members {
		methods[i] = jen.Id("Handle"+m.name).Params(ctx(), local("m").Add(f.argument(m))).Error()
		handle := local("h").Dot("Handle" + m.name)
		if m.isText() {
			handle = jen.Func().Params(ctx(), local("m").Op("*").String()).Error().Block(
				jen.Return(handle.Call(local("ctx"), jen.Op("*").Add(local("m")))))
		}
		routes = append(routes, ipc("Receive").Call(jen.Id(m.info), handle))
	}
	f.decl(e.handler+" handles the members of "+full+
		". Its methods may be called concurrently, and may keep ℓm.",
		jen.Type().Id(e.handler).Interface(methods...))
	f.newService(e.newService, e.protocol, e.handler, routes)
	f.unimplemented(e.unimplemented, e.handler, "messages", "members")
	for _, m := range e.members {
		f.decl("Handle"+m.name+" returns an error with code ipc.CodeUnimplemented.",
			jen.Func().Params(jen.Id(e.unimplemented)).Id("Handle"+m.name).Params(context(),
				f.argument(m)).Error().Block(
				jen.Return(ipc("Unimplemented").Call(jen.Lit(full+"/"+m.val.Name)))))
	}
}

// messageInfo writes the variable that holds a member's codec.
func (f *file) messageInfo(e *envelope, m *member, full string) {
	c := f.plan.codecs[f.plan.memberKey(e, m)]
	spec := []jen.Code{
		value("Name", jen.Lit(m.val.Name)),
		value("ID", hex(fmt.Sprintf("%08x", wireID(full, m.val.Name)))),
		value("Encode", jen.Id(c.encode)),
		value("Decode", jen.Id(c.decode)),
	}
	if c.recycle != "" {
		spec = append(spec, value("Recycle", jen.Id(c.recycle)))
	}
	f.decl("", jen.Var().Id(m.info).Op("=").Add(ipc("NewMessage")).Call(jen.Id(e.protocol),
		composite(ipc("MessageSpec").Index(jen.Id(f.messageType(m))), spec...)))
}
