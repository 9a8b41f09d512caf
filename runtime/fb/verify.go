package fb

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
)

// This file is the core of the verifier: the rules that a buffer must obey before generated
// accessors may read it. The rules are those of the C++ verifier of FlatBuffers
// (include/flatbuffers/verifier.h), and a limit on the unpacked size, which that verifier does not
// have. The checks of a table's fields are in verify_table.go.

// A VerifyError is the place and the reason of the first failure of a verification.
type VerifyError struct {
	Path   string // such as "ControlMsg.payload(SetParam).value"
	Offset int    // in bytes from the start of the buffer
	Reason string
}

// Error returns the path and the reason.
func (e *VerifyError) Error() string { return e.Path + ": " + e.Reason }

// Limits bounds the resources that a reader of a verified buffer needs. A zero field means its
// default.
type Limits struct {
	// Depth is the deepest nesting of tables; 64 by default.
	Depth int
	// Tables is the number of tables; 1,000,000 by default. A table counts once for each reference
	// to it.
	Tables int
	// Bytes is the total size of all strings and vectors; 16 MiB plus 8 times the length of the
	// buffer by default. A string or vector counts once for each reference to it. Without this
	// limit a small buffer that refers to one long string many times could unpack into any amount
	// of memory.
	Bytes int
}

const (
	defaultVerifyDepth  = 64
	defaultVerifyTables = 1_000_000
	defaultVerifyBytes  = 16 << 20

	offsetSize = 4 // of a uoffset_t and of an soffset_t

	// minBuffer is the size of the smallest possible buffer, as in C++: a root offset, a table's
	// offset to its vtable, and an empty vtable, rounded up.
	minBuffer = 12
)

// A Verifier verifies one buffer. Generated Verify functions keep it on their stack. It allocates
// memory only to report an error. It is not safe for concurrent use.
type Verifier struct {
	buf    []byte // being checked: the whole, or a buffer nested in it
	base   int    // of buf in the whole
	depth  int    // levels left
	tables int    // tables left
	bytes  int    // bytes of strings and vectors left
	tag    uint64 // of the union whose member is checked next
	err    *VerifyError
}

// VerifyRoot verifies buf, whose root table the function root verifies. It returns nil or a
// [*VerifyError] whose path starts with name. If identifier is not empty, the buffer must have that
// identifier. At most one element of limits is used.
func VerifyRoot(name string, root SubVerifier, buf []byte, identifier string,
	limits []Limits) error {
	var v Verifier
	v.init(buf, limits)
	if pos := v.root(0, identifier); pos != 0 {
		root(onStack(&v), pos)
	}
	return v.result(name)
}

// VerifySizePrefixedRoot is like [VerifyRoot], for a buffer that starts with its size.
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

// result returns nil, or the failure with name in front of its path.
func (v *Verifier) result(name string) error {
	if v.err == nil {
		return nil
	}
	v.err.Path = name + v.err.Path
	return v.err
}

// sizedRoot is like root, for a buffer that starts with its size.
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

// root verifies the head of a buffer at start. It returns the position of the root table, or 0
// after a failure.
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

// follow verifies the offset stored at pos. It returns the position to which the offset leads, or 0
// after a failure.
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

// within reports whether size bytes at pos are aligned and inside the buffer. As in C++, no value
// spans the whole buffer.
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

// in puts a field in front of the path of the error, and returns false.
func (v *Verifier) in(f *Rule) bool {
	v.err.Path = "." + f.Name + v.err.Path
	return false
}

// inElem puts an element of a vector in front of the path of the error, and returns false.
func (v *Verifier) inElem(f *Rule, index uint32) bool {
	v.err.Path = "." + f.Name + "[" + strconv.FormatUint(uint64(index), 10) + "]" + v.err.Path
	return false
}

// InMember puts a member of a union in front of the path of the error, and returns false.
func (v *Verifier) InMember(member fmt.Stringer) bool {
	v.err.Path = "(" + member.String() + ")" + v.err.Path
	return false
}

// fail records a failure at the named field, or at the value itself for "", unless there is one
// already.
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

// misplaced records the rule of within that a value breaks.
func (v *Verifier) misplaced(name string, pos, size, align uint32) {
	if pos&(align-1) != 0 {
		v.fail(name, pos, fmt.Sprintf("offset %#x is not a multiple of %d", pos, align))
		return
	}
	v.outside(name, pos, size)
}

// WrongMember returns the error for an envelope that holds no member of its union, or another one
// than the expected one.
func WrongMember(path string, want, got fmt.Stringer) error {
	return &VerifyError{Path: path, Reason: fmt.Sprintf("holds %v instead of %v", got, want)}
}
