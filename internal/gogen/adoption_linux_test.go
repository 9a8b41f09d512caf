package gogen_test

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/runtime/group"
)

// A shopSurvivor is a replica of a shop whose supervisor was killed.
type shopSurvivor struct {
	pid     int
	version string
}

// survivors has a supervisor of replicas of versions in a new domain killed when its group is up
// and has the change "a".
func survivors(t *testing.T, bin string, versions ...string) (*shopGroup, []shopSurvivor) {
	t.Helper()
	g := &shopGroup{bin: bin, domain: filepath.Join(t.TempDir(), "domain")}
	t.Cleanup(func() {
		for _, s := range g.processes(t) {
			syscall.Kill(s.pid, syscall.SIGKILL)
		}
	})
	host, lines := g.host(t, versions...)
	if !lines.Scan() || lines.Text() != "up" {
		t.Fatalf("the first supervisor: %s", lines.Text())
	}
	g.call(t, versions[0], "set", "a", "")
	host.Process.Kill()
	host.Wait()
	return g, g.processes(t)
}

// host starts a supervisor of replicas that survive it, and returns what it prints.
func (g *shopGroup) host(t *testing.T, versions ...string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	args := []string{"host", g.domain}
	for _, v := range versions {
		args = append(args, filepath.Join(g.bin, v))
	}
	cmd := exec.Command(filepath.Join(g.bin, "first"), args...)
	r, w, err := os.Pipe() // survivors hold it open, so that Wait must not read it to its end
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = w, os.Stderr
	err = cmd.Start()
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait(); r.Close() })
	return cmd, bufio.NewScanner(r)
}

// processes returns the replicas of the shop that live, by their pids.
func (g *shopGroup) processes(t *testing.T) (all []shopSurvivor) {
	t.Helper()
	paths, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		env, _ := os.ReadFile(path)
		exe, err := os.Readlink(filepath.Join(filepath.Dir(path), "exe"))
		if err != nil || filepath.Dir(exe) != g.bin ||
			!strings.Contains(string(env), "IPCGEN_DOMAIN="+g.domain+"\x00") {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		all = append(all, shopSurvivor{pid, filepath.Base(exe)})
	}
	slices.SortFunc(all, func(a, b shopSurvivor) int { return a.pid - b.pid })
	return all
}

// adopt starts a supervisor in this process, whose replicas are of versions.
func (g *shopGroup) adopt(t *testing.T, versions ...string) error {
	t.Helper()
	var err error
	g.Group, err = group.Start(t.Context(), group.Config{
		Service: "shop", Domain: g.domain, Replicas: len(versions), Survive: true,
		Replication: &group.Replication{},
		Command:     func(i int) *exec.Cmd { return g.version(versions[i])(i) },
		Events:      g.record,
	})
	if err == nil {
		t.Cleanup(func() { g.Shutdown(context.Background()) })
	}
	return err
}

// primary returns the survivor that is the primary.
func (g *shopGroup) primary(t *testing.T) int {
	t.Helper()
	c, err := group.Dial(t.Context(), "shop", group.DialConfig{Domain: g.domain})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	info, err := c.WaitConnected(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return info.PID
}

// kill kills a process, and waits until it is gone.
func (g *shopGroup) kill(t *testing.T, pid int) {
	t.Helper()
	syscall.Kill(pid, syscall.SIGKILL)
	g.until(t, "the process is dead", func() bool {
		return !slices.ContainsFunc(g.processes(t), func(s shopSurvivor) bool {
			return s.pid == pid
		})
	})
}

func (g *shopGroup) until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Minute); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// only checks that the survivors that live are those.
func (g *shopGroup) only(t *testing.T, want ...shopSurvivor) {
	t.Helper()
	if got := g.processes(t); !slices.Equal(got, want) {
		t.Errorf("replicas %v, want %v", got, want)
	}
}

// TestAdoptionOfAnIncompatibleVersion has a supervisor adopt a replica of a version with which its
// own cannot share a state. Start fails, and the adopted replica serves on, until a supervisor of
// its version adopts it.
func TestAdoptionOfAnIncompatibleVersion(t *testing.T) {
	bin := buildShop(t)
	for _, v := range []struct{ old, next string }{
		{"first", "bad"}, {"bad", "first"}, {"second", "bad"},
	} {
		t.Run(v.old+" by "+v.next, func(t *testing.T) {
			g, all := survivors(t, bin, v.old, v.old)
			primary := g.primary(t)
			i := slices.IndexFunc(all, func(s shopSurvivor) bool { return s.pid == primary })
			left, other := all[i], all[1-i]
			g.kill(t, other.pid)
			for range 2 {
				err := g.adopt(t, v.next, v.next)
				var failure *group.ReplicaError
				if !errors.Is(err, group.ErrIncompatible) || !errors.As(err, &failure) ||
					!strings.Contains(err.Error(), "price") ||
					!strings.Contains(err.Error(), "serve on") {
					t.Fatalf("the adoption ended with %v", err)
				}
				g.only(t, left)
				g.call(t, v.old, "set", "b", "")
				g.call(t, v.old, "get", "a", "7 Plain", "7")
			}
			if err := g.adopt(t, v.old, v.old); err != nil {
				t.Fatal(err)
			}
			if _, err := g.Failover(t.Context()); err != nil {
				t.Fatal(err)
			}
			g.call(t, v.old, "get", "b", "7 ", "Plain")
			if events := g.said(); strings.Contains(events, "state lost") {
				t.Errorf("events:\n%s", events)
			}
		})
	}
}

