package registry_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/runtime/registry"
)

func init() {
	children["cramped"] = childCramped
	children["layered"] = childLayered
}

// TestOverwrittenHeaderIsRestored overwrites each word of the table's header. A process that has
// the registry open restores it, so that others can open it.
func TestOverwrittenHeaderIsRestored(t *testing.T) {
	d := newDomain(t)
	r := open(t, d)
	register(t, r, "mine")
	for at := int64(0); at < 32; at += 8 {
		f, err := os.OpenFile(tablePath(d), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte("nonsense"), at); err != nil {
			t.Fatal(err)
		}
		f.Close()
		for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			other, err := registry.Open(d, nil)
			if err == nil {
				if _, err := other.Lookup("mine"); err != nil {
					t.Error(err)
				}
				other.Close()
				break
			}
			if time.Now().After(end) {
				t.Fatalf("the header's byte %d is not restored: %v", at, err)
			}
		}
	}
}

// The live instances make a registry again whose files were removed, and register there; watchers
// report no change.
func TestInstancesMoveToANewTable(t *testing.T) {
	for name, vanish := range map[string]func(domain string) error{
		"table":  func(d string) error { return os.Remove(tablePath(d)) },
		"folder": func(d string) error { return os.RemoveAll(filepath.Join(d, ".registry")) },
		"lock files": func(d string) error {
			files, err := filepath.Glob(filepath.Join(d, ".registry", "slots.*"))
			for _, f := range files {
				err = errors.Join(err, os.Remove(f))
			}
			return err
		},
		"domain":   os.RemoveAll,
		"replaced": func(d string) error { return os.Rename(d, d+".old") },
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			d := newDomain(t)
			start(t, "register", d, "other").expect(t, "registered")
			r := open(t, d)
			reg := register(t, r, "mine")
			events := make(chan registry.Event, 100)
			go func() {
				defer close(events)
				for ev, err := range r.Watch(ctx, "") {
					if err != nil {
						return
					}
					events <- ev
				}
			}()
			for range 2 {
				if ev := <-events; ev.Kind != registry.Appeared {
					t.Fatalf("%+v", ev)
				}
			}
			for round := range 3 {
				if err := vanish(d); err != nil {
					t.Fatal(err)
				}
				os.RemoveAll(d + ".old")
				late := open(t, d) // it makes, or finds, the new registry
				for _, name := range []string{"mine", "other"} {
					if _, err := late.WaitFor(ctx, name); err != nil {
						t.Fatalf("round %d: %s: %v", round, name, err)
					}
				}
				if _, err := late.Register(registry.Record{Name: "other"}); !errors.Is(err,
					registry.ErrExists) {
					t.Errorf("round %d: the name of a live instance: %v", round, err)
				}
			}
			if err := reg.SetRole(registry.RolePrimary, 7); err != nil {
				t.Fatal(err)
			}
			ev := <-events // no event came before
			if ev.Kind != registry.Changed || ev.Record.Name != "mine" || ev.Record.Epoch != 7 {
				t.Errorf("%v %+v", ev.Kind, ev.Record)
			}
			select {
			case <-reg.Done():
				t.Error(reg.Err())
			default:
			}
		})
	}
}

// A live instance keeps its name when the registry's files are removed, even while the instance is
// stopped and cannot register again.
func TestNameStaysWithALiveInstance(t *testing.T) {
	for name, vanish := range map[string]func(domain string) error{
		"table":  func(d string) error { return os.Remove(tablePath(d)) },
		"folder": func(d string) error { return os.RemoveAll(filepath.Join(d, ".registry")) },
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			d := newDomain(t)
			owner := start(t, "register", d, "a")
			owner.expect(t, "registered")
			pid := owner.cmd.Process.Pid
			for range 3 {
				if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
					t.Fatal(err)
				}
				if err := vanish(d); err != nil {
					t.Fatal(err)
				}
				late := open(t, d)
				if _, err := late.Register(registry.Record{Name: "a"}); !errors.Is(err,
					registry.ErrExists) {
					t.Errorf("the name of a live instance: %v", err)
				}
				syscall.Kill(pid, syscall.SIGCONT)
				if rec, err := late.WaitFor(ctx, "a"); err != nil || rec.PID != pid {
					t.Fatalf("%+v, %v", rec, err)
				}
			}
			syscall.Kill(pid, syscall.SIGKILL)
			owner.cmd.Wait()
			register(t, open(t, d), "a") // the death of the stopped process has released the name
		})
	}
}

// If two processes have one name, because the registry was removed in between, the one that
// registers second in the new registry is told.
func TestDisplacedInstanceLearnsOfIt(t *testing.T) {
	d := newDomain(t)
	r := open(t, d)
	reg := register(t, r, "a")
	for range 100 { // until the other process registers first
		if err := os.RemoveAll(d); err != nil {
			t.Fatal(err)
		}
		other := start(t, "register", d, "a")
		if said := other.line(t); said != "registered" {
			// This process came first: it has the name, or has its record there, too.
			if !strings.Contains(said, "live instance") &&
				!strings.Contains(said, fmt.Sprintf("process %d has that name", os.Getpid())) {
				t.Fatal(said)
			}
			continue
		}
		select {
		case <-reg.Done():
		case <-time.After(time.Minute):
			t.Fatal("it believes to have the name")
		}
		if err := reg.Err(); !errors.Is(err, registry.ErrDisplaced) ||
			!strings.Contains(err.Error(), fmt.Sprint(other.cmd.Process.Pid)) {
			t.Errorf("%v", err)
		}
		if err := reg.SetRole(registry.RoleStandby, 1); !errors.Is(err, registry.ErrClosed) {
			t.Errorf("%v", err)
		}
		if err := reg.Close(); err != nil {
			t.Error(err)
		}
		if rec, err := r.Lookup("a"); err != nil || rec.PID != other.cmd.Process.Pid {
			t.Errorf("%+v, %v", rec, err)
		}
		return
	}
	t.Skip("this process always came first")
}

