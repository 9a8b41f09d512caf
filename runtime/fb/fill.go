package fb

import flatbuffers "github.com/google/flatbuffers/go"

// FillByteVector puts a vector of n bytes into the message that b builds, and has fill write
// them, where CreateByteVector would copy them from elsewhere. In a call in place
// that is the memory the peer reads: a file or a device can be read right into it, and
// what is left as it is costs nothing, whatever its size. fill must set all of
// dst that is to mean anything, since it holds older messages, and may not keep it. Only
// where b has too little room left is dst memory of its own, and copied.
//
// Nothing else may be under way in b, as for CreateByteVector. It does not work for vectors with
// larger elements, which FlatBuffers may align otherwise.
func FillByteVector(b *flatbuffers.Builder, n int, fill func(dst []byte)) flatbuffers.UOffsetT {
	// A builder writes from the end of its memory towards the beginning: the bytes, behind their
	// length, which is a multiple of 4 from the end.
	end := len(b.Bytes) - int(b.Offset())
	start := end - n - int(-(b.Offset()+flatbuffers.UOffsetT(n))&(flatbuffers.SizeUOffsetT-1))
	if start <= flatbuffers.SizeUOffsetT { // the builder would grow
		own := make([]byte, n)
		fill(own)
		return b.CreateByteVector(own)
	}
	dst := b.Bytes[start : start+n : start+n]
	fill(dst)
	return b.CreateByteVector(dst) // to where it is: copy sees that, and does nothing
}
