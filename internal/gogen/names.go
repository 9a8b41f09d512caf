package gogen

import (
	"github.com/ipcgen/ipcgen/internal/diag"
	"github.com/ipcgen/ipcgen/internal/schema"
)

// This file names everything that generated code declares: the things that flatc generates, with
// flatc's names, and ipcgen's own beside them. How a name of the schema is spelt in Go is in
// spelling.go.

// objectNames are the names made for a table or struct.
type objectNames struct {
	Type, Object string // the accessor, "SetParam", and the object, "SetParamT"
	Alias        string // exported alias of a type with a small initial, or ""
	ObjectAlias  string

	GetRootAs, GetSizePrefixedRootAs         string
	FinishBuffer, FinishSizePrefixedBuffer   string
	Identifier                               string
	HasIdentifier, SizePrefixedHasIdentifier string

	Start, End, Create            string
	KeyCompare, KeyStructCompare  string
	Verify, VerifySized, VerifyAt string
	FieldsOf                      string
	Check                         string // method of the object; "" where it has none
}

// fieldNames are the names made for a field.
type fieldNames struct {
	Get         string // accessor
	Member      string // of the object
	Mutate, Add string
	*listNames  // never nil
}

// listNames are the names made for a field that holds several values. They are separate because a
// schema has many fields, and few of these are lists.
type listNames struct {
	Length, Bytes, Int8s, ByKey,
	NestedRoot, NestedObject, // accessors of a nested buffer
	StartVector string
}

// noList has the names of a field that is not a list.
var noList listNames

// enumNames are the names made for an enum or a union.
type enumNames struct {
	Type, Object  string
	Alias         string
	ObjectAlias   string
	Names, Values string // the tables EnumNamesX and EnumValuesX
	Parse         string
	VerifyAt      string
	Consts        []string // of Values, in order
}

// A scope assigns names so that no two things get the same one.
type scope map[string]*owner

// An owner is the thing that a name stands for, for diagnostics.
type owner struct {
	what string
	span diag.Span
	file *schema.File // that declares it
}

// claim assigns name, or name with as many underscores appended as necessary.
func (s scope) claim(name string, o *owner) string {
	for s.has(name) {
		name += "_"
	}
	s[name] = o
	return name
}

// has reports whether a name is assigned.
func (s scope) has(name string) bool {
	_, taken := s[name]
	return taken
}

// nameDefinition names the constant with the definition of a schema file's protocols.
func (k *pkg) nameDefinition(prefix string, declarer *schema.File) string {
	return k.claim(prefix+"Definition", &owner{what: "a constant of ipcgen's", file: declarer})
}

// claim assigns a name at package level.
func (k *pkg) claim(name string, o *owner) string {
	for goName(name) != name || k.scope.has(name) {
		name += "_"
	}
	k.scope[name] = o
	return name
}

// must assigns a name that may not be changed, or reports a clash.
func (p *plan) must(k *pkg, name, what string, span diag.Span, file *schema.File) string {
	if prev, taken := k.scope[name]; taken {
		if prev.what == fieldFunction {
			prev = p.functionOfField(k, name)
		}
		d := p.diags.Errorf(span, "%s needs the Go name %s, which is already that of %s", what,
			name, prev.what)
		if prev.span.IsValid() {
			d.Note(prev.span, "%s is here", prev.what)
		}
		d.Helpf("rename one of them")
		return name
	}
	k.scope[name] = &owner{what, span, file}
	return name
}

// fieldFunction describes all functions of fields. A more precise text would cost memory for every
// field of a schema; functionOfField derives it when it is needed.
const fieldFunction = "a function of a field"

// functionOfField returns the owner of a name at package level that belongs to a field.
func (p *plan) functionOfField(k *pkg, name string) *owner {
	for _, o := range p.schema.Objects {
		for _, f := range o.Fields {
			if n := p.fields[f]; n != nil && p.pkgOf(o.Namespace) == k &&
				(n.Add == name || n.StartVector == name) {
				return &owner{"a function of field " + fullName(o.Namespace, o.Name) + "." + f.Name,
					f.Span, o.File}
			}
		}
	}
	return k.scope[name]
}

