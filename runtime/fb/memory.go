package fb

import (
	"slices"

	"github.com/ipcgen/ipcgen/internal/longvec"
)

// A Memory says where the parts of an object are that is unpacked from a buffer.
type Memory bool

const (
	// Own is memory of the object's own. The object is valid for ever.
	Own Memory = false
	// Borrowed is the buffer for strings and vectors of bytes, and the memory of the parts that the
	// object had before for everything else. The object is valid as long as the buffer does not
	// change, and the former parts must not be in use elsewhere.
	Borrowed Memory = true
)

// Former returns part, a part of an object before it is unpacked again, or nothing if its memory
// must not be used.
func Former[P any](part P, m Memory) P {
	if m == Own {
		var none P
		return none
	}
	return part
}

// Parts returns a slice of length n that is not nil, for the elements of a vector. The elements are
// those of former, which may be more than its length, and then zero values.
func Parts[E any](former []E, n int) []E {
	v := withLen(former, n)
	if n > cap(former) {
		copy(v, former[:cap(former)])
	}
	return v
}

// BytesIn returns the bytes b of a buffer, which may be nil.
func BytesIn(b []byte, m Memory) []byte {
	if m == Own {
		return longvec.Own(b)
	}
	return slices.Clip(b) // so that an append does not change the buffer
}

// TextIn returns the bytes b of a buffer as a string.
func TextIn(b []byte, m Memory) string {
	if m == Own {
		return string(b)
	}
	return stringOf(b)
}

// UnionText returns the bytes b of a buffer as the Value of a union: a string. An interface refers
// to its string by a pointer. If the string may be borrowed, the pointer is *box, which is set if
// it is nil. It remains when the union has another member in between.
func UnionText(box **string, b []byte, m Memory) any {
	if m == Own {
		return string(b)
	}
	if *box == nil {
		*box = new(string)
	}
	**box = stringOf(b)
	return interfaceOf(*box)
}

// ValueIn returns a pointer to v: former, unless that is nil.
func ValueIn[T any](former *T, v T) *T {
	if former == nil {
		former = new(T)
	}
	*former = v
	return former
}

// withLen returns a slice of length n that is not nil, in the memory of v if that is long enough.
func withLen[T any](v []T, n int) []T {
	if v == nil || cap(v) < n {
		return make([]T, n)
	}
	return v[:n]
}
