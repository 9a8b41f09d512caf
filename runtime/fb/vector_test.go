package fb_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"testing"

	flatbuffers "github.com/google/flatbuffers/go"
	"github.com/ipcgen/ipcgen/runtime/fb"
)

// checkVectors packs vectors of values of every length and alignment, compares the messages with
// those of a builder that places one element after the other, and unpacks them again.
func checkVectors[T any](t *testing.T, size int, values []T,
	pack func(*flatbuffers.Builder, []T) flatbuffers.UOffsetT,
	unpack func([]T, *flatbuffers.Table, flatbuffers.VOffsetT) []T,
	place func(*flatbuffers.Builder, T)) {
	t.Run(fmt.Sprintf("%T", values), func(t *testing.T) {
		build := func(skip int, vector func(*flatbuffers.Builder) flatbuffers.UOffsetT) []byte {
			b := flatbuffers.NewBuilder(0)
			b.CreateByteVector(make([]byte, skip))
			at := vector(b)
			after := b.CreateString("after")
			b.StartObject(2)
			b.PrependUOffsetTSlot(0, at, 0)
			b.PrependUOffsetTSlot(1, after, 0)
			b.Finish(b.EndObject())
			return b.FinishedBytes()
		}
		for n := range len(values) + 1 {
			v := values[:n]
			for skip := range 17 {
				want := build(skip, func(b *flatbuffers.Builder) flatbuffers.UOffsetT {
					b.StartVector(size, n, size)
					for _, x := range slices.Backward(v) {
						place(b, x)
					}
					return b.EndVector(n)
				})
				got := build(skip, func(b *flatbuffers.Builder) flatbuffers.UOffsetT {
					return pack(b, v)
				})
				if !bytes.Equal(got, want) {
					t.Fatalf("%d elements behind %d bytes:\n%x instead of\n%x", n, skip, got, want)
				}
				table := flatbuffers.Table{Bytes: got, Pos: flatbuffers.GetUOffsetT(got)}
				memory := make([]T, 0, len(values))
				for _, former := range [][]T{nil, memory} {
					back := unpack(former, &table, 4)
					if back == nil || fmt.Sprint(back) != fmt.Sprint(v) {
						t.Fatalf("%v comes back as %v", v, back)
					}
				}
				if n > 0 && fmt.Sprint(memory[:n]) != fmt.Sprint(v) {
					t.Fatal("the memory of the former vector is not used")
				}
			}
		}
		if pack(flatbuffers.NewBuilder(0), nil) != 0 {
			t.Error("nil is written")
		}
		absent := build(0, func(*flatbuffers.Builder) flatbuffers.UOffsetT { return 0 })
		table := flatbuffers.Table{Bytes: absent, Pos: flatbuffers.GetUOffsetT(absent)}
		if back := unpack(values[:2:2], &table, 4); back == nil || len(back) != 0 {
			t.Errorf("an absent vector comes back as %v", back)
		}
	})
}

// TestVectors compares vectors of numbers with those that a builder makes of single elements.
func TestVectors(t *testing.T) {
	type level uint8
	type shade int16
	type weight float32
	checkVectors(t, 1, []level{0, 1, 127, 255}, fb.PackBytes, fb.UnPackBytes,
		func(b *flatbuffers.Builder, x level) { b.PlaceByte(byte(x)) })
	checkVectors(t, 1, []int8{0, -1, 127, -128}, fb.PackInt8s, fb.UnPackInt8s,
		(*flatbuffers.Builder).PlaceInt8)
	checkVectors(t, 2, []shade{0, 1, -1, math.MaxInt16, math.MinInt16}, fb.PackInt16s,
		fb.UnPackInt16s, func(b *flatbuffers.Builder, x shade) { b.PlaceInt16(int16(x)) })
	checkVectors(t, 2, []uint16{0, 1, 0x1234, math.MaxUint16}, fb.PackUint16s, fb.UnPackUint16s,
		(*flatbuffers.Builder).PlaceUint16)
	checkVectors(t, 4, []int32{0, 1, -1, math.MaxInt32, math.MinInt32}, fb.PackInt32s,
		fb.UnPackInt32s, (*flatbuffers.Builder).PlaceInt32)
	checkVectors(t, 4, []uint32{0, 1, 0x12345678, math.MaxUint32}, fb.PackUint32s,
		fb.UnPackUint32s, (*flatbuffers.Builder).PlaceUint32)
	checkVectors(t, 8, []int64{0, 1, -1, math.MaxInt64, math.MinInt64}, fb.PackInt64s,
		fb.UnPackInt64s, (*flatbuffers.Builder).PlaceInt64)
	checkVectors(t, 8, []uint64{0, 1, 0x123456789abcdef0, math.MaxUint64}, fb.PackUint64s,
		fb.UnPackUint64s, (*flatbuffers.Builder).PlaceUint64)
	checkVectors(t, 4, []weight{0, 1.5, weight(math.Inf(-1)), weight(math.NaN()),
		weight(math.Copysign(0, -1))}, fb.PackFloat32s, fb.UnPackFloat32s,
		func(b *flatbuffers.Builder, x weight) { b.PlaceFloat32(float32(x)) })
	checkVectors(t, 8, []float64{0, -1.5, math.Inf(1), math.NaN(), math.SmallestNonzeroFloat64},
		fb.PackFloat64s, fb.UnPackFloat64s, (*flatbuffers.Builder).PlaceFloat64)
}

// TestShortVectorPanics unpacks a vector whose length is a lie, from a buffer that was not
// verified: that panics, as accessors do, and no part of the vector is made up.
func TestShortVectorPanics(t *testing.T) {
	b := flatbuffers.NewBuilder(0)
	at := fb.PackUint32s(b, []uint32{1, 2, 3})
	b.StartObject(1)
	b.PrependUOffsetTSlot(0, at, 0)
	b.Finish(b.EndObject())
	buf := b.FinishedBytes()
	binary.LittleEndian.PutUint32(buf[len(buf)-16:], 30) // the length
	table := flatbuffers.Table{Bytes: buf, Pos: flatbuffers.GetUOffsetT(buf)}
	defer func() {
		if recover() == nil {
			t.Error("30 elements were unpacked of 3")
		}
	}()
	fb.UnPackUint32s[uint32](nil, &table, 4)
}

func BenchmarkVectors(b *testing.B) {
	v := make([]float32, 64<<10)
	builder := flatbuffers.NewBuilder(1 << 20)
	b.SetBytes(int64(4 * len(v)))
	for b.Loop() {
		builder.Reset()
		at := fb.PackFloat32s(builder, v)
		builder.StartObject(1)
		builder.PrependUOffsetTSlot(0, at, 0)
		builder.Finish(builder.EndObject())
		buf := builder.FinishedBytes()
		table := flatbuffers.Table{Bytes: buf, Pos: flatbuffers.GetUOffsetT(buf)}
		v = fb.UnPackFloat32s(v, &table, 4)
	}
}
