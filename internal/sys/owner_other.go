//go:build !linux

package sys

import "os"

// OwnerUID returns the user id that owns the file described by fi.
func OwnerUID(fi os.FileInfo) (int, error) { return 0, unsupported("owner of " + fi.Name()) }
