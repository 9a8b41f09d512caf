package survey

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/runtime/registry"
)

// TestFollow follows a domain from before its registry, and never looks because of the time.
func TestFollow(t *testing.T) {
	domain := filepath.Join(t.TempDir(), "domain")
	open := func() *registry.Registry {
		r, err := registry.Open(domain, nil)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	var r *registry.Registry
	var reg *registry.Registration
	step := 0
	for s, err := range Follow(t.Context(), domain, time.Hour) {
		if err != nil || s.RegistryErr != nil {
			t.Fatal(err, s.RegistryErr)
		}
		lives := len(s.Instances) == 1 && s.Instances[0].Name == "a.0"
		switch {
		case step == 0: // there is no domain yet
			r = open()
			defer r.Close()
			var err error
			if reg, err = r.Register(registry.Record{Name: "a.0"}); err != nil {
				t.Fatal(err)
			}
			step++
		case step == 1 && lives:
			if err := reg.SetRole(registry.RolePrimary, 7); err != nil {
				t.Fatal(err)
			}
			step++
		case step == 2 && lives && s.Instances[0].Epoch == 7:
			reg.Close()
			step++
		case step == 3 && len(s.Instances) == 0:
			return
		}
	}
	t.Fatal("the looks have ended")
}

func TestCompareNames(t *testing.T) {
	want := []string{"a", "a.0", "a.2", "a.10", "a.10.b", "a.18446744073709551617", "a.x", "b.1"}
	names := slices.Clone(want)
	slices.Reverse(names)
	slices.SortFunc(names, CompareNames)
	if !slices.Equal(names, want) {
		t.Errorf("sorted %v, want %v", names, want)
	}
	if CompareNames("a.01", "a.1") == 0 || CompareNames("a.7", "a.7") != 0 {
		t.Error("names that differ are equal, or ones that are equal differ")
	}
}