// nameTypes names the types of a part before all names that are derived from them, so that a clash
// changes the derived name.
func (p *plan) nameTypes(part *part) {
	for _, e := range part.enums {
		k := p.pkgOf(e.Namespace)
		what := "enum"
		if e.IsUnion {
			what = "union"
		}
		p.enums[e] = &enumNames{Type: k.claim(goName(e.Name),
			&owner{what + " " + fullName(e.Namespace, e.Name), e.Span, e.File})}
	}
	for _, o := range part.objects {
		k := p.pkgOf(o.Namespace)
		p.objects[o] = &objectNames{Type: k.claim(goName(o.Name),
			&owner{kindOf(o) + " " + fullName(o.Namespace, o.Name), o.Span, o.File})}
	}
	for _, o := range part.objects {
		n, k := p.objects[o], p.pkgOf(o.Namespace)
		own := &owner{"the object of " + kindOf(o) + " " + fullName(o.Namespace, o.Name),
			o.Span, o.File}
		// As in flatc, the name of the object derives from the name in the schema, not from the
		// escaped name of the accessor.
		n.Object = k.claim(goName(o.Name)+"T", own)
		if !isExported(n.Type) {
			n.Alias = k.claim(exported(o.Name), own)
			n.ObjectAlias = k.claim(exported(o.Name)+"T", own)
		}
	}
	for _, e := range part.enums {
		n, k := p.enums[e], p.pkgOf(e.Namespace)
		own := &owner{"the object of union " + fullName(e.Namespace, e.Name), e.Span, e.File}
		if e.IsUnion {
			n.Object = k.claim(goName(e.Name)+"T", own)
		}
		if !isExported(n.Type) {
			n.Alias = k.claim(exported(e.Name), own)
			if e.IsUnion {
				n.ObjectAlias = k.claim(exported(e.Name)+"T", own)
			}
		}
	}
}

func kindOf(o *schema.Object) string {
	if o.IsStruct {
		return "struct"
	}
	return "table"
}

func (p *plan) nameEnums(part *part) {
	for _, e := range part.enums {
		n, k := p.enums[e], p.pkgOf(e.Namespace)
		own := &owner{"enum " + fullName(e.Namespace, e.Name), e.Span, e.File}
		n.Names = k.claim("EnumNames"+n.Type, own)
		n.Values = k.claim("EnumValues"+n.Type, own)
		n.Parse = k.claim("Parse"+n.Type, own)
		if e.IsUnion {
			n.VerifyAt = k.claim("Verify"+n.Type+"At", own)
		}
		n.Consts = make([]string, len(e.Values))
		for i, val := range e.Values {
			n.Consts[i] = k.claim(n.Type+escapeKeyword(val.Name),
				&owner{"value " + e.Name + "." + val.Name, val.Span, e.File})
		}
	}
}

func (p *plan) nameObjects(part *part) {
	for _, o := range part.objects {
		p.nameObject(o)
	}
	for _, o := range part.objects {
		p.nameFields(o)
	}
}

func (p *plan) nameObject(o *schema.Object) {
	n, k := p.objects[o], p.pkgOf(o.Namespace)
	t := n.Type
	own := &owner{"a function of " + kindOf(o) + " " + fullName(o.Namespace, o.Name),
		o.Span, o.File}
	claim := func(name string) string { return k.claim(name, own) }
	if o.IsStruct {
		n.Create = claim("Create" + t)
		return
	}
	n.GetRootAs = claim("GetRootAs" + t)
	n.GetSizePrefixedRootAs = claim("GetSizePrefixedRootAs" + t)
	n.FinishBuffer = claim("Finish" + t + "Buffer")
	n.FinishSizePrefixedBuffer = claim("FinishSizePrefixed" + t + "Buffer")
	if p.hasIdentifier(o) {
		n.Identifier = claim(t + "Identifier")
		n.HasIdentifier = claim(t + "BufferHasIdentifier")
		n.SizePrefixedHasIdentifier = claim("SizePrefixed" + t + "BufferHasIdentifier")
	}
	n.Start = claim(t + "Start")
	n.End = claim(t + "End")
	if o.Key != nil {
		n.KeyCompare = claim(t + "KeyCompare")
		if isStruct(o.Key.Type) {
			n.KeyStructCompare = claim(lowerCamel(t) + "KeyStructCompare")
		}
	}
	n.Verify = claim("Verify" + t)
	n.VerifySized = claim("VerifySizePrefixed" + t)
	n.VerifyAt = claim("Verify" + t + "At")
	n.FieldsOf = claim("fieldsOf" + t)
}

