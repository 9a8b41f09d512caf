// Package gogen writes Go code for a resolved schema: accessors, builders and objects with the
// names and the behaviour of flatc's, a verifier for every table, and typed channels and services
// for envelopes and rpc_services.
//
// The package works in three steps. [Plan] decides packages, names and channels, and reports what
// is not possible. Emitters, one file of this package per kind of code, then write each Go file
// into memory. At last, marked names get their final form. The package does not read or write
// files.
package gogen

import (
	"cmp"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/ipcgen/ipcgen/internal/diag"
	"github.com/ipcgen/ipcgen/internal/schema"
)

// Options configures the generated code. The zero value suits a schema with one namespace.
type Options struct {
	// ImportPath is the import path of the output folder. It is needed if types of one namespace
	// refer to types of another one.
	ImportPath string
	// Package, if not empty, puts all namespaces into one package of this name, in the output
	// folder itself.
	Package string
	// RootPackage is the name of the package of types without a namespace. The default is the last
	// element of ImportPath.
	RootPackage string
	// OneFile writes each package as one file instead of one file per type.
	OneFile bool
	// All also generates code for included schemas.
	All bool
	// GRPC also writes stubs of gRPC for each rpc_service, with the names of flatc's.
	GRPC bool
	// Source returns the name of a file of the schema, for the first line of the files generated
	// from it: a path relative to the output folder that starts with "./" or "../", or a name that
	// is not a path. The default is the file's own name.
	Source func(*schema.File) string
	// Flatbuffers and Runtime are the import paths of FlatBuffers' Go package and of ipcgen's
	// runtime, if they differ from the usual ones, as in a fork.
	Flatbuffers, Runtime string
}

// source calls Source, or its default.
func (o Options) source(f *schema.File) string {
	switch {
	case f == nil:
		return "a schema"
	case o.Source != nil:
		return o.Source(f)
	default:
		return path.Base(f.Name)
	}
}

func (o Options) rootPackage() string {
	switch {
	case o.Package != "":
		return o.Package
	case o.RootPackage != "":
		return o.RootPackage
	default:
		return identifier(path.Base(o.ImportPath))
	}
}

// identifier converts the last element of an import path to a package name.
func identifier(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == '_' || r < 0x80 && (isLetter(byte(r)) || isDigit(byte(r))) {
			return r
		}
		return -1
	}, s)
	if s == "" || isDigit(s[0]) {
		s = "fbs" + s
	}
	return goPackage(s)
}

// A File is one generated file.
type File struct {
	Path    string // slash-separated, relative to the output folder
	Content []byte
}

// A Draft is a file that is planned and not written yet.
type Draft struct {
	Path    string // slash-separated, relative to the output folder
	Package string // the name in its package clause
	// Declarer is the file of the schema that declares the contents of the Go file. The text
	// depends on that file only, not on the schemas that include it.
	Declarer *schema.File
	// Types has the full names of the types and services in the file, some of them twice.
	Types []string

	plan  *plan
	pkg   *pkg
	span  diag.Span             // of a declaration in the file
	sees  map[*schema.File]bool // the files whose types the file may use
	emits []func(*file)
	// guards has the packages of the runtime whose version constants the file mentions if it
	// imports them. One file of each schema in each package mentions each constant.
	guards map[string]bool
}

// Plan returns the Go files for s, ordered by path. It reports errors to diags, and then returns
// nil. Drafts may be rendered concurrently.
func Plan(s *schema.Schema, opts Options, diags *diag.List) []*Draft {
	p := newPlan(s, opts, diags)
	p.checkMethods()
	p.checkTypes()
	if diags.HasErrors() {
		return nil
	}
	drafts := p.drafts()
	p.checkFolders(drafts)
	p.checkCycles(drafts)
	if diags.HasErrors() {
		return nil
	}
	slices.SortFunc(drafts, func(a, b *Draft) int { return strings.Compare(a.Path, b.Path) })
	return drafts
}

// Generate returns the Go files for s, ordered by path, in memory. It reports errors to diags, and
// then returns nil. The same schema and options give the same bytes.
func Generate(s *schema.Schema, opts Options, diags *diag.List) []File {
	drafts := Plan(s, opts, diags)
	if drafts == nil {
		return nil
	}
	files := make([]File, len(drafts))
	errs := make([]error, len(drafts))
	var wg sync.WaitGroup
	for w := range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := w; i < len(drafts); i += runtime.GOMAXPROCS(0) {
				files[i].Path = drafts[i].Path
				files[i].Content, errs[i] = drafts[i].Render(nil)
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			diags.Errorf(diag.Span{}, "%v", err)
		}
	}
	if diags.HasErrors() {
		return nil
	}
	return files
}

// A declaration is a piece of the output, with the name of its file.
type declaration struct {
	declarer *schema.File
	pkg      *pkg
	typ      string // full name
	span     diag.Span
	name     string // of the file
	runtime  string // the package of the runtime that the code imports, "fb" or "ipc"; may be empty
	emit     func(*file)
}

