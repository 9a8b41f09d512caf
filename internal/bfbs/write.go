package bfbs

import (
	"math"
	"slices"
	"strconv"
	"strings"

	flatbuffers "github.com/google/flatbuffers/go"

	"github.com/ipcgen/ipcgen/internal/diag"
	"github.com/ipcgen/ipcgen/internal/schema"
)

// Write encodes a schema as flatc does with -b --schema --bfbs-comments --bfbs-builtins, so
// documentation and built-in attributes are included. name returns the names of files, as flatc
// derives them from --bfbs-filenames ("//dir/a.fbs"); if it is nil, files keep their names. Write
// reports to diags the parts of the schema that a binary schema cannot hold.
func Write(s *schema.Schema, name func(*schema.File) string, diags *diag.List) []byte {
	warnOfStrings(s, diags)
	w := newWriter(s)
	if name != nil {
		w.name = name
	}
	return w.write()
}

// WriteExact encodes a schema as Write does, and loses nothing: what the format has no place for is
// in attributes with names that no schema can have. [Read] restores it, and other readers see
// attributes that they do not know. Equal strings are written once. The last file of the schema is
// its root, and includes all others, which include nothing.
func WriteExact(s *schema.Schema, name func(*schema.File) string) []byte {
	w := newWriter(s)
	w.name, w.exact = name, true
	return w.write()
}

// The attributes of WriteExact. The attributes of a schema are names.
const (
	attrDefault    = "=default"         // of a field: the default of a string, quoted
	attrIdentifier = "=file_identifier" // of a table: it is its file's root_type, with that one
)

// warnOfStrings warns that the defaults of strings are lost, at the first of them. An empty default
// is not lost, because a binary schema holds that there is a default.
func warnOfStrings(s *schema.Schema, diags *diag.List) {
	var at diag.Span
	var names []string
	for _, o := range s.Objects {
		for _, f := range o.Fields {
			if f.Type.Base == schema.String && f.Default.Str != "" {
				if names = append(names, o.FullName()+"."+f.Name); len(names) == 1 {
					at = f.Span
				}
			}
		}
	}
	if len(names) > 0 {
		diags.Warnf(at, "a binary schema does not hold the defaults of strings; these are lost: %s",
			list(names)).
			Helpf("to keep them, generate from the .fbs file")
	}
}

func newWriter(s *schema.Schema) *writer {
	w := &writer{
		b:       flatbuffers.NewBuilder(1 << 16),
		schema:  s,
		name:    func(f *schema.File) string { return f.Name },
		indexes: make(map[any]int),
		objects: make(map[*schema.Object]flatbuffers.UOffsetT),
		types:   make(map[typeKey]flatbuffers.UOffsetT),
	}
	for i, o := range s.Objects {
		w.indexes[o] = i
	}
	for i, e := range s.Enums {
		w.indexes[e] = i
	}
	w.markComplete = !hasBuiltins(s)
	return w
}

// A writer builds the buffer. Tables refer to each other by offset, so the target of a reference is
// written first.
type writer struct {
	b        *flatbuffers.Builder
	schema   *schema.Schema
	name     func(*schema.File) string
	indexes  map[any]int // of objects and of enums, each among its own
	objects  map[*schema.Object]flatbuffers.UOffsetT
	types    map[typeKey]flatbuffers.UOffsetT // equal types are written once
	features uint64
	// exact is set by WriteExact.
	exact bool
	// dropBuiltins omits built-in attributes, as flatc does by default.
	dropBuiltins bool
	// markComplete is set if the schema has no built-in attribute. The first list of attributes is
	// then written even though it is empty, to tell a reader that none were omitted.
	markComplete bool
}

// A typeKey identifies a type in the form in which it is written.
type typeKey struct {
	base, element schema.BaseType
	length, index int
}

type offsets []flatbuffers.UOffsetT

