package ipc

import (
	"fmt"
	"math"
)

// A TableVerifier checks the fields of one table, each by the byte offset of
// its entry in the vtable. Its methods return false after reporting a failure;
// then none may be called any more. A field that is absent is always right.
type TableVerifier struct {
	v      *Verifier
	pos    uint32 // of the table
	vtable uint32
	vsize  uint32 // of the vtable in bytes

	// Sub is the position of what the last Table, Union or Nested refers to; 0
	// when it is absent.
	Sub uint32
	// Tag is the type of the last Union.
	Tag uint64
}

// Elements walks a vector of tables or unions that a TableVerifier has checked.
type Elements struct {
	Index int    // of the element that Next moved to
	Sub   uint32 // the position that it refers to
	Tag   uint64 // the type of the element of a vector of unions

	next, left    uint32 // the next element, and how many are left
	tags, tagSize uint32 // the parallel vector of tags; tagSize 0 for none
}

// Outer is the buffer around a nested one.
type Outer struct{ base, length int }

// Table begins the table at pos. Every call that returns true must be followed
// by one of EndTable, unless a check fails.
func (v *Verifier) Table(pos uint32) (TableVerifier, bool) {
	vtable, vsize, ok := v.beginTable(pos)
	return TableVerifier{v: v, pos: pos, vtable: vtable, vsize: vsize}, ok
}

// beginTable checks what a table begins with and returns its vtable.
func (v *Verifier) beginTable(pos uint32) (vtable, vsize uint32, ok bool) {
	if !v.within(pos, offsetSize, offsetSize) {
		v.misplaced("", pos, offsetSize, offsetSize)
		return 0, 0, false
	}
	v.depth--
	v.tables--
	if v.depth < 0 || v.tables < 0 {
		v.tooComplex(pos)
		return 0, 0, false
	}
	// The offset is signed; the subtraction wraps as it does in the accessors,
	// and within refuses whatever lies outside.
	vtable = pos - v.u32(pos)
	if !v.within(vtable, 2, 2) {
		v.badVtable(pos, vtable)
		return 0, 0, false
	}
	vsize = v.u16(vtable)
	if vsize&1 != 0 || !v.within(vtable, vsize, 2) {
		v.badVtableSize(vtable, vsize)
		return 0, 0, false
	}
	return vtable, vsize, true
}

func (v *Verifier) badVtable(pos, vtable uint32) {
	v.fail("", pos, fmt.Sprintf("vtable %#x outside buffer of %d bytes, or misaligned", vtable, len(v.buf)))
}

func (v *Verifier) badVtableSize(vtable, vsize uint32) {
	v.fail("", vtable, fmt.Sprintf("vtable %#x+%d is odd, or outside buffer of %d bytes", vtable, vsize, len(v.buf)))
}

func (v *Verifier) tooComplex(pos uint32) {
	if v.depth < 0 {
		v.fail("", pos, "tables nest too deep")
		return
	}
	v.fail("", pos, "too many tables")
}

// EndTable ends the table begun last, and returns true.
func (v *Verifier) EndTable() bool {
	v.depth++
	return true
}

// at returns the position of a field's value, or 0 when the table has none.
func (t *TableVerifier) at(slot uint32) uint32 {
	if slot+2 > t.vsize {
		return 0
	}
	off := t.v.u16(t.vtable + slot)
	if off == 0 {
		return 0
	}
	return t.pos + off
}

// Scalar checks a field of size bytes, which is also its alignment.
func (t *TableVerifier) Scalar(slot, size uint32, name string) bool {
	return t.Struct(slot, size, size, name)
}

// Struct checks a field that holds a struct.
func (t *TableVerifier) Struct(slot, size, align uint32, name string) bool {
	pos := t.at(slot)
	if pos == 0 || t.v.within(pos, size, align) {
		return true
	}
	t.v.misplaced(name, pos, size, align)
	return false
}

// Required checks that a field is present.
func (t *TableVerifier) Required(slot uint32, name string) bool {
	if t.at(slot) != 0 {
		return true
	}
	t.v.fail(name, t.pos, "required field is missing")
	return false
}

// ref checks a field that holds an offset and returns the position it refers
// to, or 0 when it is absent.
func (t *TableVerifier) ref(slot uint32, name string) (uint32, bool) {
	pos := t.at(slot)
	if pos == 0 {
		return 0, true
	}
	pos = t.v.follow(pos, name)
	return pos, pos != 0
}

// Vector checks a vector of scalars or structs of size bytes.
func (t *TableVerifier) Vector(slot, size uint32, name string) bool {
	pos, ok := t.ref(slot, name)
	if pos == 0 {
		return ok
	}
	_, ok = t.v.vector(pos, size, name)
	return ok
}

// vector checks the vector at pos and returns its length.
func (v *Verifier) vector(pos, size uint32, name string) (n uint32, ok bool) {
	if !v.within(pos, offsetSize, offsetSize) {
		v.misplaced(name, pos, offsetSize, offsetSize)
		return 0, false
	}
	n = v.u32(pos)
	total := uint64(n) * uint64(size)
	if total > math.MaxInt32 || !v.within(pos, offsetSize+uint32(total), 1) {
		v.fail(name, pos, fmt.Sprintf("vector %#x of %d elements of %d bytes outside buffer of %d bytes", pos, n, size, len(v.buf)))
		return 0, false
	}
	v.bytes -= int(total)
	if v.bytes < 0 {
		v.fail(name, pos, "strings and vectors are too long in total")
		return 0, false
	}
	return n, true
}