// nameFields names the functions and members for the fields of one object. Plain accessors are
// named before the names that are derived from them.
func (p *plan) nameFields(o *schema.Object) {
	k, t := p.pkgOf(o.Namespace), p.objects[o].Type
	methods, members := p.methods, p.members // those of the last object
	clear(methods)
	clear(members)
	for _, name := range []string{"Init", "Table", "UnPack", "UnPackTo", "UnPackInto", "_tab",
		"LookupByKey"} {
		methods[name] = nil
	}
	members["Pack"] = nil
	all := make([]fieldNames, len(o.Fields))
	own := &owner{fieldFunction, o.Span, o.File}
	for i, f := range o.Fields {
		n := &all[i]
		n.listNames = &noList
		p.fields[f] = n
		if f.Deprecated {
			continue
		}
		camel := memberName(f)
		n.Get = methods.claim(camel, nil)
		if !f.IsTag {
			n.Member = members.claim(camel, nil)
		}
	}
	p.objects[o].Check = members.claim("Check", nil)
	for i, f := range o.Fields {
		n := &all[i]
		if f.Deprecated {
			continue
		}
		if isList(f.Type) {
			n.listNames = new(listNames)
			n.Length = methods.claim(n.Get+"Length", nil)
			if f.Type.Element == schema.UByte {
				n.Bytes = methods.claim(n.Get+"Bytes", nil)
			}
			if f.Type.Element == schema.Byte && f.Type.Enum == nil && f.Type.Base == schema.Vector {
				n.Int8s = methods.claim(n.Get+"Int8s", nil)
			}
			if nested := f.NestedFlatbuffer; nested != nil {
				n.NestedRoot = methods.claim(n.Get+"As"+exported(nested.Name), nil)
				n.NestedObject = methods.claim(n.Get+"As"+exported(nested.Name)+"T", nil)
			}
			if e := f.Type.Object; e != nil && f.Type.Base == schema.Vector && e.Key != nil {
				n.ByKey = methods.claim(n.Get+"ByKey", nil)
			}
		}
		if hasMutator(f.Type) {
			n.Mutate = methods.claim("Mutate"+n.Get, nil)
		}
		if o.IsStruct {
			continue
		}
		n.Add = k.claim(t+"Add"+n.Get, own)
		if isList(f.Type) {
			n.StartVector = k.claim(t+"Start"+n.Get+"Vector", own)
		}
	}
}

func (p *plan) nameEnvelope(e *envelope) {
	o := e.table
	k, t := p.pkgOf(o.Namespace), p.objects[o].Type
	what := "envelope " + fullName(o.Namespace, o.Name)
	name := func(s string) string { return p.must(k, s, what, o.Span, o.File) }
	e.sender = name(t + "Sender")
	e.newSender = name("New" + t + "Sender")
	e.handler = name(t + "Handler")
	e.unimplemented = name("Unimplemented" + t + "Handler")
	e.newService = name("New" + t + "Service")
	e.protocol = name(t + "Protocol")
	e.schema = k.claim(unexported(t)+"Schema", &owner{what, o.Span, o.File})
	methods := make(scope)
	for _, m := range e.members {
		if prev, taken := methods[m.name]; taken {
			p.diags.Errorf(m.val.Span,
				"%s needs the Go name %s for its member %s, which is already that of member %s",
				what, m.name, m.val.Name, prev.what).
				Note(prev.span, "member %s is here",
					prev.what).Helpf("give one of them another alias")
		}
		methods[m.name] = &owner{what: m.val.Name, span: m.val.Span}
		m.info = k.claim(unexported(t)+m.name, &owner{what, o.Span, o.File})
	}
}