func (w *writer) write() []byte {
	s := w.schema
	var objects, enums, services, files offsets
	for _, o := range s.Objects {
		w.objects[o] = w.object(o)
		objects = append(objects, w.objects[o])
	}
	for _, e := range s.Enums {
		enums = append(enums, w.enum(e))
	}
	for _, v := range s.Services {
		services = append(services, w.service(v))
	}
	sorted := slices.Clone(s.Files)
	slices.SortFunc(sorted, func(a, b *schema.File) int {
		return strings.Compare(w.name(a), w.name(b))
	})
	for _, f := range sorted {
		files = append(files, w.file(f))
	}
	objectsAt, enumsAt := w.vector(objects), w.vector(enums)
	ident, ext := w.string(s.FileIdentifier), w.string(s.FileExtension)
	servicesAt, filesAt := w.vector(services), w.vector(files)

	w.b.StartObject(schemaSlots)
	w.offset(schemaObjects, objectsAt)
	w.offset(schemaEnums, enumsAt)
	w.offset(schemaIdent, ident)
	w.offset(schemaExt, ext)
	if s.Root != nil {
		w.offset(schemaRoot, w.objects[s.Root])
	}
	w.offset(schemaServices, servicesAt)
	w.b.PrependUint64Slot(schemaFeatures, w.features, 0)
	w.offset(schemaFiles, filesAt)
	w.b.FinishWithFileIdentifier(w.b.EndObject(), []byte(identifier))
	return w.b.FinishedBytes()
}

// offset writes a reference, unless there is none.
func (w *writer) offset(slot int, at flatbuffers.UOffsetT) {
	w.b.PrependUOffsetTSlot(slot, at, 0)
}

// vector writes a vector of references.
func (w *writer) vector(elems offsets) flatbuffers.UOffsetT {
	w.b.StartVector(4, len(elems), 4)
	for _, at := range slices.Backward(elems) {
		w.b.PrependUOffsetT(at)
	}
	return w.b.EndVector(len(elems))
}

// optionalVector writes a vector of references unless it is empty.
func (w *writer) optionalVector(elems offsets) flatbuffers.UOffsetT {
	if len(elems) == 0 {
		return 0
	}
	return w.vector(elems)
}

// string writes a string.
func (w *writer) string(s string) flatbuffers.UOffsetT {
	if w.exact {
		return w.b.CreateSharedString(s)
	}
	return w.b.CreateString(s)
}

func (w *writer) doc(lines []string) flatbuffers.UOffsetT {
	var at offsets
	for _, line := range lines {
		at = append(at, w.string(line))
	}
	return w.optionalVector(at)
}

// attributes writes a list of attributes. An attribute without a value has the value 0, as in
// flatc.
func (w *writer) attributes(list schema.Attributes) flatbuffers.UOffsetT {
	var at offsets
	for _, a := range list {
		if w.dropBuiltins && schema.IsBuiltin(a.Name) {
			continue
		}
		key := w.string(a.Name)
		text := a.Value
		if a.Bare {
			text = "0"
		}
		value := w.string(text)
		w.b.StartObject(keyValueSlots)
		w.offset(keyValueKey, key)
		w.offset(keyValueValue, value)
		at = append(at, w.b.EndObject())
	}
	if len(at) == 0 && w.markComplete {
		w.markComplete = false
		return w.vector(nil)
	}
	return w.optionalVector(at)
}

// fileName returns the name of the file of a declaration.
func (w *writer) fileName(f *schema.File) flatbuffers.UOffsetT {
	return w.b.CreateSharedString(w.name(f))
}

// includes returns the files that a file includes.
func (w *writer) includes(f *schema.File) []*schema.File {
	if !w.exact {
		return slices.Clone(f.Includes)
	}
	if others := len(w.schema.Files) - 1; f == w.schema.Files[others] {
		return slices.Clone(w.schema.Files[:others])
	}
	return nil
}

func (w *writer) file(f *schema.File) flatbuffers.UOffsetT {
	var includes offsets
	sorted := w.includes(f)
	slices.SortFunc(sorted, func(a, b *schema.File) int {
		return strings.Compare(w.name(a), w.name(b))
	})
	for _, g := range sorted {
		includes = append(includes, w.fileName(g))
	}
	name, includesAt := w.fileName(f), w.vector(includes)
	w.b.StartObject(fileSlots)
	w.offset(fileName, name)
	w.offset(fileIncludes, includesAt)
	return w.b.EndObject()
}

