package group_test

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/group"
	"github.com/ipcgen/ipcgen/runtime/registry"
)

// The attack does at random, against a group that keeps a list and is under load, what can happen
// to its processes and files. GROUP_TEST_ATTACK is the time for which it goes on, and
// GROUP_TEST_SEED the first seed; a failure names the seed. docs/group.md has what it asserts.

// bequestVar is set for replicas of which some pass their descriptors to a program.
const bequestVar = "GROUP_TEST_BEQUEST"

// childAttacked is a replica of the attacked group.
func childAttacked(args []string) error {
	l := &list{}
	return group.Run(context.Background(), group.RunConfig{
		Join:   group.JoinConfig{State: l},
		Record: registry.Record{Control: "list_" + args[0]},
		Ready: func() {
			if os.Getenv(bequestVar) != "" && rand.N(4) == 0 {
				bequeath("3")
			}
		},
	}, l.service())
}

// childBesieged supervises the attacked group. It reads orders from its standard input, and prints
// each status, and what must be known of the events.
func childBesieged(args []string) error {
	replicas, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	output, err := os.OpenFile(args[3], os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	cfg := listConfig(args[0], replicas)
	cfg.Survive, cfg.Stdout, cfg.Stderr, cfg.Grace = true, output, output, 3*time.Second
	cfg.Replication.MinSync = 1
	cfg.Command = func(i int) *exec.Cmd { return childCommand("attacked", strconv.Itoa(i)) }
	if args[2] == "careful" {
		cfg.Replication.AckTimeout, cfg.Replication.SyncTimeout = time.Minute, time.Minute
		cfg.ReadyTimeout, cfg.Grace = time.Minute, time.Minute
	} else {
		cfg.Heartbeat = group.Heartbeat{Period: 100 * time.Millisecond, Grace: 3 * time.Second}
	}
	var out sync.Mutex
	say := func(kind string, v any) {
		out.Lock()
		defer out.Unlock()
		text, _ := json.Marshal(v)
		fmt.Println(kind, string(text))
	}
	cfg.Events = func(ev group.Event) {
		say("event", fmt.Sprintln(ev.Kind, ev.Replica, ev.PID, ev.Cause, ev.Err))
	}
	g, err := group.Start(context.Background(), cfg)
	if err != nil {
		return err
	}
	order := map[string]func() error{
		"roll":     func() error { return g.Roll(context.Background(), cfg.Command) },
		"failover": func() error { _, err := g.Failover(context.Background()); return err },
		"shutdown": func() error { return g.Shutdown(context.Background()) },
	}
	go func() {
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			what := in.Text()
			go func() { say("event", fmt.Sprint("ordered: ", what, ": ", order[what]())) }()
		}
	}()
	last := ""
	_, _ = g.Wait(context.Background(), func(s group.Status) bool {
		for i := range s.Replicas {
			s.Replicas[i].Err = nil // which JSON cannot tell
		}
		text, _ := json.Marshal(s)
		if string(text) != last {
			last = string(text)
			say("status", s)
		}
		return false
	})
	<-g.Done()
	return g.Shutdown(context.Background())
}

// An attack is one round of it, from one seed.
type attack struct {
	t       *testing.T
	rng     *rand.Rand
	careful bool // nothing is done by which the group may lose its state
	folder  string
	mounted bool
	domain  string
	args    []string

	mu      sync.Mutex
	host    *exec.Cmd // nil between two supervisors
	orders  io.Writer
	status  *group.Status // of the present supervisor; nil until it has told it
	events  []string
	killed  map[int]bool // pids
	pending int          // orders that the present supervisor has not answered
	over    bool
	ended   chan struct{}
	quiet   time.Time // no supervisor is killed before
	lost    bool      // the group's file is gone, and could not be made again yet
	former  []int     // the processes that use a file of the group that is gone
}

