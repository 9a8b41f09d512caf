package gogen

import (
	"github.com/ipcgen/ipcgen/internal/schema"
)

// This file writes stubs for gRPC with the names and signatures of those that flatc --grpc --go
// writes, so that code for flatc's stubs compiles with these. Requests are sent as builders and
// received as accessors. Unlike flatc's stubs, these verify every message before the receiver sees
// it.

// A grpcService is an rpc_service in gRPC.
type grpcService struct {
	decl    *schema.Service
	service *service // the same service in ipcgen's own protocol, or nil
	methods []*grpcMethod
	wire    string // the name on the wire

	client, clientImpl, newClient       string
	server, unimplemented, unsafeServer string
	register, desc                      string
	newServer, adapter, status          string
}

// A grpcMethod is a method of a grpcService.
type grpcMethod struct {
	decl    *schema.Method
	method  *method // of the service; nil without one
	name    string
	wire    string // the name on the wire, as a path
	handler string
	// The two ends of a stream: the interfaces, and the types that implement them.
	clientStream, clientStreamImpl string
	serverStream, serverStreamImpl string
}

// sends and receives report whether a client sends, or receives, more than one message.
func (m *grpcMethod) sends() bool {
	return m.decl.Streaming == schema.ClientStreaming || m.decl.Streaming == schema.BidiStreaming
}

func (m *grpcMethod) receives() bool {
	return m.decl.Streaming == schema.ServerStreaming || m.decl.Streaming == schema.BidiStreaming
}

func (m *grpcMethod) unary() bool { return m.decl.Streaming == schema.Unary }

// planGRPC plans the stubs of gRPC for the services of a part.
func (p *plan) planGRPC(part *part) {
	if !p.opts.GRPC {
		return
	}
	own := make(map[*schema.Service]*service)
	for _, s := range p.services {
		own[s.decl] = s
	}
	for _, decl := range part.services {
		p.grpc = append(p.grpc, p.nameGRPC(decl, own[decl]))
	}
}

// grpcRequest and grpcReply return the types of a method's messages.
func (f *file) grpcRequest(m *grpcMethod) string { return "*" + f.objectType(m.decl.Request) }
func (f *file) grpcReply(m *grpcMethod) string   { return "*" + f.objectType(m.decl.Reply) }

const grpcBuilder = "*" + packageMark + "flatbuffers.Builder"

// grpcService writes the stubs of a service.
func (f *file) grpcService(s *grpcService) {
	f.needsFormat = true
	f.grpcClient(s)
	f.grpcServer(s)
	f.grpcDesc(s)
	if s.service != nil {
		f.grpcAdapter(s)
	}
}

// grpcClientMethod returns the signature of a method of the client.
func (f *file) grpcClientMethod(m *grpcMethod) string {
	in, out := "", f.grpcReply(m)
	if !m.sends() {
		in = ", ℓin " + grpcBuilder
	}
	if !m.unary() {
		out = m.clientStream
	}
	return m.name + "(ℓctx ℙcontext.Context" + in + ", ℓopts ...ℙgrpc.CallOption) (" +
		out + ", error)"
}

