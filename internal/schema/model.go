// Package schema resolves parsed FlatBuffers schemas into a model. In the model every name is bound
// to its declaration, every field has its id, slot and offset, every default is evaluated, and
// every rule of the language is checked.
//
// [Load] reads schema files and returns a [Schema] for each. Emitters read the model. It is
// immutable, independent of the syntax, and without references to the runtime: the generator never
// imports the packages that its output imports.
package schema

import "github.com/ipcgen/ipcgen/internal/diag"

// BaseType is the wire type of a value. Types have the numbers of FlatBuffers' own reflection.fbs,
// so that binary schemas need no conversion.
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

// A Schema is the resolved model of one root schema file and all files that it includes.
type Schema struct {
	// Files lists every file read, each after the files that it includes. The root file is last.
	Files []*File
	// Objects has the tables and structs, Enums the enums and unions, and Services the
	// rpc_services, each ordered by full name. A binary schema does not keep the order of
	// declaration, and text and binary schemas must have the same model.
	Objects  []*Object
	Enums    []*Enum
	Services []*Service

	Root           *Object // of the root file's root_type; nil if it has none
	FileIdentifier string  // four bytes, or empty
	FileExtension  string  // without a dot; empty when not declared
}

// A File is one source file of a schema.
type File struct {
	// Path is the path at which the file was found: absolute, or relative to the working directory.
	// It is empty for a file that a binary schema only mentions.
	Path string
	// Name is the name in binary schemas: relative to the project root, with a leading "//".
	Name     string
	Includes []*File // ordered by name
	Root     bool    // given on the command line, hence code is generated for it

	// RootType and Identifier are those of root_type and file_identifier in this file. Those of a
	// Schema are its root file's.
	RootType   *Object
	Identifier string
}

// An Attribute is a name, or a name and a value, in a metadata list.
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
	Doc        []string  // lines without "///", with leading space
	Attributes Attributes

	IsStruct bool
	// Fields is ordered by ID for tables (the hidden tag field of a union
	// comes right before it) and by position for structs.
	Fields []*Field
	Key    *Field // the field marked (key); nil if there is none

	// Size and Align are the byte size and alignment of a struct; 0 for a
	// table.
	Size  int
	Align int
	// OriginalOrder is set by (original_order): the object API then adds fields in the order of
	// their IDs instead of by decreasing size.
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

	// Default is the value of an absent scalar, string or vector of a table. Its zero value stands
	// for 0, false or absent.
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

	// Tag is the hidden "<name>_type" field of a union or vector of unions, and nil for other
	// fields. IsTag marks such a hidden field. Its base type is UType whatever its width, which is
	// that of Type.Enum.Underlying.
	Tag   *Field
	IsTag bool
}

// A Default is the evaluated default value of a field. The type of the field determines which
// member is used.
type Default struct {
	// Set is true if there is a default other than the usual one: a number other than 0, or any
	// default of a string or a vector.
	Set bool
	Int int64 // Bool, integers and enums; ULong as its bit pattern
	// Float is the value of a Float or Double as written. It may be NaN or infinite. The value of a
	// Float is not rounded: 1e39 means infinity there.
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

// A Streaming tells which side of an rpc method streams.
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