// A death is reported also when the registry's files are removed at the same time.
func TestDeathWithoutTheTableIsTold(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	d := newDomain(t)
	other := start(t, "register", d, "other")
	other.expect(t, "registered")
	r := open(t, d)
	gone := false
	for ev, err := range r.Watch(ctx, "") {
		if err != nil {
			t.Fatal(err)
		}
		if ev.Kind == registry.Appeared {
			if err := os.RemoveAll(d); err != nil {
				t.Fatal(err)
			}
			other.kill()
		}
		if gone = ev.Kind == registry.Disappeared; gone {
			break
		}
	}
	if err := r.WaitGone(ctx, "other"); err != nil || !gone {
		t.Error(gone, err)
	}
}

// A table of zeros, which a loss of power can leave, is written again by the first process that
// opens the registry.
func TestTableOfZerosIsWrittenAgain(t *testing.T) {
	d := newDomain(t)
	open(t, d).Close()
	fi, err := os.Stat(tablePath(d))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Truncate(tablePath(d), 0),
		os.Truncate(tablePath(d), fi.Size())); err != nil {
		t.Fatal(err)
	}
	var all []*child
	for i := range 8 {
		all = append(all, start(t, "register", d, fmt.Sprintf("n.%d", i)))
	}
	for _, c := range all {
		c.expect(t, "registered")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r := open(t, d)
	for i := range all {
		if _, err := r.WaitFor(ctx, fmt.Sprintf("n.%d", i)); err != nil {
			t.Error(err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(d, ".registry", "*.tmp")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// inMount runs a child in a mount namespace of its own, after a shell command in which $0 is a
// folder.
func inMount(t *testing.T, mount, name, folder string, args ...string) {
	t.Helper()
	if out, err := exec.Command("unshare", "-rm", "mount", "-t", "tmpfs", "none",
		folder).CombinedOutput(); err != nil {
		t.Skipf("no file system can be mounted here: %v: %s", err, out)
	}
	c := prepare(t, name, args...)
	cmd := exec.Command("unshare",
		append([]string{"-rm", "sh", "-c", mount + ` && exec "$@"`, folder}, c.cmd.Args...)...)
	cmd.Env = c.cmd.Env
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// childCramped fills the file system of a domain, and registers there.
func childCramped(args []string) error {
	r, err := registry.Open(args[0], nil)
	if err != nil {
		return err
	}
	defer r.Close()
	filler, err := os.Create(args[0] + ".filler")
	if err != nil {
		return err
	}
	for err == nil {
		_, err = filler.Write(make([]byte, 512))
	}
	seen := make(chan error)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	began := make(chan struct{})
	go func() {
		for ev, err := range r.Watch(ctx, "") {
			if err == nil && ev.Record.Name == "first" && ev.Kind == registry.Appeared {
				close(began)
				continue
			}
			if err == nil && (ev.Record.Name != "last" || ev.Record.Epoch != 1) {
				continue
			}
			seen <- err
			return
		}
	}()
	if _, err := r.Register(registry.Record{Name: "first"}); err != nil {
		return err
	}
	<-began
	reg, err := r.Register(registry.Record{Name: "last"})
	if err != nil {
		return err
	}
	if err := reg.SetRole(registry.RoleStandby, 1); err != nil {
		return err
	}
	return <-seen
}

func TestFullDiskStopsNoRegistration(t *testing.T) {
	folder := t.TempDir()
	inMount(t, `mount -t tmpfs -o size=8m none "$0"`, "cramped", folder, filepath.Join(folder, "d"))
}

// childLayered opens a domain whose files are part of an image, registers, and looks a name up.
func childLayered(args []string) error {
	r, err := registry.Open(args[0], nil)
	if err != nil {
		return err
	}
	defer r.Close()
	if _, err := r.Register(registry.Record{Name: "a"}); err != nil {
		return err
	}
	_, err = r.Lookup("a")
	return err
}

func TestRegistryOfAnImage(t *testing.T) {
	folder := t.TempDir()
	image := filepath.Join(t.TempDir(), "image")
	if err := os.Mkdir(image, 0o700); err != nil {
		t.Fatal(err)
	}
	r := open(t, filepath.Join(image, "d"))
	register(t, r, "b").Close()
	r.Close()
	inMount(t, `mount -t tmpfs none "$0" && mkdir "$0/u" "$0/w" "$0/m" && mount -t overlay -o "lowerdir=`+image+`,upperdir=$0/u,workdir=$0/w" none "$0/m"`,
		"layered", folder, filepath.Join(folder, "m", "d"))
}
