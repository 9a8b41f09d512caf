package gogen

import (
	"math"
	"strconv"

	"github.com/ipcgen/ipcgen/internal/schema"
)

// A scalar has the names of a base type in Go and in the flatbuffers package.
type scalar struct {
	goType string // as in flatc: byte, not uint8
	method string // in GetInt16, PrependInt16Slot and so on
	size   int
}

var scalars = [...]scalar{
	schema.UType:  {"byte", "Byte", 1},
	schema.Bool:   {"bool", "Bool", 1},
	schema.Byte:   {"int8", "Int8", 1},
	schema.UByte:  {"byte", "Byte", 1},
	schema.Short:  {"int16", "Int16", 2},
	schema.UShort: {"uint16", "Uint16", 2},
	schema.Int:    {"int32", "Int32", 4},
	schema.UInt:   {"uint32", "Uint32", 4},
	schema.Long:   {"int64", "Int64", 8},
	schema.ULong:  {"uint64", "Uint64", 8},
	schema.Float:  {"float32", "Float32", 4},
	schema.Double: {"float64", "Float64", 8},
}

func isScalar(b schema.BaseType) bool {
	return schema.UType <= b && b <= schema.Double
}

// isStruct and isTable report whether a type is a struct or a table.
func isStruct(t schema.Type) bool { return t.Object != nil && t.Object.IsStruct }
func isTable(t schema.Type) bool  { return t.Object != nil && !t.Object.IsStruct }

// elem returns the type of the elements of a vector or array.
func elem(t schema.Type) schema.Type {
	return schema.Type{Base: t.Element, Object: t.Object, Enum: t.Enum}
}

// wire returns the base type of a scalar in the buffer. For the tag of a union it is the union's
// underlying type.
func wire(t schema.Type) schema.BaseType {
	if t.Base == schema.UType && t.Enum != nil {
		return tagType(t.Enum)
	}
	return t.Base
}

// tagType returns the base type of an enum, or of a union's tag.
func tagType(e *schema.Enum) schema.BaseType {
	if e.Underlying == schema.None || e.Underlying == schema.UType {
		return schema.UByte
	}
	return e.Underlying
}

// inlineSize and inlineAlign return how a value of type t is stored in a
// table, vector or struct.
func inlineSize(t schema.Type) int {
	switch {
	case isScalar(t.Base):
		return scalars[wire(t)].size
	case t.Base == schema.Obj && t.Object.IsStruct:
		return t.Object.Size
	case t.Base == schema.Array:
		return t.FixedLength * inlineSize(elem(t))
	default:
		return 4 // an offset
	}
}

func inlineAlign(t schema.Type) int {
	switch {
	case t.Base == schema.Obj && t.Object.IsStruct:
		return t.Object.Align
	case t.Base == schema.Array:
		return inlineAlign(elem(t))
	default:
		return inlineSize(t)
	}
}

// literal returns the Go expression of a scalar field's default.
func literal(f *schema.Field) string {
	switch base := wire(f.Type); base {
	case schema.Bool:
		return strconv.FormatBool(f.Default.Int != 0)
	case schema.ULong:
		return strconv.FormatUint(uint64(f.Default.Int), 10)
	case schema.Float, schema.Double:
		return floatLiteral(f.Default.Float, base)
	default:
		return strconv.FormatInt(f.Default.Int, 10)
	}
}

// floatLiteral writes a constant where Go has one for x, and otherwise a call.
func floatLiteral(x float64, base schema.BaseType) string {
	bits := 64
	if base == schema.Float {
		bits = 32
		x = float64(float32(x))
	}
	var call string
	switch {
	case math.IsNaN(x):
		call = "ℙmath.NaN()"
	case math.IsInf(x, 1):
		call = "ℙmath.Inf(1)"
	case math.IsInf(x, -1):
		call = "ℙmath.Inf(-1)"
	case x == 0 && math.Signbit(x):
		call = "ℙmath.Copysign(0, -1)"
	default:
		return strconv.FormatFloat(x, 'g', -1, bits)
	}
	if bits == 32 {
		return "float32(" + call + ")"
	}
	return call
}

// isNegativeZero reports whether the default of a field is -0.
func isNegativeZero(f *schema.Field) bool {
	x := floatDefault(f)
	return x == 0 && math.Signbit(x)
}

// floatDefault returns the default of a field as its type holds it, or 0 for a
// field that has none or is no float.
func floatDefault(f *schema.Field) float64 {
	switch {
	case f.Optional:
		return 0
	case f.Type.Base == schema.Float:
		return float64(float32(f.Default.Float))
	case f.Type.Base == schema.Double:
		return f.Default.Float
	}
	return 0
}

func itoa(n int) string { return strconv.Itoa(n) }
