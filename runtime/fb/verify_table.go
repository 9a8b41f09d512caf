package fb

import (
	"encoding/binary"
	"fmt"
	"math"
)

// A Rule is the rule for one field of a table. Generated code has a list of rules for each table.
// The linker lays the list out, so it costs neither time at the start of the program nor time of
// the Go compiler.
type Rule struct {
	Name     string // in the schema, for errors
	Slot     uint16 // byte offset of the field's entry in the vtable
	Kind     Kind
	Required bool
	Size     uint32 // of a scalar, a struct, an element of a vector, or a union's tag
	Align    uint16 // of a struct
	// Sub is the index, among the subs passed to Verifier.Table, of the verifier of the value to
	// which the field refers.
	Sub uint16
}

// A Kind is the kind of value that a field holds.
type Kind uint8

// The kinds of fields. The tag of a union belongs to the field of its value.
const (
	IsScalar  Kind = iota
	IsStruct       // inline
	IsVector       // of scalars or structs
	IsString       // with its zero byte
	IsStrings      // a vector of strings
	IsTable
	IsTables // a vector of tables
	IsUnion
	IsUnions // a vector of unions; their tags are a vector too
	IsBuffer // a vector of bytes that is a buffer with a root of its own
)

// A SubVerifier verifies a value to which a field refers: the table at pos, or the member at pos of
// the union whose tag is v.Tag(). It returns false after a failure that it has recorded, and true
// for position 0, which means that there is no value. It must not keep v.
type SubVerifier = func(v *Verifier, pos uint32) bool

// Table verifies the table at pos, field by field. It returns false after a failure; the caller
// must then stop.
func (v *Verifier) Table(pos uint32, fields []Rule, subs ...SubVerifier) bool {
	if pos == 0 {
		return true
	}
	vtable := v.beginTable(pos)
	if vtable == nil {
		return false
	}
	end := uint64(len(v.buf))
	for i := range fields {
		f := &fields[i]
		at := entry(vtable, f.Slot)
		switch {
		case at == 0 && f.Required:
			v.fail(f.Name, pos, "required field is missing")
			return false
		case f.Kind == IsScalar:
			at += pos
			if at != pos && (at&(f.Size-1) != 0 || uint64(at)+uint64(f.Size) > end) {
				v.misplaced(f.Name, at, f.Size, f.Size)
				return false
			}
		case at != 0:
			if !v.field(f, pos, pos+at, vtable, subs) {
				return false
			}
		case f.Kind >= IsUnion: // the tag may be present without the value
			if !v.field(f, pos, 0, vtable, subs) {
				return false
			}
		}
	}
	v.depth++
	return true
}

// beginTable verifies the head of a table and returns its vtable, or nil after a failure.
func (v *Verifier) beginTable(pos uint32) []byte {
	if !v.within(pos, offsetSize, offsetSize) {
		v.misplaced("", pos, offsetSize, offsetSize)
		return nil
	}
	v.depth--
	v.tables--
	if v.depth < 0 || v.tables < 0 {
		v.tooComplex(pos)
		return nil
	}
	// The offset is signed. The subtraction wraps as it does in the accessors, and within refuses a
	// result outside the buffer.
	vtable := pos - v.u32(pos)
	if !v.within(vtable, 2, 2) {
		v.badVtable(pos, vtable)
		return nil
	}
	size := v.u16(vtable)
	if size&1 != 0 || !v.within(vtable, size, 2) {
		v.badVtableSize(vtable, size)
		return nil
	}
	return v.buf[vtable:][:size:size]
}

func (v *Verifier) badVtable(pos, vtable uint32) {
	v.fail("", pos, fmt.Sprintf("vtable %#x outside buffer of %d bytes, or misaligned",
		vtable, len(v.buf)))
}

func (v *Verifier) badVtableSize(vtable, size uint32) {
	v.fail("", vtable, fmt.Sprintf("vtable %#x+%d is odd, or outside buffer of %d bytes", vtable,
		size, len(v.buf)))
}

func (v *Verifier) tooComplex(pos uint32) {
	if v.depth < 0 {
		v.fail("", pos, "tables nest too deep")
		return
	}
	v.fail("", pos, "too many tables")
}

// entry returns the position of a field in its table as the vtable says, or 0 if the field is
// absent.
func entry(vtable []byte, slot uint16) uint32 {
	if int(slot)+2 > len(vtable) {
		return 0
	}
	return uint32(binary.LittleEndian.Uint16(vtable[slot:]))
}

// field verifies a field that is not a scalar. at is its position, or 0 if the field is absent.
func (v *Verifier) field(f *Rule, table, at uint32, vtable []byte, subs []SubVerifier) bool {
	switch f.Kind {
	case IsStruct:
		if !v.within(at, f.Size, uint32(f.Align)) {
			v.misplaced(f.Name, at, f.Size, uint32(f.Align))
			return false
		}
		return true
	case IsUnion:
		return v.union(f, table, at, vtable, subs[f.Sub])
	case IsUnions:
		return v.unions(f, table, at, vtable, subs[f.Sub])
	}
	if at == 0 {
		return true
	}
	pos := v.follow(at, f.Name)
	if pos == 0 {
		return false
	}
	switch f.Kind {
	case IsVector:
		_, ok := v.vector(pos, f.Size, f.Name)
		return ok
	case IsString:
		return v.string(pos, f.Name)
	case IsStrings:
		return v.elements(f, pos, 0, (*Verifier).String)
	case IsTable:
		return subs[f.Sub](v, pos) || v.in(f)
	case IsTables:
		return v.elements(f, pos, 0, subs[f.Sub])
	default:
		return v.nested(f, pos, subs[f.Sub])
	}
}

