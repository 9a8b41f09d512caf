package fb

import (
	"encoding/binary"

	flatbuffers "github.com/google/flatbuffers/go"
	"github.com/ipcgen/ipcgen/internal/longvec"
)

// This file holds a pair of functions for each scalar type, which copy vectors between objects and
// buffers. The elements can be of an enum type. Where this machine has numbers in memory as buffers
// have them, a vector is copied as a whole.

// asInBuffer reports whether numbers lie in memory as in buffers: the lowest byte first.
var asInBuffer = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// packMemory writes a vector of n elements of size bytes, whose memory is mem, and returns its
// offset. The result equals that of StartVector, one Place for each element, and EndVector.
func packMemory(b *flatbuffers.Builder, mem []byte, size, n int) flatbuffers.UOffsetT {
	b.Prep(size, len(mem))
	at := longvec.CreateByteVector(b, mem)
	flatbuffers.WriteUOffsetT(b.Bytes[b.Head():], flatbuffers.UOffsetT(n)) // in place of the bytes
	return at
}

// unPackMemory copies the vector in a field, whose elements have size bytes, to mem, the memory of
// a slice of the same length.
func unPackMemory(mem []byte, t *flatbuffers.Table, slot flatbuffers.VOffsetT,
	size flatbuffers.UOffsetT) {
	if len(mem) > 0 {
		src := t.Bytes[FieldElem(t, slot, 0, size):]
		copy(mem, src[:len(mem):len(src)])
	}
}

// PackBools writes v as a vector and returns its offset, or 0 if v is nil.
func PackBools[T ~bool](b *flatbuffers.Builder, v []T) flatbuffers.UOffsetT {
	if v == nil {
		return 0
	}
	b.StartVector(1, len(v), 1)
	for j := len(v) - 1; j >= 0; j-- {
		b.PlaceBool(bool(v[j]))
	}
	return b.EndVector(len(v))
}

// UnPackBools returns a copy of the vector in a field, in the memory of v if that is long
// enough. The result is empty, not nil, if the vector is absent.
func UnPackBools[T ~bool](v []T, t *flatbuffers.Table, slot flatbuffers.VOffsetT) []T {
	v = withLen(v, FieldLen(t, slot))
	if len(v) > 0 {
		x := FieldElem(t, slot, 0, 1)
		for j := range v {
			v[j] = T(t.GetBool(x))
			x += 1
		}
	}
	return v
}

// PackBytes writes v as a vector and returns its offset, or 0 if v is nil.
func PackBytes[T ~uint8](b *flatbuffers.Builder, v []T) flatbuffers.UOffsetT {
	if v == nil {
		return 0
	}
	return longvec.CreateByteVector(b, memoryOf(v))
}

// UnPackBytes returns a copy of the vector in a field, in the memory of v if that is long
// enough. The result is empty, not nil, if the vector is absent.
func UnPackBytes[T ~uint8](v []T, t *flatbuffers.Table, slot flatbuffers.VOffsetT) []T {
	v = withLen(v, FieldLen(t, slot))
	copy(memoryOf(v), FieldBytes(t, slot))
	return v
}

// PackInt8s writes v as a vector and returns its offset, or 0 if v is nil.
func PackInt8s[T ~int8](b *flatbuffers.Builder, v []T) flatbuffers.UOffsetT {
	if v == nil {
		return 0
	}
	return longvec.CreateByteVector(b, memoryOf(v))
}

// UnPackInt8s returns a copy of the vector in a field, in the memory of v if that is long
// enough. The result is empty, not nil, if the vector is absent.
func UnPackInt8s[T ~int8](v []T, t *flatbuffers.Table, slot flatbuffers.VOffsetT) []T {
	v = withLen(v, FieldLen(t, slot))
	copy(memoryOf(v), FieldBytes(t, slot))
	return v
}

// PackInt16s writes v as a vector and returns its offset, or 0 if v is nil.
func PackInt16s[T ~int16](b *flatbuffers.Builder, v []T) flatbuffers.UOffsetT {
	if v == nil {
		return 0
	}
	if asInBuffer {
		return packMemory(b, memoryOf(v), 2, len(v))
	}
	b.StartVector(2, len(v), 2)
	for j := len(v) - 1; j >= 0; j-- {
		b.PlaceInt16(int16(v[j]))
	}
	return b.EndVector(len(v))
}

