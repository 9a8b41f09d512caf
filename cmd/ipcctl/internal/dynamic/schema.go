package dynamic

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/ipcgen/ipcgen/internal/bfbs"
	"github.com/ipcgen/ipcgen/internal/diag"
	"github.com/ipcgen/ipcgen/internal/gogen"
	"github.com/ipcgen/ipcgen/internal/schema"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/fbjson"
)

// A Schema has the types and the protocols of a schema file, or of a server. It is for one
// goroutine.
type Schema struct {
	name      string         // of the file or the server, in errors
	json      *fbjson.Schema // of a file
	protocols []protocol
	models    []*schema.Schema
	forms     map[formKey]*form // those that Text has used
}

// A formKey identifies a request, a message or a reply.
type formKey struct {
	name  string
	reply bool
}

// A protocol is one of a schema, with the types that its messages have.
type protocol struct {
	gogen.Protocol
	json       *fbjson.Schema
	definition string // the binary schema
}

// Load reads a schema, .fbs or .bfbs. Included files are looked for in the folder of the file that
// includes them, and in the given ones. Errors of the schema are written to diagnostics, with their
// lines; the returned error then says only that there are some. Warnings are about generated code,
// and are not written.
func Load(path string, includes []string, diagnostics io.Writer) (*Schema, error) {
	models, diags := schema.Load(schema.Options{IncludeDirs: includes, ReadBinary: bfbs.Read}, path)
	s := &Schema{name: "the schema " + path}
	var err error
	if !diags.HasErrors() {
		s.json, err = s.add(models[0], diags, nil)
	}
	if diags.HasErrors() {
		if err := diags.Render(diagnostics); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("%s has errors", s.name)
	}
	return s, err
}

// add adds the protocols of a model, or those of them that wanted names.
func (s *Schema) add(model *schema.Schema, diags *diag.List,
	wanted map[string]bool) (*fbjson.Schema, error) {
	protocols := gogen.Protocols(model, diags)
	if diags.HasErrors() {
		return nil, nil
	}
	binary := bfbs.WriteExact(model, func(f *schema.File) string { return f.Name })
	types, err := fbjson.Load(binary)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	s.models = append(s.models, model)
	for _, p := range protocols {
		if wanted == nil || wanted[p.Name] {
			s.protocols = append(s.protocols, protocol{p, types, string(binary)})
		}
	}
	return types, nil
}

// Parse returns those protocols of a binary schema (.bfbs) that wanted names. name stands for the
// schema in errors.
func Parse(name string, definition []byte, wanted map[string]bool) (*Schema, error) {
	s := &Schema{name: name}
	if err := s.addDefinition(definition, wanted); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return s, nil
}

// addDefinition adds the protocols of a binary schema, or those of them that wanted names.
func (s *Schema) addDefinition(definition []byte, wanted map[string]bool) error {
	var diags diag.List
	if model := bfbs.Read("definition", definition, &diags); model != nil {
		if _, err := s.add(model, &diags, wanted); err != nil {
			return err
		}
	}
	if diags.HasErrors() {
		return diags.Err()
	}
	return nil
}

// CheckCompatible returns an error if a client with the protocol of this schema must not call a
// server with that of another one, or if one of the schemas lacks the protocol.
func (s *Schema) CheckCompatible(protocol string, server *Schema) error {
	ours, err := s.protocol(protocol)
	if err != nil {
		return err
	}
	theirs, err := server.protocol(protocol)
	if err != nil {
		return err
	}
	return ipc.CheckCompatible(ours.identity(), theirs.identity())
}

// SameVersion reports whether both schemas have the same version of a protocol.
func (s *Schema) SameVersion(protocol string, other *Schema) bool {
	ours, err := s.protocol(protocol)
	if err != nil {
		return false
	}
	theirs, err := other.protocol(protocol)
	return err == nil && ours.identity().Fingerprint == theirs.identity().Fingerprint
}

func (s *Schema) protocol(name string) (*protocol, error) {
	for i := range s.protocols {
		if s.protocols[i].Name == name {
			return &s.protocols[i], nil
		}
	}
	return nil, &ipc.Error{Code: ipc.CodeUnimplemented, Outcome: ipc.NotSent,
		Msg: s.name + " has no protocol " + name}
}

// Models returns the schemas themselves.
func (s *Schema) Models() []*schema.Schema { return s.models }

// Protocols returns the protocols, in no order.
func (s *Schema) Protocols() (all []gogen.Protocol) {
	for i := range s.protocols {
		all = append(all, s.protocols[i].Protocol)
	}
	return all
}

