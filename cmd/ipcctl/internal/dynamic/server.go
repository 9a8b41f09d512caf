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

// Limits of what Ask believes of a server.
const (
	maxProtocols   = 1 << 12
	maxDefinitions = 1 << 12
	maxDefinition  = 16 << 20 // bytes of all definitions; 2,000 tables of 20 fields take 4 MiB
)

// Ask asks the server called name for its description and its definitions, through c. It believes
// nothing: what the server tells is checked, and limited in number and length. Ask returns when ctx
// is done, even while it reads a schema.
func Ask(ctx context.Context, c ipc.Caller, name string) (*Server, error) {
	d, err := ipc.Describe(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := checkDescription(d); err != nil {
		return nil, untrue(name, err)
	}
	s := &Server{Description: d}
	for i, told := range d.Definitions {
		binary, err := ipc.ReadDefinition(ctx, c, i)
		if err != nil {
			return nil, err
		}
		if len(binary) != int(told) {
			return nil, untrue(name, fmt.Errorf("its definition %d has %d bytes and not %d", i,
				len(binary), told))
		}
		s.Definitions = append(s.Definitions, binary)
	}
	parsed := make(chan error, 1)
	go func() { parsed <- s.parse(name) }()
	select {
	case err := <-parsed:
		return s, err
	case <-ctx.Done():
		return nil, &ipc.Error{Code: ipc.CodeOf(ctx.Err()), Outcome: ipc.Executed, Err: fmt.Errorf(
			"the schema of the server %s was not read in time: %w", name, ctx.Err())}
	}
}

// parse reads the definitions.
func (s *Server) parse(name string) error {
	schema := &Schema{name: "the server " + name}
	served := make(map[string]bool)
	for _, p := range s.Description.Protocols {
		if p.Definition >= 0 {
			served[p.Name] = true
		}
	}
	for i, binary := range s.Definitions {
		if err := schema.addDefinition(binary, served); err != nil {
			return fmt.Errorf("definition %d of the server %s: %w", i, name, err)
		}
	}
	s.Schema = schema
	return nil
}

// untrue is the error of a server that tells what cannot be.
func untrue(name string, why error) error {
	return &ipc.Error{Code: ipc.CodeCorrupt, Outcome: ipc.Executed,
		Err: fmt.Errorf("what the server %s tells of itself cannot be: %w", name, why)}
}

// checkDescription checks the numbers of a description.
func checkDescription(d *introspect.DescriptionT) error {
	all := uint64(0)
	for _, n := range d.Definitions {
		all += uint64(n)
	}
	switch {
	case len(d.Protocols) > maxProtocols:
		return fmt.Errorf("it has %d protocols; the limit is %d", len(d.Protocols), maxProtocols)
	case len(d.Definitions) > maxDefinitions:
		return fmt.Errorf("it has %d definitions; the limit is %d", len(d.Definitions),
			maxDefinitions)
	case all > maxDefinition:
		return fmt.Errorf("its definitions have %d bytes; the limit is %d", all, maxDefinition)
	}
	type place struct {
		name          string
		stream, topic bool
	}
	seen := make(map[place]bool, len(d.Protocols))
	for _, p := range d.Protocols {
		at := place{p.Name, p.Stream, p.Topic != nil}
		switch {
		case int64(p.Definition) >= int64(len(d.Definitions)):
			return fmt.Errorf("protocol %q has definition %d of %d", p.Name, p.Definition,
				len(d.Definitions))
		case seen[at]:
			return fmt.Errorf("protocol %q is there twice", p.Name)
		}
		seen[at] = true
	}
	return nil
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
