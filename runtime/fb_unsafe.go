package ipc

import (
	"unsafe"

	flatbuffers "github.com/google/flatbuffers/go"
)

// This file points accessors at positions of a buffer without calling their
// Init through an interface, which would cost more than all else they do. In
// all of it, T is an accessor: a generated type that reads a table or struct,
// whose one field is a flatbuffers.Table, or a flatbuffers.Struct, which is a
// Table in turn; so a pointer to one is a pointer to a Table. T has no
// constraint that says so, because the compiler would then make a copy of each
// function for each T.

// point makes obj, or a new accessor if it is nil, read position x of buf.
func point[T any](obj *T, buf []byte, x flatbuffers.UOffsetT) *T {
	if obj == nil {
		obj = new(T)
	}
	t := (*flatbuffers.Table)(unsafe.Pointer(obj))
	t.Bytes, t.Pos = buf, x
	return obj
}

// RootTable returns an accessor of the root of the buffer at offset in buf.
//
//go:noinline
func RootTable[T any](buf []byte, offset flatbuffers.UOffsetT) *T {
	return point[T](nil, buf, flatbuffers.GetUOffsetT(buf[offset:])+offset)
}

// FieldTable points obj, or a new accessor if it is nil, at the table in a
// field, and returns it; it returns nil when the field is absent.
//
//go:noinline
func FieldTable[T any](t *flatbuffers.Table, slot flatbuffers.VOffsetT, obj *T) *T {
	if o := t.Offset(slot); o != 0 {
		return point[T](obj, t.Bytes, t.Indirect(t.Pos+flatbuffers.UOffsetT(o)))
	}
	return nil
}

// FieldStruct is FieldTable for a struct.
//
//go:noinline
func FieldStruct[T any](t *flatbuffers.Table, slot flatbuffers.VOffsetT, obj *T) *T {
	if o := t.Offset(slot); o != 0 {
		return point[T](obj, t.Bytes, t.Pos+flatbuffers.UOffsetT(o))
	}
	return nil
}

// ElemTable points obj, unless it is nil, at element j of a vector of tables,
// and reports whether there is a vector. It does not check j.
//
//go:noinline
func ElemTable[T any](t *flatbuffers.Table, slot flatbuffers.VOffsetT, obj *T, j int) bool {
	o := t.Offset(slot)
	if o != 0 && obj != nil {
		x := t.Vector(flatbuffers.UOffsetT(o)) + flatbuffers.UOffsetT(j)*flatbuffers.SizeUOffsetT
		point[T](obj, t.Bytes, t.Indirect(x))
	}
	return o != 0
}

// ElemStruct is ElemTable for structs of size bytes.
//
//go:noinline
func ElemStruct[T any](t *flatbuffers.Table, slot flatbuffers.VOffsetT, obj *T, j int, size flatbuffers.UOffsetT) bool {
	o := t.Offset(slot)
	if o != 0 && obj != nil {
		point[T](obj, t.Bytes, t.Vector(flatbuffers.UOffsetT(o))+flatbuffers.UOffsetT(j)*size)
	}
	return o != 0
}

// FieldUnion points obj at the member of a union in a field, and reports
// whether there is one.
func FieldUnion(t *flatbuffers.Table, slot flatbuffers.VOffsetT, obj *flatbuffers.Table) bool {
	x := FieldRef(t, slot)
	if x != 0 {
		obj.Bytes, obj.Pos = t.Bytes, x
	}
	return x != 0
}

// ElemUnion points obj at element j of a vector of unions, and reports whether
// there is a vector. It does not check j.
func ElemUnion(t *flatbuffers.Table, slot flatbuffers.VOffsetT, obj *flatbuffers.Table, j int) bool {
	x := FieldElemRef(t, slot, j)
	if x != 0 {
		obj.Bytes, obj.Pos = t.Bytes, x
	}
	return x != 0
}
