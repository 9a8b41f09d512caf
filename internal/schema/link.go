package schema

import (
	"slices"
	"strings"

	"github.com/ipcgen/ipcgen/internal/diag"
	"github.com/ipcgen/ipcgen/internal/fbs"
)

// A symbol is a table or a struct that was declared, or only mentioned yet.
type symbol struct {
	object *Object
	// pending is set until the declaration is met. The first one whose
	// unqualified name fits binds it, whatever its namespace.
	pending bool
	use     diag.Span // of the first mention
	// reported is set when an error has said that it is not declared.
	reported bool
	name     string // as mentioned
}

// A linker resolves the declarations of one root schema, in the order in which
// flatc meets them. The order is part of the language: an enum must be declared
// before it is used, and a table or struct that is mentioned before it is
// declared binds differently from one that is mentioned after.
type linker struct {
	diags  *diag.List
	schema *Schema

	// objects holds declared objects by their full name, and pending ones by
	// the name they were mentioned by.
	objects  map[string]*symbol
	enums    map[string]*Enum
	services map[string]*Service
	types    map[string]diag.Span // where each full name was declared
	pending  []*symbol            // in order of first mention
	// attributes tells which names may be used in metadata; false for those
	// the schema declared itself.
	attributes map[string]bool
	// late holds the checks that need everything to be declared.
	late []func()

	// Of the file being linked:
	parsed    *fbs.File
	file      *File
	namespace Namespace
	prefix    string // the namespace with a dot behind it, or empty

	key    []byte            // scratch for qualified names
	fields map[string]*Field // scratch for the fields of one object
	// values finds the values of each enum that has been declared, by name.
	values map[*Enum]map[string]*EnumVal
}

// link resolves the declarations of the units, whose last one is the root.
func link(units []unit, diags *diag.List) *Schema {
	l := &linker{
		diags:      diags,
		schema:     &Schema{},
		objects:    make(map[string]*symbol),
		enums:      make(map[string]*Enum),
		services:   make(map[string]*Service),
		types:      make(map[string]diag.Span),
		attributes: make(map[string]bool, len(builtinAttributes)),
		fields:     make(map[string]*Field),
		values:     make(map[*Enum]map[string]*EnumVal),
	}
	for _, name := range builtinAttributes {
		l.attributes[name] = true
	}
	before := diags.Errors()
	for _, u := range units {
		l.unit(u)
	}
	for _, s := range l.pending {
		if s.pending && !s.reported && !diags.Full() {
			l.undefined(s)
		}
	}
	if diags.Errors() == before {
		for _, check := range l.late {
			check()
		}
	}
	if diags.HasErrors() {
		return nil
	}
	l.schema.Arrange()
	return l.schema
}

// Arrange puts what the schema lists into the order that the model promises,
// and drops files that the last one does not include. It is for those who make
// a model.
func (s *Schema) Arrange() {
	sortBy(s.Objects, (*Object).FullName)
	sortBy(s.Enums, (*Enum).FullName)
	sortBy(s.Services, (*Service).FullName)
	for _, f := range s.Files {
		sortBy(f.Includes, func(f *File) string { return f.Name })
	}
	if n := len(s.Files); n > 0 {
		s.Files = withIncludes(s.Files[n-1])
	}
}

// sortBy sorts a list by names that are costly to make, and makes each once.
func sortBy[T comparable](list []T, name func(T) string) {
	names := make(map[T]string, len(list))
	for _, v := range list {
		names[v] = name(v)
	}
	slices.SortFunc(list, func(a, b T) int { return strings.Compare(names[a], names[b]) })
}

// withIncludes lists a file and all it includes, each behind those it includes.
func withIncludes(root *File) (files []*File) {
	seen := make(map[*File]bool)
	var add func(f *File)
	add = func(f *File) {
		if seen[f] {
			return
		}
		seen[f] = true
		for _, g := range f.Includes {
			add(g)
		}
		files = append(files, f)
	}
	add(root)
	return files
}

// unit links one file. The namespace starts empty, and what concerns the root
// of a schema counts only in its last file.
func (l *linker) unit(u unit) {
	l.parsed, l.file = u.parsed, u.file
	l.namespace, l.prefix = nil, ""
	l.schema.Files = append(l.schema.Files, u.file)
	l.schema.Root, l.schema.FileIdentifier, l.schema.FileExtension = nil, "", ""
	for _, d := range u.parsed.Decls {
		if l.diags.Full() {
			return
		}
		switch d := d.(type) {
		case *fbs.Namespace:
			l.enter(d.Name)
		case *fbs.AttributeDecl:
			l.declareAttribute(d.Name)
		case *fbs.RootType:
			l.rootType(d.Type)
		case *fbs.FileIdentifier:
			l.fileIdentifier(d.Value)
		case *fbs.FileExtension:
			l.schema.FileExtension = d.Value.Text
		case *fbs.Object:
			l.object(d)
		case *fbs.Enum:
			l.enum(d)
		case *fbs.Service:
			l.service(d)
		}
	}
}

func (l *linker) span(r fbs.Range) diag.Span { return l.parsed.Span(r) }

func (l *linker) errorf(r fbs.Range, format string, args ...any) *diag.Diagnostic {
	return l.diags.Errorf(l.span(r), format, args...)
}

// The length of a namespace and the number of its parts are bounded, since
// every name is looked up in each part of it.
const (
	maxNamespace      = 1000
	maxNamespaceParts = 64
)

