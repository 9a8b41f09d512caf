package group_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/runtime/group"
	"github.com/ipcgen/ipcgen/runtime/registry"
)

// childHasty is a bare replica that starts a program with its environment and joins when that
// program has joined.
func childHasty([]string) error {
	cmd := childCommand("early")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		return err
	}
	return childBare(nil)
}

// childEarly joins, says so, and stays.
func childEarly([]string) error {
	r, err := group.Join(group.JoinConfig{})
	if err != nil {
		return err
	}
	fmt.Println("joined", r.Name())
	select {}
}

// A program that a replica starts joins before the replica does. The replica's error names that
// program and the variable that it has inherited, and the program ends with the group.
func TestProgramThatJoinsBeforeItsReplica(t *testing.T) {
	cfg := bareConfig(newDomain(t))
	cfg.Command = func(int) *exec.Cmd { return childCommand("hasty") }
	_, err := group.Start(t.Context(), cfg)
	if err == nil || !strings.Contains(err.Error(), "has the place of svc.") ||
		!strings.Contains(err.Error(), "IPCGEN_GROUP") {
		t.Errorf("the group: %v", err)
	}
	nothingLeft(t, cfg.Domain)
}

// childEstranged is a bare replica that first starts a program, in a session of its own, which has
// its environment, and joins when the file in the argument exists.
func childEstranged(args []string) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	cmd := childCommand("successor")
	name := fmt.Sprintf("%s.%d", args[0], os.Getpid())
	if cmd.Stdout, err = os.Create(name); err != nil {
		return err
	}
	cmd.Stdin = r
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	err = childBare(nil)
	w.Close()
	return err
}

// A program that outlives the replica that has started it, with its environment, cannot take the
// place of that one or of the next one. It tries while the replica dies.
func TestProgramThatOutlivesItsReplica(t *testing.T) {
	file := filepath.Join(t.TempDir(), "said")
	cfg := bareConfig(newDomain(t))
	cfg.Command = func(int) *exec.Cmd { return childCommand("estranged", file) }
	cfg.Restart = group.Restart{Delay: 1, MaxDelay: 1, Intensity: 1 << 30}
	g := startGroup(t, cfg)
	for range 30 {
		before := g.Status()
		old := before.Replicas[before.Primary].PID
		syscall.Kill(old, syscall.SIGKILL) // ends the program's standard input: it joins
		after, err := g.WaitHealthy(t.Context(), before.Epoch)
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "the program has tried to join", func() bool {
			said, err := os.ReadFile(fmt.Sprintf("%s.%d", file, old))
			if len(said) > 0 && !strings.HasPrefix(string(said), "refused: ") {
				t.Fatalf("the program: %s", said)
			}
			return err == nil && strings.HasSuffix(string(said), "\n")
		})
		if now := g.Status(); now.Epoch != after.Epoch || !now.Healthy() {
			t.Fatalf("status %+v", now)
		}
	}
	shutdown(t, g)
	eventually(t, "the last programs have tried to join, and end", func() bool {
		return len(processesOf(cfg.Domain)) == 0
	})
}

// childLeaky is a replica that keeps a list. A program inherits all its descriptors, and outlives
// it in a session of its own, as a process that was forked and executes nothing would.
func childLeaky(args []string) error {
	return group.Run(context.Background(), group.RunConfig{
		Join:   group.JoinConfig{State: &list{}},
		Record: registry.Record{Control: "list_" + args[0]},
		Ready:  func() { bequeath("1000") },
	}, (&list{}).service())
}