// attackTime returns how long all rounds together go on, and one of them.
func attackTime() (all, round time.Duration) {
	if d, err := time.ParseDuration(os.Getenv("GROUP_TEST_ATTACK")); err == nil {
		return d, min(d, 12*time.Second)
	}
	return 0, 3 * time.Second
}

// TestAttack attacks a group. A careful attack leaves two replicas in sync alive: then everything
// that was answered must be kept. In any attack no change is made twice, or is made although its
// error says that it was not executed; the group is healthy soon after the attack; it ends in
// order, and leaves nothing.
func TestAttack(t *testing.T) {
	seed := uint64(1)
	if n, err := strconv.ParseUint(os.Getenv("GROUP_TEST_SEED"), 10, 64); err == nil {
		seed = n
	}
	all, round := attackTime()
	for end := time.Now().Add(all); ; seed++ {
		for _, careful := range []bool{true, false} {
			name := fmt.Sprint("seed ", seed, " careful ", careful)
			if !t.Run(name, func(t *testing.T) { attackOnce(t, seed, careful, round) }) {
				return
			}
		}
		if !time.Now().Before(end) {
			return
		}
	}
}

func attackOnce(t *testing.T, seed uint64, careful bool, round time.Duration) {
	a := &attack{t: t, rng: rand.New(rand.NewPCG(seed, 1)), careful: careful,
		killed: make(map[int]bool), ended: make(chan struct{})}
	a.makeFolder()
	sizes := []int{3, 3, 4, 5, 8, 24}
	replicas := sizes[a.rng.IntN(len(sizes))]
	if round < 10*time.Second {
		replicas = 3 + a.rng.IntN(2)
	}
	if !careful {
		replicas = max(2, replicas-a.rng.IntN(2))
	}
	kind := map[bool]string{true: "careful", false: "rough"}[careful]
	a.args = []string{a.domain, strconv.Itoa(replicas), kind, filepath.Join(t.TempDir(), "output")}
	if a.rng.IntN(2) == 0 {
		t.Setenv(bequestVar, "1")
	}
	go a.keepHosts()
	defer a.end()
	a.awaitHealth("at first")
	var done atomic.Int64
	loaders, stop := load(t, a.domain, 3, &done)
	for end := time.Now().Add(round); time.Now().Before(end); {
		time.Sleep(time.Duration(a.rng.IntN(200)) * time.Millisecond) // any moment is one to test
		a.strike()
	}
	a.settle()
	a.awaitHealth("after the attack")
	stop()
	a.check(loaders, a.list())
	a.order("shutdown")
	select {
	case <-a.ended:
	case <-time.After(patience):
		t.Fatalf("the shutdown hangs\n%s", a.story())
	}
	eventually(t, "all processes have ended", func() bool {
		return len(processesOf(a.domain)) == 0
	})
	nothingLeft(t, a.domain)
	if t.Failed() || os.Getenv("GROUP_TEST_STORY") != "" {
		t.Logf("%d replicas\n%s", replicas, a.story())
	}
}

// makeFolder makes the folder of the domain, which other users can reach, on a small file system if
// it can.
func (a *attack) makeFolder() {
	folder, err := os.MkdirTemp("", "attack")
	if err != nil {
		a.t.Fatal(err)
	}
	a.folder = folder
	a.t.Cleanup(func() { os.RemoveAll(folder) })
	if syscall.Mount("attack", folder, "tmpfs", 0, "size=32m") == nil {
		a.mounted = true
		a.t.Cleanup(func() { syscall.Unmount(folder, syscall.MNT_DETACH) })
	}
	a.domain = filepath.Join(folder, "run", "domain")
	if os.Chmod(folder, 0o755) != nil || os.Mkdir(filepath.Dir(a.domain), 0o755) != nil {
		a.t.Fatal("making the folder")
	}
}

