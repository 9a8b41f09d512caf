package gogen_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"strconv"
	"testing"

	"github.com/ipcgen/ipcgen/internal/bfbs"
	"github.com/ipcgen/ipcgen/internal/diag"
	"github.com/ipcgen/ipcgen/internal/gogen"
	"github.com/ipcgen/ipcgen/internal/schema"
)

// A declaredProtocol is an ipc.Protocol of generated code.
type declaredProtocol struct{ name, schema, definition string }

// protocolsIn returns the protocols that the files of a package declare.
func protocolsIn(files []gogen.File) (all []declaredProtocol, err error) {
	texts := make(map[string]string) // of constants
	var literals []*ast.CompositeLit
	for _, f := range files {
		file, err := parser.ParseFile(token.NewFileSet(), f.Path, f.Content,
			parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ValueSpec:
				if len(n.Values) == 1 {
					if text, err := stringOf(n.Values[0]); err == nil {
						texts[path.Dir(f.Path)+"."+n.Names[0].Name] = text
					}
				}
			case *ast.CompositeLit:
				if s, ok := n.Type.(*ast.SelectorExpr); ok && s.Sel.Name == "Protocol" {
					literals = append(literals, n)
				}
			}
			return true
		})
		for _, l := range literals {
			value := make(map[string]string)
			for _, e := range l.Elts {
				kv := e.(*ast.KeyValueExpr)
				switch v := kv.Value.(type) {
				case *ast.Ident:
					value[kv.Key.(*ast.Ident).Name] = path.Dir(f.Path) + "." + v.Name
				case *ast.BasicLit:
					value[kv.Key.(*ast.Ident).Name] = v.Value
				}
			}
			name, err := strconv.Unquote(value["Name"])
			if err != nil {
				return nil, err
			}
			all = append(all, declaredProtocol{name, value["Schema"], value["Definition"]})
		}
		literals = nil
	}
	for i := range all {
		p := &all[i]
		for _, constant := range []*string{&p.schema, &p.definition} {
			text, ok := texts[*constant]
			if !ok {
				return nil, fmt.Errorf("protocol %s refers to %q, which is no constant", p.name,
					*constant)
			}
			*constant = text
		}
	}
	return all, nil
}

// stringOf returns the value of a string literal, or of several that are added.
func stringOf(e ast.Expr) (string, error) {
	switch e := e.(type) {
	case *ast.BasicLit:
		return strconv.Unquote(e.Value)
	case *ast.BinaryExpr:
		x, err := stringOf(e.X)
		if err != nil {
			return "", err
		}
		y, err := stringOf(e.Y)
		return x + y, err
	}
	return "", fmt.Errorf("%T is no string", e)
}

// checkDefinition returns an error unless the text that identifies a protocol to the peer follows
// from its definition.
func checkDefinition(p declaredProtocol) error {
	var diags diag.List
	model := bfbs.Read("definition", []byte(p.definition), &diags)
	if model == nil {
		return fmt.Errorf("protocol %s: its definition: %w", p.name, diags.Err())
	}
	if n := diags.Len(); n > 0 {
		return fmt.Errorf("protocol %s: its definition is incomplete: %s", p.name, render(&diags))
	}
	for _, derived := range gogen.Protocols(model, &diags) {
		if derived.Name == p.name && derived.Description == p.schema {
			return nil
		}
	}
	for _, derived := range gogen.Protocols(model, &diags) {
		if derived.Name == p.name {
			return fmt.Errorf("protocol %s: %s", p.name,
				difference([]byte(p.schema), []byte(derived.Description)))
		}
	}
	return fmt.Errorf("protocol %s is not in its definition", p.name)
}

// checkDefinitions checks the definitions of all protocols that files declare.
func checkDefinitions(files []gogen.File) error {
	protocols, err := protocolsIn(files)
	for _, p := range protocols {
		if err == nil {
			err = checkDefinition(p)
		}
	}
	return err
}

// TestDefinitions derives the text of each protocol of the goldens from its definition.
func TestDefinitions(t *testing.T) {
	for _, g := range goldens {
		protocols, err := protocolsIn(generate(t, g.opts, schema.Options{}, g.schema))
		if err != nil {
			t.Fatal(err)
		}
		if len(protocols) < 3 && g.name != "introspection" {
			t.Errorf("%s has %d protocols", g.name, len(protocols))
		}
		for _, p := range protocols {
			if err := checkDefinition(p); err != nil {
				t.Errorf("%s: %v", g.name, err)
			}
		}
	}
}
