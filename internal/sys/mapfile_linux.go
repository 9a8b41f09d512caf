package sys

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// MapFile maps size bytes of f at offset off, which must be a multiple of the page size, shared
// with all processes that map them. The mapping outlives f. The caller must release it with
// [UnmapFile] when no slice of it is in use any more. A write to a read-only mapping faults.
func MapFile(f *os.File, off int64, size int, writable bool) ([]byte, error) {
	prot := unix.PROT_READ
	if writable {
		prot |= unix.PROT_WRITE
	}
	b, err := unix.Mmap(int(f.Fd()), off, size, prot, unix.MAP_SHARED)
	runtime.KeepAlive(f)
	if err != nil {
		return nil, Explain("mmap", f.Name(), err)
	}
	return b, nil
}

// UnmapFile releases a mapping. b must be the result of [MapFile].
func UnmapFile(b []byte) error { return os.NewSyscallError("munmap", unix.Munmap(b)) }

// Layered reports whether f lies on an overlay file system. There a file that was opened for
// reading only can be the file of a lower layer. It remains that file when another process opens
// the path for writing, which creates a copy.
func Layered(f *os.File) bool {
	var st unix.Statfs_t
	err := ignoringEINTR(func() error { return unix.Fstatfs(int(f.Fd()), &st) })
	runtime.KeepAlive(f)
	return err == nil && int64(st.Type) == unix.OVERLAYFS_SUPER_MAGIC
}
