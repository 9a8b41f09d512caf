package fb

import flatbuffers "github.com/google/flatbuffers/go"

// This file holds a pair of functions for each scalar type, which read and overwrite elements of
// vectors. They do not check the index. The elements of an absent vector read as zeros.

// ElemBool returns element j of the vector in a field.
func ElemBool(t *flatbuffers.Table, slot flatbuffers.VOffsetT, j int) bool {
	if o := t.Offset(slot); o != 0 {
		return t.GetBool(t.Vector(flatbuffers.UOffsetT(o)) + flatbuffers.UOffsetT(j))
	}
	return false
}

// MutateElemBool overwrites element j of the vector in a field. It returns false if the vector is
// absent.
func MutateElemBool(t *flatbuffers.Table, slot flatbuffers.VOffsetT, j int, n bool) bool {
	if o := t.Offset(slot); o != 0 {
		return t.MutateBool(t.Vector(flatbuffers.UOffsetT(o))+flatbuffers.UOffsetT(j), n)
	}
	return false
}

// ElemByte returns element j of the vector in a field.
func ElemByte(t *flatbuffers.Table, slot flatbuffers.VOffsetT, j int) byte {
	if o := t.Offset(slot); o != 0 {
		return t.GetByte(t.Vector(flatbuffers.UOffsetT(o)) + flatbuffers.UOffsetT(j))
	}
	return 0
}

// MutateElemByte overwrites element j of the vector in a field. It returns false if the vector is
// absent.
func MutateElemByte(t *flatbuffers.Table, slot flatbuffers.VOffsetT, j int, n byte) bool {
	if o := t.Offset(slot); o != 0 {
		return t.MutateByte(t.Vector(flatbuffers.UOffsetT(o))+flatbuffers.UOffsetT(j), n)
	}
	return false
}

// ElemInt8 returns element j of the vector in a field.
func ElemInt8(t *flatbuffers.Table, slot flatbuffers.VOffsetT, j int) int8 {
	if o := t.Offset(slot); o != 0 {
		return t.GetInt8(t.Vector(flatbuffers.UOffsetT(o)) + flatbuffers.UOffsetT(j))
	}
	return 0
}

// MutateElemInt8 overwrites element j of the vector in a field. It returns false if the vector is
// absent.
func MutateElemInt8(t *flatbuffers.Table, slot flatbuffers.VOffsetT, j int, n int8) bool {
	if o := t.Offset(slot); o != 0 {
		return t.MutateInt8(t.Vector(flatbuffers.UOffsetT(o))+flatbuffers.UOffsetT(j), n)
	}
	return false
}

// ElemInt16 returns element j of the vector in a field.
func ElemInt16(t *flatbuffers.Table, slot flatbuffers.VOffsetT, j int) int16 {
	if o := t.Offset(slot); o != 0 {
		return t.GetInt16(t.Vector(flatbuffers.UOffsetT(o)) + flatbuffers.UOffsetT(j)*2)
	}
	return 0
}

// MutateElemInt16 overwrites element j of the vector in a field. It returns false if the vector is
// absent.
func MutateElemInt16(t *flatbuffers.Table, slot flatbuffers.VOffsetT, j int, n int16) bool {
	if o := t.Offset(slot); o != 0 {
		return t.MutateInt16(t.Vector(flatbuffers.UOffsetT(o))+flatbuffers.UOffsetT(j)*2, n)
	}
	return false
}

// ElemUint16 returns element j of the vector in a field.
func ElemUint16(t *flatbuffers.Table, slot flatbuffers.VOffsetT, j int) uint16 {
	if o := t.Offset(slot); o != 0 {
		return t.GetUint16(t.Vector(flatbuffers.UOffsetT(o)) + flatbuffers.UOffsetT(j)*2)
	}
	return 0
}

// MutateElemUint16 overwrites element j of the vector in a field. It returns false if the vector is
// absent.
func MutateElemUint16(t *flatbuffers.Table, slot flatbuffers.VOffsetT, j int, n uint16) bool {
	if o := t.Offset(slot); o != 0 {
		return t.MutateUint16(t.Vector(flatbuffers.UOffsetT(o))+flatbuffers.UOffsetT(j)*2, n)
	}
	return false
}

// ElemInt32 returns element j of the vector in a field.
func ElemInt32(t *flatbuffers.Table, slot flatbuffers.VOffsetT, j int) int32 {
	if o := t.Offset(slot); o != 0 {
		return t.GetInt32(t.Vector(flatbuffers.UOffsetT(o)) + flatbuffers.UOffsetT(j)*4)
	}
	return 0
}

