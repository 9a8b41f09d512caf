package sys

import (
	"fmt"
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// mapped is the number of mappings of [MapFile] that are in use.
var mapped atomic.Int64

// maxMappings returns the number of mappings that the kernel allows a process.
var maxMappings = sync.OnceValue(func() int64 {
	n, ok := numberIn("/proc/sys/vm/max_map_count")
	if !ok || n > math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(n)
})

// numberIn returns the number that is all of a file of the kernel. It reports false if there is
// none.
func numberIn(path string) (n uint64, ok bool) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	n, err = strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	return n, err == nil
}

// takeMapping counts a mapping of MapFile, or returns an error if there are too many. The last
// eighth of those that the kernel allows is left to others: a Go program that cannot map memory for
// its heap or for a thread ends.
func takeMapping(path string) error {
	n, most := mapped.Add(1), maxMappings()
	if n <= most-most/8 {
		return nil
	}
	mapped.Add(-1)
	return &CauseError{Call: "mmap", Path: path, Err: unix.ENOMEM, Cause: fmt.Sprintf("this "+
		"process has %d mappings of shared memory, and the rest of the %d that it may have (the "+
		"sysctl vm.max_map_count) is kept for its other memory; raise that limit, or spread the "+
		"connections over several processes", n-1, most)}
}

// MapFile maps size bytes of f at offset off, which must be a multiple of the page size, shared
// with all processes that map them. The mapping outlives f. The caller must release it with
// [UnmapFile] when no slice of it is in use any more. A write to a read-only mapping faults.
func MapFile(f *os.File, off int64, size int, writable bool) ([]byte, error) {
	prot := unix.PROT_READ
	if writable {
		prot |= unix.PROT_WRITE
	}
	if err := takeMapping(f.Name()); err != nil {
		return nil, err
	}
	b, err := unix.Mmap(int(f.Fd()), off, size, prot, unix.MAP_SHARED)
	runtime.KeepAlive(f)
	if err != nil {
		mapped.Add(-1)
		return nil, Explain("mmap", f.Name(), err)
	}
	return b, nil
}

// UnmapFile releases a mapping. b must be the result of [MapFile].
func UnmapFile(b []byte) error {
	err := unix.Munmap(b)
	if err == nil {
		mapped.Add(-1)
	}
	return os.NewSyscallError("munmap", err)
}

// Layered reports whether f lies on an overlay file system. There a file that was opened for
// reading only can be the file of a lower layer. It remains that file when another process opens
// the path for writing, which creates a copy.
func Layered(f *os.File) bool {
	var st unix.Statfs_t
	err := ignoringEINTR(func() error { return unix.Fstatfs(int(f.Fd()), &st) })
	runtime.KeepAlive(f)
	return err == nil && int64(st.Type) == unix.OVERLAYFS_SUPER_MAGIC
}
