package gogen

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ipcgen/ipcgen/internal/schema"
)

// A file is a Go file being written.
type file struct {
	writer
	plan *plan
	pkg  *pkg
}

// A renderer writes files, one after the other, into memory that it reuses.
type renderer struct {
	body     []byte
	resolver resolver
}

// Render returns the text of the file, in the memory of buf if that is large enough. An error is a
// bug of ipcgen.
func (d *Draft) Render(buf []byte) ([]byte, error) {
	w, _ := d.plan.renderers.Get().(*renderer)
	if w == nil {
		w = new(renderer)
	}
	defer d.plan.renderers.Put(w)
	text, _, err := w.render(d, buf)
	return text, err
}

// emit writes the declarations of a file, with marks.
func (w *renderer) emit(d *Draft) *file {
	f := &file{plan: d.plan, pkg: d.pkg, writer: writer{buf: w.body[:0]}}
	for i, emit := range d.emits {
		if i > 0 {
			f.p()
		}
		emit(f)
	}
	w.body = f.buf
	return f
}

// render writes a file, and returns its text and its imports.
func (w *renderer) render(d *Draft, buf []byte) ([]byte, []imported, error) {
	f := w.emit(d)
	body := bytes.TrimRight(f.buf, "\n")
	r := &w.resolver
	if err := r.resolve(d, body); err != nil {
		return nil, nil, mistake(d, err)
	}
	f.writer = writer{buf: slices.Grow(buf[:0], len(body)+512),
		needsFormat: f.needsFormat || r.renamed}
	f.p(Header(d.pkg.dir, d.plan.opts.source(d.Declarer)))
	f.p()
	f.p("package ", d.pkg.name)
	f.p()
	f.importBlock(r.imports)
	for _, i := range r.imports {
		if i.pkg == nil && d.guards[i.name] {
			f.p("// If this constant does not exist, the code generator and the runtime do not")
			f.p("// fit each other: bring both to one version, and generate again.")
			f.p("const _ = ", i.alias, ".RuntimeAtLeastV1")
			f.p()
		}
	}
	f.buf = r.appendTo(f.buf)
	f.p()
	text, err := f.finish()
	if err != nil {
		return nil, nil, mistake(d, err)
	}
	return text, r.imports, nil
}

func mistake(d *Draft, err error) error {
	return fmt.Errorf("%s: generated code does not parse, which is a mistake in ipcgen: %w", d.Path,
		err)
}

// importBlock writes the imports: the standard library, then the others.
func (f *file) importBlock(imports []imported) {
	slices.SortFunc(imports, func(a, b imported) int {
		if a.std != b.std {
			if a.std {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.path, b.path)
	})
	line := func(i imported) string {
		if i.named || i.alias != i.name {
			return i.alias + ` "` + i.path + `"`
		}
		return `"` + i.path + `"`
	}
	switch {
	case len(imports) == 0:
		return
	case len(imports) == 1:
		f.p("import ", line(imports[0]))
	default:
		f.p("import (")
		for n, i := range imports {
			if n > 0 && imports[n-1].std && !i.std {
				f.p()
			}
			f.p(line(i))
		}
		f.p(")")
	}
	f.p()
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

// pick qualifies a name, or its exported alias if another package needs it.
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

// methodOf returns the part of the names of the flatbuffers package's methods that stands for a
// scalar type.
func methodOf(t schema.Type) string { return scalars[wire(t)].method }

// quote returns a Go string literal.
func quote(s string) string { return unmarked(strconv.Quote(s)) }

// aliases writes the exported aliases of types whose own names are not exported, so that other
// packages can refer to them.
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
