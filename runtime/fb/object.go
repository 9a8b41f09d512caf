package fb

import (
	"reflect"
	"sync"

	flatbuffers "github.com/google/flatbuffers/go"
	"github.com/ipcgen/ipcgen/internal/longvec"
)

// A packer is a pointer to a generated struct whose Pack method writes the struct.
type packer interface {
	Pack(b *flatbuffers.Builder) flatbuffers.UOffsetT
}

// Offsets are the offsets of the elements of a vector, which are written before the vector.
type Offsets []flatbuffers.UOffsetT

// spareOffsets has the memory of Offsets. It grows to what the longest vectors need, and the
// garbage collector takes what is not used.
var spareOffsets sync.Pool // of *Offsets

// TakeOffsets returns n offsets, which may have any value. [PackOffsets] takes them back.
func TakeOffsets(n int) *Offsets {
	o, _ := spareOffsets.Get().(*Offsets)
	if o == nil {
		o = new(Offsets)
	}
	*o = withLen(*o, n)
	return o
}

// PackOffsets writes a vector of offsets. An offset of 0, which refers to nothing, is written as 0.
func PackOffsets(b *flatbuffers.Builder, o *Offsets) flatbuffers.UOffsetT {
	offsets := *o
	b.StartVector(flatbuffers.SizeUOffsetT, len(offsets), flatbuffers.SizeUOffsetT)
	for j := len(offsets) - 1; j >= 0; j-- {
		if offsets[j] == 0 {
			b.PlaceUOffsetT(0)
			continue
		}
		b.PlaceUOffsetT(b.Offset() - offsets[j] + flatbuffers.SizeUOffsetT)
	}
	spareOffsets.Put(o)
	return b.EndVector(len(offsets))
}

// CreateString writes a string and returns its offset. For an empty string it writes nothing and
// returns 0, because an absent string reads as an empty one.
//
//go:noinline
func CreateString(b *flatbuffers.Builder, s string) flatbuffers.UOffsetT {
	if s == "" {
		return 0
	}
	return b.CreateString(s)
}

// CreateSharedString is like [CreateString], but writes equal strings only once.
//
//go:noinline
func CreateSharedString(b *flatbuffers.Builder, s string) flatbuffers.UOffsetT {
	if s == "" {
		return 0
	}
	return b.CreateSharedString(s)
}

// CreateByteString writes a vector of bytes with a zero byte after it, and returns its offset, or 0
// if v is nil.
//
//go:noinline
func CreateByteString(b *flatbuffers.Builder, v []byte) flatbuffers.UOffsetT {
	if v == nil {
		return 0
	}
	return longvec.CreateByteString(b, v)
}

// OrEmpty returns v, or an empty slice if v is nil. It is for vectors that the schema requires.
func OrEmpty[T any](v []T) []T {
	if v == nil {
		return []T{}
	}
	return v
}

// PackStrings writes a vector of strings and returns its offset, or 0 if v is nil.
func PackStrings(b *flatbuffers.Builder, v []string) flatbuffers.UOffsetT {
	if v == nil {
		return 0
	}
	o := TakeOffsets(len(v))
	for j, s := range v {
		(*o)[j] = b.CreateString(s)
	}
	return PackOffsets(b, o)
}

// UnPackStrings returns the vector of strings in a field, in the memory of v if that is long
// enough. The result is empty, not nil, if the vector is absent.
func UnPackStrings(v []string, t *flatbuffers.Table, slot flatbuffers.VOffsetT,
	m Memory) []string {
	v = withLen(v, FieldLen(t, slot))
	for j := range v {
		v[j] = TextIn(FieldElemBytes(t, slot, j), m)
	}
	return v
}

// PackTables writes a vector of tables and returns its offset, or 0 if v is nil. A nil element
// becomes a table of zeros.
func PackTables[P packer](b *flatbuffers.Builder, v []P) flatbuffers.UOffsetT {
	if v == nil {
		return 0
	}
	o := TakeOffsets(len(v))
	for j, x := range v {
		if (*o)[j] = x.Pack(b); (*o)[j] == 0 {
			// Reflection is used because a type parameter for P's element type would make the
			// compiler copy this function for each table.
			zero := reflect.New(reflect.TypeOf(x).Elem()).Interface().(packer)
			(*o)[j] = zero.Pack(b)
		}
	}
	return PackOffsets(b, o)
}

// PackStructs writes a vector of structs of the given size and alignment, and returns its offset,
// or 0 if v is nil. A nil element becomes zeros.
func PackStructs[P packer](b *flatbuffers.Builder, v []P, size, align int) flatbuffers.UOffsetT {
	if v == nil {
		return 0
	}
	b.StartVector(size, len(v), align)
	for j := len(v) - 1; j >= 0; j-- {
		if v[j].Pack(b) == 0 {
			b.Prep(align, size)
			b.Pad(size)
		}
	}
	return b.EndVector(len(v))
}

// LookupTable searches a vector of tables that is sorted by a key. It returns the position of the
// table for which compare returns 0, or 0 if there is none. compare gets the position of a table
// and returns the order of that table's key relative to the key sought.
func LookupTable(buf []byte, vector flatbuffers.UOffsetT,
	compare func(pos flatbuffers.UOffsetT) int) flatbuffers.UOffsetT {
	lo, hi := flatbuffers.UOffsetT(0),
		flatbuffers.GetUOffsetT(buf[vector-flatbuffers.SizeUOffsetT:])
	for lo < hi {
		mid := lo + (hi-lo)/2
		pos := flatbuffers.GetIndirectOffset(buf, vector+mid*flatbuffers.SizeUOffsetT)
		if pos <= vector {
			panic("fb: an offset leads backwards; the buffer is malformed, or changes")
		}
		switch c := compare(pos); {
		case c == 0:
			return pos
		case c < 0:
			lo = mid + 1
		default:
			hi = mid
		}
	}
	return 0
}

// Search returns the index for which compare returns 0, or -1 if there is none. compare gets an
// index below n, of an element in a sequence sorted by a key, and returns the order of that
// element's key relative to the key sought.
func Search(n int, compare func(j int) int) int {
	lo, hi := 0, n
	for lo < hi {
		mid := lo + (hi-lo)/2
		switch c := compare(mid); {
		case c == 0:
			return mid
		case c < 0:
			lo = mid + 1
		default:
			hi = mid
		}
	}
	return -1
}

// CompareString returns the order of the bytes of a key relative to a string.
func CompareString(a []byte, b string) int {
	switch {
	case string(a) == b:
		return 0
	case string(a) < b:
		return -1
	default:
		return 1
	}
}

// CompareBools orders false before true.
func CompareBools(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	default:
		return 1
	}
}

// CompareStructs orders two struct keys by compare. An absent key comes first.
func CompareStructs[T any](a, b *T, compare func(a, b *T) int) int {
	if a == nil || b == nil {
		return CompareBools(a != nil, b != nil)
	}
	return compare(a, b)
}
