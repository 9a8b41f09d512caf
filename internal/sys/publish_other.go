//go:build !linux

package sys

import "os"

// PublishFile creates a file that appears at once and complete.
func PublishFile(dir, name string, fill func(*os.File) error) error {
	return unsupported("publish " + name)
}

// Allocate gives f its size and reserves the room.
func Allocate(f *os.File, size int64) error { return unsupported("reserve room for " + f.Name()) }

// ReplaceFile replaces a file at once by a complete one.
func ReplaceFile(dir, name string, fill func(*os.File) error) error {
	return unsupported("replace " + name)
}
