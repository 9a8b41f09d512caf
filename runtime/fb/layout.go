package fb

import (
	"encoding/binary"

	flatbuffers "github.com/google/flatbuffers/go"
)

// A Layout is the layout of messages in which every value has a fixed position: the messages have
// only scalars, and all of them are written. To write such a message, generated code copies the
// template, which has the vtables and offsets, and stores the values. A message that equals the
// template except for its values needs no other verification. A Layout is immutable, so concurrent
// use is safe. Generated code has a Layout for each message that allows it.
type Layout struct {
	template []byte
	root     int
	// The words that a message must have wherever mask has ones.
	fixed, mask []uint64
}

// A Value is the position and size of a value in a template, in bytes.
type Value struct{ At, Size int }

// flatHead is the number of bytes that a builder puts before a template: the offset of the root,
// and the length of the template, which the builder takes for a vector of bytes. Nothing refers to
// the length; a reader takes it for padding.
const flatHead = 8

// NewLayout returns the layout of a template, whose length must be a multiple of 8. The root table
// is root bytes before the end of the template, as builders count.
func NewLayout(root int, template string, values ...Value) *Layout {
	n := flatHead + len(template)
	message := make([]byte, flatHead, n)
	binary.LittleEndian.PutUint32(message, uint32(n-root))
	binary.LittleEndian.PutUint32(message[4:], uint32(len(template)))
	message = append(message, template...)
	mask := make([]byte, n)
	for i := range mask {
		mask[i] = 0xff
	}
	for _, v := range values {
		clear(mask[flatHead+v.At:][:v.Size])
	}
	l := &Layout{template: []byte(template), root: root}
	for i := 0; i < n; i += 8 {
		l.fixed = append(l.fixed, binary.LittleEndian.Uint64(message[i:]))
		l.mask = append(l.mask, binary.LittleEndian.Uint64(mask[i:]))
	}
	return l
}

// Begin puts the template into b, which must be empty, and returns the template's memory in b for
// the caller to store the values in. The caller must store them before it finishes b with the
// returned offset of the root, because that can move the memory.
func (l *Layout) Begin(b *flatbuffers.Builder) (template []byte, root flatbuffers.UOffsetT) {
	b.CreateByteVector(l.template)
	return b.Bytes[len(b.Bytes)-len(l.template):], flatbuffers.UOffsetT(l.root)
}

// Built returns the position in b.Bytes of the table that b has built with offset m, or 0 if a
// message of this layout cannot take the place of the table: b would have to grow, or m is not the
// offset of a table in b. Generated code then reads the table and writes its values into the
// template.
func (l *Layout) Built(b *flatbuffers.Builder, m flatbuffers.UOffsetT) flatbuffers.UOffsetT {
	const spare = 8 // a builder grows before it is full
	if len(b.Bytes) < flatHead+len(l.template)+spare || m < flatbuffers.SizeSOffsetT ||
		m > b.Offset() {
		return 0
	}
	return flatbuffers.UOffsetT(len(b.Bytes)) - m
}

// Match returns the part of buf that corresponds to the template, in the same memory, or nil if buf
// is not a message of this layout. A message that does not match can still have the same meaning;
// the general verifier decides.
func (l *Layout) Match(buf []byte) []byte {
	if len(buf) != 8*len(l.mask) {
		return nil
	}
	fixed := l.fixed[:len(l.mask)]
	var differs uint64
	for i, mask := range l.mask {
		differs |= (binary.LittleEndian.Uint64(buf[8*i:]) ^ fixed[i]) & mask
	}
	if differs != 0 {
		return nil
	}
	return buf[flatHead:]
}
