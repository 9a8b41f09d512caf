package prebuilt_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	flatbuffers "github.com/google/flatbuffers/go"

	"github.com/ipcgen/ipcgen/internal/prebuilt"
)

// TestPlace places messages of many lengths, with each root that a message can have: the builder
// has the same bytes afterwards, also if it is used again.
func TestPlace(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	b := flatbuffers.NewBuilder(0)
	for n := 8; n <= 200; n += 4 {
		for root := 4; root <= n; root++ {
			message := make([]byte, n)
			for i := range message {
				message[i] = byte(rnd.Uint32())
			}
			flatbuffers.WriteUOffsetT(message, flatbuffers.UOffsetT(root))
			b.Reset()
			if err := prebuilt.Place(b, message); err != nil {
				t.Fatalf("%d bytes, root at %d: %v", n, root, err)
			}
			if !bytes.Equal(b.FinishedBytes(), message) {
				t.Fatalf("%d bytes, root at %d: %x became %x", n, root, message, b.FinishedBytes())
			}
		}
	}
}

// TestPlaceRefuses gives Place what is no message.
func TestPlaceRefuses(t *testing.T) {
	for _, message := range [][]byte{nil, make([]byte, 4), make([]byte, 9), make([]byte, 8),
		{3, 0, 0, 0, 0, 0, 0, 0}, {9, 0, 0, 0, 0, 0, 0, 0},
		{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}} {
		if err := prebuilt.Place(flatbuffers.NewBuilder(0), message); err == nil {
			t.Errorf("%x was placed", message)
		}
	}
}
