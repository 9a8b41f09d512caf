package fb_test

import (
	"bytes"
	"testing"

	flatbuffers "github.com/google/flatbuffers/go"
	"github.com/ipcgen/ipcgen/runtime/fb"
)

// TestFillByteVector compares the messages with those of CreateByteVector, for every
// length and alignment, with and without room, and looks where the bytes were written.
func TestFillByteVector(t *testing.T) {
	const before, most = 9, 40
	data := []byte("a vector of bytes that is long enough for it")
	build := func(room, skip, n int,
		vector func(b *flatbuffers.Builder) flatbuffers.UOffsetT) []byte {
		b := flatbuffers.NewBuilder(0)
		b.Bytes = make([]byte, room)
		b.Reset()
		b.CreateByteVector(data[:skip])
		at := vector(b)
		b.StartObject(1)
		b.PrependUOffsetTSlot(0, at, 0)
		b.Finish(b.EndObject())
		return b.FinishedBytes()
	}
	for n := range most {
		for skip := range before {
			want := build(1024, skip, n, func(b *flatbuffers.Builder) flatbuffers.UOffsetT {
				return b.CreateByteVector(data[:n])
			})
			for room := range 200 {
				inPlace := false
				got := build(room, skip, n, func(b *flatbuffers.Builder) flatbuffers.UOffsetT {
					var dst []byte
					had := b.Bytes
					at := fb.FillByteVector(b, n, func(d []byte) { dst = d; copy(d, data) })
					final := b.Bytes[len(b.Bytes)-int(at)+flatbuffers.SizeUOffsetT:][:n]
					inPlace = n > 0 && &dst[0] == &final[0]
					if grew := len(had) != len(b.Bytes); n > 0 && grew == inPlace {
						t.Errorf("%d bytes behind %d in room for %d: the builder grew: %v, they "+
							"are in place: %v", n, skip, room, grew, inPlace)
					}
					return at
				})
				if !bytes.Equal(got, want) {
					t.Fatalf("%d bytes behind %d in room for %d:\n%x instead of\n%x", n, skip,
						room, got, want)
				}
				if n > 0 && room >= 120 && !inPlace {
					t.Fatalf("%d bytes behind %d were copied although there is room for %d",
						n, skip, room)
				}
			}
		}
	}
}

func BenchmarkFillByteVector(b *testing.B) {
	builder := flatbuffers.NewBuilder(2 << 20)
	data := make([]byte, 1<<20)
	b.Run("filled", func(b *testing.B) {
		for b.Loop() {
			builder.Reset()
			fb.FillByteVector(builder, len(data), func([]byte) {})
		}
	})
	b.Run("created", func(b *testing.B) {
		for b.Loop() {
			builder.Reset()
			builder.CreateByteVector(data)
		}
	})
}
