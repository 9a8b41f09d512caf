package registry_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"github.com/ipcgen/ipcgen/runtime/registry"
)

// childStep takes a name through its life and kills itself at the given step.
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

// A process killed at any step holds nothing: its name and slot are free at
// once, and nobody sees what it left.
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
		// Leave what the dead one left in every second round, for the next one
		// to find.
		if steps%2 == 0 {
			reg, err := r.Register(registry.Record{Name: "victim", Control: "new"})
			if err != nil {
				t.Fatalf("killed at %q: %v", at, err)
			}
			if rec, err := r.Lookup("victim"); err != nil || rec.Control != "new" || rec.PID != os.Getpid() || rec.Epoch != 0 {
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
	fmt.Println(r.Slots())
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

// The lock is evidence across pid namespaces, where the pid is not even known.
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

// Owners come and go as fast as they can; every record that a reader gets is of
// one piece.
func TestNoTornRecords(t *testing.T) {
	d := newDomain(t)
	r := open(t, d)
	rounds := 3000
	if testing.Short() {
		rounds = 300
	}
	piece := func(i int) registry.Record {
		s := fmt.Sprintf("x%0*d", i%registry.MaxNameLen, i)
		return registry.Record{Name: "torn", Service: s, Control: s, Reply: s, Protocol: s, Fingerprint: uint64(i), PID: i + 1,
			Role: registry.RolePrimary, Epoch: uint64(i)}
	}
	stop := make(chan struct{})
	var readers sync.WaitGroup
	seen := 0
	for reader := range 2 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				rec, err := r.Lookup("torn")
				if err != nil {
					continue
				}
				want := piece(int(rec.Fingerprint))
				want.StartTime, want.Epoch = rec.StartTime, rec.Epoch
				if rec != want || rec.Epoch != rec.Fingerprint && rec.Epoch != rec.Fingerprint+1 {
					t.Errorf("torn: %+v", rec)
					return
				}
				if reader == 0 {
					seen++
				}
			}
		})
	}
	for i := range rounds {
		reg, err := r.Register(piece(i))
		if err != nil {
			t.Error(err)
			break
		}
		reg.SetRole(registry.RolePrimary, uint64(i)+1)
		reg.Close()
	}
	close(stop)
	readers.Wait()
	if seen == 0 && !testing.Short() {
		t.Error("the reader saw nothing")
	}
}
