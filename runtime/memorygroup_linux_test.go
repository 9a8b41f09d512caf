package ipc_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/internal/sys/systest"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// The limits of memory of control groups. Where the kernel reaches one, it kills a process.

const (
	groupLimit = 192 << 20
	groupRing  = 1 << 20
)

// newMemoryGroup makes a control group, and removes it when all processes that the test starts
// later have ended.
func newMemoryGroup(t *testing.T, name string) *systest.MemoryGroup {
	t.Helper()
	g, err := systest.NewMemoryGroup(name, groupLimit)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() {
		for err := g.Remove(); err != nil; err = g.Remove() {
			time.Sleep(time.Millisecond) // the kernel lets go of a process that has ended
		}
	})
	return g
}

func expectNoKill(t *testing.T, g *systest.MemoryGroup) {
	t.Helper()
	if n, err := g.Kills(); n != 0 || err != nil {
		t.Errorf("the kernel has killed %d processes for the limit, %v", n, err)
	}
}

// TestGroupLimitCostsOneClient lets clients connect to a server until its control group has no
// memory for one more. That one is told what to do, and the others go on.
func TestGroupLimitCostsOneClient(t *testing.T) {
	g := newMemoryGroup(t, "server")
	path := t.TempDir() + "/d"
	ring := ringEnv + "=" + itoa(groupRing)
	srv := newCrowded(t, path, ring, groupEnv+"="+g.Folder)
	if n := srv.holding(t).messages; n != groupLimit/4 {
		t.Errorf("messages may take %d bytes of %d by default", n, groupLimit)
	}
	c := newCrowd(t, path, "crowd", ring)
	for range 3 {
		_, err := c.order(methodGather, itoa(groupLimit/groupRing))
		want(t, err, ipc.CodeResourceExhausted, ipc.Executed,
			"the server cannot make the memory of a connection", g.Folder, g.Limit,
			"choose smaller rings or fewer connections")
		if n, err := c.order(methodTour, ""); err != nil || n == "0" {
			t.Errorf("%s connections have answered, %v", n, err)
		}
		r, err := ipc.OpenStreamReader(t.Context(), "echo", blockStream,
			ipc.StreamOptions{Depth: 256, Payload: 64 << 10}, ipc.WithDomain(path))
		if err == nil {
			r.Close()
		}
		want(t, err, ipc.CodeResourceExhausted, ipc.NotSent, g.Folder, g.Limit)
		expectNoKill(t, g)
	}
	c.kill() // what it had is for others
	for {
		d, err := ipc.Dial(t.Context(), "echo", ipc.WithDomain(path), ipc.WithRings(groupRing,
			groupRing))
		if err == nil {
			d.Close()
			break
		}
		if ipc.CodeOf(err) != ipc.CodeResourceExhausted {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
	expectNoKill(t, g)
}

// TestMemoryIsTheServers shows that the memory of connections is charged to the control group of
// the server: a client may use more than its own allows.
func TestMemoryIsTheServers(t *testing.T) {
	g := newMemoryGroup(t, "client")
	path := t.TempDir() + "/d"
	ring := ringEnv + "=" + itoa(groupRing)
	newCrowded(t, path, ring)
	c := newCrowd(t, path, "crowd", ring, groupEnv+"="+g.Folder)
	member, err := os.ReadFile(filepath.Join("/proc", itoa(c.Process.Pid), "cgroup"))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // each time half as much as the limit
		if _, err := c.order(methodGather, itoa(groupLimit/groupRing/4)); err != nil {
			t.Fatalf("in %s: %v", member, err)
		}
		if _, err := c.order(methodTour, ""); err != nil {
			t.Fatal(err)
		}
	}
	expectNoKill(t, g)
}
