package ipc

import flatbuffers "github.com/google/flatbuffers/go"

// Flat begins a message whose layout is always the same: it puts the template,
// which has the vtables and the offsets, at the end of b, which must be empty,
// and returns it there, so that the values can be written into it. They must be
// before b is finished, since that may move them.
//
// The builder takes the template for a vector of bytes, and so writes its length
// before it. Nothing refers to that word: to a reader it is padding.
func Flat(b *flatbuffers.Builder, template []byte) []byte {
	b.CreateByteVector(template)
	return b.Bytes[len(b.Bytes)-len(template):]
}
