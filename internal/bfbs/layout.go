package bfbs

// identifier marks a buffer as a binary schema.
const identifier = "BFBS"

// Marked reports whether data starts as a binary schema does.
func Marked(data []byte) bool {
	at := func(i int) bool {
		return len(data) >= i+len(identifier) && string(data[i:i+len(identifier)]) == identifier
	}
	return at(4) || at(8) // after a size prefix
}

// The slots of the tables of FlatBuffers' reflection.fbs, which numbers the fields in order of
// declaration.
const (
	typeBase, typeElement, typeIndex, typeFixedLength, typeBaseSize, typeElementSize, typeSlots = 0,
		1, 2, 3, 4, 5, 6

	keyValueKey, keyValueValue, keyValueSlots = 0, 1, 2

	enumValName, enumValValue, enumValObject, enumValType, enumValDoc, enumValAttributes,
	enumValSlots = 0, 1, 2, 3, 4, 5, 6

	enumName, enumValues, enumIsUnion, enumUnderlying, enumAttributes, enumDoc, enumFile,
	enumSlots = 0, 1, 2, 3, 4, 5, 6, 7

	fieldName, fieldType, fieldID, fieldOffset, fieldDefaultInteger, fieldDefaultReal,
	fieldDeprecated = 0, 1, 2, 3, 4, 5, 6
	fieldRequired, fieldKey, fieldAttributes, fieldDoc, fieldOptional, fieldPadding,
	fieldOffset64 = 7, 8, 9, 10, 11, 12, 13
	fieldSlots = 14

	objectName, objectFields, objectIsStruct, objectMinAlign, objectByteSize,
	objectAttributes = 0, 1, 2, 3, 4, 5
	objectDoc, objectFile, objectSlots = 6, 7, 8

	callName, callRequest, callResponse, callAttributes, callDoc, callSlots = 0, 1, 2, 3, 4, 5

	serviceName, serviceCalls, serviceAttributes, serviceDoc, serviceFile,
	serviceSlots = 0, 1, 2, 3, 4, 5

	fileName, fileIncludes, fileSlots = 0, 1, 2

	schemaObjects, schemaEnums, schemaIdent, schemaExt, schemaRoot, schemaServices, schemaFeatures,
	schemaFiles, schemaSlots = 0, 1, 2, 3, 4, 5, 6, 7, 8
)

// The bits of Schema.advanced_features.
const (
	featureArrays = 1 << iota
	featureUnionVectors
	featureOptionalScalars
	featureDefaults
)

// A kind is the form of a field of one of these tables.
type kind uint8

const (
	scalar1 kind = iota
	scalar2
	scalar4
	scalar8
	text
	oneTable
	tables
	texts
)

// A slot describes a field to the verifier.
type slot struct {
	index    int
	name     string
	kind     kind
	required bool
	table    *layout // of oneTable and tables
}

// A layout describes a table to the verifier.
type layout struct {
	name  string
	slots []slot
}

// schemaLayout describes the root table. The description has no cycle, so the depth of the verifier
// is bounded.
func schemaLayout() *layout {
	typ := &layout{"Type", []slot{
		{typeBase, "base_type", scalar1, false, nil},
		{typeElement, "element", scalar1, false, nil},
		{typeIndex, "index", scalar4, false, nil},
		{typeFixedLength, "fixed_length", scalar2, false, nil},
		{typeBaseSize, "base_size", scalar4, false, nil},
		{typeElementSize, "element_size", scalar4, false, nil},
	}}
	keyValue := &layout{"KeyValue", []slot{
		{keyValueKey, "key", text, true, nil},
		{keyValueValue, "value", text, false, nil},
	}}
	field := &layout{"Field", []slot{
		{fieldName, "name", text, true, nil},
		{fieldType, "type", oneTable, true, typ},
		{fieldID, "id", scalar2, false, nil},
		{fieldOffset, "offset", scalar2, false, nil},
		{fieldDefaultInteger, "default_integer", scalar8, false, nil},
		{fieldDefaultReal, "default_real", scalar8, false, nil},
		{fieldDeprecated, "deprecated", scalar1, false, nil},
		{fieldRequired, "required", scalar1, false, nil},
		{fieldKey, "key", scalar1, false, nil},
		{fieldAttributes, "attributes", tables, false, keyValue},
		{fieldDoc, "documentation", texts, false, nil},
		{fieldOptional, "optional", scalar1, false, nil},
		{fieldPadding, "padding", scalar2, false, nil},
		{fieldOffset64, "offset64", scalar1, false, nil},
	}}
	object := &layout{"Object", []slot{
		{objectName, "name", text, true, nil},
		{objectFields, "fields", tables, true, field},
		{objectIsStruct, "is_struct", scalar1, false, nil},
		{objectMinAlign, "minalign", scalar4, false, nil},
		{objectByteSize, "bytesize", scalar4, false, nil},
		{objectAttributes, "attributes", tables, false, keyValue},
		{objectDoc, "documentation", texts, false, nil},
		{objectFile, "declaration_file", text, false, nil},
	}}
	// Of a reference to a table that Schema.objects has, only the name is followed.
	named := &layout{"Object", []slot{{objectName, "name", text, true, nil}}}
	enumVal := &layout{"EnumVal", []slot{
		{enumValName, "name", text, true, nil},
		{enumValValue, "value", scalar8, false, nil},
		{enumValObject, "object", oneTable, false, named}, // of old versions
		{enumValType, "union_type", oneTable, false, typ},
		{enumValDoc, "documentation", texts, false, nil},
		{enumValAttributes, "attributes", tables, false, keyValue},
	}}
	enum := &layout{"Enum", []slot{
		{enumName, "name", text, true, nil},
		{enumValues, "values", tables, true, enumVal},
		{enumIsUnion, "is_union", scalar1, false, nil},
		{enumUnderlying, "underlying_type", oneTable, true, typ},
		{enumAttributes, "attributes", tables, false, keyValue},
		{enumDoc, "documentation", texts, false, nil},
		{enumFile, "declaration_file", text, false, nil},
	}}
	call := &layout{"RPCCall", []slot{
		{callName, "name", text, true, nil},
		{callRequest, "request", oneTable, true, named},
		{callResponse, "response", oneTable, true, named},
		{callAttributes, "attributes", tables, false, keyValue},
		{callDoc, "documentation", texts, false, nil},
	}}
	service := &layout{"Service", []slot{
		{serviceName, "name", text, true, nil},
		{serviceCalls, "calls", tables, false, call},
		{serviceAttributes, "attributes", tables, false, keyValue},
		{serviceDoc, "documentation", texts, false, nil},
		{serviceFile, "declaration_file", text, false, nil},
	}}
	file := &layout{"SchemaFile", []slot{
		{fileName, "filename", text, true, nil},
		{fileIncludes, "included_filenames", texts, false, nil},
	}}
	return &layout{"Schema", []slot{
		{schemaObjects, "objects", tables, true, object},
		{schemaEnums, "enums", tables, true, enum},
		{schemaIdent, "file_ident", text, false, nil},
		{schemaExt, "file_ext", text, false, nil},
		{schemaRoot, "root_table", oneTable, false, named},
		{schemaServices, "services", tables, false, service},
		{schemaFeatures, "advanced_features", scalar8, false, nil},
		{schemaFiles, "fbs_files", tables, false, file},
	}}
}