func (f *file) grpcClient(s *grpcService) {
	f.p("// ", s.client, " calls ", fullName(s.decl.Namespace, s.decl.Name),
		" over gRPC. Every message that it returns has")
	f.p("// been verified. The connection needs the codec ℙflatbuffers.FlatbuffersCodec.")
	f.p("type ", s.client, " interface {")
	for _, m := range s.methods {
		f.doc(m.decl.Doc)
		f.p(f.grpcClientMethod(m))
	}
	f.p("}")
	f.p()
	f.p("type ", s.clientImpl, " struct {")
	f.p("cc ℙgrpc.ClientConnInterface")
	f.p("}")
	f.p()
	f.p("// ", s.newClient, " returns a client that calls through ℓcc.")
	f.p("func ", s.newClient, "(ℓcc ℙgrpc.ClientConnInterface) ", s.client, " {")
	f.p("return &", s.clientImpl, "{ℓcc}")
	f.p("}")
	f.p()
	stream := 0
	for _, m := range s.methods {
		f.p("func (ℓc *", s.clientImpl, ") ", f.grpcClientMethod(m), " {")
		if m.unary() {
			f.p("ℓout := new(", f.objectType(m.decl.Reply), ")")
			f.p("if ℓerr := ℓc.cc.Invoke(ℓctx, ", quote(m.wire),
				", ℓin, ℓout, ℓopts...); ℓerr != nil {")
			f.p("return nil, ℓerr")
			f.p("}")
			f.grpcVerify(m.decl.Reply, "ℓout", "Internal", "nil, ")
			f.p("return ℓout, nil")
			f.p("}")
			f.p()
			continue
		}
		f.p("ℓstream, ℓerr := ℓc.cc.NewStream(ℓctx, &", s.desc, ".Streams[", itoa(stream), "], ",
			quote(m.wire), ", ℓopts...)")
		stream++
		f.p("if ℓerr != nil {")
		f.p("return nil, ℓerr")
		f.p("}")
		f.p("ℓx := &", m.clientStreamImpl, "{ℓstream}")
		if !m.sends() {
			f.p("if ℓerr := ℓx.ClientStream.SendMsg(ℓin); ℓerr != nil {")
			f.p("return nil, ℓerr")
			f.p("}")
			f.p("if ℓerr := ℓx.ClientStream.CloseSend(); ℓerr != nil {")
			f.p("return nil, ℓerr")
			f.p("}")
		}
		f.p("return ℓx, nil")
		f.p("}")
		f.p()
		f.grpcClientStream(m)
	}
}

// grpcVerify writes the verification of the message in a variable. On failure, the function returns
// the values in before, and an error with the given code. Like flatc's stubs, it does not require
// an identifier.
func (f *file) grpcVerify(o *schema.Object, variable, code, before string) {
	f.p("if ℓerr := ℙfb.VerifyRoot(", quote(o.Name), ", ", f.verifyAt(o), ", ", variable,
		`.Table().Bytes, "", nil); ℓerr != nil {`)
	f.p("return ", before, "ℙstatus.Error(ℙcodes.", code, ", ℓerr.Error())")
	f.p("}")
}

// grpcRecv writes the methods of a stream's end that receive a message, after the statements of
// first.
func (f *file) grpcRecv(impl, method, embedded, code string, o *schema.Object, first func()) {
	f.p("func (ℓx *", impl, ") ", method, "() (*", f.objectType(o), ", error) {")
	if first != nil {
		first()
	}
	f.p("ℓm := new(", f.objectType(o), ")")
	f.p("if ℓerr := ℓx.", embedded, ".RecvMsg(ℓm); ℓerr != nil {")
	f.p("return nil, ℓerr")
	f.p("}")
	f.grpcVerify(o, "ℓm", code, "nil, ")
	f.p("return ℓm, nil")
	f.p("}")
	f.p()
}

// grpcSend writes the method of a stream's end that sends a message.
func (f *file) grpcSend(impl, method, embedded string) {
	f.p("func (ℓx *", impl, ") ", method, "(ℓm ", grpcBuilder, ") error {")
	f.p("return ℓx.", embedded, ".SendMsg(ℓm)")
	f.p("}")
	f.p()
}

func (f *file) grpcClientStream(m *grpcMethod) {
	const embedded = "ClientStream"
	f.p("// ", m.clientStream, " is the client's end of ", m.name, ".")
	f.p("type ", m.clientStream, " interface {")
	if m.sends() {
		f.p("Send(", grpcBuilder, ") error")
	}
	if m.receives() {
		f.p("Recv() (", f.grpcReply(m), ", error)")
	} else {
		f.p("CloseAndRecv() (", f.grpcReply(m), ", error)")
	}
	f.p("ℙgrpc.", embedded)
	f.p("}")
	f.p()
	f.p("type ", m.clientStreamImpl, " struct {")
	f.p("ℙgrpc.", embedded)
	f.p("}")
	f.p()
	if m.sends() {
		f.grpcSend(m.clientStreamImpl, "Send", embedded)
	}
	if m.receives() {
		f.grpcRecv(m.clientStreamImpl, "Recv", embedded, "Internal", m.decl.Reply, nil)
		return
	}
	f.grpcRecv(m.clientStreamImpl, "CloseAndRecv", embedded, "Internal", m.decl.Reply, func() {
		f.p("if ℓerr := ℓx.", embedded, ".CloseSend(); ℓerr != nil {")
		f.p("return nil, ℓerr")
		f.p("}")
	})
}

