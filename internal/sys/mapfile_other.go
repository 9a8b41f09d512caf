//go:build !linux

package sys

import "os"

// MapFile maps a part of a file into memory.
func MapFile(f *os.File, off int64, size int, writable bool) ([]byte, error) {
	return nil, unsupported("map " + f.Name())
}

// UnmapFile releases a mapping made by [MapFile].
func UnmapFile(b []byte) error { return unsupported("unmap") }

// Layered reports whether f lies on an overlay file system.
func Layered(f *os.File) bool { return false }
