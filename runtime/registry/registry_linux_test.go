package registry_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/runtime/registry"
)

func TestRegisterAndLookup(t *testing.T) {
	r := open(t, newDomain(t))
	want := registry.Record{
		Name: "audio_compute.0", Service: "audio_compute", Control: "audio_ctrl_0",
		Reply:    "audio_reply_0",
		Protocol: "audio.AudioControl", Fingerprint: 0xfeedfacecafebeef, Incarnation: 7,
		PID: 4711, StartTime: time.Unix(1700000000, 123), Role: registry.RoleStandby, Epoch: 3,
	}
	reg, err := r.Register(want)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := r.Lookup("audio_compute.0"); err != nil || got != want {
		t.Errorf("Lookup = %+v, %v; want %+v", got, err, want)
	}
	if err := reg.SetRole(registry.RolePrimary, registry.MaxEpoch); err != nil {
		t.Error(err)
	}
	want.Role, want.Epoch = registry.RolePrimary, registry.MaxEpoch
	if got, err := r.Lookup("audio_compute.0"); err != nil || got != want {
		t.Errorf("after SetRole: %+v, %v; want %+v", got, err, want)
	}
	if err := reg.Close(); err != nil {
		t.Error(err)
	}
	var nf *registry.NotFoundError
	if _, err := r.Lookup("audio_compute.0"); !errors.Is(err, registry.ErrNotFound) ||
		!errors.As(err, &nf) {
		t.Errorf("after Close: %v", err)
	}
	if err := reg.SetRole(registry.RoleNone, 0); !errors.Is(err, os.ErrClosed) {
		t.Errorf("SetRole after Close: %v", err)
	}
}

func TestDefaultsAreThisProcessAndNow(t *testing.T) {
	r := open(t, newDomain(t))
	before := time.Now().Truncate(0)
	register(t, r, "a")
	rec, err := r.Lookup("a")
	if err != nil || rec.PID != os.Getpid() || rec.StartTime.Before(before) {
		t.Errorf("%+v, %v", rec, err)
	}
}

func TestListMatchesComponents(t *testing.T) {
	r := open(t, newDomain(t))
	for _, name := range []string{"audio", "audio.0", "audio.0.left", "audio2.0", "video"} {
		register(t, r, name)
	}
	for prefix, want := range map[string]string{
		"":        "[audio audio.0 audio.0.left audio2.0 video]",
		"audio":   "[audio audio.0 audio.0.left]",
		"audio.0": "[audio.0 audio.0.left]",
		"aud":     "[]",
	} {
		recs, err := r.List(prefix)
		if err != nil {
			t.Fatal(err)
		}
		names := []string{}
		for _, rec := range recs {
			names = append(names, rec.Name)
		}
		if got := fmt.Sprint(names); got != want {
			t.Errorf("List(%q) = %s, want %s", prefix, got, want)
		}
	}
}

func TestNamesAreRefusedNotCut(t *testing.T) {
	r := open(t, newDomain(t))
	long := strings.Repeat("x", registry.MaxNameLen)
	for _, rec := range []registry.Record{
		{}, {Name: long + "x"}, {Name: "a/b"}, {Name: "a", Control: long + "x"},
		{Name: "a", Reply: "\x00"},
		{Name: "a", Protocol: strings.Repeat("x", registry.MaxProtocolLen+1)},
	} {
		if _, err := r.Register(rec); !errors.Is(err, registry.ErrName) {
			t.Errorf("Register(%+v): %v", rec, err)
		}
	}
	full := registry.Record{Name: long, Service: long, Control: long, Reply: long,
		Protocol: strings.Repeat("p", registry.MaxProtocolLen)}
	reg, err := r.Register(full)
	if err != nil {
		t.Fatal(err)
	}
	defer reg.Close()
	got, err := r.Lookup(long)
	full.PID, full.StartTime = got.PID, got.StartTime
	if err != nil || got != full {
		t.Errorf("Lookup = %+v, %v", got, err)
	}
}

func TestSecondHolderIsRefused(t *testing.T) {
	d := newDomain(t)
	c := start(t, "register", d, "a")
	c.expect(t, "registered")
	r := open(t, d)
	_, err := r.Register(registry.Record{Name: "a"})
	var exists *registry.ExistsError
	if !errors.As(err, &exists) || !errors.Is(err, registry.ErrExists) ||
		exists.Holder.PID != c.cmd.Process.Pid {
		t.Errorf("another process's name: %v", err)
	}
	register(t, r, "b")
	if _, err := r.Register(registry.Record{Name: "b"}); !errors.Is(err, registry.ErrExists) {
		t.Errorf("this process's own name: %v", err)
	}
}

