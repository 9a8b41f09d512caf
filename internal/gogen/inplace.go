package gogen

import (
	"github.com/dave/jennifer/jen"

	"github.com/ipcgen/ipcgen/internal/schema"
)

// inPlace writes the client and the handlers of a service's calls in place.
func (f *file) inPlace(s *service) {
	f.inPlaceClient(s)
	f.inPlaceHandlers(s)
}

// inPlaceClient writes the client. Its methods are not inlined: in the packages of callers, the
// compiler does not know the instances of generic functions, and would allocate the function
// literals passed to them on the heap.
func (f *file) inPlaceClient(s *service) {
	f.decl(s.inPlaceClient+" calls "+article(s.iface)+
		" server without copies or allocations: ℓbuild builds the request in the ring, "+
		"within ℓsize bytes if it can, and returns its offset; ℓread reads the verified reply "+
		"there. What they are given may not be kept, "+
		"and the server must be trusted: see ipc.InPlaceCall.",
		jen.Type().Id(s.inPlaceClient).Struct(jen.Id("conn").Op("*").Add(ipc("Conn"))))
	f.decl(s.newInPlaceClient+" returns a client that calls in place through ℓc.",
		jen.Func().Id(s.newInPlaceClient).Params(local("c").Op("*").Add(ipc("Conn"))).Add(ptr(
			s.inPlaceClient)).Block(
			jen.Return(jen.Op("&").Id(s.inPlaceClient).Values(value("conn", local("c"))))))
	for _, m := range s.methods {
		if m.decl.Streaming != schema.Unary {
			continue
		}
		f.documented(append(methodDoc(m.name+" calls "+s.decl.Name+"."+m.decl.Name+" in place.",
			m.decl), "", "go:noinline"),
			jen.Func().Params(local("c").Add(ptr(s.inPlaceClient))).Id(m.name).Params(
				ctx(), local("size").Int(),
				local("build").Func().Params(builder()).Add(flatbuffers("UOffsetT")),
				local("read").Func().Params(local("rep").Id(f.objectType(m.decl.Reply))).Error(),
			).Error().Block(
				jen.Return(ipc("InvokeInPlace").Call(local("ctx"), local("c").Dot("conn"),
					jen.Id(m.inPlace),
					local("size"), local("build"), local("read")))))
	}
}

func (f *file) inPlaceHandlers(s *service) {
	var fields []jen.Code
	routes := []jen.Code{jen.Id(s.protocol)}
	for _, m := range s.methods {
		if m.decl.Streaming != schema.Unary {
			routes = append(routes, f.handle(m))
			continue
		}
		fields = append(fields, jen.Id(m.name).Func().Params(ctx(),
			local("req").Id(f.objectType(m.decl.Request)),
			local("reply").Add(ipc("InPlaceReply")).Index(jen.Id(f.objectType(
				m.decl.Reply)))).Error())
		routes = append(routes,
			jen.Id(m.inPlace).Dot("Route").Call(local("inPlace").Dot(m.name), f.handle(m)))
	}
	f.decl(s.inPlaceHandlers+" are handlers of "+s.iface+
		" that read the request where it is and build the reply in the ring. "+
		"Neither ℓreq nor ℓreply may be kept: see ipc.HandleInPlace.",
		jen.Type().Id(s.inPlaceHandlers).Struct(fields...))
	f.decl(s.newInPlaceService+
		" returns a service for ipc.NewServer that handles in place the methods that ℓinPlace "+
		"has a handler for, "+
		"and the others by ℓh.",
		jen.Func().Id(s.newInPlaceService).Params(local("h").Id(s.iface),
			local("inPlace").Id(s.inPlaceHandlers)).
			Op("*").Add(ipc("Service")).Block(
			f.nilService(s.newInPlaceService, s.protocol, s.iface),
			jen.Return(call(ipc("NewService"), routes...))))
}
