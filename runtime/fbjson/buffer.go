package fbjson

import (
	"encoding/binary"
	"math"

	"github.com/ipcgen/ipcgen/internal/schema"
)

// offsetSize is the size of an offset, and of the length of a vector.
const offsetSize = 4

// maxBuffer is the greatest length of a buffer, less one byte.
const maxBuffer = math.MaxInt32

// A buffer is a FlatBuffer that is written from its beginning to its end: what refers to
// something comes before it. Generated builders write in the other direction, since they do not
// know the whole beforehand.
type buffer struct {
	b []byte
	// origin is where the FlatBuffer begins in b: alignment counts from there.
	origin  int
	vtables map[string]int // positions in b of those written
	shared  map[string]int // of strings of fields that are marked (shared)
	scratch []byte
}

// pad appends zeros until the length counted from the origin, plus n, is a multiple of align.
func (b *buffer) pad(n, align int) {
	for (len(b.b)-b.origin+n)%align != 0 {
		b.b = append(b.b, 0)
	}
}

// zeros appends n zeros and returns where they begin.
func (b *buffer) zeros(n int) int {
	at := len(b.b)
	b.b = append(b.b, make([]byte, n)...)
	return at
}

// refer lets the offset at position at lead to position to.
func (b *buffer) refer(at, to int) { binary.LittleEndian.PutUint32(b.b[at:], uint32(to-at)) }

// setScalar writes the bits of a scalar.
func (b *buffer) setScalar(at, size int, bits uint64) {
	for i := range size {
		b.b[at+i] = byte(bits >> (8 * i))
	}
}

// string appends a string and returns its position.
func (b *buffer) string(s string, shared bool) int {
	if shared {
		if at, ok := b.shared[s]; ok {
			return at
		}
	}
	at := b.vector(len(s), 1, 1)
	copy(b.b[at+offsetSize:], s)
	b.b = append(b.b, 0)
	if shared {
		if b.shared == nil {
			b.shared = make(map[string]int)
		}
		b.shared[s] = at
	}
	return at
}

// vector appends a vector of n elements of zeros and returns its position, that of its length.
func (b *buffer) vector(n, size, align int) int {
	b.pad(0, offsetSize)
	b.pad(offsetSize, max(align, 1))
	at := b.zeros(offsetSize + n*size)
	binary.LittleEndian.PutUint32(b.b[at:], uint32(n))
	return at
}

// A slot is a field of a table that is being written.
type slot struct {
	field *schema.Field
	size  int
	align int
	at    int    // in the buffer, once the table has been placed
	bits  uint64 // of a scalar
}

// table appends a table's vtable, unless there is an equal one, and the table, of zeros but for
// the offset to the vtable. It sets the places of slots, which lie in their order without a gap
// if the greatest alignment comes first. ok is false when the table is too large.
func (b *buffer) table(slots []slot) (at int, ok bool) {
	align, last, size := offsetSize, -1, offsetSize
	for i := range slots {
		s := &slots[i]
		align = max(align, s.align)
		last = max(last, s.field.ID)
	}
	for i := range slots {
		s := &slots[i]
		// The byte behind the offset to the vtable is aligned.
		size += -(size - offsetSize) & (s.align - 1)
		s.at = size
		size += s.size
	}
	if size > math.MaxUint16 {
		return 0, false
	}
	vtable := 4 + 2*(last+1)
	if cap(b.scratch) < vtable {
		b.scratch = make([]byte, 2*vtable)
	}
	v := b.scratch[:vtable]
	clear(v)
	binary.LittleEndian.PutUint16(v, uint16(vtable))
	binary.LittleEndian.PutUint16(v[2:], uint16(size))
	for i := range slots {
		binary.LittleEndian.PutUint16(v[slots[i].field.Offset:], uint16(slots[i].at))
	}
	where, ok := b.vtables[string(v)]
	if !ok {
		b.pad(0, 2)
		where = len(b.b)
		b.b = append(b.b, v...)
		b.vtables[string(v)] = where
	}
	b.pad(offsetSize, align)
	at = b.zeros(size)
	binary.LittleEndian.PutUint32(b.b[at:], uint32(int32(at-where)))
	for i := range slots {
		slots[i].at += at
	}
	return at, true
}
