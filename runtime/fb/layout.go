package fb

import (
	"encoding/binary"

	flatbuffers "github.com/google/flatbuffers/go"
)

// A Layout is the layout of messages in which everything lies where it always
// does: they have only scalars, and all of them are written. Such a message is
// written into a copy of the template, which has the vtables and the offsets; and
// one that is like the template, but for its values, needs no other verification.
// It is immutable; generated code has one for each message it fits.
type Layout struct {
	template []byte
	root     int
	// What a whole message has where mask has ones, in words.
	fixed, mask []uint64
}

// A Value says where a value is in a template, in bytes.
type Value struct{ At, Size int }

// flatHead is how many bytes a builder puts before a template: the offset of the root, and
// the length, since it takes the template for a vector of bytes. Nothing refers
// to the latter: to a reader it is padding.
const flatHead = 8

// NewLayout returns the layout of a template, whose length is a multiple of
// 8. Its root table is root bytes before its end, as builders count.
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

// Begin puts the template into b, which must be empty, and returns it there, so
// that the values can be written into it. They must be before b is finished,
// with the root's offset, since that may move them.
func (l *Layout) Begin(b *flatbuffers.Builder) (template []byte, root flatbuffers.UOffsetT) {
	b.CreateByteVector(l.template)
	return b.Bytes[len(b.Bytes)-len(l.template):], flatbuffers.UOffsetT(l.root)
}

// Match returns what is written over the template in buf, which it shares, or nil
// if buf is no message of this layout. Other messages may be equal to it in
// meaning; the general way finds out.
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
