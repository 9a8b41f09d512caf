package fb

import "unsafe"

// stringOf returns the bytes of b as a string, in the same memory.
func stringOf(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