// MutateElemInt32 overwrites element j of the vector in a field. It returns false if the vector is
// absent.
func MutateElemInt32(t *flatbuffers.Table, slot flatbuffers.VOffsetT, j int, n int32) bool {
	if o := t.Offset(slot); o != 0 {
		return t.MutateInt32(t.Vector(flatbuffers.UOffsetT(o))+flatbuffers.UOffsetT(j)*4, n)
	}
	return false
}

// ElemUint32 returns element j of the vector in a field.
func ElemUint32(t *flatbuffers.Table, slot flatbuffers.VOffsetT, j int) uint32 {
	if o := t.Offset(slot); o != 0 {
		return t.GetUint32(t.Vector(flatbuffers.UOffsetT(o)) + flatbuffers.UOffsetT(j)*4)
	}
	return 0
}

// MutateElemUint32 overwrites element j of the vector in a field. It returns false if the vector is
// absent.
func MutateElemUint32(t *flatbuffers.Table, slot flatbuffers.VOffsetT, j int, n uint32) bool {
	if o := t.Offset(slot); o != 0 {
		return t.MutateUint32(t.Vector(flatbuffers.UOffsetT(o))+flatbuffers.UOffsetT(j)*4, n)
	}
	return false
}

// ElemInt64 returns element j of the vector in a field.
func ElemInt64(t *flatbuffers.Table, slot flatbuffers.VOffsetT, j int) int64 {
	if o := t.Offset(slot); o != 0 {
		return t.GetInt64(t.Vector(flatbuffers.UOffsetT(o)) + flatbuffers.UOffsetT(j)*8)
	}
	return 0
}

// MutateElemInt64 overwrites element j of the vector in a field. It returns false if the vector is
// absent.
func MutateElemInt64(t *flatbuffers.Table, slot flatbuffers.VOffsetT, j int, n int64) bool {
	if o := t.Offset(slot); o != 0 {
		return t.MutateInt64(t.Vector(flatbuffers.UOffsetT(o))+flatbuffers.UOffsetT(j)*8, n)
	}
	return false
}

// ElemUint64 returns element j of the vector in a field.
func ElemUint64(t *flatbuffers.Table, slot flatbuffers.VOffsetT, j int) uint64 {
	if o := t.Offset(slot); o != 0 {
		return t.GetUint64(t.Vector(flatbuffers.UOffsetT(o)) + flatbuffers.UOffsetT(j)*8)
	}
	return 0
}

// MutateElemUint64 overwrites element j of the vector in a field. It returns false if the vector is
// absent.
func MutateElemUint64(t *flatbuffers.Table, slot flatbuffers.VOffsetT, j int, n uint64) bool {
	if o := t.Offset(slot); o != 0 {
		return t.MutateUint64(t.Vector(flatbuffers.UOffsetT(o))+flatbuffers.UOffsetT(j)*8, n)
	}
	return false
}

// ElemFloat32 returns element j of the vector in a field.
func ElemFloat32(t *flatbuffers.Table, slot flatbuffers.VOffsetT, j int) float32 {
	if o := t.Offset(slot); o != 0 {
		return t.GetFloat32(t.Vector(flatbuffers.UOffsetT(o)) + flatbuffers.UOffsetT(j)*4)
	}
	return 0
}

// MutateElemFloat32 overwrites element j of the vector in a field. It returns false if the vector
// is absent.
func MutateElemFloat32(t *flatbuffers.Table, slot flatbuffers.VOffsetT, j int, n float32) bool {
	if o := t.Offset(slot); o != 0 {
		return t.MutateFloat32(t.Vector(flatbuffers.UOffsetT(o))+flatbuffers.UOffsetT(j)*4, n)
	}
	return false
}

// ElemFloat64 returns element j of the vector in a field.
func ElemFloat64(t *flatbuffers.Table, slot flatbuffers.VOffsetT, j int) float64 {
	if o := t.Offset(slot); o != 0 {
		return t.GetFloat64(t.Vector(flatbuffers.UOffsetT(o)) + flatbuffers.UOffsetT(j)*8)
	}
	return 0
}

// MutateElemFloat64 overwrites element j of the vector in a field. It returns false if the vector
// is absent.
func MutateElemFloat64(t *flatbuffers.Table, slot flatbuffers.VOffsetT, j int, n float64) bool {
	if o := t.Offset(slot); o != 0 {
		return t.MutateFloat64(t.Vector(flatbuffers.UOffsetT(o))+flatbuffers.UOffsetT(j)*8, n)
	}
	return false
}