// Type returns the table of a name with its namespace, or the root type of the schema if the name
// is empty.
func (s *Schema) Type(name string) (*fbjson.Type, error) {
	if name != "" {
		return s.json.Table(name)
	}
	if root := s.json.Root(); root != nil {
		return root, nil
	}
	return nil, fmt.Errorf("%s declares no root_type; name a table: %s", s.name,
		strings.Join(s.json.Tables(), ", "))
}

// Methods returns the full names of all methods, "namespace.Service.Method", in order.
func (s *Schema) Methods() (names []string) {
	for i := range s.protocols {
		for j := range s.protocols[i].Methods {
			names = append(names, s.protocols[i].Name+"."+s.protocols[i].Methods[j].Decl.Name)
		}
	}
	slices.Sort(names)
	return names
}

// Messages returns the full names of all one-way messages, "namespace.Envelope.Member", in order.
func (s *Schema) Messages() (names []string) {
	for i := range s.protocols {
		for j := range s.protocols[i].Messages {
			names = append(names, s.protocols[i].Name+"."+s.protocols[i].Messages[j].Decl.Name)
		}
	}
	slices.Sort(names)
	return names
}

// Method returns the method of a name. The name may leave out the namespace, and the service, if
// one method alone fits; a slash may stand before the name of the method.
func (s *Schema) Method(name string) (*Method, error) {
	full, err := s.find(name, "method", "called", s.Methods())
	if err != nil {
		if one, noMessage := s.find(name, "", "", s.Messages()); noMessage == nil {
			err = fmt.Errorf("%s has no method %s, but the one-way message %s; "+
				"ipcctl send sends it", s.name, name, one)
		}
		return nil, err
	}
	for i := range s.protocols {
		p := &s.protocols[i]
		for j := range p.Methods {
			m := &p.Methods[j]
			if p.Name+"."+m.Decl.Name != full {
				continue
			}
			return newMethod(p, m)
		}
	}
	return nil, fmt.Errorf("%s has no method %s", s.name, full)
}

// Message returns the one-way message of a name, which may be short as that of a method.
func (s *Schema) Message(name string) (*Message, error) {
	full, err := s.find(name, "message", "sent", s.Messages())
	if err != nil {
		if one, noMethod := s.find(name, "", "", s.Methods()); noMethod == nil {
			err = fmt.Errorf("%s has no message %s, but the method %s; ipcctl call calls it",
				s.name, name, one)
		}
		return nil, err
	}
	for i := range s.protocols {
		p := &s.protocols[i]
		for j := range p.Messages {
			if p.Name+"."+p.Messages[j].Decl.Name == full {
				return newMessage(p, &p.Messages[j])
			}
		}
	}
	return nil, fmt.Errorf("%s has no message %s", s.name, full)
}

// Find returns the full name of the method or one-way message that a name stands for.
func (s *Schema) Find(name string) (string, error) {
	return s.find(name, "method or message", "called or sent",
		append(s.Methods(), s.Messages()...))
}

// Text returns the JSON of a request or message, or of a reply, by the full name of its method or
// message. The buffer is verified.
func (s *Schema) Text(full string, reply bool, buf []byte) ([]byte, error) {
	return s.text(full, reply, buf, nil)
}

func (s *Schema) text(full string, reply bool, buf []byte, o *fbjson.WriteOptions) ([]byte,
	error) {
	f, err := s.form(full, reply)
	if err != nil {
		return nil, err
	}
	text, err := f.root.AppendJSON(nil, buf, o)
	if err != nil {
		return nil, err
	}
	return f.unwrap(text)
}

// form returns the form of a request or message, or of a reply.
func (s *Schema) form(full string, reply bool) (*form, error) {
	f := s.forms[formKey{full, reply}]
	if f == nil {
		var err error
		if f, err = s.formOf(full, reply); err != nil {
			return nil, err
		}
		if s.forms == nil {
			s.forms = make(map[formKey]*form)
		}
		s.forms[formKey{full, reply}] = f
	}
	return f, nil
}

// A Shape describes how the messages of a method travel, or one-way messages.
type Shape struct {
	// Request and Reply are the names of the root tables of what [Schema.Extract] returns. A
	// one-way message has no reply.
	Request, Reply string
	OneWay         bool
	Streaming      ipc.Streaming
	// Properties is not nil if the message is a struct, which no FlatBuffer has as its root:
	// Request is then the struct, and Properties are the members of the JSON of [Schema.Text], as a
	// JSON schema has them.
	Properties json.RawMessage
}

