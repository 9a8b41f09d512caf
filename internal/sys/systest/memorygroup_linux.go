package systest

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// A MemoryGroup is a control group whose processes may have so much memory together.
type MemoryGroup struct {
	Folder string // its folder
	Limit  string // the name of the file of its limit
	kills  string // the name of the file that counts the processes that were killed for it
}

// NewMemoryGroup makes a control group that may have limit bytes of memory. The caller must remove
// it. The error says what is missing where this process may not make one.
func NewMemoryGroup(name string, limit int) (*MemoryGroup, error) {
	for _, g := range []MemoryGroup{
		{Folder: "/sys/fs/cgroup", Limit: "memory.max", kills: "memory.events"},
		{Folder: "/sys/fs/cgroup/memory", Limit: "memory.limit_in_bytes",
			kills: "memory.oom_control"},
	} {
		if _, err := os.Stat(filepath.Join(g.Folder, "cgroup.procs")); err != nil {
			continue
		}
		g.Folder = filepath.Join(g.Folder, fmt.Sprintf("ipcgen-test-%d-%s", os.Getpid(), name))
		if err := os.Mkdir(g.Folder, 0o755); err != nil {
			return nil, fmt.Errorf("no control group can be made here: %w", err)
		}
		if err := g.write(g.Limit, limit); err != nil {
			os.Remove(g.Folder)
			return nil, fmt.Errorf("memory cannot be limited here: %w", err)
		}
		return &g, nil
	}
	return nil, fmt.Errorf("no hierarchy of control groups is mounted in /sys/fs/cgroup")
}

// Add moves a process into the group. What the process takes from then on counts.
func (g *MemoryGroup) Add(pid int) error { return g.write("cgroup.procs", pid) }

func (g *MemoryGroup) write(name string, n int) error {
	return os.WriteFile(filepath.Join(g.Folder, name), []byte(strconv.Itoa(n)), 0o644)
}

// Kills returns the number of processes that the kernel has killed for the group's limit.
func (g *MemoryGroup) Kills() (n int, err error) {
	b, err := os.ReadFile(filepath.Join(g.Folder, g.kills))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "oom_kill" {
			return strconv.Atoi(f[1])
		}
	}
	return 0, fmt.Errorf("%s of %s does not count kills", g.kills, g.Folder)
}

// Remove removes the group, which must have no processes any more.
func (g *MemoryGroup) Remove() error { return os.Remove(g.Folder) }
