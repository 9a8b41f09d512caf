package sys

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestGroupFolders finds the control group that limits this process's memory, in the ways in which
// hierarchies are mounted on machines and in containers.
func TestGroupFolders(t *testing.T) {
	const other = "25 1 0:23 / /proc rw,nosuid - proc proc rw\n" +
		"33 31 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
	for name, c := range map[string]struct {
		mounts, self string
		folders      []string
	}{
		"version 2": {
			"35 31 0:32 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
			"0::/system.slice/robot.service\n",
			[]string{"/sys/fs/cgroup/system.slice/robot.service"}},
		"version 2, a container with a namespace": {
			"35 31 0:32 / /sys/fs/cgroup ro - cgroup2 cgroup rw\n", "0::/\n",
			[]string{"/sys/fs/cgroup"}},
		"version 1": {
			"35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
			"4:memory:/a/b\n1:cpu:/c\n0::/d\n", []string{"/sys/fs/cgroup/memory/a/b"}},
		"version 1, a container without a namespace": {
			"35 31 0:32 /docker/1 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
			"4:memory:/docker/1\n", []string{"/sys/fs/cgroup/memory"}},
		"both versions": {
			"35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n" +
				"36 31 0:33 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
			"5:cpu,memory:/a\n0::/b\n",
			[]string{"/sys/fs/cgroup/memory/a", "/sys/fs/cgroup/unified/b"}},
		"outside of what is visible": {
			"35 31 0:32 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "0::/../other\n",
			[]string{""}},
		"no controller": {"", "0::/\n", nil},
	} {
		var got []string
		for _, h := range parseHierarchies(other + c.mounts) {
			got = append(got, h.folder(c.self))
		}
		if !slices.Equal(got, c.folders) {
			t.Errorf("%s: %q, want %q", name, got, c.folders)
		}
	}
}

// TestGroupLeft counts what a group can still take: copies of files do not count as used, and swap
// space counts as far as the group may use it.
func TestGroupLeft(t *testing.T) {
	free := freeSwap()
	for name, c := range map[string]struct {
		names *groupFiles
		files string // name and content
		left  uint64
	}{
		"version 2": {&groupFiles2, `memory.current=900|memory.swap.max=0|memory.swap.current=0|` +
			"memory.stat=anon 500\ninactive_file 30\nactive_file 20\nshmem 100\n", 150},
		"version 2 without a limit of swap": {&groupFiles2, "memory.current=900|" +
			"memory.swap.max=max|memory.swap.current=0|memory.stat=anon 500\n", 100 + free},
		"more than the limit, which was lowered": {&groupFiles2, "memory.current=1200|" +
			"memory.swap.max=0|memory.swap.current=0|memory.stat=anon 500\n", 0},
		"version 1": {&groupFiles1, "memory.usage_in_bytes=900|memory.memsw.usage_in_bytes=980|" +
			"memory.memsw.limit_in_bytes=1000|memory.stat=inactive_file 7\n" +
			"total_inactive_file 30\ntotal_active_file 20\n", min(150+free, 70)},
	} {
		g := memoryGroup{folder: t.TempDir(), names: c.names, limit: 1000}
		for file := range strings.SplitSeq(c.files, "|") {
			base, text, _ := strings.Cut(file, "=")
			if err := os.WriteFile(filepath.Join(g.folder, base), []byte(text),
				0o600); err != nil {
				t.Fatal(err)
			}
		}
		if n, ok := g.left(); n != c.left || !ok {
			t.Errorf("%s: %d, %t, want %d", name, n, ok, c.left)
		}
	}
	if _, ok := (&memoryGroup{folder: t.TempDir(), names: &groupFiles2}).left(); ok {
		t.Error("a group without files says what is left")
	}
}

// TestMappingsAreLeft maps memory until the last eighth of the mappings that a process may have:
// those are for its heap and its threads.
func TestMappingsAreLeft(t *testing.T) {
	kernel := maxMappings
	defer func() { maxMappings = kernel }()
	if n := kernel(); n < 1000 || n == math.MaxInt64 {
		t.Errorf("the kernel allows %d mappings", n)
	}
	maxMappings = func() int64 { return mapped.Load() + 80 }
	limit := maxMappings()
	maxMappings = func() int64 { return limit }
	f, err := NewMemory("mappings", os.Getpagesize())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all [][]byte
	for {
		b, err := MapFile(f, 0, os.Getpagesize(), true)
		if err != nil {
			if !errors.Is(err, unix.ENOMEM) || !Exhausted(err) ||
				!strings.Contains(err.Error(), "vm.max_map_count") {
				t.Errorf("the error is %v", err)
			}
			break
		}
		all = append(all, b)
	}
	if n := int64(len(all)); n != limit-limit/8 {
		t.Errorf("%d mappings of %d", n, limit)
	}
	for _, b := range all {
		if err := UnmapFile(b); err != nil {
			t.Error(err)
		}
	}
	b, err := MapFile(f, 0, os.Getpagesize(), false)
	if err != nil {
		t.Fatalf("after others were released: %v", err)
	}
	if err := UnmapFile(b); err != nil {
		t.Error(err)
	}
}

func BenchmarkNewMemory(b *testing.B) {
	for b.Loop() {
		f, err := NewMemory("bench", 132<<10)
		if err != nil {
			b.Fatal(err)
		}
		f.Close()
	}
}
