package ipcgen

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/tools/go/packages"
)

// public are the packages whose exported names are for users or for generated code.
var public = []string{"runtime", "runtime/fb", "runtime/shm", "runtime/registry", "runtime/group",
	"runtime/topic", "runtime/fbjson", "runtime/ipctest"}

// users are the folders of the modules whose code counts as a user of the public packages.
var users = []string{".", "bench", "cmd/ipcctl", "internal/gogen/grpctest", "nats"}

// An exportWalk finds the exported names of packages, and those that need no user of their own.
type exportWalk struct {
	fset    *token.FileSet
	names   map[string]string     // by the position of the declaration: "ipc.Conn.Close"
	methods map[string]int        // of how many types, by their names
	ifaces  []*types.Interface    // whose methods are called through them
	carry   map[types.Object]bool // types that an exported name brings along
}

// position identifies a declaration, also for packages that have read it from export data.
func position(fset *token.FileSet, obj types.Object) string {
	at := fset.Position(obj.Pos())
	return filepath.ToSlash(at.Filename) + ":" + strconv.Itoa(at.Line) + ":" + obj.Name()
}

// signature notes the named types in the parameters and results of a function.
func (w *exportWalk) signature(sig *types.Signature) {
	for _, tuple := range []*types.Tuple{sig.Params(), sig.Results()} {
		for v := range tuple.Variables() {
			w.brings(v.Type())
		}
	}
}

// brings notes the types that a declaration of type t brings along.
func (w *exportWalk) brings(t types.Type) {
	switch u := types.Unalias(t).(type) {
	case *types.Named:
		w.carry[u.Obj()] = true
		for arg := range u.TypeArgs().Types() {
			w.brings(arg)
		}
	case *types.Signature:
		w.signature(u)
	case *types.Map:
		w.brings(u.Key())
		w.brings(u.Elem())
	case interface{ Elem() types.Type }: // pointers, slices, arrays, channels
		w.brings(u.Elem())
	}
}

// object adds a name of a package, and the methods of a type. Fields, and the values of an
// enumeration, belong to their types.
func (w *exportWalk) object(pkg *types.Package, obj types.Object) {
	name := pkg.Name() + "." + obj.Name()
	w.names[position(w.fset, obj)] = name
	switch o := obj.(type) {
	case *types.Func:
		w.signature(o.Signature())
	case *types.Const:
		if _, enum := types.Unalias(o.Type()).(*types.Named); enum {
			delete(w.names, position(w.fset, obj))
		}
	case *types.TypeName:
		named, ok := o.Type().(*types.Named)
		if !ok {
			return
		}
		for m := range named.Methods() {
			w.methods[m.Name()]++
			if m.Exported() && !w.called(named, m) {
				w.names[position(w.fset, m)] = name + "." + m.Name()
			}
			if m.Exported() {
				w.signature(m.Signature())
			}
		}
		switch u := named.Underlying().(type) {
		case *types.Struct:
			for f := range u.Fields() {
				if f.Exported() {
					w.brings(f.Type())
				}
			}
		case *types.Interface:
			for m := range u.ExplicitMethods() {
				w.signature(m.Signature())
			}
		default:
			w.brings(u)
		}
	}
}

// called reports whether a method of a type is called through an interface.
func (w *exportWalk) called(t *types.Named, m *types.Func) bool {
	switch m.Name() {
	case "Error", "Unwrap", "Is", "String":
		return true // by packages errors and fmt
	}
	if t.TypeParams().Len() > 0 {
		return false
	}
	return slices.ContainsFunc(w.ifaces, func(i *types.Interface) bool {
		obj, _, _ := types.LookupFieldOrMethod(i, false, nil, m.Name())
		return obj != nil && types.Implements(types.NewPointer(t), i)
	})
}

// TestExportsAreUsed checks that every exported function, type, method, variable and constant of
// the public packages has a user: code of another package, an example, or a page of the
// documentation that names it. A name that only its own package and its tests use should not be
// exported.
func TestExportsAreUsed(t *testing.T) {
	if testing.Short() {
		t.Skip("loads all modules")
	}
	var patterns []string
	for _, p := range public {
		patterns = append(patterns, "./"+p)
	}
	fset := token.NewFileSet()
	loaded, err := packages.Load(&packages.Config{Mode: packages.LoadSyntax, Fset: fset},
		patterns...)
	if err != nil {
		t.Fatal(err)
	}
	w := &exportWalk{fset: fset, names: map[string]string{}, methods: map[string]int{},
		carry: map[types.Object]bool{}}
	eachExport := func(f func(*types.Package, types.Object)) {
		for _, p := range loaded {
			for _, name := range p.Types.Scope().Names() {
				if obj := p.Types.Scope().Lookup(name); obj.Exported() {
					f(p.Types, obj)
				}
			}
		}
	}
	for _, p := range loaded {
		for _, tv := range p.TypesInfo.Types {
			i, ok := tv.Type.Underlying().(*types.Interface)
			if ok && tv.IsType() && i.NumMethods() > 0 {
				w.ifaces = append(w.ifaces, i)
			}
		}
	}
	eachExport(w.object)
	eachExport(func(_ *types.Package, obj types.Object) {
		if w.carry[obj] {
			delete(w.names, position(fset, obj))
		}
	})
	if len(w.names) < 300 {
		t.Fatalf("only %d exported names found", len(w.names))
	}
	for _, dir := range users {
		removeUsed(t, dir, w.names)
	}
	var text strings.Builder
	for _, page := range pages(t) {
		if page != "CHANGELOG.md" {
			text.WriteString(read(t, page))
		}
	}
	generator, err := filepath.Glob("internal/gogen/*.go")
	if err != nil || len(generator) == 0 {
		t.Fatalf("no generator: %v", err)
	}
	for _, name := range generator { // strings there name what generated code uses
		text.WriteString(read(t, filepath.ToSlash(name)))
	}
	for at, name := range w.names {
		if !documented(text.String(), name, w.methods) {
			t.Errorf("%s: %s has no user outside of its package, no example and no page of the "+
				"documentation; unexport it, or say there what it is for", at, name)
		}
	}
}

