package gogen

import (
	"cmp"
	"iter"
	"slices"

	"github.com/ipcgen/ipcgen/internal/diag"
	"github.com/ipcgen/ipcgen/internal/schema"
)

// Go packages may not import each other, but a schema's namespaces may. A schema whose packages
// would import each other is refused.

// A reference is the use of a type of another package in a declaration.
type reference struct {
	to       *pkg
	from, of string // full names of the declaration and of the type
	span     diag.Span
}

// checkCycles reports packages that would import each other. It follows the imports of the packages
// that this run generates, through all files that the schema includes, whether this run or another
// one generates them: Go compiles them together in any case.
//
// Namespaces whose types refer to each other need not import each other, because a deprecated field
// produces no code. If there are such references, all files are therefore written once to determine
// their imports, so that the answer agrees with the generated code.
func (p *plan) checkCycles(drafts []*Draft) {
	if len(p.pkgs) < 2 {
		return
	}
	refs := p.references()
	p.checkMain(refs)
	if !tangled(refs) {
		return
	}
	imports := make(map[string][]string) // by namespace
	add := func(from string, to *pkg) {
		if to != nil && !slices.Contains(imports[from], to.namespace) {
			imports[from] = append(imports[from], to.namespace)
		}
	}
	whole := drafts
	if !p.opts.All {
		opts, diags := p.opts, new(diag.List)
		opts.All = true
		if q := newPlan(p.schema, opts, diags); !diags.HasErrors() {
			whole = q.drafts()
		} else { // an included schema has errors, so that its imports are unknown
			for from, list := range refs {
				for _, r := range list {
					add(from, r.to)
				}
			}
		}
	}
	var r renderer
	for _, d := range whole {
		_, needs, _ := r.render(d, nil) // an error is reported when the file is written
		for _, i := range needs {
			add(d.pkg.namespace, i.pkg)
		}
	}
	p.reportCycles(drafts, refs, imports)
}

// checkMain reports types of a package main, in whose folder the output lies, that other packages
// need: Go does not permit the import.
func (p *plan) checkMain(refs map[string][]reference) {
	for _, list := range refs {
		for _, r := range list {
			if r.to.name == "main" {
				p.diags.Errorf(r.span,
					"%s uses %s, whose package is main: no other package can import it",
					r.from, r.of).
					Helpf("give %s a namespace, choose another folder with -o, or put all into "+
						"the package main (-package main)", r.of)
			}
		}
	}
}

// reportCycles reports each import that closes a cycle.
func (p *plan) reportCycles(drafts []*Draft, refs map[string][]reference,
	imports map[string][]string) {
	done := make(map[string]bool)
	var stack []string
	var visit func(namespace string)
	visit = func(namespace string) {
		stack = append(stack, namespace)
		for _, next := range imports[namespace] {
			if i := slices.Index(stack, next); i >= 0 {
				p.reportCycle(refs, stack[i:])
			} else if !done[next] {
				visit(next)
			}
		}
		stack = stack[:len(stack)-1]
		done[namespace] = true
	}
	for _, d := range drafts {
		if !done[d.pkg.namespace] {
			visit(d.pkg.namespace)
		}
	}
}

// reportCycle describes a cycle of packages, each of which imports the next one.
func (p *plan) reportCycle(refs map[string][]reference, cycle []string) {
	reason := func(i int) reference { return p.reason(refs, cycle[i], cycle[(i+1)%len(cycle)]) }
	first := reason(0)
	d := p.diags.Errorf(first.span,
		"namespaces %s and %s need each other, and Go packages may not: %s uses %s",
		display(cycle[0]), display(cycle[1%len(cycle)]), first.from, first.of)
	for i := 1; i < len(cycle); i++ {
		r := reason(i)
		d.Note(r.span, "%s uses %s", r.from, r.of)
	}
	d.Helpf("move one of the types into the other's namespace, or generate one package for all " +
		"namespaces (-package)")
}

// reason returns a reference that makes one package import another: from a declaration to a type,
// or to a part of that type.
func (p *plan) reason(refs map[string][]reference, from, to string) reference {
	for _, r := range refs[from] {
		if r.to.namespace == to {
			return r
		}
	}
	for _, r := range refs[from] {
		for _, next := range refs[r.to.namespace] {
			if next.from == r.of && next.to.namespace == to {
				return reference{next.to, r.from, next.of, r.span}
			}
		}
	}
	return reference{from: "namespace " + display(from), of: "namespace " + display(to)}
}

func display(namespace string) string { return cmp.Or(namespace, "(root)") }

// tangled reports whether references lead from a namespace back to it.
func tangled(refs map[string][]reference) bool {
	const active, done = 1, 2
	state := make(map[string]int)
	var visit func(namespace string) bool
	visit = func(namespace string) bool {
		state[namespace] = active
		for _, r := range refs[namespace] {
			next := r.to.namespace
			if state[next] == active || state[next] == 0 && visit(next) {
				return true
			}
		}
		state[namespace] = done
		return false
	}
	for namespace := range refs {
		if state[namespace] == 0 && visit(namespace) {
			return true
		}
	}
	return false
}

// references returns, by namespace, the references of declarations to other namespaces.
func (p *plan) references() map[string][]reference {
	refs := make(map[string][]reference)
	seen := make(map[[2]string]bool)
	add := func(ns schema.Namespace, name string, t schema.Type, span diag.Span) {
		from := p.pkgOf(ns)
		for toNS, toName := range typesOf(t) {
			to := p.pkgOf(toNS)
			r := reference{to, fullName(ns, name), fullName(toNS, toName), span}
			if key := [2]string{r.from, r.of}; to != from && !seen[key] {
				seen[key] = true
				refs[from.namespace] = append(refs[from.namespace], r)
			}
		}
	}
	for _, o := range p.schema.Objects {
		for _, f := range o.Fields {
			add(o.Namespace, o.Name, f.Type, f.Span)
			add(o.Namespace, o.Name, schema.Type{Object: f.NestedFlatbuffer}, f.Span)
		}
	}
	for _, e := range p.schema.Enums {
		for _, val := range e.Values {
			add(e.Namespace, e.Name, val.Type, val.Span)
		}
	}
	for _, s := range p.schema.Services {
		for _, m := range s.Methods {
			add(s.Namespace, s.Name, schema.Type{Object: m.Request}, m.Span)
			add(s.Namespace, s.Name, schema.Type{Object: m.Reply}, m.Span)
		}
		// The envelopes of the service are not chosen yet in all cases.
		for _, e := range p.envelopesFor(s) {
			add(s.Namespace, s.Name, schema.Type{Object: e.table}, s.Span)
		}
	}
	return refs
}

// typesOf yields the declared types of which a type consists.
func typesOf(t schema.Type) iter.Seq2[schema.Namespace, string] {
	return func(yield func(schema.Namespace, string) bool) {
		if t.Object != nil && !yield(t.Object.Namespace, t.Object.Name) {
			return
		}
		if t.Enum != nil {
			yield(t.Enum.Namespace, t.Enum.Name)
		}
	}
}