// keepHosts runs one supervisor after the other, until the attack is over and one ends in order.
func (a *attack) keepHosts() {
	defer close(a.ended)
	for {
		cmd := childCommand("besieged", a.args...)
		r, w, err := os.Pipe() // which survivors hold open
		if err != nil {
			panic(err)
		}
		cmd.Stdout, cmd.Stderr = w, w
		in, err := cmd.StdinPipe()
		if err == nil {
			err = cmd.Start()
		}
		w.Close()
		if err != nil {
			panic(err)
		}
		a.mu.Lock()
		if a.over {
			cmd.Process.Kill()
		}
		a.host, a.orders, a.pending = cmd, in, 0
		a.tell("supervisor " + strconv.Itoa(cmd.Process.Pid))
		a.mu.Unlock()
		read := make(chan struct{})
		go func() { defer close(read); a.read(r, cmd) }()
		err = cmd.Wait()
		r.SetReadDeadline(time.Now().Add(100 * time.Millisecond)) // the rest
		<-read
		r.Close()
		a.mu.Lock()
		a.host, a.status = nil, nil
		a.tell(fmt.Sprint("supervisor ended: ", err))
		over := a.over
		a.mu.Unlock()
		if err == nil || over {
			return
		}
	}
}

// read reads what a supervisor prints.
func (a *attack) read(r io.Reader, host *exec.Cmd) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		kind, text, _ := strings.Cut(lines.Text(), " ")
		a.mu.Lock()
		s := new(group.Status)
		if kind != "status" {
			a.tell(lines.Text())
			if a.host == host && strings.HasPrefix(text, `"ordered: `) {
				a.pending--
			}
			if strings.HasPrefix(text, `"file lost `) {
				a.lost = strings.Contains(text, "cannot be made again yet")
				if !a.lost && a.status != nil {
					for _, r := range a.status.Replicas {
						a.former = append(a.former, r.PID)
					}
				}
			}
		} else if json.Unmarshal([]byte(text), s) == nil && a.host == host {
			a.status = s
		}
		a.mu.Unlock()
	}
}

// tell records what happened. The caller must hold a.mu.
func (a *attack) tell(what string) {
	a.events = append(a.events, time.Now().Format("05.000 ")+what)
}

// list reads the list. A replica may still fall behind once more, for what was done to it before.
func (a *attack) list() words {
	c := dialList(a.t, a.domain)
	for end := time.Now().Add(patience); ; {
		all, err := ipc.Invoke(a.t.Context(), c, methodAll, &words{})
		if err == nil {
			return *all
		}
		if ipc.CodeOf(err) != ipc.CodeFailedPrecondition || time.Now().After(end) {
			a.t.Fatalf("%v\n%s", err, a.story())
		}
		a.awaitHealth("again")
	}
}

func (a *attack) story() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return strings.Join(a.events[max(0, len(a.events)-400):], "\n")
}

func (a *attack) happened(what string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.ContainsFunc(a.events, func(s string) bool { return strings.Contains(s, what) })
}

func (a *attack) order(what string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tell("order: " + what)
	if a.orders != nil {
		a.pending++
		go fmt.Fprintln(a.orders, what)
	}
}

func (a *attack) awaitHealth(when string) {
	a.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		a.mu.Lock()
		healthy := a.status != nil && a.status.Healthy()
		a.mu.Unlock()
		if healthy {
			return
		}
		if time.Now().After(end) {
			a.t.Fatalf("not healthy %s\n%s", when, a.story())
		}
	}
}

// end kills what is left.
func (a *attack) end() {
	a.mu.Lock()
	a.over = true
	if a.host != nil {
		a.host.Process.Kill()
	}
	a.mu.Unlock()
	<-a.ended
	for _, pid := range processesOf(a.domain) {
		syscall.Kill(pid, syscall.SIGKILL)
	}
}