// removeUsed deletes the names that the code of a module uses: of tests, only examples, which stand
// for users. The tests of the modules beside the core have no access to the packages' inside.
func removeUsed(t *testing.T, dir string, names map[string]string) {
	t.Helper()
	loaded, err := packages.Load(&packages.Config{Mode: packages.LoadSyntax, Tests: true,
		Dir: filepath.FromSlash(dir)}, "./...")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range loaded {
		for _, obj := range p.TypesInfo.Defs {
			if v, ok := obj.(*types.Var); ok && v.Embedded() { // users reach the methods
				for m := range types.NewMethodSet(v.Type()).Methods() {
					if from := m.Obj().Pkg(); from != nil && from.Path() != p.PkgPath {
						delete(names, position(p.Fset, m.Obj()))
					}
				}
			}
		}
		for _, file := range p.Syntax {
			name := filepath.Base(p.Fset.Position(file.Pos()).Filename)
			inside := dir == "." && strings.HasSuffix(name, "_test.go")
			if inside && !strings.HasPrefix(name, "example_") {
				continue
			}
			ast.Inspect(file, func(n ast.Node) bool {
				id, ok := n.(*ast.Ident)
				if !ok {
					return true
				}
				obj := p.TypesInfo.Uses[id]
				if obj != nil && obj.Pkg() != nil && obj.Pkg().Path() != p.PkgPath {
					delete(names, position(p.Fset, obj))
				}
				return true
			})
		}
	}
}

// documented reports whether a text names a function, type or method. A method whose name several
// types have must be named with its type.
func documented(text, name string, methods map[string]int) bool {
	_, short, _ := strings.Cut(name, ".")
	_, method, ok := strings.Cut(short, ".")
	return containsWord(text, short) || ok && methods[method] == 1 &&
		(strings.Contains(text, "`"+method+"`") || strings.Contains(text, "`"+method+"(") ||
			strings.Contains(text, "."+method+"("))
}

// containsWord reports whether a text has a name that is not part of a longer one.
func containsWord(text, name string) bool {
	for {
		before, after, ok := strings.Cut(text, name)
		if !ok {
			return false
		}
		if !endsInWord(before) && !beginsWithWord(after) {
			return true
		}
		text = after
	}
}

func beginsWithWord(s string) bool { return s != "" && (token.IsIdentifier("x" + s[:1])) }

func endsInWord(s string) bool { return s != "" && token.IsIdentifier("x"+s[len(s)-1:]) }

// TestHouseInterfacesAreWhole checks that an exported interface shows all of its methods: those of
// an unexported interface that it embeds are in no documentation.
func TestHouseInterfacesAreWhole(t *testing.T) {
	found := 0
	for _, folder := range public {
		interfaces := map[string]*ast.InterfaceType{}
		names, err := filepath.Glob(filepath.Join(folder, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			set := token.NewFileSet()
			file, err := parser.ParseFile(set, name, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if spec, ok := n.(*ast.TypeSpec); ok {
					if i, ok := spec.Type.(*ast.InterfaceType); ok {
						interfaces[spec.Name.Name] = i
					}
				}
				return true
			})
		}
		for name, i := range interfaces {
			if !ast.IsExported(name) {
				continue
			}
			found++
			for _, f := range i.Methods.List {
				id, ok := f.Type.(*ast.Ident)
				if !ok || len(f.Names) > 0 || interfaces[id.Name] == nil || id.IsExported() {
					continue
				}
				for _, m := range interfaces[id.Name].Methods.List {
					if len(m.Names) > 0 && m.Names[0].IsExported() {
						t.Errorf("%s: %s embeds %s, whose method %s nobody finds", folder, name,
							id.Name, m.Names[0].Name)
					}
				}
			}
		}
	}
	if found < 20 {
		t.Errorf("only %d interfaces found", found)
	}
}
