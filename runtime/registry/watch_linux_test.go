package registry_test

import (
	"context"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/runtime/registry"
)

// cancelled is a context that ends a watch after its first scan.
var cancelled = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// A watcher reports the final state, however fast the changes follow each other.
func TestWatchReachesTheFinalState(t *testing.T) {
	d := newDomain(t)
	r := open(t, d)
	held := make(map[string]*registry.Registration)
	truth := make(map[string]uint64)
	done := make(chan struct{})
	go func() {
		defer close(done)
		rng := rand.New(rand.NewPCG(1, 2))
		all := names("w", 20)
		for i := range uint64(2000) {
			name := all[rng.IntN(len(all))]
			reg := held[name]
			switch {
			case reg == nil:
				reg, err := r.Register(registry.Record{Name: name, Epoch: i})
				if err != nil {
					t.Error(err)
					return
				}
				held[name], truth[name] = reg, i
			case rng.IntN(3) == 0:
				reg.Close()
				delete(held, name)
				delete(truth, name)
			default:
				reg.SetRole(registry.RoleStandby, i)
				truth[name] = i
			}
		}
		held["w.last"], truth["w.last"] = register(t, r, "w.last"), 0
	}()
	seen := make(map[string]uint64)
	for ev, err := range r.Watch(t.Context(), "w") {
		if err != nil {
			t.Fatal(err)
		}
		_, known := seen[ev.Record.Name]
		if known == (ev.Kind == registry.Appeared) {
			t.Fatalf("%v %q, known before: %v", ev.Kind, ev.Record.Name, known)
		}
		if ev.Kind == registry.Disappeared {
			delete(seen, ev.Record.Name)
		} else {
			seen[ev.Record.Name] = ev.Record.Epoch
		}
		if _, last := seen["w.last"]; last {
			<-done
			if maps.Equal(seen, truth) {
				break
			}
		}
	}
	for _, reg := range held {
		reg.Close()
	}
}

// The kernel reports the close of a dying owner's file before it releases the owner's lock. A
// watcher that scans in between finds the owner alive, and must scan again.
func TestWatchLooksAgainAfterAClose(t *testing.T) {
	d := newDomain(t)
	reg := register(t, open(t, d), "late")
	opts := new(registry.Options)
	looks := 0
	registry.SetStep(opts, func(step string) {
		if looks++; looks == 2 { // the scan that the close has caused
			if err := reg.DropLock(); err != nil {
				t.Error(err)
			}
		}
	})
	r, err := registry.Open(d, opts)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for ev, err := range r.Watch(ctx, "late") {
		if err != nil {
			t.Fatalf("the end of the lock was not seen in %d looks: %v", looks, err)
		}
		if ev.Kind == registry.Disappeared {
			if looks < 3 {
				t.Errorf("gone after %d looks", looks)
			}
			return
		}
		files, _ := filepath.Glob(filepath.Join(d, ".registry", "slots.*"))
		if len(files) != 1 {
			t.Fatalf("files of locks: %v", files)
		}
		f, err := os.OpenFile(files[0], os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
}

// Many watchers of one domain report the death of one process that held many names.
func TestWatchMassDeath(t *testing.T) {
	d := newDomain(t)
	r := open(t, d)
	const n = 200
	c := start(t, "register", append([]string{d}, names("mass", n)...)...)
	c.expect(t, "registered")
	alive := 0
	for ev, err := range r.Watch(t.Context(), "mass") {
		if err != nil {
			t.Fatal(err)
		}
		switch ev.Kind {
		case registry.Appeared:
			if alive++; alive == n {
				c.cmd.Process.Kill()
			}
		case registry.Disappeared:
			alive--
		}
		if alive == 0 {
			return
		}
	}
}