// grpcServerMethod returns the signature of a method of the server. Parameters may have names.
func (f *file) grpcServerMethod(m *grpcMethod) string {
	switch {
	case m.unary():
		return m.name + "(ℙcontext.Context, " + f.grpcRequest(m) + ") (" + grpcBuilder + ", error)"
	case m.sends():
		return m.name + "(" + m.serverStream + ") error"
	}
	return m.name + "(" + f.grpcRequest(m) + ", " + m.serverStream + ") error"
}

func (f *file) grpcServer(s *grpcService) {
	embed := "mustEmbed" + s.unimplemented + "()"
	f.p("// ", s.server, " is ", fullName(s.decl.Namespace, s.decl.Name),
		" as a server for gRPC. Every message that it gets has been")
	f.p("// verified. An implementation embeds ", s.unimplemented, ".")
	f.p("type ", s.server, " interface {")
	for _, m := range s.methods {
		f.doc(m.decl.Doc)
		f.p(f.grpcServerMethod(m))
	}
	f.p(embed)
	f.p("}")
	f.p()
	f.p("// ", s.unimplemented, " refuses all calls. Embedded in an implementation of ",
		s.server, ", it")
	f.p("// answers the methods that a later version of the schema adds.")
	f.p("type ", s.unimplemented, " struct{}")
	f.p()
	for _, m := range s.methods {
		before := ""
		if m.unary() {
			before = "nil, "
		}
		f.p("// ", m.name, " returns an error with the code Unimplemented.")
		f.p("func (", s.unimplemented, ") ", f.grpcServerMethod(m), " {")
		f.p("return ", before, "ℙstatus.Error(ℙcodes.Unimplemented, ",
			quote("method "+m.name+" not implemented"), ")")
		f.p("}")
		f.p()
	}
	f.p("func (", s.unimplemented, ") ", embed, " {}")
	f.p()
	f.p("// ", s.unsafeServer, " may be embedded instead of ", s.unimplemented,
		" by an implementation that")
	f.p("// shall not compile when the schema gets another method.")
	f.p("type ", s.unsafeServer, " interface {")
	f.p(embed)
	f.p("}")
	f.p()
	f.p("// ", s.register, " makes ℓs answer the calls of ",
		fullName(s.decl.Namespace, s.decl.Name), " by those of ℓsrv.")
	f.p("// The server needs the codec ℙflatbuffers.FlatbuffersCodec.")
	f.p("func ", s.register, "(ℓs ℙgrpc.ServiceRegistrar, ℓsrv ", s.server, ") {")
	f.p("ℓs.RegisterService(&", s.desc, ", ℓsrv)")
	f.p("}")
	f.p()
	for _, m := range s.methods {
		if m.unary() {
			f.grpcUnaryHandler(s, m)
		} else {
			f.grpcStreamHandler(s, m)
			f.grpcServerStream(m)
		}
	}
}

func (f *file) grpcUnaryHandler(s *grpcService, m *grpcMethod) {
	typ := f.objectType(m.decl.Request)
	f.p("func ", m.handler,
		"(ℓsrv any, ℓctx ℙcontext.Context, ℓdec func(any) error, ℓinterceptor "+
			"ℙgrpc.UnaryServerInterceptor) (any, error) {")
	f.p("ℓin := new(", typ, ")")
	f.p("if ℓerr := ℓdec(ℓin); ℓerr != nil {")
	f.p("return nil, ℓerr")
	f.p("}")
	f.grpcVerify(m.decl.Request, "ℓin", "InvalidArgument", "nil, ")
	f.p("if ℓinterceptor == nil {")
	f.p("return ℓsrv.(", s.server, ").", m.name, "(ℓctx, ℓin)")
	f.p("}")
	f.p("ℓinfo := &ℙgrpc.UnaryServerInfo{")
	f.p("Server: ℓsrv,")
	f.p("FullMethod: ", quote(m.wire), ",")
	f.p("}")
	f.p("ℓhandler := func(ℓctx ℙcontext.Context, ℓreq any) (any, error) {")
	f.p("return ℓsrv.(", s.server, ").", m.name, "(ℓctx, ℓreq.(*", typ, "))")
	f.p("}")
	f.p("return ℓinterceptor(ℓctx, ℓin, ℓinfo, ℓhandler)")
	f.p("}")
	f.p()
}

