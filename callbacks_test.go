package ipcgen

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/tools/go/packages"
)

// callbackPackages are the packages whose API takes functions and interfaces from users, with the
// folders of the tests that try them. gen/audio stands for generated code.
var callbackPackages = []string{"runtime", "runtime/group", "runtime/registry", "runtime/ipctest",
	"gen/audio"}

// noCallbacks are types from elsewhere that an API may take without a row: what the user's
// implementation of one of these does is not the package's business.
var noCallbacks = []string{"context.Context", "error", "testing.TB", "any", "log/slog.Level"}

// withoutRow are callbacks that have no row, by the beginnings of their names.
var withoutRow = []string{
	// The interface below package topic, which is its only user.
	"ipc.LinkEnd.", "ipc.LinkKind.", "ipc.LinkOffer.", "ipc.LinkRequest.", "ipc.LinkSource.",
	// Streaming methods have conformance tests of their own.
	"ipc.HandleServerStream.", "ipc.HandleClientStream.", "ipc.HandleBidiStream.",
	"ipc.InvokeServerStream.", "ipc.InvokeClientStream.", "ipc.InvokeBidiStream.",
	"ipc.OpenClientStream.", "ipc.OpenBidiStream.", "ipc.UnimplementedStream.", "ipc.Call.In",
	"ipc.Call.Out", "ipc.ServerCall.In", "ipc.ServerCall.Out",
	// Generated adapters for gRPC call these; internal/gogen/grpctest tries their handlers.
	"ipc.SendItems.", "ipc.ReceiveItems.",
	// The body of a loop over a map of the caller's own.
	"ipc.Metadata.All.",
}

// A callbackWalk finds the places of an API where code of the user comes in.
type callbackWalk struct {
	pkg   *types.Package
	found map[string]bool
}

// comesIn reports whether a value of the type brings code of the user along.
func (w *callbackWalk) comesIn(t types.Type) bool {
	if slices.Contains(noCallbacks, types.TypeString(t, nil)) {
		return false
	}
	switch u := t.(type) {
	case *types.TypeParam:
		return false
	case *types.Pointer:
		return types.TypeString(u, nil) == "*log/slog.Logger"
	case *types.Slice:
		return w.comesIn(u.Elem())
	case *types.Map:
		return w.comesIn(u.Elem())
	}
	switch u := t.Underlying().(type) {
	case *types.Signature:
		return true
	case *types.Interface:
		n, ok := types.Unalias(t).(*types.Named)
		// Interfaces of these packages have rows for each of their methods.
		return u.NumMethods() > 0 && ok && !strings.HasPrefix(n.Obj().Pkg().Path(), modulePath)
	}
	return false
}

// function adds the parameters of a function that are callbacks, and a result that is a loop.
func (w *callbackWalk) function(name string, sig *types.Signature) {
	for v := range sig.Params().Variables() {
		if w.comesIn(v.Type()) {
			w.found[name+"."+v.Name()] = true
		}
	}
	for v := range sig.Results().Variables() {
		if f, ok := v.Type().Underlying().(*types.Signature); ok && f.Params().Len() == 1 {
			w.found[name+".loop"] = true
		}
	}
}

func (w *callbackWalk) object(obj types.Object) {
	name := w.pkg.Name() + "." + obj.Name()
	if f, ok := obj.(*types.Func); ok {
		w.function(name, f.Signature())
		return
	}
	tn, ok := obj.(*types.TypeName)
	if !ok {
		return
	}
	named, ok := tn.Type().(*types.Named)
	if !ok {
		return
	}
	for m := range named.Methods() {
		if m.Exported() {
			w.function(name+"."+m.Name(), m.Signature())
		}
	}
	switch u := named.Underlying().(type) {
	case *types.Struct:
		for f := range u.Fields() {
			if f.Exported() && w.comesIn(f.Type()) {
				w.found[name+"."+f.Name()] = true
			}
		}
	case *types.Interface:
		if slices.ContainsFunc(slices.Collect(u.Methods()), func(m *types.Func) bool {
			return !m.Exported()
		}) {
			return // other packages cannot implement it
		}
		for m := range u.Methods() {
			w.found[name+"."+m.Name()] = true
		}
	}
}

// TestCallbacksAreTried checks that every function, and every method of an interface, that users
// give to the packages has a row in a test of what follows when it panics, ends its goroutine,
// blocks or calls the package. A row names it by a word of a string in a file *callback*_test.go.
func TestCallbacksAreTried(t *testing.T) {
	var patterns []string
	for _, p := range callbackPackages {
		patterns = append(patterns, "./"+p)
	}
	loaded, err := packages.Load(&packages.Config{Mode: packages.NeedName | packages.NeedTypes |
		packages.NeedImports | packages.NeedDeps | packages.NeedSyntax | packages.NeedTypesInfo},
		patterns...)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, p := range loaded {
		w := &callbackWalk{p.Types, found}
		for _, name := range p.Types.Scope().Names() {
			if obj := p.Types.Scope().Lookup(name); obj.Exported() {
				w.object(obj)
			}
		}
	}
	if len(found) < 50 {
		t.Fatalf("only %d callbacks found: %v", len(found), found)
	}
	wanted := map[string]bool{}
	for name := range found {
		if !slices.ContainsFunc(withoutRow, func(prefix string) bool {
			return strings.HasPrefix(name, prefix)
		}) {
			wanted[perType(name)] = true
		}
	}
	found = wanted
	rows := map[string]bool{}
	for _, p := range callbackPackages {
		files, err := filepath.Glob(filepath.Join(filepath.FromSlash(p), "*callback*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			collectRows(t, name, rows)
		}
	}
	for name := range found {
		if !rows[name] {
			t.Errorf("no test tries a faulty %s; add a row to the tests of callbacks", name)
		}
	}
	for name := range rows {
		if !found[name] {
			t.Errorf("a row names %s, which the API does not have", name)
		}
	}
}

// perType returns the name of a callback of generated code without the method: the code for each
// method of a type is the same.
func perType(name string) string {
	parts := strings.Split(name, ".")
	if parts[0] != "audio" || len(parts) < 3 {
		return name
	}
	return strings.Join(slices.Delete(parts, 2, 3), ".")
}

// collectRows adds the rows of a test file.
func collectRows(t *testing.T, name string, rows map[string]bool) {
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		lit, ok := n.(*ast.BasicLit)
		if !ok || lit.Kind != token.STRING {
			return true
		}
		s, err := strconv.Unquote(lit.Value)
		if err != nil {
			t.Fatal(err)
		}
		for row := range strings.FieldsSeq(s) {
			pkg, rest, dotted := strings.Cut(row, ".")
			known := slices.Contains([]string{"ipc", "group", "registry", "ipctest", "audio"}, pkg)
			if dotted && known && token.IsIdentifier(strings.ReplaceAll(rest, ".", "_")) {
				rows[perType(row)] = true
			}
		}
		return true
	})
}
