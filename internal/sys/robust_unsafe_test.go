//go:build linux

package sys_test

import (
	"os"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/ipcgen/ipcgen/internal/sys"
)

func TestMain(m *testing.M) {
	if path := os.Getenv("SYS_TEST_ROBUST"); path != "" {
		childRobust(path)
	}
	os.Exit(m.Run())
}

// mapWord maps the first word of a file for the rest of the life of the process.
func mapWord(path string) *atomic.Uint32 {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	mem, err := sys.MapFile(f, 0, os.Getpagesize(), true)
	if err != nil {
		panic(err)
	}
	return (*atomic.Uint32)(unsafe.Pointer(&mem[0]))
}
