package fb

import (
	"reflect"

	flatbuffers "github.com/google/flatbuffers/go"
)

// A packer is an object: a pointer to a generated struct whose Pack writes it.
type packer interface {
	Pack(b *flatbuffers.Builder) flatbuffers.UOffsetT
}

// PackOffsets writes a vector of offsets. One of 0, which leads nowhere, is
// written as it is.
func PackOffsets(b *flatbuffers.Builder, offsets []flatbuffers.UOffsetT) flatbuffers.UOffsetT {
	b.StartVector(flatbuffers.SizeUOffsetT, len(offsets), flatbuffers.SizeUOffsetT)
	for j := len(offsets) - 1; j >= 0; j-- {
		if offsets[j] == 0 {
			b.PlaceUOffsetT(0)
			continue
		}
		b.PlaceUOffsetT(b.Offset() - offsets[j] + flatbuffers.SizeUOffsetT)
	}
	return b.EndVector(len(offsets))
}

// CreateString writes a string and returns its offset, or 0 for an empty one,
// which is as good as none.
//
//go:noinline
func CreateString(b *flatbuffers.Builder, s string) flatbuffers.UOffsetT {
	if s == "" {
		return 0
	}
	return b.CreateString(s)
}

// CreateSharedString is CreateString for a string that is written once, however
// often it is needed.
//
//go:noinline
func CreateSharedString(b *flatbuffers.Builder, s string) flatbuffers.UOffsetT {
	if s == "" {
		return 0
	}
	return b.CreateSharedString(s)
}

// CreateByteString writes a vector of bytes, with a zero byte after it, and
// returns its offset, or 0 for nil.
//
//go:noinline
func CreateByteString(b *flatbuffers.Builder, v []byte) flatbuffers.UOffsetT {
	if v == nil {
		return 0
	}
	return b.CreateByteString(v)
}

// OrEmpty returns v, or an empty slice instead of nil, for a vector that must be
// there.
func OrEmpty[T any](v []T) []T {
	if v == nil {
		return []T{}
	}
	return v
}

// PackStrings writes a vector of strings and returns its offset, or 0 for nil.
func PackStrings(b *flatbuffers.Builder, v []string) flatbuffers.UOffsetT {
	if v == nil {
		return 0
	}
	offsets := make([]flatbuffers.UOffsetT, len(v))
	for j, s := range v {
		offsets[j] = b.CreateString(s)
	}
	return PackOffsets(b, offsets)
}

// UnPackStrings copies a vector of strings; it is empty, not nil, when the table
// has none.
func UnPackStrings(t *flatbuffers.Table, slot flatbuffers.VOffsetT) []string {
	v := make([]string, FieldLen(t, slot))
	for j := range v {
		v[j] = string(FieldElemBytes(t, slot, j))
	}
	return v
}

// PackTables writes a vector of tables, of which a nil one becomes a table of
// zeros, and returns its offset, or 0 for a nil vector.
func PackTables[P packer](b *flatbuffers.Builder, v []P) flatbuffers.UOffsetT {
	if v == nil {
		return 0
	}
	offsets := make([]flatbuffers.UOffsetT, len(v))
	for j, x := range v {
		if offsets[j] = x.Pack(b); offsets[j] == 0 {
			// Reflection, because a type parameter for what P points to would
			// make the compiler copy this function for each table.
			zero := reflect.New(reflect.TypeOf(x).Elem()).Interface().(packer)
			offsets[j] = zero.Pack(b)
		}
	}
	return PackOffsets(b, offsets)
}

// PackStructs writes a vector of structs of the given size and alignment, of which
// a nil one becomes zeros, and returns its offset, or 0 for a nil vector.
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

// LookupTable searches a vector of tables that is sorted by a key and returns
// the position of the one for which compare returns 0, or 0. compare is given
// positions of tables and returns how their key compares to the one sought.
func LookupTable(buf []byte, vector flatbuffers.UOffsetT,
	compare func(pos flatbuffers.UOffsetT) int) flatbuffers.UOffsetT {
	lo, hi := flatbuffers.UOffsetT(0),
		flatbuffers.GetUOffsetT(buf[vector-flatbuffers.SizeUOffsetT:])
	for lo < hi {
		mid := lo + (hi-lo)/2
		pos := flatbuffers.GetIndirectOffset(buf, vector+mid*flatbuffers.SizeUOffsetT)
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

// Search returns the index for which compare returns 0, or -1. compare is given
// indexes below n, of elements that are sorted by a key, and returns how their key
// compares to the one sought.
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

// CompareString compares the bytes of a key with a string.
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

// CompareStructs orders two keys that are structs by compare; one that is absent
// comes first.
func CompareStructs[T any](a, b *T, compare func(a, b *T) int) int {
	if a == nil || b == nil {
		return CompareBools(a != nil, b != nil)
	}
	return compare(a, b)
}
