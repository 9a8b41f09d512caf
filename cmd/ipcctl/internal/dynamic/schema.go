package dynamic

import (
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

// A Schema has the types and the services of a schema file. It does not change after [Load].
type Schema struct {
	path     string
	json     *fbjson.Schema
	services []gogen.Protocol // those of services
}

// Load reads a schema, .fbs or .bfbs. Included files are looked for in the folder of the file that
// includes them, and in the given ones. Errors of the schema are written to diagnostics, with their
// lines; the returned error then says only that there are some. Warnings are about generated code,
// and are not written.
func Load(path string, includes []string, diagnostics io.Writer) (*Schema, error) {
	models, diags := schema.Load(schema.Options{IncludeDirs: includes, ReadBinary: bfbs.Read}, path)
	refused := func() error {
		if err := diags.Render(diagnostics); err != nil {
			return err
		}
		return fmt.Errorf("the schema %s has errors", path)
	}
	if diags.HasErrors() {
		return nil, refused()
	}
	s := &Schema{path: path}
	for _, p := range gogen.Protocols(models[0], diags) {
		if p.Service != nil {
			s.services = append(s.services, p)
		}
	}
	if diags.HasErrors() {
		return nil, refused()
	}
	binary := bfbs.WriteExact(models[0], func(f *schema.File) string { return f.Name })
	var err error
	if s.json, err = fbjson.Load(binary); err != nil {
		return nil, fmt.Errorf("the schema %s: %w", path, err)
	}
	return s, nil
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
	return nil, fmt.Errorf("the schema %s declares no root_type; name a table: %s", s.path,
		strings.Join(s.json.Tables(), ", "))
}

// Methods returns the full names of all methods, "namespace.Service.Method", in order.
func (s *Schema) Methods() (names []string) {
	for i := range s.services {
		for j := range s.services[i].Methods {
			names = append(names, s.services[i].Name+"."+s.services[i].Methods[j].Decl.Name)
		}
	}
	slices.Sort(names)
	return names
}

// Method returns the method of a name. The name may leave out the namespace, and the service, if
// one method alone fits; a slash may stand before the name of the method.
func (s *Schema) Method(name string) (*Method, error) {
	wanted := strings.ReplaceAll(name, "/", ".")
	var found []*Method
	for i := range s.services {
		for j := range s.services[i].Methods {
			m, err := s.method(&s.services[i], &s.services[i].Methods[j])
			if err != nil {
				return nil, err
			}
			if m.Name == wanted {
				return m, nil
			}
			if strings.HasSuffix(m.Name, "."+wanted) {
				found = append(found, m)
			}
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return nil, s.noMethod(name, wanted)
	}
	names := make([]string, len(found))
	for i, m := range found {
		names[i] = m.Name
	}
	return nil, fmt.Errorf("%s fits several methods: %s", name, strings.Join(names, ", "))
}

func (s *Schema) noMethod(name, wanted string) error {
	all := s.Methods()
	if len(all) == 0 {
		return fmt.Errorf("the schema %s has no method that can be called", s.path)
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
		return fmt.Errorf("the schema %s has no method %s; did you mean %s?", s.path, name,
			tails[near])
	}
	return fmt.Errorf("the schema %s has no method %s; it has %s", s.path, name,
		strings.Join(all, ", "))
}

func (s *Schema) method(service *gogen.Protocol, m *gogen.Method) (*Method, error) {
	request, err := s.form(m.Request, m.Decl.Request)
	if err != nil {
		return nil, err
	}
	reply, err := s.form(m.Reply, m.Decl.Reply)
	if err != nil {
		return nil, err
	}
	full := &Method{Name: service.Name + "." + m.Decl.Name, Timeout: m.Timeout, request: request,
		reply: reply}
	protocol := &ipc.Protocol{Name: service.Name, Fingerprint: service.Fingerprint,
		Schema: service.Description}
	full.method = ipc.NewMethod(protocol, ipc.MethodSpec[message, message]{
		Name: m.Decl.Name, ID: m.ID, Idempotent: m.Decl.Idempotent, ReadOnly: m.ReadOnly,
		EncodeRequest: full.encodeRequest, DecodeReply: full.decodeReply,
		DecodeRequest: notServed, EncodeReply: notAnswered,
	})
	return full, nil
}

func (s *Schema) form(f gogen.Form, table *schema.Object) (form, error) {
	root, err := s.json.Table(f.Root.FullName())
	if err != nil {
		return form{}, err
	}
	body, err := s.json.Table(table.FullName())
	return form{Form: f, root: root, body: body}, err
}
