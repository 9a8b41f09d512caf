package fb

import "unsafe"

// memoryOf returns the bytes of the elements of v, which have no pointers.
func memoryOf[T any](v []T) []byte {
	var element T
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))),
		len(v)*int(unsafe.Sizeof(element)))
}
