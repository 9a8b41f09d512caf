package fb

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
)

// This file is the verifier's core: what a buffer must satisfy before generated
// accessors may read it. The rules are those of the C++ verifier of FlatBuffers
// (include/flatbuffers/verifier.h); a limit on the unpacked size is ours. The
// checks of a table's fields are in verify_table.go.

// A VerifyError says where and why a buffer is not what it claims to be.
type VerifyError struct {
	Path   string // such as "ControlMsg.payload(SetParam).value"
	Offset int    // in bytes from the start of the buffer
	Reason string
}

// Error returns the path and the reason.
func (e *VerifyError) Error() string { return e.Path + ": " + e.Reason }

// Limits bounds what a verified buffer may cost its reader. A zero field
// stands for its default.
type Limits struct {
	// Depth is how far tables may nest; 64 by default.
	Depth int
	// Tables is the number of tables, one that is referred to twice counting
	// twice; 1,000,000 by default.
	Tables int
	// Bytes is the total size of all strings and vectors, one that is referred
	// to twice counting twice: without it, a small buffer that refers to one
	// long string many times unpacks into any amount of memory. The default is
	// 16 MiB plus 8 times the length of the buffer.
	Bytes int
}

const (
	defaultVerifyDepth  = 64
	defaultVerifyTables = 1_000_000
	defaultVerifyBytes  = 16 << 20

	offsetSize = 4 // of a uoffset_t and of an soffset_t

	// minBuffer is the least size of any buffer, as in C++: a root offset, a
	// table's offset to its vtable, and an empty vtable, rounded.
	minBuffer = 12
)

// A Verifier checks one buffer. Generated Verify functions make one on their
// stack; it allocates only to report an error, and is not safe for concurrent
// use.
type Verifier struct {
	buf    []byte // being checked: the whole, or a buffer nested in it
	base   int    // of buf in the whole
	depth  int    // levels left
	tables int    // tables left
	bytes  int    // bytes of strings and vectors left
	tag    uint64 // of the union whose member is checked next
	err    *VerifyError
}

// VerifyRoot checks buf, whose root is checked by root, and returns a *VerifyError
// whose path begins with name, or nil. A non-empty identifier must be the buffer's
// own; at most one set of limits counts.
func VerifyRoot(name string, root SubVerifier, buf []byte, identifier string,
	limits []Limits) error {
	var v Verifier
	v.init(buf, limits)
	if pos := v.root(0, identifier); pos != 0 {
		root(onStack(&v), pos)
	}
	return v.result(name)
}

// VerifySizePrefixedRoot is VerifyRoot for a buffer that begins with its size.
func VerifySizePrefixedRoot(name string, root SubVerifier, buf []byte, identifier string,
	limits []Limits) error {
	var v Verifier
	v.init(buf, limits)
	if pos := v.sizedRoot(identifier); pos != 0 {
		root(onStack(&v), pos)
	}
	return v.result(name)
}

func (v *Verifier) init(buf []byte, limits []Limits) {
	*v = Verifier{
		buf:    buf,
		depth:  defaultVerifyDepth,
		tables: defaultVerifyTables,
		bytes:  defaultVerifyBytes + 8*len(buf),
	}
	if len(limits) == 0 {
		return
	}
	if l := limits[0]; l.Depth > 0 {
		v.depth = l.Depth
	}
	if l := limits[0]; l.Tables > 0 {
		v.tables = l.Tables
	}
	if l := limits[0]; l.Bytes > 0 {
		v.bytes = l.Bytes
	}
}

// result returns the failure, its path beginning with name, or nil.
func (v *Verifier) result(name string) error {
	if v.err == nil {
		return nil
	}
	v.err.Path = name + v.err.Path
	return v.err
}

// sizedRoot is root for a buffer that begins with its size.
func (v *Verifier) sizedRoot(identifier string) uint32 {
	if len(v.buf) < offsetSize {
		v.outside("", 0, offsetSize)
		return 0
	}
	if n := uint64(v.u32(0)); n+offsetSize > uint64(len(v.buf)) {
		v.fail("", 0, fmt.Sprintf("size prefix of %d bytes in a buffer of %d", n, len(v.buf)))
		return 0
	}
	return v.root(offsetSize, identifier)
}