func (p *plan) nameService(s *service) {
	decl := s.decl
	k := p.pkgOf(decl.Namespace)
	what := "rpc_service " + fullName(decl.Namespace, decl.Name)
	t := exported(decl.Name)
	name := func(n string) string { return p.must(k, n, what, decl.Span, decl.File) }
	s.iface = name(t)
	client := t + "Client"
	if p.opts.GRPC {
		client = t + "IPCClient" // gRPC's client has the other name
	}
	s.client = name(client)
	s.newClient = name("New" + client)
	s.newService = name("New" + t + "Service")
	s.unimplemented = name("Unimplemented" + t)
	s.protocol = name(t + "Protocol")
	s.inPlaceClient = name(t + "InPlaceClient")
	s.newInPlaceClient = name("New" + t + "InPlaceClient")
	s.inPlaceHandlers = name(t + "InPlaceHandlers")
	s.newInPlaceService = name("New" + t + "InPlaceService")
	s.schema = k.claim(unexported(t)+"Schema", &owner{what, decl.Span, decl.File})
	methods := make(scope)
	ids := make(map[uint32]*method)
	for _, m := range s.methods {
		if prev, taken := methods[m.name]; taken {
			p.diags.Errorf(m.decl.Span,
				"method %s needs the Go name %s, which is already that of method %s", m.decl.Name,
				m.name, prev.what).
				Note(prev.span, "method %s is here", prev.what).Helpf("rename one of them")
		}
		methods[m.name] = &owner{what: m.decl.Name, span: m.decl.Span}
		id := wireID(fullName(decl.Namespace, decl.Name), m.decl.Name)
		if prev := ids[id]; prev != nil {
			p.diags.Errorf(m.decl.Span, "methods %s and %s have the same number on the wire",
				prev.decl.Name, m.decl.Name).
				Note(prev.decl.Span, "method %s is here",
					prev.decl.Name).Helpf("rename one of them")
		}
		ids[id] = m
		m.info = k.claim(unexported(t)+m.name, &owner{what, decl.Span, decl.File})
		if m.decl.Streaming == schema.Unary {
			m.inPlace = k.claim(m.info+"InPlace", &owner{what, decl.Span, decl.File})
		}
	}
}

// nameStream names the declarations for a stream of blocks that begin with o.
func (p *plan) nameStream(o *schema.Object) *stream {
	k, t := p.pkgOf(o.Namespace), p.objects[o].Type
	what := "stream of " + fullName(o.Namespace, o.Name)
	name := func(s string) string { return p.must(k, s, what, o.Span, o.File) }
	return &stream{
		header:     o,
		info:       name(t + "Stream"),
		schema:     k.claim(unexported(t)+"Schema", &owner{what, o.Span, o.File}),
		writer:     name(t + "Writer"),
		openWriter: name("Open" + t + "Writer"),
		onWriter:   name("Handle" + t + "Writer"),
		reader:     name(t + "Reader"),
		openReader: name("Open" + t + "Reader"),
		onReader:   name("Handle" + t + "Reader"),
	}
}

// nameTopic names the declarations for a topic whose messages are o.
func (p *plan) nameTopic(o *schema.Object) *topic {
	k, t := p.pkgOf(o.Namespace), p.objects[o].Type
	what := "topic " + fullName(o.Namespace, o.Name)
	name := func(s string) string { return p.must(k, s, what, o.Span, o.File) }
	value, _ := o.Attributes.Lookup(schema.AttrTopic)
	return &topic{
		message:      o,
		payload:      o.IsStruct && value == topicPayload,
		env:          p.envelopeOf[o],
		typ:          name(t + "Topic"),
		schema:       k.claim(unexported(t)+"TopicSchema", &owner{what, o.Span, o.File}),
		publisher:    name(t + "Publisher"),
		newPublisher: name("New" + t + "Publisher"),
		subscription: name(t + "Subscription"),
		subscribe:    name("Subscribe" + t),
	}
}

