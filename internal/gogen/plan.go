package gogen

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/ipcgen/ipcgen/internal/diag"
	"github.com/ipcgen/ipcgen/internal/schema"
)

// A pkg is one Go package of the output: a namespace, or all of them if the options ask for one
// package.
type pkg struct {
	name       string
	dir        string // slash-separated, relative to the output folder
	importPath string
	token      string // stands for it behind packageMark: as flatc imports it, "A__B"
	namespace  string // dotted, for diagnostics; "" for the root namespace

	scope scope // package-level names
}

// A plan has all decisions that are made before anything is written: the packages, all names, and
// the envelopes of messages. It is read-only afterwards, so files can be written concurrently.
type plan struct {
	schema *schema.Schema
	opts   Options
	diags  *diag.List

	pkgs   map[string]*pkg // by namespace
	tokens map[string]*pkg // by token

	objects map[*schema.Object]*objectNames
	fields  map[*schema.Field]*fieldNames
	enums   map[*schema.Enum]*enumNames

	methods, members scope // of the object whose fields are being named

	// Also those of files that are not generated.
	envelopes  []*envelope
	envelopeOf map[*schema.Object]*envelope
	services   []*service
	streams    []*stream
	topics     []*topic
	grpc       []*grpcService
	codecs     map[codecKey]*codec

	definitions map[definitionKey]*definition

	reached   map[*schema.File]map[*schema.File]bool // cache of reach
	renderers sync.Pool                              // of *renderer
}

func newPlan(s *schema.Schema, opts Options, diags *diag.List) *plan {
	fields := 0
	for _, o := range s.Objects {
		fields += len(o.Fields)
	}
	p := &plan{
		schema: s, opts: opts, diags: diags,
		pkgs:    make(map[string]*pkg),
		tokens:  make(map[string]*pkg),
		objects: make(map[*schema.Object]*objectNames, len(s.Objects)),
		fields:  make(map[*schema.Field]*fieldNames, fields),
		enums:   make(map[*schema.Enum]*enumNames, len(s.Enums)),

		methods: make(scope), members: make(scope),

		envelopeOf: make(map[*schema.Object]*envelope),
		codecs:     make(map[codecKey]*codec),

		definitions: make(map[definitionKey]*definition),
	}
	p.findEnvelopes()
	for _, part := range p.parts() {
		p.nameTypes(part)
		p.nameEnums(part)
		p.nameObjects(part)
		p.nameChannels(part)
	}
	p.planChecks()
	p.checkAttributes()
	p.checkFormerNames()
	p.checkTimeouts()
	return p
}

// A part has the declarations of one file of the schema.
type part struct {
	file     *schema.File
	objects  []*schema.Object
	enums    []*schema.Enum
	services []*schema.Service
}

// parts returns the declarations of the schema's files, included files first. Names are assigned in
// this order, so that the declarations of a file get the same names in every run, whichever file
// includes it.
func (p *plan) parts() []*part {
	byFile := make(map[*schema.File]*part, len(p.schema.Files)+1)
	var all []*part
	for _, f := range append(slices.Clone(p.schema.Files), nil) {
		byFile[f] = &part{file: f}
		all = append(all, byFile[f])
	}
	for _, o := range p.schema.Objects {
		byFile[o.File].objects = append(byFile[o.File].objects, o)
	}
	for _, e := range p.schema.Enums {
		byFile[e.File].enums = append(byFile[e.File].enums, e)
	}
	for _, s := range p.schema.Services {
		byFile[s.File].services = append(byFile[s.File].services, s)
	}
	return all
}

// pkgOf returns the package of a namespace.
func (p *plan) pkgOf(ns schema.Namespace) *pkg {
	if p.opts.Package != "" {
		ns = nil
	}
	key := strings.Join(ns, ".")
	if k := p.pkgs[key]; k != nil {
		return k
	}
	k := &pkg{namespace: key, dir: strings.Join(ns, "/"), scope: make(scope)}
	if len(ns) == 0 {
		k.name = p.opts.rootPackage()
		k.token = k.name + "__"
	} else {
		k.name = goPackage(ns[len(ns)-1])
		k.token = tokenOf(ns)
	}
	for p.importSpec(k.token) != nil {
		k.token += "_"
	}
	k.importPath = path.Join(p.opts.ImportPath, k.dir)
	p.pkgs[key] = k
	p.tokens[k.token] = k
	return k
}

// tokenOf returns the token of a namespace. No other namespace of any run has it, so imports are
// the same in all runs.
func tokenOf(ns schema.Namespace) string {
	token := strings.Join(ns, "__")
	for _, piece := range ns {
		if piece[0] == '_' || piece[len(piece)-1] == '_' || strings.Contains(piece, "__") {
			return fmt.Sprintf("%s_%08x", token, wireID(token, strings.Join(ns, ".")))
		}
	}
	if outside[token] != nil {
		token += "_"
	}
	return token
}

// hasIdentifier reports whether the file that declares a table makes it the root type and declares
// a file identifier. The statements of other files do not count, because they may differ.
func (p *plan) hasIdentifier(o *schema.Object) bool {
	return o.File != nil && o.File.RootType == o && o.File.Identifier != ""
}

// isList reports whether a field holds several values.
func isList(t schema.Type) bool {
	return t.Base == schema.Vector || t.Base == schema.Array
}

// hasMutator reports whether a field's value, or its elements, can be overwritten in place.
func hasMutator(t schema.Type) bool {
	if isList(t) {
		return isScalar(t.Element)
	}
	return isScalar(t.Base)
}

// generated reports whether code is written for the declarations of a file.
func (p *plan) generated(f *schema.File) bool {
	return p.opts.All || f == nil || f.Root
}