// UnPackInt16s returns a copy of the vector in a field, in the memory of v if that is long
// enough. The result is empty, not nil, if the vector is absent.
func UnPackInt16s[T ~int16](v []T, t *flatbuffers.Table, slot flatbuffers.VOffsetT) []T {
	v = withLen(v, FieldLen(t, slot))
	if asInBuffer {
		unPackMemory(memoryOf(v), t, slot, 2)
		return v
	}
	if len(v) > 0 {
		x := FieldElem(t, slot, 0, 2)
		for j := range v {
			v[j] = T(t.GetInt16(x))
			x += 2
		}
	}
	return v
}

// PackUint16s writes v as a vector and returns its offset, or 0 if v is nil.
func PackUint16s[T ~uint16](b *flatbuffers.Builder, v []T) flatbuffers.UOffsetT {
	if v == nil {
		return 0
	}
	if asInBuffer {
		return packMemory(b, memoryOf(v), 2, len(v))
	}
	b.StartVector(2, len(v), 2)
	for j := len(v) - 1; j >= 0; j-- {
		b.PlaceUint16(uint16(v[j]))
	}
	return b.EndVector(len(v))
}

// UnPackUint16s returns a copy of the vector in a field, in the memory of v if that is long
// enough. The result is empty, not nil, if the vector is absent.
func UnPackUint16s[T ~uint16](v []T, t *flatbuffers.Table, slot flatbuffers.VOffsetT) []T {
	v = withLen(v, FieldLen(t, slot))
	if asInBuffer {
		unPackMemory(memoryOf(v), t, slot, 2)
		return v
	}
	if len(v) > 0 {
		x := FieldElem(t, slot, 0, 2)
		for j := range v {
			v[j] = T(t.GetUint16(x))
			x += 2
		}
	}
	return v
}

// PackInt32s writes v as a vector and returns its offset, or 0 if v is nil.
func PackInt32s[T ~int32](b *flatbuffers.Builder, v []T) flatbuffers.UOffsetT {
	if v == nil {
		return 0
	}
	if asInBuffer {
		return packMemory(b, memoryOf(v), 4, len(v))
	}
	b.StartVector(4, len(v), 4)
	for j := len(v) - 1; j >= 0; j-- {
		b.PlaceInt32(int32(v[j]))
	}
	return b.EndVector(len(v))
}

// UnPackInt32s returns a copy of the vector in a field, in the memory of v if that is long
// enough. The result is empty, not nil, if the vector is absent.
func UnPackInt32s[T ~int32](v []T, t *flatbuffers.Table, slot flatbuffers.VOffsetT) []T {
	v = withLen(v, FieldLen(t, slot))
	if asInBuffer {
		unPackMemory(memoryOf(v), t, slot, 4)
		return v
	}
	if len(v) > 0 {
		x := FieldElem(t, slot, 0, 4)
		for j := range v {
			v[j] = T(t.GetInt32(x))
			x += 4
		}
	}
	return v
}

// PackUint32s writes v as a vector and returns its offset, or 0 if v is nil.
func PackUint32s[T ~uint32](b *flatbuffers.Builder, v []T) flatbuffers.UOffsetT {
	if v == nil {
		return 0
	}
	if asInBuffer {
		return packMemory(b, memoryOf(v), 4, len(v))
	}
	b.StartVector(4, len(v), 4)
	for j := len(v) - 1; j >= 0; j-- {
		b.PlaceUint32(uint32(v[j]))
	}
	return b.EndVector(len(v))
}

// UnPackUint32s returns a copy of the vector in a field, in the memory of v if that is long
// enough. The result is empty, not nil, if the vector is absent.
func UnPackUint32s[T ~uint32](v []T, t *flatbuffers.Table, slot flatbuffers.VOffsetT) []T {
	v = withLen(v, FieldLen(t, slot))
	if asInBuffer {
		unPackMemory(memoryOf(v), t, slot, 4)
		return v
	}
	if len(v) > 0 {
		x := FieldElem(t, slot, 0, 4)
		for j := range v {
			v[j] = T(t.GetUint32(x))
			x += 4
		}
	}
	return v
}

// PackInt64s writes v as a vector and returns its offset, or 0 if v is nil.
func PackInt64s[T ~int64](b *flatbuffers.Builder, v []T) flatbuffers.UOffsetT {
	if v == nil {
		return 0
	}
	if asInBuffer {
		return packMemory(b, memoryOf(v), 8, len(v))
	}
	b.StartVector(8, len(v), 8)
	for j := len(v) - 1; j >= 0; j-- {
		b.PlaceInt64(int64(v[j]))
	}
	return b.EndVector(len(v))
}