// victim returns the pid of a replica. A careful attack leaves another replica in sync, besides one
// for each order of the supervisor and one for a file that was made again.
func (a *attack) victim() (pid int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.status == nil {
		return 0
	}
	var alive []group.ReplicaStatus
	synced := 0
	for _, r := range a.status.Replicas {
		if r.Alive && !a.killed[r.PID] {
			alive = append(alive, r)
			if r.Ready && r.InSync {
				synced++
			}
		}
	}
	if len(alive) == 0 {
		return 0
	}
	if a.careful && synced < 3+a.pending {
		return 0
	}
	return alive[a.rng.IntN(len(alive))].PID
}

func (a *attack) signal(pid int, sig syscall.Signal) {
	if pid == 0 {
		return
	}
	a.mu.Lock()
	a.tell(fmt.Sprint(sig, " to ", pid))
	if sig == syscall.SIGKILL {
		a.killed[pid] = true
	}
	a.mu.Unlock()
	syscall.Kill(pid, sig)
}

// strike does one thing.
func (a *attack) strike() {
	strikes := []func(){a.killReplica, a.killReplica, a.killSupervisor, a.roll, a.failover,
		a.remove, a.logOut, a.fill, a.intrude}
	if !a.careful {
		strikes = append(strikes, a.stopReplica, a.stopReplica, a.stopSupervisor, a.killSeveral)
	}
	strikes[a.rng.IntN(len(strikes))]()
}

func (a *attack) killReplica() { a.signal(a.victim(), syscall.SIGKILL) }

func (a *attack) killSeveral() {
	for range 1 + a.rng.IntN(3) {
		a.killReplica()
	}
}

func (a *attack) stopReplica() { a.stop(a.victim()) }

func (a *attack) stopSupervisor() { a.stop(a.supervisor()) }

// stop stops a process for a while.
func (a *attack) stop(pid int) {
	pause := time.Duration(a.rng.IntN(4000)) * time.Millisecond
	if a.rng.IntN(8) == 0 {
		pause = 10 * time.Second
	}
	a.signal(pid, syscall.SIGSTOP)
	if pid != 0 {
		time.AfterFunc(pause, func() { syscall.Kill(pid, syscall.SIGCONT) })
	}
}

func (a *attack) supervisor() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.host == nil || a.careful &&
		(a.status == nil || a.lost || a.moving() || time.Now().Before(a.quiet)) {
		return 0
	}
	return a.host.Process.Pid
}

// moving reports whether a replica uses a file of the group that is gone, in which the next
// supervisor would not find it. The caller must hold a.mu.
func (a *attack) moving() bool {
	return slices.ContainsFunc(a.status.Replicas, func(r group.ReplicaStatus) bool {
		return r.PID != 0 && slices.Contains(a.former, r.PID)
	})
}

func (a *attack) killSupervisor() {
	pid := a.supervisor()
	if pid != 0 {
		a.mu.Lock()
		a.status = nil
		a.mu.Unlock()
	}
	a.signal(pid, syscall.SIGKILL)
}

func (a *attack) roll()     { a.order("roll") }
func (a *attack) failover() { a.order("failover") }

// mayRemove reports whether files may vanish. A careful attack demands a supervisor that will live
// until it has made them again, because survivors without the group's file end.
func (a *attack) mayRemove() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.careful && (a.status == nil || !a.status.Healthy()) {
		return false
	}
	a.quiet = time.Now().Add(3 * time.Second)
	return true
}

// remove removes files of the domain.
func (a *attack) remove() {
	if !a.mayRemove() {
		return
	}
	path := a.domain
	if a.rng.IntN(4) > 0 {
		var all []string
		filepath.WalkDir(a.domain, func(path string, _ os.DirEntry, err error) error {
			if err == nil {
				all = append(all, path)
			}
			return nil
		})
		if len(all) > 0 {
			path = all[a.rng.IntN(len(all))]
		}
	}
	a.mu.Lock()
	a.tell("rm -rf " + path)
	a.mu.Unlock()
	os.RemoveAll(path)
}

