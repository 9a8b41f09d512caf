package sys

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// Holder describes the process that holds a lock of f, for an error's message. pid is the process
// that took the lock. If that one is dead, another one has inherited its descriptors, and with
// these its locks: a process that was forked, or one to which they were passed. Holder names that
// one, if this process may see it.
func Holder(f *os.File, pid int) string {
	who := fmt.Sprintf("process %d", pid)
	if Alive(pid) {
		return who
	}
	fi, err := f.Stat()
	if err != nil {
		return who
	}
	paths, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, path := range paths {
		folder := filepath.Dir(filepath.Dir(path))
		other, err := strconv.Atoi(filepath.Base(folder))
		if err != nil || other == os.Getpid() {
			continue
		}
		if open, err := os.Stat(path); err != nil || !os.SameFile(open, fi) {
			continue
		}
		// The descriptor's locks. Others only have the file open.
		info, _ := os.ReadFile(filepath.Join(folder, "fdinfo", filepath.Base(path)))
		if !bytes.Contains(info, []byte("OFDLCK")) {
			continue
		}
		name, _ := os.ReadFile(filepath.Join(folder, "comm"))
		return fmt.Sprintf("process %d (%s), which has inherited the descriptors of process %d,",
			other, bytes.TrimSpace(name), pid)
	}
	return who
}