func (w *writer) typ(t schema.Type) flatbuffers.UOffsetT {
	key := typeKey{base: t.Base, element: t.Element, length: t.FixedLength, index: -1}
	switch {
	case t.Object != nil:
		key.index = w.indexes[t.Object]
	case t.Enum != nil:
		key.index = w.indexes[t.Enum]
	}
	if at, ok := w.types[key]; ok {
		return at
	}
	elementSize := cSize(t.Element)
	if t.Base == schema.Vector && t.Element == schema.Obj && t.Object.IsStruct {
		elementSize = t.Object.Size
	}
	w.b.StartObject(typeSlots)
	w.b.PrependByteSlot(typeBase, byte(t.Base), 0)
	w.b.PrependByteSlot(typeElement, byte(t.Element), 0)
	w.b.PrependInt32Slot(typeIndex, int32(key.index), -1)
	w.b.PrependUint16Slot(typeFixedLength, uint16(t.FixedLength), 0)
	w.b.PrependUint32Slot(typeBaseSize, uint32(cSize(t.Base)), 4)
	w.b.PrependUint32Slot(typeElementSize, uint32(elementSize), 0)
	at := w.b.EndObject()
	w.types[key] = at
	return at
}

// cSize returns the size that flatc states for a type, which is 1 for no type.
func cSize(b schema.BaseType) int { return max(b.Size(), 1) }

func (w *writer) object(o *schema.Object) flatbuffers.UOffsetT {
	byName := slices.Clone(o.Fields)
	slices.SortFunc(byName, func(a, b *schema.Field) int { return strings.Compare(a.Name, b.Name) })
	// The tag of a union is written like the union.
	union := make(map[*schema.Field]*schema.Field)
	for _, f := range o.Fields {
		if f.Tag != nil {
			union[f.Tag] = f
		}
	}
	var fields offsets
	for _, f := range byName {
		fields = append(fields, w.field(o, f, union[f]))
	}
	attributes := o.Attributes
	if w.exact && o.File.RootType == o && o.File.Identifier != "" {
		attributes = with(attributes, attrIdentifier, strconv.Quote(o.File.Identifier))
	}
	name, fieldsAt := w.string(o.FullName()), w.vector(fields)
	attrs, doc, file := w.attributes(attributes), w.doc(o.Doc), w.fileName(o.File)
	w.b.StartObject(objectSlots)
	w.offset(objectName, name)
	w.offset(objectFields, fieldsAt)
	w.b.PrependBoolSlot(objectIsStruct, o.IsStruct, false)
	w.b.PrependInt32Slot(objectMinAlign, int32(max(o.Align, 1)), 0)
	w.b.PrependInt32Slot(objectByteSize, int32(o.Size), 0)
	w.offset(objectAttributes, attrs)
	w.offset(objectDoc, doc)
	w.offset(objectFile, file)
	return w.b.EndObject()
}

// with returns a list with one more attribute, which comes first in order.
func with(list schema.Attributes, name, value string) schema.Attributes {
	return append(schema.Attributes{{Name: name, Value: value}}, list...)
}

// field writes a field. union is the union whose tag f is, or nil.
func (w *writer) field(o *schema.Object, f, union *schema.Field) flatbuffers.UOffsetT {
	attributes := f.Attributes
	if union != nil && union.Attributes.Has("id") {
		attributes = schema.Attributes{{Name: "id", Value: strconv.Itoa(f.ID)}}
	}
	if w.exact && f.Type.Base == schema.String && f.Default.Set {
		attributes = with(attributes, attrDefault, strconv.Quote(f.Default.Str))
	}
	w.noteFeatures(f)
	name, typ := w.string(f.Name), w.typ(f.Type)
	attrs, doc := w.attributes(attributes), w.doc(f.Doc)
	w.b.StartObject(fieldSlots)
	w.offset(fieldName, name)
	w.offset(fieldType, typ)
	w.b.PrependUint16Slot(fieldID, uint16(f.ID), 0)
	w.b.PrependUint16Slot(fieldOffset, uint16(f.Offset), 0)
	w.b.PrependInt64Slot(fieldDefaultInteger, f.Default.Int, 0)
	if math.Float64bits(f.Default.Float) != 0 { // -0 is not the 0 that may be omitted
		w.b.PrependFloat64(f.Default.Float)
		w.b.Slot(fieldDefaultReal)
	}
	w.b.PrependBoolSlot(fieldDeprecated, f.Deprecated, false)
	w.b.PrependBoolSlot(fieldRequired, f.Required, false)
	w.b.PrependBoolSlot(fieldKey, f.Key, false)
	w.offset(fieldAttributes, attrs)
	w.offset(fieldDoc, doc)
	presence := f
	if union != nil && f.Type.Base == schema.Vector {
		presence = union
	}
	w.b.PrependBoolSlot(fieldOptional, optional(o, presence), false)
	w.b.PrependUint16Slot(fieldPadding, uint16(f.Padding), 0)
	return w.b.EndObject()
}