// bequeath starts a program that has a copy of each descriptor of this process, for some seconds.
func bequeath(seconds string) {
	paths, _ := filepath.Glob("/proc/self/fd/*")
	program := exec.Command("sleep", seconds)
	program.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	for _, path := range paths {
		fd, _ := strconv.Atoi(filepath.Base(path))
		if own, err := syscall.Dup(fd); err == nil && fd > 2 {
			f := os.NewFile(uintptr(own), path)
			defer f.Close()
			program.ExtraFiles = append(program.ExtraFiles, f)
		}
	}
	if err := program.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

// leakyConfig is a group whose replicas pass their descriptors to other programs.
func leakyConfig(domain string) group.Config {
	cfg := listConfig(domain, 2)
	cfg.Command = func(i int) *exec.Cmd { return childCommand("leaky", strconv.Itoa(i)) }
	cfg.Restart.MaxDelay = 50 * time.Millisecond
	return cfg
}

// killSleepers ends the programs that have inherited the descriptors of a domain's replicas.
func killSleepers(domain string) {
	for _, pid := range processesOf(domain) {
		name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if string(name) == "sleep\n" {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// inherited is the cause of an error about a channel that the descriptors of a dead process keep.
func inherited(pid int) string {
	return fmt.Sprintf("(sleep), which has inherited the descriptors of process %d, serves", pid)
}

// The descriptors of a dead replica live on in another process, with its locks and its socket. The
// state lives, calls go to the next primary, and the errors of the replacements name the process
// that keeps the name. When that one ends, the group becomes healthy.
func TestDescriptorsOutliveTheirReplica(t *testing.T) {
	cfg := leakyConfig(newDomain(t))
	cfg.Stderr = new(strings.Builder)
	var events eventLog
	cfg.Events = events.add
	g, err := group.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Shutdown(context.Background()) })
	t.Cleanup(func() { killSleepers(cfg.Domain) })
	c := dialList(t, cfg.Domain)
	appendTo(t, c, 1)
	before := g.Status()
	syscall.Kill(before.Replicas[0].PID, syscall.SIGKILL)
	appendTo(t, c, 2)
	s, err := g.Wait(t.Context(), func(s group.Status) bool {
		return s.Replicas[0].Err != nil &&
			strings.Contains(s.Replicas[0].Err.Error(), inherited(before.Replicas[0].PID))
	})
	if err != nil {
		t.Fatalf("%v; status %+v\n%v", err, s, &events)
	}
	killSleepers(cfg.Domain)
	if _, err := g.WaitHealthy(t.Context(), before.Epoch); err != nil {
		t.Fatal(err)
	}
	if all := readAll(t, c); !slices.Equal(all, words{1, 2}) {
		t.Errorf("the list is %v", all)
	}
	shutdown(t, g)
	killSleepers(cfg.Domain)
	if events.has(group.StateLost) {
		t.Errorf("events:\n%v", &events)
	}
}

// A supervisor adopts the survivors, although the locks of a dead one live on in another process.
func TestAdoptionBesideInheritedDescriptors(t *testing.T) {
	cfg := leakyConfig(newDomain(t))
	r, w, err := os.Pipe() // whatever is the standard error of this process
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	go func() {
		defer r.Close()
		_, _ = io.Copy(io.Discard, r)
	}()
	cfg.Stderr = w
	cfg.Survive = true
	host := childCommand("host", cfg.Domain, "leaky", "survive")
	pids := runHost(t, host)
	host.Process.Kill()
	host.Wait()
	t.Cleanup(func() { killSleepers(cfg.Domain) })
	c := dialList(t, cfg.Domain)
	appendTo(t, c, 1)
	syscall.Kill(pids[0], syscall.SIGKILL)
	eventually(t, "it is dead", func() bool { return !running(pids[0]) })
	told := make(chan struct{})
	var events eventLog
	cfg.Events = func(ev group.Event) {
		events.add(ev)
		if ev.Kind == group.Died && strings.Contains(fmt.Sprint(ev.Err), inherited(pids[0])) {
			select {
			case told <- struct{}{}:
			default:
			}
		}
	}
	go func() {
		select {
		case <-told:
		case <-t.Context().Done():
		}
		killSleepers(cfg.Domain)
	}()
	g, err := group.Start(t.Context(), cfg)
	if err != nil {
		t.Fatalf("%v\n%v", err, &events)
	}
	if r := g.Replicas()[1]; r.PID != pids[1] {
		t.Errorf("replica 1 has pid %d, not %d", r.PID, pids[1])
	}
	if all := readAll(t, c); !slices.Equal(all, words{1}) {
		t.Errorf("the list is %v\n%v", all, &events)
	}
	shutdown(t, g)
	killSleepers(cfg.Domain)
}
