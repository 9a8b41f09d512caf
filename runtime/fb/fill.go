package fb

import flatbuffers "github.com/google/flatbuffers/go"

// FillByteVector adds a vector of n bytes to the message that b builds, and calls fill to write the
// bytes. [flatbuffers.Builder.CreateByteVector] would copy them from another place. For a call in
// place, dst is the memory that the peer reads: a file or a device can be read directly into it,
// and bytes that fill does not touch cost nothing, whatever the size. If the remaining room in b is
// too small, dst is separate memory, which is copied.
//
// fill must set every byte that has a meaning, because dst can hold data of older messages, and
// must not keep dst. No other object may be under construction in b, as for CreateByteVector.
// Vectors of larger elements are not supported, because FlatBuffers may align them differently.
func FillByteVector(b *flatbuffers.Builder, n int, fill func(dst []byte)) flatbuffers.UOffsetT {
	// A builder writes from the end of its memory towards the beginning: first the bytes, then
	// their length, which is at a multiple of 4 from the end.
	end := len(b.Bytes) - int(b.Offset())
	start := end - n - int(-(b.Offset()+flatbuffers.UOffsetT(n))&(flatbuffers.SizeUOffsetT-1))
	if start <= flatbuffers.SizeUOffsetT { // the builder would grow
		own := make([]byte, n)
		fill(own)
		return b.CreateByteVector(own)
	}
	dst := b.Bytes[start : start+n : start+n]
	fill(dst)
	return b.CreateByteVector(dst) // at the same place: copy notices that, and does nothing
}
