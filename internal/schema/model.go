// Package schema turns parsed FlatBuffers schemas into a resolved model: every
// name bound to its declaration, every field given its id, slot and offset,
// every default evaluated, every rule of the language checked.
//
// The model is what emitters read. It is immutable once returned, free of
// syntax, and holds no reference to the runtime: the generator never imports
// what its output imports.
package schema

import "github.com/ipcgen/ipcgen/internal/diag"

// BaseType is the wire type of a value, numbered as in FlatBuffers' own
// reflection.fbs so that a .bfbs file maps one to one.
type BaseType uint8

// The base types of reflection.fbs.
const (
	None     BaseType = iota
	UType             // the hidden tag of a union field
	Bool              // 1 byte
	Byte              // int8
	UByte             // uint8
	Short             // int16
	UShort            // uint16
	Int               // int32
	UInt              // uint32
	Long              // int64
	ULong             // uint64
	Float             // float32
	Double            // float64
	String            // offset to a zero-terminated vector of UTF-8 bytes
	Vector            // offset to a 32-bit length and its elements
	Obj               // a table (by offset) or a struct (inline)
	Union             // offset to one of several members
	Array             // fixed-length array, in structs only
	Vector64          // vector with a 64-bit length; refused for Go
)

// A Type is the resolved type of a field, or of a union's member.
type Type struct {
	Base        BaseType
	Element     BaseType // of a Vector or an Array; None otherwise
	FixedLength int      // of an Array; 0 otherwise
	// Object is the table or struct when Base, or Element, is Obj.
	Object *Object
	// Enum is the enum of an enum-typed scalar, or the union of a Union or
	// UType, as the type itself or as the Element.
	Enum *Enum
}

// A Namespace is a dotted path; the root namespace has length 0.
type Namespace []string

// A Schema is the resolved model of one root schema file and all it includes.
type Schema struct {
	// Files lists every file read, includes before the files that include
	// them; the root file is last.
	Files []*File
	// Objects holds tables and structs, Enums enums and unions, and Services
	// the rpc_services, each ordered by full name: a binary schema does not
	// keep the order of declaration, and both must make the same model.
	Objects  []*Object
	Enums    []*Enum
	Services []*Service

	Root           *Object // of the root file's root_type; nil when it has none
	FileIdentifier string  // four bytes, or empty
	FileExtension  string  // without a dot; empty when not declared
}

// A File is one source file of a schema.
type File struct {
	// Path is where it was found: absolute, or relative to the working
	// directory. Empty for a file that a binary schema only mentions.
	Path string
	// as flatc names it in .bfbs: relative to the project root, with a leading "//"
	Name     string
	Includes []*File // ordered by name
	Root     bool    // given on the command line, hence code is generated for it

	// RootType and Identifier are what root_type and file_identifier of this
	// very file say; those of a Schema are its root file's.
	RootType   *Object
	Identifier string
}

// An Attribute is one name, or name and value, of a metadata list.
type Attribute struct {
	Name  string
	Value string // without quotes
	Bare  bool   // it has no value
	Span  diag.Span
}

// Attributes is a metadata list, ordered by name, each name once.
type Attributes []Attribute

// Lookup returns the value of the named attribute and whether it is present.
func (a Attributes) Lookup(name string) (value string, ok bool) {
	for i := range a {
		if a[i].Name == name {
			return a[i].Value, true
		}
	}
	return "", false
}

// Has reports whether the named attribute is present.
func (a Attributes) Has(name string) bool {
	_, ok := a.Lookup(name)
	return ok
}

// An Object is a table or a struct.
type Object struct {
	Name       string // unqualified
	Namespace  Namespace
	File       *File
	Span       diag.Span // of the name in its declaration
	Doc        []string  // lines without "///", leading space kept
	Attributes Attributes

	IsStruct bool
	// Fields is ordered by ID for tables (the hidden tag field of a union
	// comes right before it) and by position for structs.
	Fields []*Field
	Key    *Field // the field marked (key); nil when there is none

	// Size and Align are the byte size and alignment of a struct; 0 for a
	// table.
	Size  int
	Align int
	// OriginalOrder is set by (original_order): the object API adds fields in
	// ID order instead of by falling size.
	OriginalOrder bool
}

// A Field is a member of an Object.
type Field struct {
	Name       string
	Span       diag.Span
	Doc        []string
	Attributes Attributes
	Type       Type

	ID int // position in the vtable (tables) or in the struct
	// Offset is, for tables, the byte offset of the field's entry in the
	// vtable (4 + 2*ID); for structs, the byte offset of its value.
	Offset int
	// Padding is the number of bytes after a struct's field.
	Padding int

	// Default is the value a table's scalar, or its string or vector, has when
	// absent. Its zero value stands for 0, false or absent.
	Default Default

	Optional   bool // "= null": a scalar that may be absent
	Required   bool
	Deprecated bool
	Key        bool

	// NestedFlatbuffer is the root table of a [ubyte] marked
	// (nested_flatbuffer: "T"); nil otherwise.
	NestedFlatbuffer *Object
	FlexBuffer       bool // [ubyte] marked (flexbuffer)
	Shared           bool // string marked (shared)
	Hash             string

	// Tag is the hidden "<name>_type" field of a union or vector of unions,
	// and nil otherwise. IsTag marks such a hidden field itself. Its base type
	// is UType whatever its width, which is that of Type.Enum.Underlying.
	Tag   *Field
	IsTag bool
}

// A Default is the evaluated default value of a field; which member counts
// follows from the field's type.
type Default struct {
	// Set says that there is one that matters: a number other than 0, or any
	// for a string or a vector.
	Set bool
	Int int64 // Bool, integers and enums; ULong as its bit pattern
	// Float is the value of a Float or Double as written; it may be NaN or
	// infinite, and a Float's is not rounded: 1e39 means infinity there.
	Float float64
	// Str is the default of a string field (Set), which may be empty. An empty
	// vector default "[]" is Set with Str empty.
	Str string
}

// An Enum is an enum or, when IsUnion, a union.
type Enum struct {
	Name       string
	Namespace  Namespace
	File       *File
	Span       diag.Span
	Doc        []string
	Attributes Attributes

	IsUnion    bool
	Underlying BaseType // of the enum, or of the union's tag (UType = uint8 by default)
	BitFlags   bool     // values are masks: 1 << position already applied
	// Values is ordered by value, ascending (as unsigned for ULong).
	Values []*EnumVal
}

// An EnumVal is a value of an enum or a member of a union.
type EnumVal struct {
	Name       string // of the value, or the member's alias or type name, with '.' as '_'
	Span       diag.Span
	Doc        []string
	Attributes Attributes
	Value      int64 // ULong as its bit pattern
	// Type is the member's type in a union: Obj (table or struct), String, or
	// None for NONE.
	Type Type
}

// A Service is an rpc_service.
type Service struct {
	Name       string
	Namespace  Namespace
	File       *File
	Span       diag.Span
	Doc        []string
	Attributes Attributes
	Methods    []*Method
}

// A Streaming says which side of an rpc method streams.
type Streaming uint8

// The values of the (streaming: "...") attribute.
const (
	Unary Streaming = iota
	ClientStreaming
	ServerStreaming
	BidiStreaming
)

// A Method is one call of a Service.
type Method struct {
	Name       string
	Span       diag.Span
	Doc        []string
	Attributes Attributes
	Request    *Object
	Reply      *Object
	Streaming  Streaming
	Idempotent bool
}
