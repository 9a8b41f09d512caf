package sys

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// This file is what a process must know of the limits of its control groups.
//
// At such a limit the kernel returns no error, neither for an access to a page nor for fallocate:
// it kills a process of the group. So a server that made the memory of one more connection would
// end with all the others. Shared memory is charged to the group of the process that allocates it,
// and stays charged there no matter who uses it.

// A groupHierarchy is where the control groups that limit memory are, and the names of their files.
type groupHierarchy struct {
	mount string // its folder
	root  string // the group that is mounted there, as /proc/self/cgroup names it
	names *groupFiles
}

// groupFiles has the names of the files of a control group.
type groupFiles struct {
	limit, usage, swapLimit, swapUsage string

	swapAndMemory bool     // the limit and usage of swap include those of memory
	controller    string   // as in /proc/self/cgroup
	reclaimable   []string // in memory.stat: pages that the kernel takes back before it kills
}

var (
	groupFiles1 = groupFiles{limit: "memory.limit_in_bytes", usage: "memory.usage_in_bytes",
		swapLimit: "memory.memsw.limit_in_bytes", swapUsage: "memory.memsw.usage_in_bytes",
		swapAndMemory: true, controller: "memory",
		reclaimable: []string{"total_inactive_file", "total_active_file"}}
	groupFiles2 = groupFiles{limit: "memory.max", usage: "memory.current",
		swapLimit: "memory.swap.max", swapUsage: "memory.swap.current",
		reclaimable: []string{"inactive_file", "active_file"}}
)

// hierarchies returns the hierarchies of control groups that may limit memory. They are looked for
// once, for they are mounted before any program runs.
var hierarchies = sync.OnceValue(func() []groupHierarchy {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	return parseHierarchies(string(b))
})

// parseHierarchies reads the text of /proc/self/mountinfo.
func parseHierarchies(mounts string) (found []groupHierarchy) {
	for line := range strings.Lines(mounts) {
		place, kind, ok := strings.Cut(line, " - ")
		fields, kinds := strings.Fields(place), strings.Fields(kind)
		if !ok || len(fields) < 5 || len(kinds) < 3 {
			continue
		}
		h := groupHierarchy{mount: fields[4], root: fields[3]}
		switch {
		case kinds[0] == "cgroup2":
			h.names = &groupFiles2
		case kinds[0] == "cgroup" && slices.Contains(strings.Split(kinds[2], ","), "memory"):
			h.names = &groupFiles1
		default:
			continue
		}
		found = append(found, h)
	}
	return found
}

// folder returns the folder of the group that the text of /proc/self/cgroup names, or "" if it is
// not visible here.
func (h *groupHierarchy) folder(self string) string {
	for line := range strings.Lines(self) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(f) < 3 || !slices.Contains(strings.Split(f[1], ","), h.names.controller) {
			continue
		}
		// A group outside of the namespace of control groups begins with "/..".
		rel, err := filepath.Rel(h.root, f[2])
		if err == nil && filepath.IsLocal(rel) && !strings.HasPrefix(f[2], "/..") {
			return filepath.Join(h.mount, rel)
		}
	}
	return ""
}

// A memoryGroup is a control group that limits the memory of this process.
type memoryGroup struct {
	folder string
	names  *groupFiles
	limit  uint64
}

// memoryGroups calls yield with the groups that limit the memory of this process, from its own to
// the outermost one, until yield returns false. A process can be moved, and limits change, so they
// are read anew each time.
func memoryGroups(yield func(memoryGroup) bool) {
	if len(hierarchies()) == 0 {
		return
	}
	self, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return
	}
	for _, h := range hierarchies() {
		folder := h.folder(string(self))
		for ; folder != ""; folder = filepath.Dir(folder) {
			g := memoryGroup{folder: folder, names: h.names}
			var ok bool
			if g.limit, ok = g.read(h.names.limit); ok && g.limit < PhysicalMemory() &&
				!yield(g) {
				return
			}
			if folder == h.mount {
				break
			}
		}
	}
}

// read returns the number in one of the group's files. It reports false if there is none, as where
// the file says "max".
func (g *memoryGroup) read(name string) (n uint64, ok bool) {
	return numberIn(filepath.Join(g.folder, name))
}

// left returns the number of bytes that processes of the group can still take before the kernel
// kills one. It reports false if it is unknown.
func (g *memoryGroup) left() (n uint64, ok bool) {
	used, ok := g.read(g.names.usage)
	if !ok {
		return 0, false
	}
	cache := g.reclaimable()
	free := freeSwap()
	limit, limited := g.read(g.names.swapLimit)
	swapped, counted := g.read(g.names.swapUsage)
	n = remaining(g.limit, used) + cache
	switch {
	case !limited || !counted:
		return n + free, true
	case g.names.swapAndMemory:
		return min(n+free, remaining(limit, swapped)+cache), true
	}
	return n + min(free, remaining(limit, swapped)), true
}

func remaining(limit, used uint64) uint64 { return limit - min(limit, used) }

// reclaimable returns the number of bytes that the group uses and that the kernel takes back rather
// than kill a process: copies of files.
func (g *memoryGroup) reclaimable() (sum uint64) {
	b, err := os.ReadFile(filepath.Join(g.folder, "memory.stat"))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) == 2 && slices.Contains(g.names.reclaimable, f[0]) {
			n, _ := strconv.ParseUint(f[1], 10, 64)
			sum += n
		}
	}
	return sum
}

// mostReserve is the most memory of a group that [NewMemory] leaves to other uses.
const mostReserve = 64 << 20

// reserve is what NewMemory leaves of a limit: processes must be able to go on with what they have,
// and they take memory, such as that of messages, without asking.
func reserve(limit uint64) uint64 { return min(limit/8, mostReserve) }

// allocating is held from the check of a limit until the memory is allocated, so that the threads
// of this process cannot exceed a limit together.
var allocating sync.Mutex

// withinLimits calls allocate, which allocates size bytes of shared memory, unless a limit of a
// control group of this process would be exceeded. The error then wraps ENOMEM.
func withinLimits(size int, allocate func() error) error {
	locked := false
	defer func() {
		if locked {
			allocating.Unlock()
		}
	}()
	for g := range memoryGroups {
		if !locked {
			allocating.Lock()
			locked = true
		}
		left, ok := g.left()
		if keep := reserve(g.limit); ok && left < keep+uint64(size) {
			return &CauseError{Err: unix.ENOMEM, Cause: fmt.Sprintf("the control group %s may "+
				"have %d bytes of memory (%s) and has %d left, of which %d are kept for what its "+
				"processes do; choose smaller rings or fewer connections, or raise that limit",
				g.folder, g.limit, g.names.limit, left, min(left, keep))}
		}
	}
	return allocate()
}

// GroupMemory returns the least limit of memory, in bytes, of the control groups of this process,
// or the largest number if there is none below the machine's memory.
func GroupMemory() uint64 {
	least := uint64(math.MaxUint64)
	for g := range memoryGroups {
		least = min(least, g.limit)
	}
	return least
}
