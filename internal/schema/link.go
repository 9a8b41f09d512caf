package schema

import (
	"strings"

	"github.com/ipcgen/ipcgen/internal/diag"
	"github.com/ipcgen/ipcgen/internal/fbs"
)

// A linker resolves the declarations of one root schema in the order in which flatc reads them. The
// order is part of the language: an enum must be declared before its use, and the name of a table
// or struct can have another meaning before its declaration than after it.
type linker struct {
	diags  *diag.List
	schema *Schema

	// objects has declared objects by their full names, and pending ones by the names with which
	// they were mentioned.
	objects    map[string]*symbol
	enums      map[string]*Enum
	services   map[string]*Service
	types      map[string]diag.Span // where each full name was declared
	pending    []*symbol            // in order of first mention
	attributes map[string]bool      // the names that metadata may use
	// late has the checks that need all declarations.
	late []func()

	// Of the file being linked:
	parsed    *fbs.File
	file      *File
	namespace Namespace
	prefix    string // the namespace followed by a dot, or empty

	key    []byte            // scratch for qualified names
	fields map[string]*Field // scratch for the fields of one object
	// values has the values of each declared enum, by name.
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

// unit links one file. The namespace starts empty, and statements about the root of a schema count
// in the last file only.
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

// The length of a namespace and the number of its parts are bounded, because every name is looked
// up in each part.
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
		l.errorf(name.Range,
			"the namespace has %d parts and %d characters; the limits are %d and %d",
			parts, len(name.Text), maxNamespaceParts, maxNamespace)
	default:
		l.namespace, l.prefix = strings.Split(name.Text, "."), name.Text+"."
	}
}

// rootType resolves root_type: a full name, or a name in the current namespace. Enclosing
// namespaces are not searched.
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
			d.Helpf("put root_type behind the table, and write its full name unless it is of " +
				"the current namespace")
		}
		return
	}
	l.schema.Root, l.file.RootType = s.object, s.object
	l.mustBeTable(s.object, l.span(name.Range), "the root type")
}

// mustBeTable checks, once all is declared, that o is a table.
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
	l.schema.FileIdentifier, l.file.Identifier = v.Text, v.Text
}