// TestAdoptionOfACompatibleVersion has a supervisor adopt a replica of an older or newer version,
// with which its own keeps the state.
func TestAdoptionOfACompatibleVersion(t *testing.T) {
	bin := buildShop(t)
	for _, v := range []struct{ old, next string }{{"first", "second"}, {"second", "first"}} {
		t.Run(v.old+" by "+v.next, func(t *testing.T) {
			g, all := survivors(t, bin, v.old, v.old)
			primary := g.primary(t)
			for _, s := range all {
				if s.pid != primary {
					g.kill(t, s.pid)
				}
			}
			if err := g.adopt(t, v.next, v.next); err != nil {
				t.Fatal(err)
			}
			if v.old == "second" { // the new standby would drop the note, and the member
				g.call(t, "second", "note", "b", refused, "no field note")
				g.call(t, "second", "member", "b", refused, "no member Number")
			}
			// The older one of the two does not know these, whichever is the primary.
			g.call(t, "second", "kind", "b", refused, "no value Odd")
			g.call(t, "second", "flag", "b", refused, "no value Torn")
			g.call(t, "second", "known", "b", "")
			g.kill(t, primary)
			g.call(t, "first", "get", "a", "7 Plain", "7")
			g.call(t, "first", "get", "b", "8 Rare Fresh", "8")
			if _, err := g.WaitHealthy(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			if got := g.versions(t); got[0] != v.next || got[1] != v.next {
				t.Errorf("replicas run %v", got)
			}
			if events := g.said(); strings.Contains(events, "state lost") ||
				strings.Contains(events, "suspected") {
				t.Errorf("events:\n%s", events)
			}
		})
	}
}

// TestSupervisorOfAnIncompatibleVersionIsKilled kills a supervisor when it has started replicas of
// a version that is incompatible with that of the replica that it has adopted. The old one serves
// on beside the new ones, and the next supervisor of its version replaces those.
func TestSupervisorOfAnIncompatibleVersionIsKilled(t *testing.T) {
	bin := buildShop(t)
	for _, v := range []struct{ old, next string }{{"first", "bad"}, {"bad", "first"}} {
		for _, pause := range []time.Duration{0, 2, 10, 50} {
			name := v.old + " by " + v.next + " after " + (pause * time.Millisecond).String()
			t.Run(name, func(t *testing.T) {
				g, all := survivors(t, bin, v.old, v.old)
				primary := g.primary(t)
				for _, s := range all {
					if s.pid != primary {
						g.kill(t, s.pid)
					}
				}
				host, lines := g.host(t, v.next, v.next)
				var refused atomic.Bool
				go func() {
					lines.Scan()
					refused.Store(true)
				}()
				g.until(t, "a new replica runs", func() bool {
					return refused.Load() ||
						slices.ContainsFunc(g.processes(t), func(s shopSurvivor) bool {
							return s.version == v.next
						})
				})
				time.Sleep(pause * time.Millisecond) // any moment is one to test
				host.Process.Kill()
				host.Wait()
				g.call(t, v.old, "set", "b", "")
				if err := g.adopt(t, v.old, v.old); err != nil {
					t.Fatal(err)
				}
				for _, name := range []string{"a", "b"} {
					g.call(t, v.old, "get", name, "7 Plain", "7")
				}
				if got := g.versions(t); got[0] != v.old || got[1] != v.old {
					t.Errorf("replicas run %v", got)
				}
				if events := g.said(); strings.Contains(events, "state lost") {
					t.Errorf("events:\n%s", events)
				}
			})
		}
	}
}

// TestStateOutranksAnIncompatibleVersion has a supervisor adopt a standby, with the state, whose
// primary has died. The standby answers only when an incompatible replica has become ready, which
// nevertheless is the one that is killed.
func TestStateOutranksAnIncompatibleVersion(t *testing.T) {
	g, all := survivors(t, buildShop(t), "first", "first")
	primary := g.primary(t)
	var standby shopSurvivor
	for _, s := range all {
		if s.pid != primary {
			standby = s
		}
	}
	syscall.Kill(standby.pid, syscall.SIGSTOP)
	g.kill(t, primary)
	go func() {
		for !strings.Contains(g.said(), "ready shop.") && t.Context().Err() == nil {
			time.Sleep(time.Millisecond)
		}
		syscall.Kill(standby.pid, syscall.SIGCONT)
	}()
	if err := g.adopt(t, "bad", "bad"); !errors.Is(err, group.ErrIncompatible) {
		t.Errorf("the adoption ended with %v\n%s", err, g.said())
	}
	g.only(t, standby)
	g.call(t, "first", "get", "a", "7 Plain")
}

// TestRollOfAdoptedReplicas tries to replace adopted replicas by the ones of the supervisor's own
// command, which are of an incompatible version. The primary serves on, and Roll fails; it cannot
// go back to a command that this supervisor does not have, and says so.
func TestRollOfAdoptedReplicas(t *testing.T) {
	g, _ := survivors(t, buildShop(t), "first", "first")
	primary := g.primary(t)
	if err := g.adopt(t, "bad", "bad"); err != nil {
		t.Fatal(err)
	}
	err := g.Roll(t.Context(), g.version("bad"))
	if !errors.Is(err, group.ErrIncompatible) || !strings.Contains(err.Error(), "going back") {
		t.Errorf("the roll ended with %v", err)
	}
	if now := g.primary(t); now != primary {
		t.Errorf("the primary is %d, not %d", now, primary)
	}
	g.call(t, "first", "get", "a", "7 Plain")
	if _, err := g.Failover(t.Context()); err == nil {
		t.Error("a failover without a standby in sync")
	}
}
