package longvec_test

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"testing"

	flatbuffers "github.com/google/flatbuffers/go"
	"github.com/ipcgen/ipcgen/internal/longvec"
)

// vector returns n bytes that differ from those of another seed.
func vector(n int, seed byte) []byte {
	v := make([]byte, n)
	for i := range v {
		v[i] = byte(i*7) ^ seed
	}
	return v
}

// message packs vectors, with strings between them, by the functions of this package.
func message(b *flatbuffers.Builder, vectors [][]byte) []byte {
	b.Reset()
	var offsets []flatbuffers.UOffsetT
	for i, v := range vectors {
		create := longvec.CreateByteVector
		if i%2 == 1 {
			create = longvec.CreateByteString
		}
		offsets = append(offsets, create(b, v), b.CreateString(fmt.Sprint(i)))
	}
	b.StartObject(len(offsets))
	for i, x := range offsets {
		b.PrependUOffsetTSlot(i, x, 0)
	}
	b.Finish(b.EndObject())
	return b.FinishedBytes()
}

// TestGathering packs vectors of all kinds of lengths, and puts those that were left out where they
// belong. The result is that of a builder that copies them.
func TestGathering(t *testing.T) {
	const least = longvec.Least
	for _, lengths := range [][]int{
		{}, {0}, {least - 1}, {least}, {least + 1}, {least + 2}, {least + 3}, {3 * least},
		{least, 5, least}, {1, least + 1, least + 2, 0, 7 * least}, {9 * least, 9*least + 5},
	} {
		for _, room := range []int{0, 100, 1 << 20} { // the builder grows, or does not
			var vectors [][]byte
			long := 0
			for i, n := range lengths {
				vectors = append(vectors, vector(n, byte(i)))
				if n >= least {
					long++
				}
			}
			want := slices.Clone(message(flatbuffers.NewBuilder(0), vectors))
			b := flatbuffers.NewBuilder(room)
			copy(b.Bytes, vector(room, 99)) // of an older message
			var g longvec.Gathering
			g.Begin(b)
			got := slices.Clone(message(b, vectors))
			other := message(flatbuffers.NewBuilder(0), vectors)
			g.End(b)
			if !bytes.Equal(other, want) {
				t.Errorf("%v: the vectors of another builder are left out", lengths)
			}
			if len(g.Parts) != long || len(got) != len(want) {
				t.Fatalf("%v: %d vectors left out of %d bytes, which should be %d", lengths,
					len(g.Parts), len(got), len(want))
			}
			last := len(got)
			for _, p := range g.Parts {
				start := len(got) - p.FromEnd
				if start+len(p.Bytes) > last {
					t.Fatalf("%v: a part from %d to %d, behind one from %d", lengths, start,
						start+len(p.Bytes), last)
				}
				last = start
				copy(got[start:], p.Bytes)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%v, room for %d: the message differs", lengths, room)
			}
			if g.Clear(); len(g.Parts) != 0 {
				t.Errorf("%d parts are left", len(g.Parts))
			}
			if again := message(b, vectors); !bytes.Equal(again, want) {
				t.Errorf("%v: vectors are left out after the end", lengths)
			}
		}
	}
}

// TestAdoption shows which vector of a message an object keeps: one, and only of a message that is
// announced, of which it takes half.
func TestAdoption(t *testing.T) {
	body := vector(64<<10, 0)
	within := func(b []byte) bool {
		return cap(b) > 0 && &b[0] == &body[len(body)-len(b)-8]
	}
	part := func(n int) []byte { return body[len(body)-n-8 : len(body)-8] }
	var a longvec.Adoption
	if b := longvec.Own(part(60 << 10)); within(b) {
		t.Error("a message that is not announced is kept")
	}
	a.Begin(body)
	short, absent := longvec.Own(part(20<<10)), longvec.Own(nil)
	clipped := longvec.Own(part(40 << 10)[: 40<<10 : 40<<10])
	long, second := longvec.Own(part(40<<10)), longvec.Own(part(40<<10))
	other := longvec.Own(vector(40<<10, 1))
	if !a.End() {
		t.Error("nothing is said to be kept")
	}
	if !within(long) || cap(long) != len(long) {
		t.Errorf("a long vector is copied, or has a capacity of %d", cap(long))
	}
	if absent != nil || within(short) || within(clipped) || within(second) ||
		!bytes.Equal(second, long) || !bytes.Equal(other, vector(40<<10, 1)) {
		t.Error("more than one vector is kept, or another")
	}
	a.Begin(body)
	if longvec.Own(part(20 << 10)); a.End() {
		t.Error("a vector that takes less than half is kept")
	}
	if longvec.Own(part(60 << 10)); within(longvec.Own(part(60 << 10))) {
		t.Error("a vector is kept after the end")
	}
}

// TestConcurrent packs and unpacks on several goroutines, each of which sees its own alone.
func TestConcurrent(t *testing.T) {
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			v := vector(longvec.Least+i, byte(i))
			b := flatbuffers.NewBuilder(0)
			var g longvec.Gathering
			var a longvec.Adoption
			for range 300 {
				g.Begin(b)
				message(b, [][]byte{v})
				g.End(b)
				if len(g.Parts) != 1 || &g.Parts[0].Bytes[0] != &v[0] {
					t.Errorf("%d parts", len(g.Parts))
					return
				}
				g.Clear()
				a.Begin(v)
				if kept := longvec.Own(v); !a.End() || &kept[0] != &v[0] {
					t.Error("the vector is copied")
					return
				}
			}
		})
	}
	all.Wait()
}
