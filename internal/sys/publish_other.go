//go:build !linux

package sys

import "os"

// PublishFile creates a file that appears atomically with its whole content.
func PublishFile(dir, name string, fill func(*os.File) error) error {
	return unsupported("publish " + name)
}

// Allocate sets the size of f and reserves the room.
func Allocate(f *os.File, size int64) error { return unsupported("reserve room for " + f.Name()) }

// ReplaceFile replaces a file atomically by a complete one.
func ReplaceFile(dir, name string, fill func(*os.File) error) error {
	return unsupported("replace " + name)
}
