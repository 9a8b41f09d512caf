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

// A pkg is one Go package of the output: a namespace, or all of them when the
// options ask for one package.
type pkg struct {
	name       string
	dir        string // slash-separated, relative to the output folder
	importPath string
	token      string // that stands for it behind packageMark: as flatc imports it, "A__B"
	namespace  string // dotted, for diagnostics; "" for the root namespace

	scope scope // package-level names
}

// A scope gives out names so that no two things get the same one.
type scope map[string]*owner

// An owner is what a name stands for, for diagnostics about it.
type owner struct {
	what string
	span diag.Span
	file *schema.File // that declares it
}

// claim gives out name, with as many underscores appended as it takes.
func (s scope) claim(name string, o *owner) string {
	for s.has(name) {
		name += "_"
	}
	s[name] = o
	return name
}

// claim gives out a name at package level.
func (k *pkg) claim(name string, o *owner) string {
	for goName(name) != name || k.scope.has(name) {
		name += "_"
	}
	k.scope[name] = o
	return name
}

// has reports whether a name was given out.
func (s scope) has(name string) bool {
	_, taken := s[name]
	return taken
}

// A plan is what is decided before anything is written: the packages, all
// names, and what travels in which envelope. It is read-only afterwards, so
// that files can be written in parallel.
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

	// Those of files that are not generated too.
	envelopes  []*envelope
	envelopeOf map[*schema.Object]*envelope
	services   []*service
	streams    []*stream
	grpc       []*grpcService
	codecs     map[codecKey]*codec

	reached   map[*schema.File]map[*schema.File]bool // of reach
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
	}
	p.findEnvelopes()
	for _, part := range p.parts() {
		p.nameTypes(part)
		p.nameEnums(part)
		p.nameObjects(part)
		p.nameChannels(part)
	}
	p.planChecks()
	p.checkFormerNames()
	return p
}

// A part is what one file of the schema declares.
type part struct {
	file     *schema.File
	objects  []*schema.Object
	enums    []*schema.Enum
	services []*schema.Service
}

// parts returns what the files of the schema declare, those that are included
// first. Names are given out in this order, so that what a file declares is called
// the same in every run, whatever includes the file.
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

// tokenOf returns the token of a namespace. No other has it, whatever namespaces a
// run knows, so that imports are the same in all of them.
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

// goPackage escapes a namespace that cannot be a package's name; "main" cannot
// be imported, and files of "documentation" are not built.
func goPackage(name string) string {
	if keywords[name] || name == "main" || name == "_" || name == "documentation" {
		return name + "_"
	}
	return name
}

// nameTypes names the types of a part, which users see most, before all that is
// derived from them, so that a clash changes the derived name.
func (p *plan) nameTypes(part *part) {
	for _, e := range part.enums {
		k := p.pkgOf(e.Namespace)
		what := "enum"
		if e.IsUnion {
			what = "union"
		}
		p.enums[e] = &enumNames{Type: k.claim(goName(e.Name),
			&owner{what + " " + fullName(e.Namespace, e.Name), e.Span, e.File})}
	}
	for _, o := range part.objects {
		k := p.pkgOf(o.Namespace)
		p.objects[o] = &objectNames{Type: k.claim(goName(o.Name),
			&owner{kindOf(o) + " " + fullName(o.Namespace, o.Name), o.Span, o.File})}
	}
	for _, o := range part.objects {
		n, k := p.objects[o], p.pkgOf(o.Namespace)
		own := &owner{"the object of " + kindOf(o) + " " + fullName(o.Namespace, o.Name),
			o.Span, o.File}
		// The object's name derives from the schema's, as in flatc: escapes of
		// the accessor's name do not show in it.
		n.Object = k.claim(goName(o.Name)+"T", own)
		if !isExported(n.Type) {
			n.Alias = k.claim(exported(o.Name), own)
			n.ObjectAlias = k.claim(exported(o.Name)+"T", own)
		}
	}
	for _, e := range part.enums {
		n, k := p.enums[e], p.pkgOf(e.Namespace)
		own := &owner{"the object of union " + fullName(e.Namespace, e.Name), e.Span, e.File}
		if e.IsUnion {
			n.Object = k.claim(goName(e.Name)+"T", own)
		}
		if !isExported(n.Type) {
			n.Alias = k.claim(exported(e.Name), own)
			if e.IsUnion {
				n.ObjectAlias = k.claim(exported(e.Name)+"T", own)
			}
		}
	}
}

func kindOf(o *schema.Object) string {
	if o.IsStruct {
		return "struct"
	}
	return "table"
}

func (p *plan) nameEnums(part *part) {
	for _, e := range part.enums {
		n, k := p.enums[e], p.pkgOf(e.Namespace)
		own := &owner{"enum " + fullName(e.Namespace, e.Name), e.Span, e.File}
		n.Names = k.claim("EnumNames"+n.Type, own)
		n.Values = k.claim("EnumValues"+n.Type, own)
		n.Parse = k.claim("Parse"+n.Type, own)
		if e.IsUnion {
			n.VerifyAt = k.claim("Verify"+n.Type+"At", own)
		}
		n.Consts = make([]string, len(e.Values))
		for i, val := range e.Values {
			n.Consts[i] = k.claim(n.Type+escapeKeyword(val.Name),
				&owner{"value " + e.Name + "." + val.Name, val.Span, e.File})
		}
	}
}

func escapeKeyword(name string) string {
	if keywords[name] {
		return name + "_"
	}
	return name
}

