package registry_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/runtime/registry"
)

// childStep registers a name, changes its role and closes it, and kills itself at the given step.
func childStep(args []string) error {
	last, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	opts := new(registry.Options)
	n := 0
	registry.SetStep(opts, func(step string) {
		if n == last {
			fmt.Println(step)
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		n++
	})
	r, err := registry.Open(args[0], opts)
	if err != nil {
		return err
	}
	reg, err := r.Register(registry.Record{Name: "victim", Control: "c", PID: last + 1})
	if err != nil {
		return err
	}
	if err := reg.SetRole(registry.RolePrimary, 7); err != nil {
		return err
	}
	if err := reg.Close(); err != nil {
		return err
	}
	fmt.Println("survived")
	return nil
}

// A process killed at any step holds nothing: its name and slot are free at once, and no reader
// sees what it left.
func TestKilledAtEveryStep(t *testing.T) {
	d := newDomain(t)
	r := open(t, d)
	steps := 0
	for ; ; steps++ {
		c := start(t, "step", d, strconv.Itoa(steps))
		at := c.line(t)
		c.cmd.Wait()
		if at == "survived" {
			break
		}
		if rec, err := r.Lookup("victim"); err == nil {
			t.Errorf("killed at %q: still there: %+v", at, rec)
		}
		if recs, err := r.List(""); err != nil || len(recs) != 0 {
			t.Errorf("killed at %q: List = %+v, %v", at, recs, err)
		}
		// In every second round the content of the slot stays for the next process to find.
		if steps%2 == 0 {
			reg, err := r.Register(registry.Record{Name: "victim", Control: "new"})
			if err != nil {
				t.Fatalf("killed at %q: %v", at, err)
			}
			if rec, err := r.Lookup("victim"); err != nil || rec.Control != "new" ||
				rec.PID != os.Getpid() || rec.Epoch != 0 {
				t.Errorf("killed at %q: the next owner's record is %+v, %v", at, rec, err)
			}
			reg.Close()
		}
	}
	if steps < 8 {
		t.Errorf("only %d steps", steps)
	}
	if _, err := r.GC(); err != nil {
		t.Error(err)
	}
	if dead, err := r.GC(); err != nil || len(dead) != 0 {
		t.Errorf("second GC = %+v, %v", dead, err)
	}
}

// childOpen opens the registry when told to, and registers a name.
func childOpen(args []string) error {
	slots, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	fmt.Println("ready")
	buf := make([]byte, 1)
	os.Stdin.Read(buf)
	r, err := registry.Open(args[0], &registry.Options{Slots: slots})
	if err != nil {
		return err
	}
	if _, err := r.Register(registry.Record{Name: args[2]}); err != nil {
		return err
	}
	fmt.Println(r.SlotCount())
	os.Stdin.Read(buf)
	return nil
}

func TestManyOpenAFreshDomain(t *testing.T) {
	n := 64
	if testing.Short() {
		n = 16
	}
	d := newDomain(t)
	var all []*child
	for i := range n {
		c := start(t, "open", d, strconv.Itoa(64*(i+1)), fmt.Sprintf("p.%d", i))
		all = append(all, c)
	}
	for _, c := range all {
		c.expect(t, "ready")
	}
	for _, c := range all {
		if _, err := c.stdin.Write([]byte{1}); err != nil {
			t.Fatal(err)
		}
	}
	slots := all[0].line(t)
	for _, c := range all[1:] {
		c.expect(t, slots)
	}
	recs, err := open(t, d).List("p")
	if err != nil || len(recs) != n {
		t.Errorf("%d names, %v; want %d", len(recs), err, n)
	}
	if files, _ := filepath.Glob(filepath.Join(d, ".registry", "*tmp*")); len(files) != 0 {
		t.Errorf("left: %v", files)
	}
}

// The lock is evidence across pid namespaces, where the pid is unknown.
func TestOtherPIDNamespace(t *testing.T) {
	d := newDomain(t)
	r := open(t, d)
	c := prepare(t, "register", d, "contained")
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	if err := c.cmd.Start(); err != nil {
		t.Skip(err)
	}
	t.Cleanup(c.kill)
	c.expect(t, "registered")
	if rec, err := r.Lookup("contained"); err != nil || rec.PID != 1 {
		t.Errorf("%+v, %v", rec, err)
	}
	c.kill()
	if err := r.WaitGone(t.Context(), "contained"); err != nil {
		t.Error(err)
	}
	register(t, r, "contained")
}

// While an owner takes over the slot of a dead owner of the same name, readers see neither the dead
// owner's record nor a mixture of both.
func TestTakeoverShowsNothingHalf(t *testing.T) {
	d := newDomain(t)
	c := start(t, "register", d, "a")
	c.expect(t, "registered")
	c.kill()
	reader := open(t, d)
	opts := new(registry.Options)
	published := false
	steps := make(map[string]bool)
	registry.SetStep(opts, func(step string) {
		steps[step] = true
		published = published || step == "registry published"
		rec, err := reader.Lookup("a")
		switch {
		case published && (err != nil || rec.Control != "new" || rec.PID != 7):
			t.Errorf("after %q: %+v, %v", step, rec, err)
		case !published && err == nil:
			t.Errorf("after %q: %+v", step, rec)
		}
	})
	r, err := registry.Open(d, opts)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	reg, err := r.Register(registry.Record{Name: "a", Control: "new", PID: 7})
	if err != nil {
		t.Fatal(err)
	}
	if err := reg.SetRole(registry.RolePrimary, 1); err != nil {
		t.Error(err)
	}
	published = false
	reg.Close()
	if len(steps) != 9 {
		t.Errorf("steps: %v", steps)
	}
}

// A slot changes as fast as memory allows. Every record that a reader gets is of one piece.
func TestNoTornRecords(t *testing.T) {
	r := open(t, newDomain(t))
	const rounds = 300_000
	pieces := make([]registry.Record, 80)
	for i := range pieces {
		s := fmt.Sprintf("x%0*d", i%registry.MaxNameLen, i)
		pieces[i] = registry.Record{Name: "torn", Service: s, Control: s, Reply: s, Protocol: s,
			Fingerprint: uint64(i), PID: i + 1,
			StartTime: time.Unix(0, int64(i)), Incarnation: uint64(i), Role: registry.RolePrimary,
			Epoch: uint64(i)}
	}
	reg, err := r.Register(pieces[0])
	if err != nil {
		t.Fatal(err)
	}
	defer reg.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range rounds {
			reg.Republish(pieces[i%len(pieces)])
		}
	}()
	seen := 0
	for over := false; !over; {
		select {
		case <-done:
			over = true // and one last scan, which nothing disturbs
		default:
		}
		rec, err := r.Lookup("torn")
		if err != nil {
			continue // between two of them
		}
		if seen++; rec != pieces[rec.Fingerprint] {
			t.Fatalf("torn: %+v", rec)
		}
	}
	if seen == 0 {
		t.Error("no record seen")
	}
}