func (f *file) grpcStreamHandler(s *grpcService, m *grpcMethod) {
	f.p("func ", m.handler, "(ℓsrv any, ℓstream ℙgrpc.ServerStream) error {")
	args := ""
	if !m.sends() {
		f.p("ℓm := new(", f.objectType(m.decl.Request), ")")
		f.p("if ℓerr := ℓstream.RecvMsg(ℓm); ℓerr != nil {")
		f.p("return ℓerr")
		f.p("}")
		f.grpcVerify(m.decl.Request, "ℓm", "InvalidArgument", "")
		args = "ℓm, "
	}
	f.p("return ℓsrv.(", s.server, ").", m.name, "(", args, "&", m.serverStreamImpl, "{ℓstream})")
	f.p("}")
	f.p()
}

func (f *file) grpcServerStream(m *grpcMethod) {
	const embedded = "ServerStream"
	send := "Send"
	if !m.receives() {
		send = "SendAndClose"
	}
	f.p("// ", m.serverStream, " is the server's end of ", m.name, ".")
	f.p("type ", m.serverStream, " interface {")
	f.p(send, "(", grpcBuilder, ") error")
	if m.sends() {
		f.p("Recv() (", f.grpcRequest(m), ", error)")
	}
	f.p("ℙgrpc.", embedded)
	f.p("}")
	f.p()
	f.p("type ", m.serverStreamImpl, " struct {")
	f.p("ℙgrpc.", embedded)
	f.p("}")
	f.p()
	f.grpcSend(m.serverStreamImpl, send, embedded)
	if m.sends() {
		f.grpcRecv(m.serverStreamImpl, "Recv", embedded, "InvalidArgument", m.decl.Request, nil)
	}
}

// grpcDesc writes the description of a service for gRPC.
func (f *file) grpcDesc(s *grpcService) {
	f.p("var ", s.desc, " = ℙgrpc.ServiceDesc{")
	f.p("ServiceName: ", quote(s.wire), ",")
	f.p("HandlerType: (*", s.server, ")(nil),")
	f.p("Methods: []ℙgrpc.MethodDesc{")
	for _, m := range s.methods {
		if m.unary() {
			f.p("{MethodName: ", quote(m.name), ", Handler: ", m.handler, "},")
		}
	}
	f.p("},")
	f.p("Streams: []ℙgrpc.StreamDesc{")
	for _, m := range s.methods {
		if m.unary() {
			continue
		}
		line := "{StreamName: " + quote(m.name) + ", Handler: " + m.handler
		if m.receives() {
			line += ", ServerStreams: true"
		}
		if m.sends() {
			line += ", ClientStreams: true"
		}
		f.p(line, "},")
	}
	f.p("},")
	f.p("}")
	f.p()
}

// grpcAdapter writes the server for gRPC that wraps an implementation of the service.
func (f *file) grpcAdapter(s *grpcService) {
	iface := s.service.iface
	f.p("// ", s.newServer,
		" returns ℓh as a server for gRPC, so that one implementation serves both.")
	f.p("// The code of an *ℙipc.Error becomes the status code that corresponds, and a panic")
	f.p("// Internal. It panics if ℓh is nil.")
	f.p("func ", s.newServer, "(ℓh ", iface, ") ", s.server, " {")
	f.p("if ℓh == nil {")
	f.p("panic(", quote(f.pkg.name+"."+s.newServer+" was given nil; give it a value that "+
		"implements "+f.pkg.name+"."+iface), ")")
	f.p("}")
	f.p("return ", s.adapter, "{h: ℓh}")
	f.p("}")
	f.p()
	f.p("type ", s.adapter, " struct {")
	f.p(s.unimplemented)
	f.p("h ", iface)
	f.p("}")
	f.p()
	for _, m := range s.methods {
		f.grpcAdapterMethod(s, m)
	}
	f.p("// ", s.status, " makes an error of the service one of gRPC, unless it is one.")
	f.p("func ", s.status, "(ℓerr error) error {")
	f.p("if _, ℓok := ℙstatus.FromError(ℓerr); ℓok {")
	f.p("return ℓerr")
	f.p("}")
	f.p("ℓcode := ℙcodes.Code(ℙipc.CodeOf(ℓerr).GRPC())")
	f.p("if ℓcode == ℙcodes.OK {")
	f.p("ℓcode = ℙcodes.Unknown // an error without a cause is one all the same")
	f.p("}")
	f.p("return ℙstatus.Error(ℓcode, ℓerr.Error())")
	f.p("}")
}