func (p *plan) nameGRPC(decl *schema.Service, own *service) *grpcService {
	k, t := p.pkgOf(decl.Namespace), grpcName(decl.Name)
	what := "rpc_service " + fullName(decl.Namespace, decl.Name) + " for gRPC"
	name := func(n string) string { return p.must(k, n, what, decl.Span, decl.File) }
	hidden := func(n string) string { return k.claim(n, &owner{what, decl.Span, decl.File}) }
	s := &grpcService{
		decl: decl, service: own, wire: fullName(decl.Namespace, t),
		client:        name(t + "Client"),
		newClient:     name("New" + t + "Client"),
		server:        name(t + "Server"),
		unimplemented: name("Unimplemented" + t + "Server"),
		unsafeServer:  name("Unsafe" + t + "Server"),
		register:      name("Register" + t + "Server"),
		clientImpl:    hidden(unexported(t) + "Client"),
		desc:          hidden("_" + t + "_serviceDesc"),
	}
	if own != nil {
		s.newServer = name("New" + t + "Server")
		s.adapter = hidden(unexported(t) + "Adapter")
		s.status = hidden(unexported(t) + "Status")
	}
	methods := make(map[*schema.Method]*method)
	if own != nil {
		for _, m := range own.methods {
			methods[m.decl] = m
		}
	}
	seen := make(scope)
	for _, m := range decl.Methods {
		g := &grpcMethod{decl: m, method: methods[m], name: grpcName(m.Name)}
		if prev, taken := seen[g.name]; taken {
			p.diags.Errorf(m.Span,
				"method %s needs the Go name %s, which is already that of method %s", m.Name,
				g.name, prev.what).
				Note(prev.span, "method %s is here", prev.what).Helpf("rename one of them")
		}
		seen[g.name] = &owner{what: m.Name, span: m.Span}
		g.wire = "/" + s.wire + "/" + g.name
		g.handler = hidden("_" + t + "_" + g.name + "_Handler")
		if !g.unary() {
			stream := func(end string, span diag.Span) (string, string) {
				return p.must(k, t+"_"+g.name+end, what, span, decl.File),
					hidden(unexported(t) + g.name + end)
			}
			g.clientStream, g.clientStreamImpl = stream("Client", m.Span)
			g.serverStream, g.serverStreamImpl = stream("Server", m.Span)
		}
		s.methods = append(s.methods, g)
	}
	return s
}

// named names the functions of a codec. The names start with the name of the file's owner, so that
// they differ from those in files that other runs write.
func (c *codec) named(key codecKey, owner string) {
	c.name = owner + sentence(key.object.Name)
	if c.member != nil {
		c.name += c.member.name
	}
	c.finish = key.function("finish" + c.name)
	c.open = key.function("open" + c.name)
}

// function assigns the name of a function that only generated code calls.
func (key codecKey) function(name string) string {
	return key.pkg.claim(name, &owner{what: "a function of ipcgen's", file: key.declarer})
}

// forMessages and forReplies name the functions for one use of a codec.
func (c *codec) forMessages(key codecKey) {
	if c.encode == "" {
		c.encode, c.decode = key.function("encode"+c.name), key.function("decode"+c.name)
		if c.recyclable() {
			c.recycle = key.function("recycle" + c.name)
		}
	}
}

func (c *codec) forReplies(key codecKey) {
	if c.encodeReply == "" {
		c.encodeReply = key.function("encode" + c.name + "Reply")
		c.decodeReply = key.function("decode" + c.name + "Reply")
		if c.recyclable() {
			c.recycleReply = key.function("recycle" + c.name + "Reply")
		}
	}
}

// forCallsInPlace names the functions that calls in place use: those of the constant layout, if
// there is one, and otherwise the general ones.
func (c *codec) forCallsInPlace(key codecKey) {
	switch {
	case c.place != "":
	case c.flat == nil:
		c.place, c.view = c.finish, c.open
	default:
		c.place, c.view = key.function("place"+c.name), key.function("view"+c.name)
	}
}
