package dynamic

import (
	"context"
	"fmt"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/introspect"
)

// A Server is what a server tells of itself.
type Server struct {
	Description *introspect.DescriptionT
	Definitions [][]byte // binary schemas, by their numbers
	Schema      *Schema  // of the protocols that it serves
}

// Ask asks the server called name for its description and its definitions, through c.
func Ask(ctx context.Context, c ipc.Caller, name string) (*Server, error) {
	d, err := ipc.Describe(ctx, c)
	if err != nil {
		return nil, err
	}
	s := &Server{Description: d, Schema: &Schema{name: "the server " + name}}
	served := make(map[string]bool)
	for _, p := range d.Protocols {
		if p.Definition >= 0 {
			served[p.Name] = true
		}
	}
	for i := range d.Definitions {
		binary, err := ipc.ReadDefinition(ctx, c, i)
		if err != nil {
			return nil, err
		}
		s.Definitions = append(s.Definitions, binary)
		if err := s.Schema.addDefinition(binary, served); err != nil {
			return nil, fmt.Errorf("definition %d of the server %s: %w", i, name, err)
		}
	}
	return s, nil
}

// Definition returns the binary schema of a protocol, or of the first one that has one if the name
// is empty.
func (s *Server) Definition(protocol string) ([]byte, error) {
	for _, p := range s.Description.Protocols {
		if p.Definition < 0 || int(p.Definition) >= len(s.Definitions) {
			continue
		}
		if protocol == "" || p.Name == protocol {
			return s.Definitions[p.Definition], nil
		}
	}
	if protocol == "" {
		return nil, fmt.Errorf("%s has no protocol with a definition", s.Schema.name)
	}
	return nil, fmt.Errorf("%s has no definition of a protocol %s", s.Schema.name, protocol)
}