// grpcAdapterMethod writes a method of the server that wraps an implementation.
func (f *file) grpcAdapterMethod(s *grpcService, m *grpcMethod) {
	call := "ℓs.h." + m.method.name
	ctx, in, nothing := "ℓstream.Context()", "ℓin.UnPack()", ""
	switch {
	case m.unary():
		ctx, nothing = "ℓctx", "nil, "
		f.p("func (ℓs ", s.adapter, ") ", m.name, "(ℓctx ℙcontext.Context, ℓin ", f.grpcRequest(m),
			") (_ ", grpcBuilder, ", ℓerr error) {")
	case m.sends():
		in = "ℓin"
		f.p("func (ℓs ", s.adapter, ") ", m.name, "(ℓstream ", m.serverStream, ") (ℓerr error) {")
	default:
		f.p("func (ℓs ", s.adapter, ") ", m.name, "(ℓin ", f.grpcRequest(m), ", ℓstream ",
			m.serverStream, ") (ℓerr error) {")
	}
	f.p("defer func() {")
	f.p("if ℓr := recover(); ℓr != nil { // gRPC would end the process")
	f.p("ℓerr = ℙstatus.Errorf(ℙcodes.Internal, ", quote("method "+m.name+" panicked: %v"),
		", ℓr)")
	f.p("}")
	f.p("}()")
	if m.sends() {
		f.p("ℓin, ℓend := ℙipc.ReceiveItems(ℓstream.Context(), ℓstream.Recv, (",
			f.grpcRequest(m), ").UnPack)")
		f.p("defer ℓend()")
	}
	if m.receives() {
		out := "*" + f.objectObject(m.decl.Reply)
		f.p("ℓerr = ℙipc.SendItems(", call, "(", ctx, ", ", in, "), func(ℓout ", out, ") error {")
		f.grpcFinish(m.decl.Reply, "")
		f.p("return ℓstream.Send(ℓb)")
		f.p("})")
		f.p("if ℓerr != nil {")
		f.p("return ", s.status, "(ℓerr)")
		f.p("}")
		f.p("return nil")
		f.p("}")
		f.p()
		return
	}
	f.p("ℓout, ℓerr := ", call, "(", ctx, ", ", in, ")")
	f.p("if ℓerr != nil {")
	f.p("return ", nothing, s.status, "(ℓerr)")
	f.p("}")
	f.p("if ℓout == nil {")
	f.p("return ", nothing, "ℙstatus.Error(ℙcodes.Internal, ",
		quote("method "+m.name+" returned neither a reply nor an error"), ")")
	f.p("}")
	f.grpcFinish(m.decl.Reply, nothing)
	if m.unary() {
		f.p("return ℓb, nil")
	} else {
		f.p("return ℓstream.SendAndClose(ℓb)")
	}
	f.p("}")
	f.p()
}

// grpcFinish writes how a message of the implementation becomes that of a builder. On failure, the
// function returns the values in before, and an error.
func (f *file) grpcFinish(o *schema.Object, before string) {
	if check := f.plan.objects[o].Check; check != "" {
		f.p("if ℓerr := ℓout.", check, "(); ℓerr != nil {")
		f.p("return ", before, "ℙstatus.Error(ℙcodes.Internal, ℓerr.Error())")
		f.p("}")
	}
	f.p("ℓb := ℙflatbuffers.NewBuilder(0)")
	f.p(f.qualifier(f.plan.pkgOf(o.Namespace)), f.plan.objects[o].FinishBuffer,
		"(ℓb, ℓout.Pack(ℓb))")
}
