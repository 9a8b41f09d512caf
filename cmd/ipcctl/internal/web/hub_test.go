package web

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/runtime/registry"
)

// TestInstancesAreToldAtOnce has a hub that never looks by itself, and hears of instances
// nevertheless.
func TestInstancesAreToldAtOnce(t *testing.T) {
	domain := filepath.Join(t.TempDir(), "domain")
	r, err := registry.Open(domain, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	h := newHub(t.Context(), domain)
	h.period = time.Hour
	f := h.follow()
	heard := func(want EventKind) {
		t.Helper()
		for {
			n, err := f.next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range n.Events {
				if e.Kind == want && e.Name == "g.0" {
					return
				}
				t.Errorf("%+v, want %s", e, want)
			}
		}
	}
	// The first survey is no news.
	for surveyed := false; !surveyed; {
		h.mu.Lock()
		surveyed = h.chronicle.before != nil
		h.mu.Unlock()
		time.Sleep(time.Millisecond)
	}
	reg, err := r.Register(registry.Record{Name: "g.0", Role: registry.RoleStandby, Control: "c"})
	if err != nil {
		t.Fatal(err)
	}
	heard(Came)
	if err := reg.SetRole(registry.RolePrimary, 1); err != nil {
		t.Fatal(err)
	}
	heard(Promoted)
	if err := reg.Close(); err != nil {
		t.Fatal(err)
	}
	heard(Lost)
	f.leave()
	h.looking.Wait()
}
