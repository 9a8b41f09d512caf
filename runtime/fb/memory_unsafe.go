package fb

import "unsafe"

// stringOf returns the bytes of b as a string, in the same memory.
func stringOf(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// interfaceOf returns an interface that holds *s, in the same memory: it changes when *s does. An
// interface is two words, the type and a pointer to the value.
func interfaceOf(s *string) any {
	var v any = ""
	(*[2]unsafe.Pointer)(unsafe.Pointer(&v))[1] = unsafe.Pointer(s)
	return v
}