func TestDeadOwnerHoldsNothing(t *testing.T) {
	d := newDomain(t)
	r := open(t, d)
	c := start(t, "register", d, "a", "b")
	c.expect(t, "registered")
	c.kill()
	if _, err := r.Lookup("a"); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("Lookup: %v", err)
	}
	if recs, err := r.List(""); err != nil || len(recs) != 0 {
		t.Errorf("List = %v, %v", recs, err)
	}
	register(t, r, "a")
	removed, err := r.GC()
	if err != nil || len(removed) != 1 || removed[0].Name != "b" ||
		removed[0].PID != c.cmd.Process.Pid {
		t.Errorf("GC = %+v, %v", removed, err)
	}
	if removed, err := r.GC(); err != nil || len(removed) != 0 {
		t.Errorf("second GC = %+v, %v", removed, err)
	}
}

func TestFullAfterTheDeadAreReaped(t *testing.T) {
	d := newDomain(t)
	r, err := registry.Open(d, &registry.Options{Slots: 64})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	live := names("live", r.SlotCount())
	c := start(t, "register", append([]string{d}, names("dead", r.SlotCount()/2)...)...)
	c.expect(t, "registered")
	c.kill()
	for _, name := range live {
		register(t, r, name)
	}
	if _, err := r.Register(registry.Record{Name: "one-more"}); !errors.Is(err, registry.ErrFull) {
		t.Errorf("Register in a full table: %v", err)
	}
	for _, name := range live {
		if _, err := r.Lookup(name); err != nil {
			t.Error(err)
		}
	}
}

func TestWatch(t *testing.T) {
	d := newDomain(t)
	r := open(t, d)
	c := start(t, "register", d, "audio.0")
	c.expect(t, "registered")
	other := register(t, r, "video")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	var reg *registry.Registration
	steps := []struct {
		kind registry.Kind
		name string
		next func()
	}{
		{registry.Appeared, "audio.0", func() {
			other.SetRole(registry.RolePrimary, 1)
			reg = register(t, r, "audio.1")
		}},
		{registry.Appeared, "audio.1", func() { reg.SetRole(registry.RoleStandby, 5) }},
		{registry.Changed, "audio.1", func() { c.cmd.Process.Kill() }},
		{registry.Disappeared, "audio.0", func() { reg.Close() }},
		{registry.Disappeared, "audio.1", func() { cancel(errors.New("enough")) }},
	}
	for ev, err := range r.Watch(ctx, "audio") {
		if len(steps) == 0 {
			if err == nil || err.Error() != "enough" {
				t.Errorf("at the end: %v, %v", ev, err)
			}
			return
		}
		step := steps[0]
		steps = steps[1:]
		if err != nil || ev.Kind != step.kind || ev.Record.Name != step.name {
			t.Fatalf("event %v %q, %v; want %v %q", ev.Kind, ev.Record.Name, err,
				step.kind, step.name)
		}
		step.next()
	}
	t.Error("the watch ended without an error")
}

func TestWaitFor(t *testing.T) {
	d := newDomain(t)
	r := open(t, d)
	go func() {
		c := start(t, "register", d, "late.child", "late")
		c.line(t)
	}()
	if rec, err := r.WaitFor(t.Context(), "late"); err != nil || rec.Name != "late" {
		t.Errorf("%+v, %v", rec, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := r.WaitFor(ctx, "never"); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestWaitGone(t *testing.T) {
	d := newDomain(t)
	r := open(t, d)
	if err := r.WaitGone(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	c := start(t, "register", d, "a")
	c.expect(t, "registered")
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := r.WaitGone(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while it lives: %v", err)
	}
	c.cmd.Process.Kill()
	if err := r.WaitGone(t.Context(), "a"); err != nil {
		t.Error(err)
	}
}

func names(prefix string, n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("%s.%d", prefix, i))
	}
	return names
}

// TestListSkipsEmptySlots lists a table whose slots are empty but for one: the others cost no
// memory. A standby lists the table when it is promoted, and may have other work that is urgent.
func TestListSkipsEmptySlots(t *testing.T) {
	r := open(t, newDomain(t))
	register(t, r, "one")
	allocations := testing.AllocsPerRun(3, func() {
		if recs, err := r.List(""); err != nil || len(recs) != 1 {
			t.Errorf("List: %v, %v", recs, err)
		}
	})
	if allocations > 100 {
		t.Errorf("a list of one instance makes %v allocations", allocations)
	}
}
