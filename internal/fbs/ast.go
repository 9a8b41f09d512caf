package fbs

import (
	"sort"

	"github.com/ipcgen/ipcgen/internal/diag"
)

// A Range is a range of bytes of a file, End exclusive.
type Range struct{ Start, End int32 }

// Through returns the range from the start of r to the end of last.
func (r Range) Through(last Range) Range { return Range{r.Start, max(r.End, last.End)} }

// A File is a parsed schema file. Declarations keep their order, because the meaning of a name
// depends on the declarations before it.
type File struct {
	Path     string
	Includes []Include
	Decls    []Decl

	lines []int32 // offsets of the first byte of each line
}

// Span converts a range of the file to a position for diagnostics.
func (f *File) Span(r Range) diag.Span {
	line := sort.Search(len(f.lines), func(i int) bool { return f.lines[i] > r.Start })
	col := int(r.Start) + 1
	if line > 0 {
		col = int(r.Start-f.lines[line-1]) + 1
	}
	return diag.Span{File: f.Path, Start: int(r.Start), End: int(r.End), Line: line, Col: col}
}

// A Name is an identifier, or several identifiers joined by dots, with its position.
type Name struct {
	Range
	Text string
}

// An Include is an include statement.
type Include struct {
	Path Name // decoded
}

// A Decl is a declaration or a statement of a schema file: *Namespace,
// *AttributeDecl, *RootType, *FileIdentifier, *FileExtension, *Object, *Enum
// or *Service.
type Decl interface{ decl() }

// A Namespace is "namespace a.b;"; an empty name returns to the root.
type Namespace struct{ Name Name }

// An AttributeDecl is "attribute a;".
type AttributeDecl struct{ Name Name }

// A RootType is "root_type T;".
type RootType struct{ Type Name }

// A FileIdentifier is `file_identifier "ABCD";`.
type FileIdentifier struct{ Value Name }

// A FileExtension is `file_extension "ext";`.
type FileExtension struct{ Value Name }

// An Object is a table or a struct.
type Object struct {
	Doc    []string
	Struct bool
	Name   Name
	Meta   []Attribute
	Fields []Field
}

// A Field is a field of an object.
type Field struct {
	Doc     []string
	Name    Name
	Type    Type
	Default *Value // nil if there is none
	Meta    []Attribute
}

// An Enum is an enum or a union.
type Enum struct {
	Doc        []string
	Union      bool
	Name       Name
	Underlying *Type // nil if not given
	Meta       []Attribute
	Values     []EnumVal
}

// An EnumVal is a value of an enum or a member of a union.
type EnumVal struct {
	Doc   []string
	Name  Name
	Type  *Type  // of a union's member, when it differs from its name
	Value *Value // nil if computed
	Meta  []Attribute
}

// A Service is an rpc_service.
type Service struct {
	Doc     []string
	Name    Name
	Meta    []Attribute
	Methods []Method
}

// A Method is a call of a service.
type Method struct {
	Doc     []string
	Name    Name
	Request Name
	Reply   Name
	Meta    []Attribute
}

func (*Namespace) decl()      {}
func (*AttributeDecl) decl()  {}
func (*RootType) decl()       {}
func (*FileIdentifier) decl() {}
func (*FileExtension) decl()  {}
func (*Object) decl()         {}
func (*Enum) decl()           {}
func (*Service) decl()        {}

// An Attribute is an entry of a metadata list.
type Attribute struct {
	Name  Name
	Value *Value // nil if there is none
}

// A TypeKind distinguishes a plain type from a vector and an array of a type.
type TypeKind uint8

// The kinds of type. They do not nest.
const (
	Plain  TypeKind = iota
	Vector          // [T]
	Array           // [T:N]
)

// A Type is a type as written.
type Type struct {
	Range
	Kind    TypeKind
	Name    Name // of the type, or of the element
	Builtin bool // Name is one of the built-in type names
	Length  Name // of an Array: the text of an integer
}

// A ValueKind is the form of a value.
type ValueKind uint8

// The forms of values.
const (
	IntValue    ValueKind = iota // 12, -0x1f
	FloatValue                   // 1.5, -inf, 0x1p3
	StringValue                  // "text"
	IdentValue                   // true, Red, -nan
	CallValue                    // sin(1)
	EmptyVector                  // []
)

// A Value is a default, the value of an attribute, or the value of an enum.
type Value struct {
	Range
	Kind ValueKind
	// Text is the number as written, the decoded string, or the name with its sign.
	Text string
	// Escaped is set for a string that contains escapes or characters other than printable ASCII.
	Escaped bool
	Arg     *Value // of a call
}
