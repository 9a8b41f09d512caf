package fb

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
// function for each T. For the same reason the generic functions only convert
// pointers: they vanish where they are inlined, and no T has code of its own.

// point makes obj, or a new accessor if it is nil, read position x of buf.
func point(obj *flatbuffers.Table, buf []byte, x flatbuffers.UOffsetT) *flatbuffers.Table {
	if obj == nil {
		obj = new(flatbuffers.Table)
	}
	obj.Bytes, obj.Pos = buf, x
	return obj
}

// RootTable returns an accessor of the root of the buffer at offset in buf.
func RootTable[T any](buf []byte, offset flatbuffers.UOffsetT) *T {
	obj := new(T) // here, so that it need not outlive a caller that inlines this
	pointRoot((*flatbuffers.Table)(unsafe.Pointer(obj)), buf, offset)
	return obj
}

//go:noinline
func pointRoot(obj *flatbuffers.Table, buf []byte, offset flatbuffers.UOffsetT) {
	obj.Bytes, obj.Pos = buf, flatbuffers.GetUOffsetT(buf[offset:])+offset
}

// FieldTable points obj, or a new accessor if it is nil, at the table in a
// field, and returns it; it returns nil when the field is absent.
func FieldTable[T any](t *flatbuffers.Table, slot flatbuffers.VOffsetT, obj *T) *T {
	return (*T)(unsafe.Pointer(fieldTable(t, slot, (*flatbuffers.Table)(unsafe.Pointer(obj)))))
}

//go:noinline
func fieldTable(t *flatbuffers.Table, slot flatbuffers.VOffsetT,
	obj *flatbuffers.Table) *flatbuffers.Table {
	if o := t.Offset(slot); o != 0 {
		return point(obj, t.Bytes, t.Indirect(t.Pos+flatbuffers.UOffsetT(o)))
	}
	return nil
}

// FieldStruct is FieldTable for a struct.
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

// ElemTable points obj, unless it is nil, at element j of a vector of tables,
// and reports whether there is a vector. It does not check j.
func ElemTable[T any](t *flatbuffers.Table, slot flatbuffers.VOffsetT, obj *T, j int) bool {
	return elemTable(t, slot, (*flatbuffers.Table)(unsafe.Pointer(obj)), j)
}

//go:noinline
func elemTable(t *flatbuffers.Table, slot flatbuffers.VOffsetT,
	obj *flatbuffers.Table, j int) bool {
	o := t.Offset(slot)
	if o != 0 && obj != nil {
		x := t.Vector(flatbuffers.UOffsetT(o)) + flatbuffers.UOffsetT(j)*flatbuffers.SizeUOffsetT
		obj.Bytes, obj.Pos = t.Bytes, t.Indirect(x)
	}
	return o != 0
}

// ElemStruct is ElemTable for structs of size bytes.
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
func ElemUnion(t *flatbuffers.Table, slot flatbuffers.VOffsetT,
	obj *flatbuffers.Table, j int) bool {
	x := FieldElemRef(t, slot, j)
	if x != 0 {
		obj.Bytes, obj.Pos = t.Bytes, x
	}
	return x != 0
}