// UnPackInt64s returns a copy of the vector in a field, in the memory of v if that is long
// enough. The result is empty, not nil, if the vector is absent.
func UnPackInt64s[T ~int64](v []T, t *flatbuffers.Table, slot flatbuffers.VOffsetT) []T {
	v = withLen(v, FieldLen(t, slot))
	if asInBuffer {
		unPackMemory(memoryOf(v), t, slot, 8)
		return v
	}
	if len(v) > 0 {
		x := FieldElem(t, slot, 0, 8)
		for j := range v {
			v[j] = T(t.GetInt64(x))
			x += 8
		}
	}
	return v
}

// PackUint64s writes v as a vector and returns its offset, or 0 if v is nil.
func PackUint64s[T ~uint64](b *flatbuffers.Builder, v []T) flatbuffers.UOffsetT {
	if v == nil {
		return 0
	}
	if asInBuffer {
		return packMemory(b, memoryOf(v), 8, len(v))
	}
	b.StartVector(8, len(v), 8)
	for j := len(v) - 1; j >= 0; j-- {
		b.PlaceUint64(uint64(v[j]))
	}
	return b.EndVector(len(v))
}

// UnPackUint64s returns a copy of the vector in a field, in the memory of v if that is long
// enough. The result is empty, not nil, if the vector is absent.
func UnPackUint64s[T ~uint64](v []T, t *flatbuffers.Table, slot flatbuffers.VOffsetT) []T {
	v = withLen(v, FieldLen(t, slot))
	if asInBuffer {
		unPackMemory(memoryOf(v), t, slot, 8)
		return v
	}
	if len(v) > 0 {
		x := FieldElem(t, slot, 0, 8)
		for j := range v {
			v[j] = T(t.GetUint64(x))
			x += 8
		}
	}
	return v
}

// PackFloat32s writes v as a vector and returns its offset, or 0 if v is nil.
func PackFloat32s[T ~float32](b *flatbuffers.Builder, v []T) flatbuffers.UOffsetT {
	if v == nil {
		return 0
	}
	if asInBuffer {
		return packMemory(b, memoryOf(v), 4, len(v))
	}
	b.StartVector(4, len(v), 4)
	for j := len(v) - 1; j >= 0; j-- {
		b.PlaceFloat32(float32(v[j]))
	}
	return b.EndVector(len(v))
}

// UnPackFloat32s returns a copy of the vector in a field, in the memory of v if that is long
// enough. The result is empty, not nil, if the vector is absent.
func UnPackFloat32s[T ~float32](v []T, t *flatbuffers.Table, slot flatbuffers.VOffsetT) []T {
	v = withLen(v, FieldLen(t, slot))
	if asInBuffer {
		unPackMemory(memoryOf(v), t, slot, 4)
		return v
	}
	if len(v) > 0 {
		x := FieldElem(t, slot, 0, 4)
		for j := range v {
			v[j] = T(t.GetFloat32(x))
			x += 4
		}
	}
	return v
}

// PackFloat64s writes v as a vector and returns its offset, or 0 if v is nil.
func PackFloat64s[T ~float64](b *flatbuffers.Builder, v []T) flatbuffers.UOffsetT {
	if v == nil {
		return 0
	}
	if asInBuffer {
		return packMemory(b, memoryOf(v), 8, len(v))
	}
	b.StartVector(8, len(v), 8)
	for j := len(v) - 1; j >= 0; j-- {
		b.PlaceFloat64(float64(v[j]))
	}
	return b.EndVector(len(v))
}

// UnPackFloat64s returns a copy of the vector in a field, in the memory of v if that is long
// enough. The result is empty, not nil, if the vector is absent.
func UnPackFloat64s[T ~float64](v []T, t *flatbuffers.Table, slot flatbuffers.VOffsetT) []T {
	v = withLen(v, FieldLen(t, slot))
	if asInBuffer {
		unPackMemory(memoryOf(v), t, slot, 8)
		return v
	}
	if len(v) > 0 {
		x := FieldElem(t, slot, 0, 8)
		for j := range v {
			v[j] = T(t.GetFloat64(x))
			x += 8
		}
	}
	return v
}
