package group_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipcgen/ipcgen/runtime/registry"
)

// A mapping is a part of a file that a process may write in its memory.
type mapping struct{ at, size uint64 }

// writable returns the parts of a file that a process has mapped for writing, and whether it has
// mapped any for reading.
func writable(t *testing.T, pid int, path string) (parts []mapping, reads bool) {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(maps)) {
		if !strings.HasSuffix(strings.TrimSpace(line), path) {
			continue
		}
		var from, to, at uint64
		var rights string
		if _, err := fmt.Sscanf(line, "%x-%x %s %x", &from, &to, &rights, &at); err != nil {
			t.Fatal(line, err)
		}
		if strings.Contains(rights, "w") {
			parts = append(parts, mapping{at, to - from})
		} else {
			reads = true
		}
	}
	return parts, reads
}

// TestMappingsHaveLeastRights looks at the memory of the processes of a group. Clients map the
// files of the domain for reading only, and each replica may write its own page and its own slot.
func TestMappingsHaveLeastRights(t *testing.T) {
	domain := newDomain(t)
	host, pids := startHost(t, domain, "list")
	c := dialList(t, domain)
	appendTo(t, c, 1)
	r, err := registry.Open(domain, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	page := uint64(os.Getpagesize())
	file, table := filepath.Join(domain, ".groups", "list"), filepath.Join(domain, ".registry",
		"table")
	for _, path := range []string{file, table} { // this process is a client
		if parts, reads := writable(t, os.Getpid(), path); len(parts) > 0 || !reads {
			t.Errorf("a client may write %v of %s, and reads it: %v", parts, path, reads)
		}
	}
	if parts, _ := writable(t, host.Process.Pid, table); len(parts) > 0 {
		t.Errorf("the supervisor may write %v of the registry", parts)
	}
	if parts, _ := writable(t, host.Process.Pid, file); len(parts) == 0 {
		t.Error("the supervisor may not write the group's file: the test looks for another one")
	}
	owners := make(map[mapping]int)
	for _, pid := range pids {
		for _, path := range []string{file, table} {
			parts, reads := writable(t, pid, path)
			if len(parts) != 1 || !reads || path == file && parts[0].size != page ||
				parts[0].size > 2*page {
				t.Errorf("replica %d may write %v of %s, and reads it: %v", pid, parts, path, reads)
			}
			for _, p := range parts {
				if path == file && owners[p] != 0 {
					t.Errorf("replicas %d and %d may write %v", pid, owners[p], p)
				}
				owners[p] = pid
			}
		}
	}
}
