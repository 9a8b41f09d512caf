package registry_test

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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
			poke(t, p, registry.OffVersion, registry.Version+1)
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

// TestOverwrittenRecord overwrites each word of a record, and stores the old value again. No
// process takes what it reads meanwhile for the record, and none keeps it.
func TestOverwrittenRecord(t *testing.T) {
	d := newDomain(t)
	owner := open(t, d)
	want := registry.Record{Name: "a.0", Service: "a", Control: "a_ctrl", Reply: "a_reply",
		Protocol: "P", Fingerprint: 5, Incarnation: 7}
	reg, err := owner.Register(want)
	if err != nil {
		t.Fatal(err)
	}
	defer reg.Close()
	want, err = owner.Lookup("a.0")
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(tablePath(d), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	at := registry.SlotOf(owner, "a.0")
	for off := at + 16; off < at+registry.SlotSize; off += 8 { // behind the state and the role
		var was [8]byte
		if _, err := f.ReadAt(was[:], off); err != nil {
			t.Fatal(err)
		}
		word := binary.NativeEndian.Uint64(was[:])
		for _, wrong := range []uint64{0, 1, ^uint64(0), word + 1, word ^ 1<<40} {
			if wrong == word {
				continue
			}
			poke(t, tablePath(d), off, wrong)
			reader := open(t, d)
			// The owner may have restored the word by now.
			if rec, err := reader.Lookup("a.0"); err == nil && rec != want {
				t.Errorf("word %d, overwritten by %#x: %+v", (off-at)/8, wrong, rec)
			}
			poke(t, tablePath(d), off, word)
			if rec, err := reader.Lookup("a.0"); err != nil || rec != want {
				t.Errorf("word %d, restored after %#x: %+v, %v", (off-at)/8, wrong, rec, err)
			}
			reader.Close()
		}
	}
}

// TestOwnerRestoresRecord shows that an instance is found again after its record was overwritten.
func TestOwnerRestoresRecord(t *testing.T) {
	d := newDomain(t)
	owner := open(t, d)
	reg, err := owner.Register(registry.Record{Name: "a.0", Control: "a_ctrl"})
	if err != nil {
		t.Fatal(err)
	}
	defer reg.Close()
	at := registry.SlotOf(owner, "a.0")
	reader := open(t, d)
	for off := at; off < at+registry.SlotSize; off += 120 {
		poke(t, tablePath(d), off, 1<<50|3)
		for ; ; time.Sleep(time.Millisecond) {
			if rec, err := reader.Lookup("a.0"); err == nil && rec.Control == "a_ctrl" {
				break
			}
		}
	}
}