// declarations returns the pieces of the output. The names of files are needed for all declarations
// of the schema; emit is nil for those that are not generated.
func (p *plan) declarations() []declaration {
	var all []declaration
	add := func(from *schema.File, span diag.Span, ns schema.Namespace, typ, suffix, runtime string,
		emit func(*file)) {
		if !p.generated(from) {
			emit = nil
		}
		all = append(all,
			declaration{from, p.pkgOf(ns), fullName(ns, typ), span, typ + suffix, runtime, emit})
	}
	for _, o := range p.schema.Objects {
		if o.IsStruct {
			add(o.File, o.Span, o.Namespace, o.Name, "", "", func(f *file) { f.structType(o) })
		} else {
			add(o.File, o.Span, o.Namespace, o.Name, "", "fb", func(f *file) { f.table(o) })
		}
	}
	for _, e := range p.schema.Enums {
		add(e.File, e.Span, e.Namespace, e.Name, "", "fb", func(f *file) { f.enum(e) })
	}
	for _, e := range p.envelopes {
		add(e.table.File, e.table.Span, e.table.Namespace, e.table.Name, "_channel", "ipc",
			func(f *file) {
				f.envelope(e)
			})
	}
	planned := make(map[*schema.Service]*service)
	for _, s := range p.services {
		planned[s.decl] = s
	}
	for _, decl := range p.schema.Services {
		var emit func(*file)
		if s := planned[decl]; s != nil {
			emit = func(f *file) { f.service(s) }
		}
		add(decl.File, decl.Span, decl.Namespace, decl.Name, "", "ipc", emit)
	}
	stubs := make(map[*schema.Service]*grpcService)
	for _, s := range p.grpc {
		stubs[s.decl] = s
	}
	for _, decl := range p.schema.Services {
		if p.opts.GRPC {
			add(decl.File, decl.Span, decl.Namespace, decl.Name, "_grpc", "fb", func(f *file) {
				f.grpcService(stubs[decl])
			})
		}
	}
	streams := make(map[*schema.Object]*stream)
	for _, s := range p.streams {
		streams[s.header] = s
	}
	for _, o := range p.schema.Objects {
		if isStream(o) {
			add(o.File, o.Span, o.Namespace, o.Name, "_stream", "ipc", func(f *file) {
				f.stream(streams[o])
			})
		}
	}
	topics := make(map[*schema.Object]*topic)
	for _, t := range p.topics {
		topics[t.message] = t
	}
	for _, o := range p.schema.Objects {
		if isTopic(o) {
			add(o.File, o.Span, o.Namespace, o.Name, "_topic", "ipc", func(f *file) {
				f.topic(topics[o])
			})
		}
	}
	return all
}

// drafts returns the files of the output. The name of a file depends only on the schema that
// declares its type and on the files which that schema includes. A run for another schema that
// includes it gives the file the same name, unless types of several namespaces are put into one
// package.
func (p *plan) drafts() []*Draft {
	all := p.declarations()
	order := make(map[*schema.File]int, len(p.schema.Files))
	for i, f := range p.schema.Files {
		order[f] = i // includes come first
	}
	slices.SortStableFunc(all, func(a, b declaration) int {
		return cmp.Compare(order[a.declarer], order[b.declarer])
	})

	type place struct {
		pkg      *pkg
		declarer *schema.File
	}
	names := make(map[place]map[string]bool) // in small letters
	made := make(map[place]map[string]*Draft)
	type guard struct {
		place
		runtime string
	}
	guarded := make(map[guard]bool)
	var drafts []*Draft
	for _, d := range all {
		at := place{d.pkg, d.declarer}
		if made[at] == nil {
			made[at], names[at] = make(map[string]*Draft), make(map[string]bool)
		}
		if p.opts.OneFile {
			d.name = schemaFileName(d.declarer)
		}
		draft := made[at][d.name]
		if draft == nil {
			name := fileName(d.name, func(name string) bool {
				for at, taken := range names {
					// Types of several namespaces in one package may have the same name. They then
					// get different names in Go, too, which only this schema knows.
					if at.pkg == d.pkg && taken[name] &&
						(p.opts.Package != "" || p.reach(d.declarer)[at.declarer]) {
						return true
					}
				}
				return false
			})
			names[at][strings.ToLower(name)] = true
			draft = &Draft{
				Path: path.Join(d.pkg.dir, name+".go"), Package: d.pkg.name, Declarer: d.declarer,
				plan: p, pkg: d.pkg, span: d.span, sees: p.reach(d.declarer),
				guards: make(map[string]bool),
			}
			made[at][d.name] = draft
		}
		if d.emit == nil {
			continue
		}
		if len(draft.emits) == 0 {
			drafts = append(drafts, draft)
		}
		draft.emits = append(draft.emits, d.emit)
		if g := (guard{at, d.runtime}); d.runtime != "" && !guarded[g] {
			guarded[g], draft.guards[d.runtime] = true, true
		}
		draft.Types = append(draft.Types, d.typ)
	}
	return drafts
}

// reach returns a file of the schema and all files that it includes, directly or indirectly.
func (p *plan) reach(f *schema.File) map[*schema.File]bool {
	if r := p.reached[f]; r != nil {
		return r
	}
	r := make(map[*schema.File]bool)
	var visit func(*schema.File)
	visit = func(f *schema.File) {
		if r[f] {
			return
		}
		r[f] = true
		if f != nil {
			for _, g := range f.Includes {
				visit(g)
			}
		}
	}
	visit(f)
	if p.reached == nil {
		p.reached = make(map[*schema.File]map[*schema.File]bool)
	}
	p.reached[f] = r
	return r
}
