// Package gogen writes Go code for a resolved schema: accessors, builders and
// objects with the names and the behaviour that flatc gives them, a verifier
// for every table, and typed channels and services for envelopes and
// rpc_services.
//
// The package has three steps. A plan decides packages, names and channels, and
// reports what cannot be. Emitters, one file of this package per kind of code,
// then write each Go file into memory. Nothing here reads or writes a disk.
package gogen

import (
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/ipcgen/ipcgen/internal/diag"
	"github.com/ipcgen/ipcgen/internal/schema"
)

// Options say where generated code will live. The zero value suits a schema of
// one namespace.
type Options struct {
	// ImportPath is the import path of the output folder. It is needed when
	// the types of one namespace refer to those of another.
	ImportPath string
	// Package, when not empty, puts all namespaces into one package of this
	// name, in the output folder itself.
	Package string
	// RootPackage names the package of types without a namespace; by default
	// it is the last element of ImportPath.
	RootPackage string
	// OneFile writes each package as one file instead of one file per type.
	OneFile bool
	// All generates code for included schemas too.
	All bool
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

// identifier makes a package name of the last element of an import path.
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

// Generate returns the Go files for s, ordered by path. Errors are reported to
// diags; then it returns nil. The same schema and options give the same bytes.
func Generate(s *schema.Schema, opts Options, diags *diag.List) []File {
	p := newPlan(s, opts, diags)
	if diags.HasErrors() {
		return nil
	}
	drafts := p.drafts()
	files := make([]File, len(drafts))
	errs := make([]error, len(drafts))
	var wg sync.WaitGroup
	for w := range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := w; i < len(drafts); i += runtime.GOMAXPROCS(0) {
				files[i], errs[i] = drafts[i].render(p)
			}
		})
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			diags.Errorf(diag.Span{}, "%s: generated code does not parse, which is a mistake in ipcgen: %v", files[i].Path, err)
		}
	}
	if diags.HasErrors() {
		return nil
	}
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return files
}

// A draft is a file that is yet to be written: its place and its emitters.
type draft struct {
	pkg   *pkg
	name  string // without ".go"
	emits []func(*file)
	// guard makes the file carry its package's reference to the runtime's
	// version, if it imports the runtime.
	guard bool
}

// drafts lists the files of the output.
func (p *plan) drafts() []*draft {
	var all []*draft
	byName := make(map[*pkg]map[string]*draft)
	add := func(k *pkg, name string, emit func(*file)) {
		if p.opts.OneFile {
			name = k.name
		}
		if byName[k] == nil {
			byName[k] = make(map[string]*draft)
		}
		d := byName[k][name]
		if d == nil {
			d = &draft{pkg: k, name: k.fileName(name), guard: len(byName[k]) == 0}
			byName[k][name] = d
			all = append(all, d)
		}
		d.emits = append(d.emits, emit)
	}
	for _, o := range p.schema.Objects {
		if !p.generated(o.File) {
			continue
		}
		if o.IsStruct {
			add(p.pkgOf(o.Namespace), o.Name, func(f *file) { f.structType(o) })
		} else {
			add(p.pkgOf(o.Namespace), o.Name, func(f *file) { f.table(o) })
		}
	}
	for _, e := range p.schema.Enums {
		if p.generated(e.File) {
			add(p.pkgOf(e.Namespace), e.Name, func(f *file) { f.enum(e) })
		}
	}
	for _, e := range p.envelopes {
		add(p.pkgOf(e.table.Namespace), e.table.Name+"_channel", func(f *file) { f.envelope(e) })
	}
	for _, s := range p.services {
		add(p.pkgOf(s.decl.Namespace), s.decl.Name, func(f *file) { f.service(s) })
	}
	for _, s := range p.streams {
		add(p.pkgOf(s.header.Namespace), s.header.Name+"_stream", func(f *file) { f.stream(s) })
	}
	return all
}

// fileName returns the name of a file for a type, changed where the go command
// would give the file a meaning of its own or a file system would take two
// names for one.
func (k *pkg) fileName(name string) string {
	if i := strings.LastIndexByte(name, '_'); i >= 0 && buildSuffixes[name[i+1:]] {
		name += "_"
	}
	if name[0] == '_' {
		name = "X" + name
	}
	claimed := k.files.claim(strings.ToLower(name), owner{})
	return name + claimed[len(name):]
}

// buildSuffixes are the ends of file names that say when a file is built.
var buildSuffixes = set(
	"test",
	"aix", "android", "darwin", "dragonfly", "freebsd", "hurd", "illumos",
	"ios", "js", "linux", "nacl", "netbsd", "openbsd", "plan9", "solaris",
	"wasip1", "windows", "zos",
	"386", "amd64", "amd64p32", "arm", "arm64", "arm64be", "armbe", "loong64",
	"mips", "mips64", "mips64le", "mips64p32", "mips64p32le", "mipsle", "ppc",
	"ppc64", "ppc64le", "riscv", "riscv64", "s390", "s390x", "sparc",
	"sparc64", "wasm",
)
