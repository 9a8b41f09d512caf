package registry_test

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipcgen/ipcgen/runtime/registry"
)

func tablePath(domain string) string { return filepath.Join(domain, ".registry", "table") }

func poke(t testing.TB, path string, off int64, word uint64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(binary.NativeEndian.AppendUint64(nil, word), off); err != nil {
		t.Fatal(err)
	}
}

func TestDamagedTableIsRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		damage func(path string) error
		want   error
		hint   string
	}{
		"empty": {func(p string) error {
			return os.Truncate(p, 0)
		}, registry.ErrCorrupt, "remove the file"},
		"short header": {func(p string) error {
			return os.Truncate(p, 4095)
		}, registry.ErrCorrupt, "remove the file"},
		"short": {func(p string) error {
			return os.Truncate(p, 100_000)
		}, registry.ErrCorrupt, "remove the file"},
		"long": {func(p string) error {
			return os.Truncate(p, 100_000_000)
		}, registry.ErrCorrupt, "remove the file"},
		"foreign": {func(p string) error {
			poke(t, p, registry.OffMagic, 1)
			return nil
		}, registry.ErrForeign, "remove the file"},
		"newer": {func(p string) error {
			poke(t, p, registry.OffVersion, 2)
			return nil
		}, registry.ErrVersion, "one version of the runtime"},
		"slot size": {func(p string) error {
			poke(t, p, registry.OffSlotSize, 8)
			return nil
		}, registry.ErrCorrupt, "remove the file"},
		"no slots": {func(p string) error {
			poke(t, p, registry.OffSlots, 0)
			return nil
		}, registry.ErrCorrupt, "remove the file"},
		"too many": {func(p string) error {
			poke(t, p, registry.OffSlots, 1<<60)
			return nil
		}, registry.ErrCorrupt, "remove the file"},
		"odd number": {func(p string) error {
			poke(t, p, registry.OffSlots, 65)
			return nil
		}, registry.ErrCorrupt, "remove the file"},
		"a directory": {func(p string) error {
			return errors.Join(os.Remove(p), os.Mkdir(p, 0o700))
		}, registry.ErrForeign, "remove the file"},
		"no permission": {func(p string) error { return os.Chmod(p, 0) }, os.ErrPermission, ""},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDomain(t)
			r := open(t, d)
			r.Close()
			if err := tt.damage(tablePath(d)); err != nil {
				t.Fatal(err)
			}
			r, err := registry.Open(d, nil)
			if err == nil {
				r.Close()
				if name == "no permission" {
					t.Skip("this user may read everything")
				}
				t.Fatal("opened")
			}
			var te *registry.TableError
			if !errors.As(err, &te) || te.Path != tablePath(d) || !errors.Is(err, tt.want) ||
				!strings.Contains(err.Error(), tt.hint) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// The users of a table that is cut short get an error, not a fault.
func TestTableCutShortInUse(t *testing.T) {
	d := newDomain(t)
	r := open(t, d)
	reg := register(t, r, "a")
	if err := os.Truncate(tablePath(d), 0); err != nil {
		t.Fatal(err)
	}
	_, lookupErr := r.Lookup("a")
	_, listErr := r.List("")
	_, gcErr := r.GC()
	_, registerErr := r.Register(registry.Record{Name: "b"})
	var watchErr error
	for _, watchErr = range r.Watch(t.Context(), "") {
	}
	for what, err := range map[string]error{"Lookup": lookupErr, "List": listErr, "GC": gcErr,
		"Register": registerErr,
		"Watch":    watchErr, "SetRole": reg.SetRole(registry.RolePrimary, 1),
		"Close": reg.Close()} {
		if !errors.Is(err, registry.ErrCorrupt) {
			t.Errorf("%s: %v", what, err)
		}
	}
	// A closed registry and a closed registration hold nothing in spite of the damage.
	if err := os.Remove(tablePath(d)); err != nil {
		t.Fatal(err)
	}
	register(t, open(t, d), "a")
}

// Arbitrary bytes in the slots, including those with live owners, harm no reader.
func FuzzSlots(f *testing.F) {
	d := newDomain(f)
	r, err := registry.Open(d, &registry.Options{Slots: 64})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { r.Close() })
	for _, name := range names("n", 64) {
		register(f, r, name)
	}
	good, err := os.ReadFile(tablePath(d))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(0, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Add(7*8, []byte{0xff, 0xff, 0xff, 0xff, 0xff})
	f.Add(8*8, []byte("\x00/../x"))
	f.Add(registry.SlotSize*5, make([]byte, 3*registry.SlotSize))
	f.Add(registry.SlotSize*5-3, []byte("out of step with the words"))
	f.Fuzz(func(t *testing.T, off int, rubbish []byte) {
		body := len(good) - registry.HeaderSize
		if off < 0 || len(rubbish) > body {
			return
		}
		off %= body - len(rubbish) + 1
		table, err := os.OpenFile(tablePath(d), os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer table.Close()
		table.WriteAt(rubbish, int64(registry.HeaderSize+off))
		defer table.WriteAt(good, 0)
		recs, err := r.List("")
		if err != nil {
			t.Error(err)
		}
		for _, rec := range recs {
			if got, err := r.Lookup(rec.Name); err == nil && got.Name != rec.Name {
				t.Errorf("Lookup(%q) = %+v", rec.Name, got)
			}
		}
		if _, err := r.GC(); err != nil {
			t.Error(err)
		}
		for range r.Watch(cancelled, "") {
		}
	})
}
