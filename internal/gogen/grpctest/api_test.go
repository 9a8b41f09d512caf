package grpctest

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"maps"
	"path/filepath"
	"slices"
	"testing"
)

// TestExportsWhatFlatcExports compares what the stubs export with what those of
// flatc do: types with all their methods, and functions with their signatures.
func TestExportsWhatFlatcExports(t *testing.T) {
	theirs, err := filepath.Glob("flatc/MyGame/Example/*_grpc.go")
	if err != nil || len(theirs) != 2 {
		t.Fatalf("%v, %v", theirs, err)
	}
	for _, path := range theirs {
		want := exports(t, path)
		got := exports(t, filepath.Join("gen/MyGame/Example", filepath.Base(path)))
		if len(want) < 10 {
			t.Errorf("%s exports %d things only", path, len(want))
		}
		for _, name := range slices.Sorted(maps.Keys(want)) {
			if got[name] != want[name] {
				t.Errorf("%s: %s\ngot:  %s\nwant: %s", filepath.Base(path), name,
					got[name], want[name])
			}
		}
	}
}

// exports returns the exported declarations of a file, without names of
// parameters.
func exports(t *testing.T, path string) map[string]string {
	t.Helper()
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	text := func(n ast.Node) string {
		var b bytes.Buffer
		if err := printer.Fprint(&b, fset, n); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	signature := func(typ *ast.FuncType) string {
		out := ""
		for _, list := range []*ast.FieldList{typ.Params, typ.Results} {
			out += "("
			if list != nil {
				for _, f := range list.List {
					for range max(len(f.Names), 1) {
						out += text(f.Type) + ","
					}
				}
			}
			out += ")"
		}
		return out
	}
	found := make(map[string]string)
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil && d.Name.IsExported() {
				found[d.Name.Name] = signature(d.Type)
			} else if d.Recv != nil && ast.IsExported(text(d.Recv.List[0].Type)) {
				found[text(d.Recv.List[0].Type)+"."+d.Name.Name] = signature(d.Type)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				typ, ok := spec.(*ast.TypeSpec)
				if !ok || !typ.Name.IsExported() {
					continue
				}
				found[typ.Name.Name] = "a type"
				if iface, ok := typ.Type.(*ast.InterfaceType); ok {
					for _, m := range iface.Methods.List {
						if fun, ok := m.Type.(*ast.FuncType); ok {
							found[typ.Name.Name+"."+m.Names[0].Name] = signature(fun)
						} else {
							found[typ.Name.Name+"."+text(m.Type)] = "embedded"
						}
					}
				}
			}
		}
	}
	return found
}
