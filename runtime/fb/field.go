package fb

import flatbuffers "github.com/google/flatbuffers/go"

// This file holds what the bodies of generated accessors share. They are small
// so that the Go compiler, which is what users of generated code wait for, has
// little to do; nothing else calls them. Some must not be inlined into the
// accessors for the same reason: the accessors themselves are inlined, so that
// a read still costs one call, as it does in flatc's code.

// FieldPos returns the position of a table's field in its buffer, or 0 when
// the table does not have it.
//
//go:noinline
func FieldPos(t *flatbuffers.Table, slot flatbuffers.VOffsetT) flatbuffers.UOffsetT {
	if o := t.Offset(slot); o != 0 {
		return t.Pos + flatbuffers.UOffsetT(o)
	}
	return 0
}

// FieldRef returns the position that a field's offset leads to: of a table, of
// a string's or vector's length, or of a union's member; 0 when absent.
//
//go:noinline
func FieldRef(t *flatbuffers.Table, slot flatbuffers.VOffsetT) flatbuffers.UOffsetT {
	if o := t.Offset(slot); o != 0 {
		return t.Indirect(t.Pos + flatbuffers.UOffsetT(o))
	}
	return 0
}

// FieldElem returns the position of element j, of size bytes, of a vector; 0
// when the vector is absent. It does not check j.
//
//go:noinline
func FieldElem(t *flatbuffers.Table, slot flatbuffers.VOffsetT, j int,
	size flatbuffers.UOffsetT) flatbuffers.UOffsetT {
	if o := t.Offset(slot); o != 0 {
		return t.Vector(flatbuffers.UOffsetT(o)) + flatbuffers.UOffsetT(j)*size
	}
	return 0
}

// FieldElemRef returns the position that element j of a vector of offsets
// leads to; 0 when the vector is absent. It does not check j.
func FieldElemRef(t *flatbuffers.Table, slot flatbuffers.VOffsetT, j int) flatbuffers.UOffsetT {
	if x := FieldElem(t, slot, j, flatbuffers.SizeUOffsetT); x != 0 {
		return t.Indirect(x)
	}
	return 0
}

// FieldLen returns the length of a vector, or 0 when it is absent.
//
//go:noinline
func FieldLen(t *flatbuffers.Table, slot flatbuffers.VOffsetT) int {
	if o := t.Offset(slot); o != 0 {
		return t.VectorLen(flatbuffers.UOffsetT(o))
	}
	return 0
}

// FieldBytes returns the bytes of a string or of a vector of bytes, or nil when
// it is absent. They are the buffer's own, not a copy.
func FieldBytes(t *flatbuffers.Table, slot flatbuffers.VOffsetT) []byte {
	if o := t.Offset(slot); o != 0 {
		return t.ByteVector(t.Pos + flatbuffers.UOffsetT(o))
	}
	return nil
}

// FieldElemBytes returns the bytes of element j of a vector of strings, or nil
// when the vector is absent. It does not check j.
func FieldElemBytes(t *flatbuffers.Table, slot flatbuffers.VOffsetT, j int) []byte {
	if x := FieldElem(t, slot, j, flatbuffers.SizeUOffsetT); x != 0 {
		return t.ByteVector(x)
	}
	return nil
}

// UnionBytes returns the bytes of a string that is a member of a union.
func UnionBytes(t *flatbuffers.Table) []byte {
	n := t.GetUOffsetT(t.Pos)
	return t.Bytes[t.Pos+flatbuffers.SizeUOffsetT:][:n]
}

// ArrayElem returns the position of element j, of size bytes, of the array of n
// elements at pos. It panics when j is out of range.
func ArrayElem(pos flatbuffers.UOffsetT, j, n int, size flatbuffers.UOffsetT) flatbuffers.UOffsetT {
	if uint(j) >= uint(n) {
		panic("fb: index out of range of a fixed-size array")
	}
	return pos + flatbuffers.UOffsetT(j)*size
}

// StartTable begins a table of n fields.
//
//go:noinline
func StartTable(b *flatbuffers.Builder, n int) { b.StartObject(n) }

// EndTable ends the table begun last and returns its offset.
//
//go:noinline
func EndTable(b *flatbuffers.Builder) flatbuffers.UOffsetT { return b.EndObject() }

// AddStruct puts the struct at x, which was written last, into a field of the
// table begun.
//
//go:noinline
func AddStruct(b *flatbuffers.Builder, field int, x flatbuffers.UOffsetT) {
	b.PrependStructSlot(field, x, 0)
}
