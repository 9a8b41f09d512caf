package systest

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// descriptorsPatience is how long a descriptor may stay open behind the last test: what closes a
// connection in the background ends soon, a leak never.
const descriptorsPatience = 30 * time.Second

// RunWithoutLeaks runs the tests of a binary, and returns its exit status. If they pass and leave
// descriptors open, it prints which, and what each goroutine does, and the status is 1.
func RunWithoutLeaks(m interface{ Run() int }) (status int) {
	before := Descriptors()
	if status := m.Run(); status != 0 {
		return status
	}
	after := Descriptors()
	end := time.Now().Add(descriptorsPatience)
	for ; len(after) > len(before); after = Descriptors() {
		if time.Now().After(end) {
			stacks := make([]byte, 1<<20)
			fmt.Fprintf(os.Stderr, "leaked descriptors: before %q, after %q\n%s\n", before, after,
				stacks[:runtime.Stack(stacks, true)])
			return 1
		}
		time.Sleep(10 * time.Millisecond)
	}
	return 0
}

// Descriptors returns the names of this process's open descriptors, or none where nothing tells.
// Those of the Go runtime's poller are left out: it opens them when it is first used.
func Descriptors() (names []string) {
	fds, _ := filepath.Glob("/proc/self/fd/*")
	for _, fd := range fds {
		name, err := os.Readlink(fd)
		if err == nil && !strings.HasPrefix(name, "anon_inode:[event") {
			names = append(names, name)
		}
	}
	return names
}