// Shape returns the shape of a method or one-way message, by its full name.
func (s *Schema) Shape(full string) (*Shape, error) {
	shape := &Shape{OneWay: true}
	for i := range s.protocols {
		p := &s.protocols[i]
		for j := range p.Methods {
			if m := &p.Methods[j]; p.Name+"."+m.Decl.Name == full {
				shape.OneWay, shape.Streaming = false, streamings[m.Streaming]
			}
		}
	}
	request, err := s.form(full, false)
	if err != nil {
		return nil, err
	}
	shape.Request = request.extracted()
	if o := request.member(); o != nil && o.IsStruct {
		shape.Request, shape.Properties = o.FullName(), properties(o)
	}
	if !shape.OneWay {
		reply, err := s.form(full, true)
		if err != nil {
			return nil, err
		}
		shape.Reply = reply.extracted()
	}
	return shape, nil
}

// extracted returns the name of the root table of what Extract returns.
func (f *form) extracted() string {
	if f.enveloped() {
		return f.body.Name()
	}
	return f.Root.FullName()
}

func (s *Schema) formOf(full string, reply bool) (*form, error) {
	for i := range s.protocols {
		p := &s.protocols[i]
		for j := range p.Methods {
			if p.Name+"."+p.Methods[j].Decl.Name == full {
				m, err := newMethod(p, &p.Methods[j])
				switch {
				case err != nil:
					return nil, err
				case reply:
					return &m.reply, nil
				}
				return &m.request, nil
			}
		}
		for j := range p.Messages {
			if p.Name+"."+p.Messages[j].Decl.Name == full && !reply {
				m, err := newMessage(p, &p.Messages[j])
				if err != nil {
					return nil, err
				}
				return &m.form, nil
			}
		}
	}
	return nil, fmt.Errorf("%s has no method %s", s.name, full)
}

// find returns the one of all names that a name, perhaps without its first parts, stands for.
func (s *Schema) find(name, what, done string, all []string) (string, error) {
	wanted := strings.ReplaceAll(name, "/", ".")
	var found []string
	for _, full := range all {
		if full == wanted {
			return full, nil
		}
		if strings.HasSuffix(full, "."+wanted) {
			found = append(found, full)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return "", s.missing(name, wanted, what, done, all)
	}
	return "", fmt.Errorf("%s fits several %ss: %s", name, what, strings.Join(found, ", "))
}

func (s *Schema) missing(name, wanted, what, done string, all []string) error {
	if len(all) == 0 {
		return fmt.Errorf("%s has no %s that can be %s", s.name, what, done)
	}
	// A misspelt name may lack what comes before it, as a correct one may.
	parts := strings.Count(wanted, ".") + 1
	tails := make(map[string]string, len(all))
	var candidates []string
	for _, full := range all {
		pieces := strings.Split(full, ".")
		tail := strings.Join(pieces[max(0, len(pieces)-parts):], ".")
		tails[tail] = full
		candidates = append(candidates, tail)
	}
	if near := diag.Nearest(wanted, candidates); near != "" {
		return fmt.Errorf("%s has no %s %s; did you mean %s?", s.name, what, name, tails[near])
	}
	return fmt.Errorf("%s has no %s %s; it has %s", s.name, what, name, strings.Join(all, ", "))
}

func newMethod(p *protocol, m *gogen.Method) (*Method, error) {
	request, err := newForm(p, m.Request, m.Decl.Request)
	if err != nil {
		return nil, err
	}
	reply, err := newForm(p, m.Reply, m.Decl.Reply)
	if err != nil {
		return nil, err
	}
	full := &Method{Name: p.Name + "." + m.Decl.Name, Timeout: m.Timeout,
		Streaming: streamings[m.Streaming], request: request, reply: reply}
	full.method = ipc.NewMethod(p.identity(), ipc.MethodSpec[message, message]{
		Name: m.Decl.Name, ID: m.ID, Idempotent: m.Decl.Idempotent, ReadOnly: m.ReadOnly,
		EncodeRequest: full.request.encode, DecodeReply: full.decodeReply,
		DecodeRequest: notServed, EncodeReply: notAnswered, Streaming: full.Streaming,
	})
	return full, nil
}

// streamings has the kinds of methods by what the schema calls them.
var streamings = map[schema.Streaming]ipc.Streaming{
	schema.ClientStreaming: ipc.ClientStreaming, schema.ServerStreaming: ipc.ServerStreaming,
	schema.BidiStreaming: ipc.BidiStreaming,
}

// identity returns the protocol as the peer knows it.
func (p *protocol) identity() *ipc.Protocol {
	return &ipc.Protocol{Name: p.Name, Fingerprint: p.Fingerprint, Schema: p.Description,
		Definition: p.definition}
}

func newForm(p *protocol, f gogen.Form, table *schema.Object) (form, error) {
	root, err := p.json.Table(f.Root.FullName())
	if err != nil {
		return form{}, err
	}
	body, err := p.json.Table(table.FullName())
	return form{Form: f, root: root, body: body}, err
}