// optional reports whether flatc counts the absence of the field as visible to a user. That is so
// for all fields of a table except numbers with a default, required fields, and strings and vectors
// with a default. flatc treats a string default "0" as no default.
func optional(o *schema.Object, f *schema.Field) bool {
	switch {
	case o.IsStruct:
		return false
	case f.Type.Base.IsScalar():
		return f.Optional
	}
	return !f.Required && (!f.Default.Set || f.Default.Str == "0")
}

// noteFeatures records the features that a reader of the schema must support.
func (w *writer) noteFeatures(f *schema.Field) {
	t := f.Type
	if t.Base == schema.Array {
		w.features |= featureArrays
	}
	if t.Base == schema.Vector && t.Element == schema.Union {
		w.features |= featureUnionVectors
	}
	if f.Optional {
		w.features |= featureOptionalScalars
	}
	if f.Default.Set && !t.Base.IsScalar() {
		w.features |= featureDefaults
	}
}

func (w *writer) enum(e *schema.Enum) flatbuffers.UOffsetT {
	var values offsets
	for _, v := range e.Values {
		values = append(values, w.enumVal(v))
	}
	name, valuesAt := w.string(e.FullName()), w.vector(values)
	typ := w.typ(schema.Type{Base: e.Underlying, Enum: e})
	attrs, doc, file := w.attributes(e.Attributes), w.doc(e.Doc), w.fileName(e.File)
	w.b.StartObject(enumSlots)
	w.offset(enumName, name)
	w.offset(enumValues, valuesAt)
	w.b.PrependBoolSlot(enumIsUnion, e.IsUnion, false)
	w.offset(enumUnderlying, typ)
	w.offset(enumAttributes, attrs)
	w.offset(enumDoc, doc)
	w.offset(enumFile, file)
	return w.b.EndObject()
}

func (w *writer) enumVal(v *schema.EnumVal) flatbuffers.UOffsetT {
	name, typ := w.string(v.Name), w.typ(v.Type)
	attrs, doc := w.attributes(v.Attributes), w.doc(v.Doc)
	w.b.StartObject(enumValSlots)
	w.offset(enumValName, name)
	w.b.PrependInt64Slot(enumValValue, v.Value, 0)
	w.offset(enumValType, typ)
	w.offset(enumValDoc, doc)
	w.offset(enumValAttributes, attrs)
	return w.b.EndObject()
}

func (w *writer) service(s *schema.Service) flatbuffers.UOffsetT {
	var calls offsets
	for _, m := range s.Methods {
		name, attrs, doc := w.string(m.Name), w.attributes(m.Attributes), w.doc(m.Doc)
		w.b.StartObject(callSlots)
		w.offset(callName, name)
		w.offset(callRequest, w.objects[m.Request])
		w.offset(callResponse, w.objects[m.Reply])
		w.offset(callAttributes, attrs)
		w.offset(callDoc, doc)
		calls = append(calls, w.b.EndObject())
	}
	name, callsAt := w.string(s.FullName()), w.vector(calls)
	attrs, doc, file := w.attributes(s.Attributes), w.doc(s.Doc), w.fileName(s.File)
	w.b.StartObject(serviceSlots)
	w.offset(serviceName, name)
	w.offset(serviceCalls, callsAt)
	w.offset(serviceAttributes, attrs)
	w.offset(serviceDoc, doc)
	w.offset(serviceFile, file)
	return w.b.EndObject()
}
