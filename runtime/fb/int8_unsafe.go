package fb

import "unsafe"

// Int8s returns the bytes of b as signed integers, in the same memory. It returns nil if b is nil.
func Int8s(b []byte) []int8 {
	return unsafe.Slice((*int8)(unsafe.Pointer(unsafe.SliceData(b))), len(b))
}
