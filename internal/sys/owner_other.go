//go:build !linux

package sys

import "os"

// OwnerUID returns the user id of the owner of the file that fi describes.
func OwnerUID(fi os.FileInfo) (int, error) { return 0, unsupported("owner of " + fi.Name()) }
