package fb

import (
	"unsafe"

	flatbuffers "github.com/google/flatbuffers/go"
)

// This file sets accessors to positions in a buffer. It does not call their Init methods through an
// interface, which would cost more than everything else they do.
//
// T always is an accessor: a generated type that reads a table or a struct. Its only field is a
// flatbuffers.Table, or a flatbuffers.Struct, which itself has a Table as its only field; a pointer
// to an accessor is therefore a pointer to a Table. T has no constraint that says so, because the
// compiler would then generate a copy of each function for each T. For the same reason the generic
// functions only convert pointers: they disappear when they are inlined, so no T has code of its
// own.

// point sets obj, or a new accessor if obj is nil, to position x of buf.
func point(obj *flatbuffers.Table, buf []byte, x flatbuffers.UOffsetT) *flatbuffers.Table {
	if obj == nil {
		obj = new(flatbuffers.Table)
	}
	obj.Bytes, obj.Pos = buf, x
	return obj
}

// RootTable returns an accessor of the root of the buffer that starts at offset in buf.
func RootTable[T any](buf []byte, offset flatbuffers.UOffsetT) *T {
	obj := new(T) // allocated here, so that it can stay on the stack of a caller that inlines this
	pointRoot((*flatbuffers.Table)(unsafe.Pointer(obj)), buf, offset)
	return obj
}

//go:noinline
func pointRoot(obj *flatbuffers.Table, buf []byte, offset flatbuffers.UOffsetT) {
	obj.Bytes, obj.Pos = buf, flatbuffers.GetUOffsetT(buf[offset:])+offset
}

// FieldTable sets obj, or a new accessor if obj is nil, to the table in a field, and returns it. It
// returns nil if the field is absent.
func FieldTable[T any](t *flatbuffers.Table, slot flatbuffers.VOffsetT, obj *T) *T {
	return (*T)(unsafe.Pointer(fieldTable(t, slot, (*flatbuffers.Table)(unsafe.Pointer(obj)))))
}

//go:noinline
func fieldTable(t *flatbuffers.Table, slot flatbuffers.VOffsetT,
	obj *flatbuffers.Table) *flatbuffers.Table {
	if o := t.Offset(slot); o != 0 {
		return point(obj, t.Bytes, follow(t, t.Pos+flatbuffers.UOffsetT(o)))
	}
	return nil
}

// FieldStruct is like [FieldTable], for a struct.
func FieldStruct[T any](t *flatbuffers.Table, slot flatbuffers.VOffsetT, obj *T) *T {
	return (*T)(unsafe.Pointer(fieldStruct(t, slot, (*flatbuffers.Table)(unsafe.Pointer(obj)))))
}

//go:noinline
func fieldStruct(t *flatbuffers.Table, slot flatbuffers.VOffsetT,
	obj *flatbuffers.Table) *flatbuffers.Table {
	if o := t.Offset(slot); o != 0 {
		return point(obj, t.Bytes, t.Pos+flatbuffers.UOffsetT(o))
	}
	return nil
}

// ElemTable sets obj, unless it is nil, to element j of the vector of tables in a field, and
// reports whether the vector is present. It does not check j.
func ElemTable[T any](t *flatbuffers.Table, slot flatbuffers.VOffsetT, obj *T, j int) bool {
	return elemTable(t, slot, (*flatbuffers.Table)(unsafe.Pointer(obj)), j)
}

//go:noinline
func elemTable(t *flatbuffers.Table, slot flatbuffers.VOffsetT,
	obj *flatbuffers.Table, j int) bool {
	o := t.Offset(slot)
	if o != 0 && obj != nil {
		x := t.Vector(flatbuffers.UOffsetT(o)) + flatbuffers.UOffsetT(j)*flatbuffers.SizeUOffsetT
		obj.Bytes, obj.Pos = t.Bytes, follow(t, x)
	}
	return o != 0
}

// ElemStruct is like [ElemTable], for structs of size bytes.
func ElemStruct[T any](t *flatbuffers.Table, slot flatbuffers.VOffsetT, obj *T, j int,
	size flatbuffers.UOffsetT) bool {
	return elemStruct(t, slot, (*flatbuffers.Table)(unsafe.Pointer(obj)), j, size)
}

//go:noinline
func elemStruct(t *flatbuffers.Table, slot flatbuffers.VOffsetT, obj *flatbuffers.Table, j int,
	size flatbuffers.UOffsetT) bool {
	o := t.Offset(slot)
	if o != 0 && obj != nil {
		obj.Bytes, obj.Pos = t.Bytes, t.Vector(flatbuffers.UOffsetT(o))+flatbuffers.UOffsetT(j)*size
	}
	return o != 0
}

// FieldUnion sets obj to the member of the union in a field, and reports whether there is one.
func FieldUnion(t *flatbuffers.Table, slot flatbuffers.VOffsetT, obj *flatbuffers.Table) bool {
	x := fieldRef(t, slot)
	if x != 0 {
		obj.Bytes, obj.Pos = t.Bytes, x
	}
	return x != 0
}

// ElemUnion sets obj to element j of the vector of unions in a field, and reports whether the
// vector is present. It does not check j.
func ElemUnion(t *flatbuffers.Table, slot flatbuffers.VOffsetT,
	obj *flatbuffers.Table, j int) bool {
	x := fieldElemRef(t, slot, j)
	if x != 0 {
		obj.Bytes, obj.Pos = t.Bytes, x
	}
	return x != 0
}