// root checks what a buffer begins with, from start on, and returns the
// position of its root table, or 0 after reporting.
func (v *Verifier) root(start uint32, identifier string) uint32 {
	if len(v.buf) < minBuffer || len(v.buf) >= math.MaxInt32 {
		v.badLength()
		return 0
	}
	if identifier != "" && string(v.buf[start+offsetSize:][:len(identifier)]) != identifier {
		v.badIdentifier(start, identifier)
		return 0
	}
	return v.follow(start, "")
}

func (v *Verifier) badLength() {
	if len(v.buf) < minBuffer {
		v.fail("", 0, fmt.Sprintf("buffer of %d bytes is shorter than any message (%d)",
			len(v.buf), minBuffer))
		return
	}
	v.fail("", 0, fmt.Sprintf("buffer of %d bytes is longer than any message (%d)", len(v.buf),
		math.MaxInt32-1))
}

func (v *Verifier) badIdentifier(start uint32, identifier string) {
	pos := start + offsetSize
	v.fail("", pos, fmt.Sprintf("file identifier %q instead of %q",
		v.buf[pos:][:len(identifier)], identifier))
}

// follow checks the offset stored at pos and returns the position it refers
// to, or 0 after reporting.
func (v *Verifier) follow(pos uint32, name string) uint32 {
	if !v.within(pos, offsetSize, offsetSize) {
		v.misplaced(name, pos, offsetSize, offsetSize)
		return 0
	}
	off := v.u32(pos)
	if off == 0 || off > math.MaxInt32 || uint64(pos)+uint64(off) >= uint64(len(v.buf)) {
		v.badOffset(name, pos, off)
		return 0
	}
	return pos + off
}

func (v *Verifier) badOffset(name string, pos, off uint32) {
	v.fail(name, pos, fmt.Sprintf("offset %#x+%#x outside buffer of %d bytes", pos,
		off, len(v.buf)))
}

// within reports whether size bytes at pos are aligned and inside the buffer.
// As in C++, no value spans the whole buffer.
func (v *Verifier) within(pos, size, align uint32) bool {
	return pos&(align-1) == 0 && uint64(size) < uint64(len(v.buf)) &&
		uint64(pos)+uint64(size) <= uint64(len(v.buf))
}

func (v *Verifier) u16(pos uint32) uint32 {
	return uint32(binary.LittleEndian.Uint16(v.buf[pos:]))
}

func (v *Verifier) u32(pos uint32) uint32 {
	return binary.LittleEndian.Uint32(v.buf[pos:])
}

// in prepends a field to the path of the error, and returns false.
func (v *Verifier) in(f *Rule) bool {
	v.err.Path = "." + f.Name + v.err.Path
	return false
}

// inElem prepends an element of a vector to the path of the error, and returns
// false.
func (v *Verifier) inElem(f *Rule, index uint32) bool {
	v.err.Path = "." + f.Name + "[" + strconv.FormatUint(uint64(index), 10) + "]" + v.err.Path
	return false
}

// InMember prepends a member of a union to the path of the error, and returns
// false.
func (v *Verifier) InMember(member fmt.Stringer) bool {
	v.err.Path = "(" + member.String() + ")" + v.err.Path
	return false
}

// fail reports the first failure, at the named field ("" for the value itself).
func (v *Verifier) fail(name string, pos uint32, reason string) {
	if v.err != nil {
		return
	}
	if name != "" {
		name = "." + name
	}
	v.err = &VerifyError{Path: name, Offset: v.base + int(pos), Reason: reason}
}

func (v *Verifier) outside(name string, pos, size uint32) {
	v.fail(name, pos, fmt.Sprintf("offset %#x+%d outside buffer of %d bytes", pos,
		size, len(v.buf)))
}

// misplaced says which rule of within a value breaks.
func (v *Verifier) misplaced(name string, pos, size, align uint32) {
	if pos&(align-1) != 0 {
		v.fail(name, pos, fmt.Sprintf("offset %#x is not a multiple of %d", pos, align))
		return
	}
	v.outside(name, pos, size)
}

// WrongMember returns the error for an envelope that holds another member of
// its union than the one expected, or none.
func WrongMember(path string, want, got fmt.Stringer) error {
	return &VerifyError{Path: path, Reason: fmt.Sprintf("holds %v instead of %v", got, want)}
}