// String checks a string.
func (t *TableVerifier) String(slot uint32, name string) bool {
	pos, ok := t.ref(slot, name)
	if pos == 0 {
		return ok
	}
	return t.v.string(pos, name)
}

// String checks the string at pos, a member of a union.
func (v *Verifier) String(pos uint32) bool { return pos == 0 || v.string(pos, "") }

func (v *Verifier) string(pos uint32, name string) bool {
	n, ok := v.vector(pos, 1, name)
	if !ok {
		return false
	}
	end := pos + offsetSize + n
	if uint64(end) >= uint64(len(v.buf)) || v.buf[end] != 0 {
		v.fail(name, pos, fmt.Sprintf("string %#x+%d is not zero-terminated", pos, n))
		return false
	}
	return true
}

// Strings checks a vector of strings.
func (t *TableVerifier) Strings(slot uint32, name string) bool {
	var e Elements
	ok := t.Tables(slot, name, &e)
	for ok && e.Next(t.v) {
		ok = t.v.string(e.Sub, "") || t.v.InElem(name, e.Index)
	}
	return ok
}

// Table checks the offset of a table, whose position is then Sub.
func (t *TableVerifier) Table(slot uint32, name string) (ok bool) {
	t.Sub, ok = t.ref(slot, name)
	return ok
}

// Tables checks a vector of offsets, which e then walks.
func (t *TableVerifier) Tables(slot uint32, name string, e *Elements) bool {
	*e = Elements{Index: -1}
	pos, ok := t.ref(slot, name)
	if pos == 0 {
		return ok
	}
	e.next = pos + offsetSize
	e.left, ok = t.v.vector(pos, offsetSize, name)
	return ok
}

// Next moves to the next element and reports whether there is one.
func (e *Elements) Next(v *Verifier) bool {
	if e.left == 0 {
		return false
	}
	e.left--
	e.Index++
	if e.tagSize != 0 {
		e.Tag = v.tag(e.tags, e.tagSize)
		e.tags += e.tagSize
	}
	// An element that leads out of the buffer becomes a position that Table
	// and String refuse: the sum is capped instead of wrapped.
	e.Sub = uint32(min(uint64(e.next)+uint64(v.u32(e.next)), math.MaxUint32&^7))
	e.next += offsetSize
	return true
}

// Union checks a union whose tag is of tagSize bytes in the slot before it:
// Tag and Sub then say what it holds.
func (t *TableVerifier) Union(slot, tagSize uint32, name string) (ok bool) {
	t.Tag = 0
	if pos := t.at(slot - 2); pos != 0 {
		if !t.v.within(pos, tagSize, tagSize) {
			t.v.misplaced(name, pos, tagSize, tagSize)
			return false
		}
		t.Tag = t.v.tag(pos, tagSize)
	}
	t.Sub, ok = t.ref(slot, name)
	return ok
}

// tag reads the type of a union, extending its sign bit as nothing: the caller
// converts it to the union's own type.
func (v *Verifier) tag(pos, size uint32) uint64 {
	switch size {
	case 1:
		return uint64(v.buf[pos])
	case 2:
		return uint64(v.u16(pos))
	case 4:
		return uint64(v.u32(pos))
	default:
		return uint64(v.u32(pos)) | uint64(v.u32(pos+4))<<32
	}
}

// Unions checks a vector of unions, which e then walks, and the vector of their
// tags in the slot before it.
func (t *TableVerifier) Unions(slot, tagSize uint32, name string, e *Elements) bool {
	tags, ok := t.ref(slot-2, name)
	if !ok {
		return false
	}
	var tagCount uint32
	if tags != 0 {
		if tagCount, ok = t.v.vector(tags, tagSize, name); !ok {
			return false
		}
	}
	if !t.Tables(slot, name, e) {
		return false
	}
	if tagCount != e.left {
		t.v.fail(name, t.pos, fmt.Sprintf("%d types for %d values", tagCount, e.left))
		return false
	}
	e.tags, e.tagSize = tags+offsetSize, tagSize
	return true
}

// Nested checks a vector of bytes that is a buffer of its own, and goes on
// inside it: Sub is the position of its root. EndNested goes back to the
// buffer around it, which outer is set to.
func (t *TableVerifier) Nested(slot uint32, name string, outer *Outer) bool {
	v := t.v
	*outer = Outer{v.base, len(v.buf)}
	pos, ok := t.ref(slot, name)
	t.Sub = 0
	if pos == 0 {
		return ok
	}
	n, ok := v.vector(pos, 1, name)
	if !ok {
		return false
	}
	pos += offsetSize
	v.base += int(pos)
	v.buf = v.buf[pos : pos+n]
	if t.Sub = v.root(0, ""); t.Sub == 0 {
		return v.In(name)
	}
	return true
}

// EndNested goes back to the buffer around a nested one, and returns true.
func (v *Verifier) EndNested(outer Outer) bool {
	v.base = outer.base
	v.buf = v.all[outer.base:][:outer.length]
	return true
}

// Struct checks the struct at pos, a member of a union.
func (v *Verifier) Struct(pos, size, align uint32) bool {
	if pos == 0 || v.within(pos, size, align) {
		return true
	}
	v.misplaced("", pos, size, align)
	return false
}