// vector verifies the vector at pos and returns its length.
func (v *Verifier) vector(pos, size uint32, name string) (n uint32, ok bool) {
	if !v.within(pos, offsetSize, offsetSize) {
		v.misplaced(name, pos, offsetSize, offsetSize)
		return 0, false
	}
	n = v.u32(pos)
	total := uint64(n) * uint64(size)
	if total > math.MaxInt32 || !v.within(pos, offsetSize+uint32(total), 1) {
		v.fail(name, pos,
			fmt.Sprintf("vector %#x of %d elements of %d bytes outside buffer of %d bytes", pos, n,
				size, len(v.buf)))
		return 0, false
	}
	v.bytes -= int(total)
	if v.bytes < 0 {
		v.fail(name, pos, "strings and vectors are too long in total")
		return 0, false
	}
	return n, true
}

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

// elements verifies the vector of offsets at pos, and by sub each value to which an element leads.
// tags is the position of the tags of unions, or 0 if the elements have one type.
func (v *Verifier) elements(f *Rule, pos, tags uint32, sub SubVerifier) bool {
	n, ok := v.vector(pos, offsetSize, f.Name)
	if !ok {
		return false
	}
	for i := range n {
		if tags != 0 {
			v.tag = v.readTag(tags+i*f.Size, f.Size)
		}
		at := pos + offsetSize + i*offsetSize
		// An element that leads out of the buffer becomes a position that every sub refuses: the
		// sum is capped, it does not wrap.
		x := uint32(min(uint64(at)+uint64(v.u32(at)), math.MaxUint32&^7))
		if !sub(v, x) {
			return v.inElem(f, i)
		}
	}
	return true
}

// union verifies a union, whose tag is in the slot before it.
func (v *Verifier) union(f *Rule, table, at uint32, vtable []byte, sub SubVerifier) bool {
	var tag uint64
	if off := entry(vtable, f.Slot-2); off != 0 {
		if !v.within(table+off, f.Size, f.Size) {
			v.misplaced(f.Name, table+off, f.Size, f.Size)
			return false
		}
		tag = v.readTag(table+off, f.Size)
	}
	if at == 0 {
		return true
	}
	if at = v.follow(at, f.Name); at == 0 {
		return false
	}
	v.tag = tag
	return sub(v, at) || v.in(f)
}

// unions verifies a vector of unions, and the vector of their tags in the slot before it.
func (v *Verifier) unions(f *Rule, table, at uint32, vtable []byte, sub SubVerifier) bool {
	var tags, tagCount, count uint32
	ok := true
	if off := entry(vtable, f.Slot-2); off != 0 {
		if tags = v.follow(table+off, f.Name); tags == 0 {
			return false
		}
		if tagCount, ok = v.vector(tags, f.Size, f.Name); !ok {
			return false
		}
	}
	if at != 0 {
		if at = v.follow(at, f.Name); at == 0 {
			return false
		}
		if !v.within(at, offsetSize, offsetSize) {
			v.misplaced(f.Name, at, offsetSize, offsetSize)
			return false
		}
		count = v.u32(at)
	}
	if tagCount != count {
		v.fail(f.Name, table, fmt.Sprintf("%d types for %d values", tagCount, count))
		return false
	}
	return at == 0 || v.elements(f, at, tags+offsetSize, sub)
}

// readTag reads the type of a union without extending its sign: the union's verifier converts the
// result to the union's own type.
func (v *Verifier) readTag(pos, size uint32) uint64 {
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

// nested verifies the vector of bytes at pos as a buffer of its own, whose root sub verifies.
func (v *Verifier) nested(f *Rule, pos uint32, sub SubVerifier) bool {
	n, ok := v.vector(pos, 1, f.Name)
	if !ok {
		return false
	}
	buf, base := v.buf, v.base
	pos += offsetSize
	v.buf, v.base = buf[pos:pos+n], base+int(pos)
	root := v.root(0, "")
	if root == 0 || !sub(v, root) {
		return v.in(f)
	}
	v.buf, v.base = buf, base
	return true
}

// Tag returns the type of the union whose verifier is being called.
func (v *Verifier) Tag() uint64 { return v.tag }

// String verifies the string at pos, which is a member of a union or an element.
func (v *Verifier) String(pos uint32) bool { return pos == 0 || v.string(pos, "") }

// Struct verifies the struct at pos, which is a member of a union.
func (v *Verifier) Struct(pos, size, align uint32) bool {
	if pos == 0 || v.within(pos, size, align) {
		return true
	}
	v.misplaced("", pos, size, align)
	return false
}
