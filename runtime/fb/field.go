package fb

import flatbuffers "github.com/google/flatbuffers/go"

// This file holds the common parts of generated accessors; only those call it. The functions are
// small so that the Go compiler has little work for each schema, which is what users of generated
// code wait for. For the same reason some of them must not be inlined into the accessors. The
// accessors themselves are inlined, so a read still costs one call, as in flatc's code.

// FieldPos returns the position of a field of a table in the buffer, or 0 if the field is absent.
//
//go:noinline
func FieldPos(t *flatbuffers.Table, slot flatbuffers.VOffsetT) flatbuffers.UOffsetT {
	if o := t.Offset(slot); o != 0 {
		return t.Pos + flatbuffers.UOffsetT(o)
	}
	return 0
}

// fieldRef returns the position to which the offset in a field leads: the position of a table, of
// the length of a string or vector, or of the member of a union. It returns 0 if the field is
// absent.
//
//go:noinline
func fieldRef(t *flatbuffers.Table, slot flatbuffers.VOffsetT) flatbuffers.UOffsetT {
	if o := t.Offset(slot); o != 0 {
		return follow(t, t.Pos+flatbuffers.UOffsetT(o))
	}
	return 0
}

// follow returns the position to which the offset at x, in t or in a vector of t, leads. It panics
// if that is not behind t, as it is in every verified message. A peer can change a message that is
// read in place. As accessors only go forwards, no chain of tables then becomes a circle.
func follow(t *flatbuffers.Table, x flatbuffers.UOffsetT) flatbuffers.UOffsetT {
	y := t.Indirect(x)
	if y <= t.Pos {
		panic("fb: an offset leads backwards; the buffer is malformed, or changes")
	}
	return y
}

// FieldElem returns the position of element j of the vector in a field, whose elements have size
// bytes. It returns 0 if the vector is absent. It does not check j.
//
//go:noinline
func FieldElem(t *flatbuffers.Table, slot flatbuffers.VOffsetT, j int,
	size flatbuffers.UOffsetT) flatbuffers.UOffsetT {
	if o := t.Offset(slot); o != 0 {
		return t.Vector(flatbuffers.UOffsetT(o)) + flatbuffers.UOffsetT(j)*size
	}
	return 0
}

// fieldElemRef returns the position to which element j of the vector of offsets in a field leads.
// It returns 0 if the vector is absent. It does not check j.
func fieldElemRef(t *flatbuffers.Table, slot flatbuffers.VOffsetT, j int) flatbuffers.UOffsetT {
	if x := FieldElem(t, slot, j, flatbuffers.SizeUOffsetT); x != 0 {
		return follow(t, x)
	}
	return 0
}

// FieldLen returns the length of the vector in a field, or 0 if the vector is absent. It panics if
// the vector is longer than the whole buffer: UnPack makes slices of this length.
//
//go:noinline
func FieldLen(t *flatbuffers.Table, slot flatbuffers.VOffsetT) int {
	if o := t.Offset(slot); o != 0 {
		n := t.VectorLen(flatbuffers.UOffsetT(o))
		if n > len(t.Bytes) {
			panic("fb: a vector is longer than its buffer, which is malformed, or changes")
		}
		return n
	}
	return 0
}

// FieldBytes returns the bytes of the string, or of the vector of bytes, in a field, or nil if it
// is absent. The slice shares the memory of the buffer.
func FieldBytes(t *flatbuffers.Table, slot flatbuffers.VOffsetT) []byte {
	if o := t.Offset(slot); o != 0 {
		return t.ByteVector(t.Pos + flatbuffers.UOffsetT(o))
	}
	return nil
}

// FieldElemBytes returns the bytes of element j of the vector of strings in a field, or nil if the
// vector is absent. The slice shares the memory of the buffer. It does not check j.
func FieldElemBytes(t *flatbuffers.Table, slot flatbuffers.VOffsetT, j int) []byte {
	if x := FieldElem(t, slot, j, flatbuffers.SizeUOffsetT); x != 0 {
		return t.ByteVector(x)
	}
	return nil
}

// UnionBytes returns the bytes of the string to which t is set, a member of a union. The slice
// shares the memory of the buffer.
func UnionBytes(t *flatbuffers.Table) []byte {
	n := t.GetUOffsetT(t.Pos)
	return t.Bytes[t.Pos+flatbuffers.SizeUOffsetT:][:n]
}

// ArrayElem returns the position of element j of the array of n elements of size bytes at pos. It
// panics if j is out of range.
func ArrayElem(pos flatbuffers.UOffsetT, j, n int, size flatbuffers.UOffsetT) flatbuffers.UOffsetT {
	if uint(j) >= uint(n) {
		panic("fb: index out of range of a fixed-size array")
	}
	return pos + flatbuffers.UOffsetT(j)*size
}

// StartTable starts a table of n fields.
//
//go:noinline
func StartTable(b *flatbuffers.Builder, n int) { b.StartObject(n) }

// EndTable ends the table started last and returns its offset.
//
//go:noinline
func EndTable(b *flatbuffers.Builder) flatbuffers.UOffsetT { return b.EndObject() }

// AddStruct stores the struct at x, which must have been written last, in a field of the table
// started last.
//
//go:noinline
func AddStruct(b *flatbuffers.Builder, field int, x flatbuffers.UOffsetT) {
	b.PrependStructSlot(field, x, 0)
}
