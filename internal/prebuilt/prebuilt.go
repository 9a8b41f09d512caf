// Package prebuilt puts a message that is encoded already into the builder that was to encode it,
// for gateways and tools, which have bytes where generated code has an object.
package prebuilt

import (
	"fmt"

	flatbuffers "github.com/google/flatbuffers/go"
)

// Place makes the bytes of a message the finished message of b, which must be empty. The length of
// a message is a multiple of four, as builders make it.
func Place(b *flatbuffers.Builder, message []byte) error {
	const word = flatbuffers.SizeUOffsetT
	n := len(message)
	if n < 2*word || n%word != 0 {
		return fmt.Errorf("a message of %d bytes is no FlatBuffer", n)
	}
	root := flatbuffers.GetUOffsetT(message)
	if root < word || int64(root) > int64(n) {
		return fmt.Errorf("the root of a message of %d bytes lies at %d", n, root)
	}
	// A builder takes bytes in one piece only as a vector, whose length lies where the message has
	// its second word. The first is the offset of the root, which Finish writes.
	b.CreateByteVector(message[2*word:])
	copy(b.Bytes[len(b.Bytes)-int(b.Offset()):], message[word:2*word])
	b.Finish(flatbuffers.UOffsetT(n) - root)
	return nil
}
