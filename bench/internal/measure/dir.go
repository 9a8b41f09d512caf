package measure

import "os"

// tempDir makes a folder whose path is short enough for a socket.
func tempDir() (dir string, remove func(), err error) {
	dir, err = os.MkdirTemp("", "bench")
	return dir, func() { os.RemoveAll(dir) }, err
}
