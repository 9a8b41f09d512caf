package gogen

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/ipcgen/ipcgen/internal/schema"
)

const (
	flatbuffersPath = "github.com/google/flatbuffers/go"
	runtimePath     = "github.com/ipcgen/ipcgen/runtime"
	fbPath          = runtimePath + "/fb"
)

// A file is a Go file being written.
type file struct {
	writer
	plan    *plan
	pkg     *pkg
	imports map[string]string // path to name; empty when it is the path's own
}

// use imports a package of the standard library.
func (f *file) use(path string) { f.imports[path] = "" }

// useFlatbuffers and useFB import what nearly all files need, and useIPC what the
// files of services, envelopes and streams do.
func (f *file) useFlatbuffers() { f.imports[flatbuffersPath] = "flatbuffers" }
func (f *file) useFB()          { f.imports[fbPath] = "" }
func (f *file) useIPC()         { f.imports[runtimePath] = "ipc" }

// Render makes the text of the file. An error is a mistake in ipcgen.
func (d *Draft) Render() ([]byte, error) {
	f := &file{plan: d.plan, pkg: d.pkg, imports: make(map[string]string)}
	for i, emit := range d.emits {
		if i > 0 {
			f.p()
		}
		emit(f)
	}
	body := f.writer
	f.writer = writer{buf: make([]byte, 0, len(body.buf)+512), needsFormat: body.needsFormat}
	f.p(Header(d.pkg.dir, d.plan.opts.source(d.Declarer)))
	f.p()
	f.p("package ", d.pkg.name)
	f.p()
	f.importBlock()
	for _, path := range []string{fbPath, runtimePath} {
		if name, ok := f.imports[path]; ok && d.guards[path] {
			f.p("// If this constant does not exist, the code generator and the runtime do not")
			f.p("// fit each other: bring both to one version, and generate again.")
			f.p("const _ = ", cmp.Or(name, "fb"), ".RuntimeAtLeastV1")
			f.p()
		}
	}
	f.buf = append(f.buf, bytes.TrimRight(body.buf, "\n")...)
	f.p()
	text, err := f.finish()
	if err != nil {
		return nil, fmt.Errorf("%s: generated code does not parse, which is a mistake in ipcgen: %w", d.Path, err)
	}
	return text, nil
}

// importBlock writes the imports: the standard library, then the others.
func (f *file) importBlock() {
	paths := make([]string, 0, len(f.imports))
	for path := range f.imports {
		paths = append(paths, path)
	}
	slices.SortFunc(paths, func(a, b string) int {
		if std(a) != std(b) {
			if std(a) {
				return -1
			}
			return 1
		}
		return cmp.Compare(a, b)
	})
	line := func(path string) string {
		if name := f.imports[path]; name != "" {
			return name + ` "` + path + `"`
		}
		return `"` + path + `"`
	}
	switch {
	case len(paths) == 0:
		return
	case len(paths) == 1:
		f.p("import ", line(paths[0]))
	default:
		f.p("import (")
		for i, path := range paths {
			if i > 0 && std(paths[i-1]) && !std(path) {
				f.p()
			}
			f.p(line(path))
		}
		f.p(")")
	}
	f.p()
}

// std reports whether an import path is one of the standard library's that
// generated code uses.
func std(path string) bool {
	switch path {
	case "bytes", "cmp", "context", "math", "strconv":
		return true
	}
	return false
}

// qualifier returns what stands before the names of package k here, and
// imports it.
func (f *file) qualifier(k *pkg) string {
	if k == f.pkg {
		return ""
	}
	name := f.pkg.imports[k]
	f.imports[k.importPath] = name
	return name + "."
}

// objectType returns the name of a table's or struct's accessor.
func (f *file) objectType(o *schema.Object) string {
	n := f.plan.objects[o]
	return f.pick(o.Namespace, n.Type, n.Alias)
}

// objectObject returns the name of the object of a table or struct.
func (f *file) objectObject(o *schema.Object) string {
	n := f.plan.objects[o]
	return f.pick(o.Namespace, n.Object, n.ObjectAlias)
}

// verifyAt returns the name of a table's verifier.
func (f *file) verifyAt(o *schema.Object) string {
	return f.qualifier(f.plan.pkgOf(o.Namespace)) + f.plan.objects[o].VerifyAt
}

// enumType returns the name of an enum or union.
func (f *file) enumType(e *schema.Enum) string {
	n := f.plan.enums[e]
	return f.pick(e.Namespace, n.Type, n.Alias)
}

// unionObject returns the name of the object of a union.
func (f *file) unionObject(e *schema.Enum) string {
	n := f.plan.enums[e]
	return f.pick(e.Namespace, n.Object, n.ObjectAlias)
}

// pick qualifies a name, or its exported alias where another package needs it.
func (f *file) pick(ns schema.Namespace, name, alias string) string {
	k := f.plan.pkgOf(ns)
	if k != f.pkg && alias != "" {
		name = alias
	}
	return f.qualifier(k) + name
}

// scalarType returns the Go type of a scalar: its enum, or the basic type.
func (f *file) scalarType(t schema.Type) string {
	if t.Enum != nil {
		return f.enumType(t.Enum)
	}
	return scalars[t.Base].goType
}

// fromWire converts an expression of a scalar's basic type to its Go type.
func (f *file) fromWire(t schema.Type, expr string) string {
	if t.Enum != nil {
		return f.enumType(t.Enum) + "(" + expr + ")"
	}
	return expr
}

// toWire converts an expression of a scalar's Go type to its basic type.
func toWire(t schema.Type, expr string) string {
	if t.Enum != nil {
		return scalars[wire(t)].goType + "(" + expr + ")"
	}
	return expr
}

// methodOf returns the part of the flatbuffers package's method names that
// stands for a scalar type.
func methodOf(t schema.Type) string { return scalars[wire(t)].method }

// quote writes a Go string literal for a name of the schema, which has neither
// quotes nor escapes in it.
func quote(name string) string { return `"` + name + `"` }

// aliases writes the exported names of types whose own names are not exported,
// so that other packages can refer to them.
func (f *file) aliases(name, alias, object, objectAlias string) {
	if alias == "" {
		return
	}
	f.p("// ", alias, " is ", name, " for use by other packages.")
	f.p("type ", alias, " = ", name)
	f.p()
	if objectAlias != "" {
		f.p("// ", objectAlias, " is ", object, " for use by other packages.")
		f.p("type ", objectAlias, " = ", object)
		f.p()
	}
}

// hasDoc reports whether a declaration has a comment.
func hasDoc(lines []string) bool {
	return strings.TrimSpace(strings.Join(lines, "")) != ""
}
