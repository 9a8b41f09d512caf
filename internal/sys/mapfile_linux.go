package sys

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// MapFile maps size bytes of f from offset off, which must be a multiple of
// the page size, shared with everybody who maps them. The mapping outlives f
// and must be released by UnmapFile when no slice of it is in use any more. A
// read-only mapping faults when it is written.
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

// UnmapFile releases a mapping made by MapFile; b must be what it returned.
func UnmapFile(b []byte) error { return os.NewSyscallError("munmap", unix.Munmap(b)) }

// Layered reports whether f lies on an overlay of file systems. There a file that was opened
// for reading only may be that of a lower layer, and stays so when somebody opens it
// for writing, which makes a copy.
func Layered(f *os.File) bool {
	var st unix.Statfs_t
	err := ignoringEINTR(func() error { return unix.Fstatfs(int(f.Fd()), &st) })
	runtime.KeepAlive(f)
	return err == nil && int64(st.Type) == unix.OVERLAYFS_SUPER_MAGIC
}