func (p *plan) nameObjects(part *part) {
	for _, o := range part.objects {
		p.nameObject(o)
	}
	for _, o := range part.objects {
		p.nameFields(o)
	}
}

func (p *plan) nameObject(o *schema.Object) {
	n, k := p.objects[o], p.pkgOf(o.Namespace)
	t := n.Type
	own := &owner{"a function of " + kindOf(o) + " " + fullName(o.Namespace, o.Name),
		o.Span, o.File}
	claim := func(name string) string { return k.claim(name, own) }
	if o.IsStruct {
		n.Create = claim("Create" + t)
		return
	}
	n.GetRootAs = claim("GetRootAs" + t)
	n.GetSizePrefixedRootAs = claim("GetSizePrefixedRootAs" + t)
	n.FinishBuffer = claim("Finish" + t + "Buffer")
	n.FinishSizePrefixedBuffer = claim("FinishSizePrefixed" + t + "Buffer")
	if p.hasIdentifier(o) {
		n.Identifier = claim(t + "Identifier")
		n.HasIdentifier = claim(t + "BufferHasIdentifier")
		n.SizePrefixedHasIdentifier = claim("SizePrefixed" + t + "BufferHasIdentifier")
	}
	n.Start = claim(t + "Start")
	n.End = claim(t + "End")
	if o.Key != nil {
		n.KeyCompare = claim(t + "KeyCompare")
		if isStruct(o.Key.Type) {
			n.KeyStructCompare = claim(lowerCamel(t) + "KeyStructCompare")
		}
	}
	n.Verify = claim("Verify" + t)
	n.VerifySized = claim("VerifySizePrefixed" + t)
	n.VerifyAt = claim("Verify" + t + "At")
	n.FieldsOf = claim("fieldsOf" + t)
}

// hasIdentifier reports whether the file that declares a table makes it the root
// type, and declares a file identifier. What other files say of it does not
// count: they may differ.
func (p *plan) hasIdentifier(o *schema.Object) bool {
	return o.File != nil && o.File.RootType == o && o.File.Identifier != ""
}

// fieldFunction is what all functions of fields say that they are: to say more costs memory
// for every field of a schema, and functionOfField tells it when it is needed.
const fieldFunction = "a function of a field"

// functionOfField returns the owner of a name at package level that a field has.
func (p *plan) functionOfField(k *pkg, name string) *owner {
	for _, o := range p.schema.Objects {
		for _, f := range o.Fields {
			if n := p.fields[f]; n != nil && p.pkgOf(o.Namespace) == k &&
				(n.Add == name || n.StartVector == name) {
				return &owner{"a function of field " + fullName(o.Namespace, o.Name) + "." + f.Name,
					f.Span, o.File}
			}
		}
	}
	return k.scope[name]
}

// nameFields names what is derived from the fields of one object. Plain
// accessors are named before what is derived from them.
func (p *plan) nameFields(o *schema.Object) {
	k, t := p.pkgOf(o.Namespace), p.objects[o].Type
	methods, members := p.methods, p.members // those of the last object
	clear(methods)
	clear(members)
	for _, name := range []string{"Init", "Table", "UnPack", "UnPackTo", "_tab", "LookupByKey"} {
		methods[name] = nil
	}
	members["Pack"] = nil
	all := make([]fieldNames, len(o.Fields))
	own := &owner{fieldFunction, o.Span, o.File}
	for i, f := range o.Fields {
		n := &all[i]
		n.listNames = &noList
		p.fields[f] = n
		if f.Deprecated {
			continue
		}
		camel := memberName(f)
		n.Get = methods.claim(camel, nil)
		if !f.IsTag {
			n.Member = members.claim(camel, nil)
		}
	}
	p.objects[o].Check = members.claim("Check", nil)
	for i, f := range o.Fields {
		n := &all[i]
		if f.Deprecated {
			continue
		}
		if isList(f.Type) {
			n.listNames = new(listNames)
			n.Length = methods.claim(n.Get+"Length", nil)
			if f.Type.Element == schema.UByte {
				n.Bytes = methods.claim(n.Get+"Bytes", nil)
			}
			if f.Type.Element == schema.Byte && f.Type.Enum == nil && f.Type.Base == schema.Vector {
				n.Int8s = methods.claim(n.Get+"Int8s", nil)
			}
			if nested := f.NestedFlatbuffer; nested != nil {
				n.NestedRoot = methods.claim(n.Get+"As"+exported(nested.Name), nil)
				n.NestedObject = methods.claim(n.Get+"As"+exported(nested.Name)+"T", nil)
			}
			if e := f.Type.Object; e != nil && f.Type.Base == schema.Vector && e.Key != nil {
				n.ByKey = methods.claim(n.Get+"ByKey", nil)
			}
		}
		if hasMutator(f.Type) {
			n.Mutate = methods.claim("Mutate"+n.Get, nil)
		}
		if o.IsStruct {
			continue
		}
		n.Add = k.claim(t+"Add"+n.Get, own)
		if isList(f.Type) {
			n.StartVector = k.claim(t+"Start"+n.Get+"Vector", own)
		}
	}
}

// memberName returns the name of a field's accessor and of its member in objects,
// as long as nothing else has it.
func memberName(f *schema.Field) string {
	if name := upperCamel(f.Name); name != "_" { // which Go discards
		return name
	}
	return "X_"
}

// isList reports whether a field holds several values.
func isList(t schema.Type) bool {
	return t.Base == schema.Vector || t.Base == schema.Array
}

// hasMutator reports whether a field's value, or its elements, can be
// overwritten in place.
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
