package gogen

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// TestNamesAreGivenInOneFile checks that names.go alone names what generated code declares. Other
// files may name local variables, in a scope of their own called taken.
func TestNamesAreGivenInOneFile(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	given := 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok || sel.Sel.Name != "claim" && sel.Sel.Name != "must" {
				return true
			}
			if of, ok := sel.X.(*ast.Ident); ok && of.Name == "taken" {
				return true
			}
			if given++; name != "names.go" {
				t.Errorf("%s gives a name; do so in names.go", fset.Position(sel.Pos()))
			}
			return true
		})
	}
	if given == 0 {
		t.Error("names.go gives no names")
	}
}
