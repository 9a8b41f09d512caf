package gogen

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strings"
	"testing"

	"github.com/ipcgen/ipcgen/internal/schema"
)

// TestEveryNameOfGeneratedCodeIsMarked looks at files before their marks are
// resolved. What a function declares has a mark, and so has what stands before a
// dot, unless the package declares it. So no name of generated code's own can
// clash with a schema's.
func TestEveryNameOfGeneratedCodeIsMarked(t *testing.T) {
	for _, name := range []string{"testdata/kitchen.fbs", "../../schema/audio_protocol.fbs"} {
		schemas, diags := schema.Load(schema.Options{}, name)
		if diags.HasErrors() {
			t.Fatal("the schema has errors")
		}
		p := newPlan(schemas[0], Options{ImportPath: "example.com/x", All: true}, diags)
		for _, d := range p.drafts() {
			src := "package p\n" + string(new(renderer).emit(d).buf)
			fset := token.NewFileSet()
			file, err := parser.ParseFile(fset, d.Path, src, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range unmarkedNames(file, d.pkg.scope) {
				t.Errorf("%s: %s has no mark", fset.Position(id.Pos()), id.Name)
			}
		}
	}
}

// unmarkedNames returns the names that functions declare, and those of packages,
// that have no mark.
func unmarkedNames(file *ast.File, scope scope) (found []*ast.Ident) {
	declared := func(ids ...*ast.Ident) {
		for _, id := range ids {
			if id.Name != "_" && markAt([]byte(id.Name)) == "" {
				found = append(found, id)
			}
		}
	}
	expressions := func(list ...ast.Expr) {
		for _, x := range list {
			if id, ok := x.(*ast.Ident); ok {
				declared(id)
			}
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if n.Recv != nil {
				declared(n.Recv.List[0].Names...)
			}
		case *ast.FuncType:
			for _, list := range []*ast.FieldList{n.Params, n.Results} {
				if list != nil {
					for _, field := range list.List {
						declared(field.Names...)
					}
				}
			}
		case *ast.AssignStmt:
			if n.Tok == token.DEFINE {
				expressions(n.Lhs...)
			}
		case *ast.RangeStmt:
			expressions(n.Key, n.Value)
		case *ast.DeclStmt:
			for _, spec := range n.Decl.(*ast.GenDecl).Specs {
				declared(spec.(*ast.ValueSpec).Names...)
			}
		case *ast.LabeledStmt:
			declared(n.Label)
		case *ast.SelectorExpr:
			if id, ok := n.X.(*ast.Ident); ok && !scope.has(id.Name) {
				declared(id)
			}
		}
		return true
	})
	return found
}

func TestResolve(t *testing.T) {
	k := &pkg{name: "p", scope: scope{"err": nil, "fb": nil, "key": nil}}
	other := &pkg{name: "o", token: "a__b", importPath: "example.com/a/b"}
	d := &Draft{pkg: k, plan: &plan{tokens: map[string]*pkg{"a__b": other}}}
	for _, c := range []struct{ name, text, want, imports string }{
		{"nothing marked", "var x int", "var x int", ""},
		{"a local and a package", "ℓx := ℙcmp.Compare(ℓy, 1)", "x := cmp.Compare(y, 1)", "cmp"},
		{"a type that the file mentions", "func f(ℓerr err) {}", "func f(err_ err) {}", ""},
		{"a type that it does not", "func f(ℓerr int) {}", "func f(err int) {}", ""},
		{"a comment and a field", "// err\nℓerr.err", "// err\nerr.err", ""},
		{"an import of that name", "ℙfb.F(ℓfb)", "fb_.F(fb)", "fb_"},
		{"a local like an import", "ℙcmp.F(ℓcmp)", "cmp.F(cmp_)", "cmp"},
		{"a field's local like another", "ℓn + ℱn + ℱn_", "n + n_ + n__", ""},
		{"what Go declares", "ℓlen, ℱfunc, ℱnil, ℓinit", "len_, func_, nil_, init_", ""},
		{"a package of the output", "var _ ℙa__b.T", "var _ a__b.T", "a__b"},
		{"marks in a comment", "// " + unmarked("ℓ ℓx ℙℙ ℱℓ … ℃"), "// ℓ ℓx ℙℙ ℱℓ … ℃", ""},
		{"at the end", "ℓx", "x", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var r resolver
			if err := r.resolve(d, []byte(c.text)); err != nil {
				t.Fatal(err)
			}
			var imports []string
			for _, i := range r.imports {
				imports = append(imports, i.alias)
			}
			if got := string(r.appendTo(nil)); got != c.want ||
				strings.Join(imports, " ") != c.imports {
				t.Errorf("%q became %q with %q, want %q with %q", c.text, got, imports,
					c.want, c.imports)
			}
		})
	}
	if err := new(resolver).resolve(d, []byte("ℙnone.F()")); err == nil {
		t.Error("a package that nobody knows is no error")
	}
}