// enter makes a namespace the current one.
func (l *linker) enter(name fbs.Name) {
	l.namespace, l.prefix = nil, ""
	switch parts := strings.Count(name.Text, ".") + 1; {
	case name.Text == "":
	case len(name.Text) > maxNamespace || parts > maxNamespaceParts:
		l.errorf(name.Range, "the namespace has %d parts and %d characters; the limits are %d and %d",
			parts, len(name.Text), maxNamespaceParts, maxNamespace)
	default:
		l.namespace, l.prefix = strings.Split(name.Text, "."), name.Text+"."
	}
}

// qualified returns name in the current namespace, as scratch that the next
// call overwrites; a map look-up by string(key) does not allocate.
func (l *linker) qualified(name string) []byte {
	l.key = append(append(l.key[:0], l.prefix...), name...)
	return l.key
}

// declare reports whether name is free for a new type of the current
// namespace, and takes it.
func (l *linker) declare(name fbs.Name) bool {
	full := string(l.qualified(name.Text))
	if at, ok := l.types[full]; ok {
		l.errorf(name.Range, "%s is declared twice", full).Note(at, "the first declaration is here")
		return false
	}
	l.types[full] = l.span(name.Range)
	return true
}

// findEnum looks an enum or union up by a name, from the current namespace
// outwards. Only those declared before are found.
func (l *linker) findEnum(name string) *Enum {
	if len(l.enums) == 0 {
		return nil
	}
	for n := len(l.prefix); ; n = outer(l.prefix, n) {
		l.key = append(append(l.key[:0], l.prefix[:n]...), name...)
		if e := l.enums[string(l.key)]; e != nil || n == 0 {
			return e
		}
	}
}

// outer returns the length of the namespace that encloses prefix[:n].
func outer(prefix string, n int) int { return strings.LastIndexByte(prefix[:n-1], '.') + 1 }

// findObject looks a table or struct up by a name: one that was mentioned by
// this very name and is still to be declared; one of the current namespace;
// one of the namespaces around it.
func (l *linker) findObject(name string) *symbol {
	if s := l.objects[name]; s != nil && s.pending {
		return s
	}
	for n := len(l.prefix); ; n = outer(l.prefix, n) {
		l.key = append(append(l.key[:0], l.prefix[:n]...), name...)
		if s := l.objects[string(l.key)]; s != nil || n == 0 {
			return s
		}
	}
}

// mention looks up a table or struct, and notes that it is wanted when it is
// not declared yet.
func (l *linker) mention(name string, r fbs.Range) *symbol {
	if s := l.findObject(name); s != nil {
		return s
	}
	s := &symbol{object: &Object{Name: name}, pending: true, use: l.span(r), name: name}
	l.objects[name] = s
	l.pending = append(l.pending, s)
	return s
}

// define returns the symbol that the declaration of name fills: one that was
// mentioned before, by its unqualified or by its full name, or a new one.
func (l *linker) define(name string) *Object {
	full := string(l.qualified(name))
	s := l.objects[name]
	if s != nil && s.pending {
		delete(l.objects, name)
	} else if s = l.objects[full]; s == nil || !s.pending {
		s = &symbol{object: &Object{}}
	}
	s.pending = false
	s.object.Name, s.object.Namespace = name, l.namespace
	l.objects[full] = s
	return s.object
}

// undefined reports a type that was mentioned and never declared.
func (l *linker) undefined(s *symbol) {
	d := l.diags.Errorf(s.use, "type %s is not defined", s.name)
	simple := s.name[strings.LastIndexByte(s.name, '.')+1:]
	var names, same []string
	for full := range l.types {
		names = append(names, full)
		if full == simple || strings.HasSuffix(full, "."+simple) {
			same = append(same, full)
		}
	}
	slices.Sort(names)
	slices.Sort(same)
	for _, full := range same {
		if l.enums[full] != nil {
			d.Note(l.types[full], "%s is declared here; an enum or a union must be declared before it is used", full)
			return
		}
	}
	switch {
	case len(same) > 0:
		d.Helpf("did you mean %s?", same[0])
	case diag.Nearest(s.name, names) != "":
		d.Helpf("did you mean %s?", diag.Nearest(s.name, names))
	default:
		d.Helpf("declare it, or include the file that does")
	}
}

// rootType resolves root_type: a full name, or one of the current namespace.
// The namespaces between are not searched.
func (l *linker) rootType(name fbs.Name) {
	s := l.objects[name.Text]
	if s == nil {
		s = l.objects[string(l.qualified(name.Text))]
	}
	if s == nil {
		d := l.errorf(name.Range, "root type %s is not defined before this", name.Text)
		if e := l.findEnum(name.Text); e != nil {
			d.Note(e.Span, "%s is not a table", name.Text)
		} else {
			d.Helpf("put root_type behind the table, and write its full name unless it is of the current namespace")
		}
		return
	}
	l.schema.Root = s.object
	l.mustBeTable(s.object, l.span(name.Range), "the root type")
}

// mustBeTable has it checked, once all is declared, that o is a table.
func (l *linker) mustBeTable(o *Object, at diag.Span, what string) {
	l.late = append(l.late, func() {
		if o.IsStruct {
			l.diags.Errorf(at, "%s must be a table, and %s is a struct", what, o.Name).
				Note(o.Span, "%s is declared here", o.Name)
		}
	})
}

func (l *linker) fileIdentifier(v fbs.Name) {
	if len(v.Text) != 4 {
		l.errorf(v.Range, "a file identifier has 4 bytes, and this has %d", len(v.Text))
	}
	l.schema.FileIdentifier = v.Text
}