// logOut removes the folder of the domain with that above it, as at the end of a session, and makes
// the latter again.
func (a *attack) logOut() {
	if a.rng.IntN(3) > 0 || !a.mayRemove() {
		return
	}
	a.mu.Lock()
	a.tell("log out")
	a.mu.Unlock()
	os.RemoveAll(filepath.Dir(a.domain))
	time.Sleep(time.Duration(a.rng.IntN(1000)) * time.Millisecond)
	if err := os.MkdirAll(filepath.Dir(a.domain), 0o755); err != nil {
		a.t.Error(err)
	}
}

// fill fills the file system for a while.
func (a *attack) fill() {
	if !a.mounted {
		return
	}
	path := filepath.Join(a.folder, "ballast")
	f, err := os.Create(path)
	if err != nil {
		return
	}
	a.mu.Lock()
	a.tell("disk full")
	a.mu.Unlock()
	io.Copy(f, zeros{})
	f.Close()
	time.AfterFunc(time.Duration(a.rng.IntN(1000))*time.Millisecond, func() { os.Remove(path) })
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// intrude tries to use the domain as another user.
func (a *attack) intrude() {
	const nobody = 65534
	if os.Getuid() != 0 {
		return
	}
	cmd := exec.Command("find", a.domain+"/.")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if out, err := cmd.Output(); err == nil {
		a.t.Errorf("another user finds %s", out)
	}
}

// settle ends the attack.
func (a *attack) settle() {
	os.Remove(filepath.Join(a.folder, "ballast"))
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tell("the attack is over")
	if a.host != nil {
		syscall.Kill(a.host.Process.Pid, syscall.SIGCONT)
	}
	for _, pid := range processesOf(a.domain) {
		syscall.Kill(pid, syscall.SIGCONT)
	}
}

// check compares the list with what clients were told.
func (a *attack) check(loaders []*loader, all words) {
	t := a.t
	lost := a.happened("state lost")
	if a.careful && lost {
		t.Errorf("the state was lost")
	}
	if !lost && a.careful {
		checkOracle(t, loaders, all)
		checkReads(t, loaders, all)
		return
	}
	at := make(map[uint64]int)
	for i, x := range all {
		if at[x] != 0 {
			t.Errorf("change %#x is there twice, as %d and %d", x, at[x], i+1)
		}
		at[x] = i + 1
	}
	answered := 0
	for _, l := range loaders {
		for _, op := range l.history {
			if op.Err == nil {
				answered++
			} else if op.Append != 0 && at[op.Append] != 0 &&
				ipc.OutcomeOf(op.Err) != ipc.OutcomeUnknown {
				t.Errorf("change %#x is there, but: %v", op.Append, op.Err)
			}
		}
	}
	t.Logf("%d changes, %d calls answered; the state was lost: %v", len(all), answered, lost)
	for _, excuse := range []string{"state lost", "rm -rf", "log out", "ended: signal: killed"} {
		if a.happened(excuse) {
			return
		}
	}
	checkOracle(t, loaders, all)
}

// checkReads checks that each read saw a beginning of the list, and no client one that is shorter
// than that which it had seen before.
func checkReads(t *testing.T, loaders []*loader, all words) {
	t.Helper()
	for _, l := range loaders {
		seen := uint64(0)
		for _, op := range l.history {
			if op.Err != nil {
				continue
			}
			if op.Length < seen || op.Append == 0 && op.Length > 0 &&
				(op.Length > uint64(len(all)) || all[op.Length-1] != op.Last) {
				t.Errorf("after %d elements a client saw %d, with the last %#x", seen, op.Length,
					op.Last)
			}
			seen = op.Length
		}
	}
	causes := make(map[string]int)
	for _, l := range loaders {
		for _, op := range l.history {
			if op.Err != nil {
				causes[fmt.Sprint(ipc.CodeOf(op.Err), ", ", ipc.OutcomeOf(op.Err))]++
			}
		}
	}
	for _, cause := range slices.SortedFunc(maps.Keys(causes), cmp.Compare) {
		t.Logf("%d calls: %s", causes[cause], cause)
	}
}
