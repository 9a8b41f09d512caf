package gogen

import "github.com/dave/jennifer/jen"

// inPlace writes the client and the handlers of a service's calls in place.
func (f *file) inPlace(s *service) {
	f.inPlaceClient(s)
	f.inPlaceHandlers(s)
}

// inPlaceClient writes the client. Its methods are not inlined: in the packages
// of callers, the compiler knows nothing of the instances of generic functions,
// and would put function literals that they are given on the heap.
func (f *file) inPlaceClient(s *service) {
	f.decl(s.inPlaceClient+" calls "+article(s.iface)+" server without copies or allocations: build builds the request in the ring, "+
		"within size bytes if it can, and returns its offset; read reads the verified reply there. What they are given may not be kept, "+
		"and the server must be trusted: see ipc.InPlaceCall.",
		jen.Type().Id(s.inPlaceClient).Struct(jen.Id("conn").Op("*").Add(f.ipc("Conn"))))
	f.decl(s.newInPlaceClient+" returns a client that calls in place through c.",
		jen.Func().Id(s.newInPlaceClient).Params(jen.Id("c").Op("*").Add(f.ipc("Conn"))).Add(ptr(s.inPlaceClient)).Block(
			jen.Return(jen.Op("&").Id(s.inPlaceClient).Values(value("conn", jen.Id("c"))))))
	for _, m := range s.methods {
		f.documented([]string{" " + m.name + " calls " + s.decl.Name + "." + m.decl.Name + " in place.", "", "go:noinline"},
			jen.Func().Params(jen.Id("c").Add(ptr(s.inPlaceClient))).Id(m.name).Params(
				f.ctx(), jen.Id("size").Int(),
				jen.Id("build").Func().Params(f.builder()).Add(f.flatbuffers("UOffsetT")),
				jen.Id("read").Func().Params(jen.Id("rep").Id(f.objectType(m.decl.Reply))).Error(),
			).Error().Block(
				jen.Return(f.ipc("InvokeInPlace").Call(jen.Id("ctx"), jen.Id("c").Dot("conn"), jen.Id(m.inPlace),
					jen.Id("size"), jen.Id("build"), jen.Id("read")))))
	}
}

func (f *file) inPlaceHandlers(s *service) {
	fields := make([]jen.Code, len(s.methods))
	routes := []jen.Code{jen.Id(s.protocol)}
	for i, m := range s.methods {
		fields[i] = jen.Id(m.name).Func().Params(f.ctx(), jen.Id("req").Id(f.objectType(m.decl.Request)),
			jen.Id("reply").Add(f.ipc("InPlaceReply")).Index(jen.Id(f.objectType(m.decl.Reply)))).Error()
		routes = append(routes, jen.Id(m.inPlace).Dot("Route").Call(jen.Id("inPlace").Dot(m.name), f.handle(m)))
	}
	f.decl(s.inPlaceHandlers+" are handlers of "+s.iface+" that read the request where it is and build the reply in the ring. "+
		"Neither req nor reply may be kept: see ipc.HandleInPlace.",
		jen.Type().Id(s.inPlaceHandlers).Struct(fields...))
	f.decl(s.newInPlaceService+" returns a service for ipc.NewServer that handles in place the methods that inPlace has a handler for, "+
		"and the others by h.",
		jen.Func().Id(s.newInPlaceService).Params(jen.Id("h").Id(s.iface), jen.Id("inPlace").Id(s.inPlaceHandlers)).
			Op("*").Add(f.ipc("Service")).Block(jen.Return(call(f.ipc("NewService"), routes...))))
}
