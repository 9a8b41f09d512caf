package schema

import "strconv"

// Size returns the number of bytes that a value of the type takes inline: the size of a scalar, 4
// for the offset to any other value, and 0 for None.
func (b BaseType) Size() int {
	switch b {
	case None:
		return 0
	case UType, Bool, Byte, UByte:
		return 1
	case Short, UShort:
		return 2
	case Long, ULong, Double, Vector64:
		return 8
	}
	return 4
}

// IsScalar reports whether the type is a number, including the number of an enum.
func (b BaseType) IsScalar() bool { return UType <= b && b <= Double }

// IsInteger reports whether the type is an integer. Bool and UType are integers.
func (b BaseType) IsInteger() bool { return UType <= b && b <= ULong }

// IsFloat reports whether the type is Float or Double.
func (b BaseType) IsFloat() bool { return b == Float || b == Double }

// IsUnsigned reports whether the type is an unsigned integer. Bool is not.
func (b BaseType) IsUnsigned() bool {
	switch b {
	case UType, UByte, UShort, UInt, ULong:
		return true
	}
	return false
}

// String returns the name of the type in the schema language, or a word for a type that has no name
// there.
func (b BaseType) String() string {
	names := [...]string{"none", "utype", "bool", "byte", "ubyte", "short", "ushort", "int", "uint",
		"long", "ulong", "float", "double", "string", "vector", "obj", "union", "array", "vector64"}
	if int(b) < len(names) {
		return names[b]
	}
	return "invalid"
}

// builtin returns the type with the given built-in name.
func builtin(name string) BaseType {
	switch name {
	case "bool":
		return Bool
	case "byte", "int8":
		return Byte
	case "ubyte", "uint8":
		return UByte
	case "short", "int16":
		return Short
	case "ushort", "uint16":
		return UShort
	case "int", "int32":
		return Int
	case "uint", "uint32":
		return UInt
	case "long", "int64":
		return Long
	case "ulong", "uint64":
		return ULong
	case "float", "float32":
		return Float
	case "double", "float64":
		return Double
	case "string":
		return String
	}
	return None
}

// IsStruct reports whether the type itself is a struct.
func (t Type) IsStruct() bool { return t.Base == Obj && t.Object.IsStruct }

// Elem returns the type of the elements of a Vector or an Array.
func (t Type) Elem() Type { return Type{Base: t.Element, Object: t.Object, Enum: t.Enum} }

// inlineSize returns the size of the type within a struct.
func (t Type) inlineSize() int {
	switch {
	case t.Base == Array:
		return t.Elem().inlineSize() * t.FixedLength
	case t.IsStruct():
		return t.Object.Size
	}
	return t.Base.Size()
}

// inlineAlign returns the alignment of the type within a struct.
func (t Type) inlineAlign() int {
	switch {
	case t.Base == Array:
		return t.Elem().inlineAlign()
	case t.IsStruct():
		return t.Object.Align
	}
	return t.Base.Size()
}

// String returns the type in the form of the schema language, with full names.
func (t Type) String() string {
	switch t.Base {
	case Vector, Vector64:
		return "[" + t.Elem().String() + "]"
	case Array:
		return "[" + t.Elem().String() + ":" + strconv.Itoa(t.FixedLength) + "]"
	case Obj:
		return t.Object.FullName()
	}
	if t.Enum != nil && t.Base != UType {
		return t.Enum.FullName()
	}
	return t.Base.String()
}
