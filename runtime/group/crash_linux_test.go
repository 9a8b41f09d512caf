//go:build ipccrash

package group_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ipcgen/ipcgen/internal/history"
	"github.com/ipcgen/ipcgen/internal/sys"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/group"
)

// The crash tests kill a supervisor, and kill or stop a replica, at every step
// of what they publish to others: page, reign, places and candidates; registration,
// role, heartbeat, and what keeps the state. They need a build with the crash
// points in it:
//
//	go test -tags ipccrash -run Crash ./runtime/group
//
// IPC_CRASH_ROUNDS sets how often each point is tried, where it can be at a
// later visit each time.

func crashRounds() int {
	if n, err := strconv.Atoi(os.Getenv("IPC_CRASH_ROUNDS")); err == nil {
		return n
	}
	return 2
}

// often has the points that a process passes again and again.
var often = []string{"group change begun", "group change executed", "group changes sent",
	"group changes acknowledged",
	"group change received", "group change applied", "group beat", "group reign decided",
	"group reign stored", "group reign told",
	"group reign ended", "group candidates stored", "group launched", "registry looked"}

// forEachPoint tries every crash point of this project that a scenario lists.
func forEachPoint(t *testing.T, list func(t *testing.T) string, fewest int,
	try func(t *testing.T, point string, visit int)) {
	var points []string
	for line := range strings.Lines(list(t)) {
		point, ok := strings.CutPrefix(strings.TrimSpace(line), "crash point: ")
		if ok && (strings.HasPrefix(point, "group ") || strings.HasPrefix(point, "registry ")) &&
			!slices.Contains(points, point) {
			points = append(points, point)
		}
	}
	slices.Sort(points)
	t.Logf("%d points: %q", len(points), points)
	if len(points) < fewest {
		t.Fatalf("the scenario reaches too few points")
	}
	for _, point := range points {
		for round := range crashRounds() {
			visit := 1
			if slices.Contains(often, point) {
				visit += round
			}
			t.Run(fmt.Sprintf("%s/%d", point, visit), func(t *testing.T) { try(t, point, visit) })
		}
	}
}

// A witness is the standard error of processes at crash points.
type witness struct {
	mu   sync.Mutex
	said bytes.Buffer
	hit  chan struct{} // closed when a point was reached
}

func newWitness() *witness { return &witness{hit: make(chan struct{})} }

func (w *witness) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.reached()
	w.said.Write(p)
	if !before && w.reached() {
		close(w.hit)
	}
	return len(p), nil
}

func (w *witness) reached() bool {
	return bytes.Contains(w.said.Bytes(), []byte("crash at ")) ||
		bytes.Contains(w.said.Bytes(), []byte("stop at "))
}

func (w *witness) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.said.String()
}

// TestCrashOfSupervisor kills a supervisor at every step, in its first reign, in succession, in
// adoption and at its end. The next supervisor finds the names free or adopts the processes that
// have them, and loses no change that was answered.
func TestCrashOfSupervisor(t *testing.T) {
	for _, survive := range []bool{false, true} {
		t.Run(fmt.Sprint("survive: ", survive), func(t *testing.T) {
			list := func(t *testing.T) string {
				said, _ := supervise(t, newDomain(t), survive, "list")
				return said
			}
			forEachPoint(t, list, 12, func(t *testing.T, point string, visit int) {
				d := newDomain(t)
				said, acked := supervise(t, d, survive, fmt.Sprintf("kill:%s:%d", point, visit))
				if !strings.Contains(said, "crash at ") {
					t.Fatalf("the point was not reached; the supervisor said:\n%s", said)
				}
				succeedSupervisor(t, d, survive, acked)
			})
		})
	}
}

// supervise runs a supervisor that does at its crash points what action says, starting with an
// adoption if the replicas survive. It then kills primaries, and finally ends the supervisor. It
// returns the output of the supervisor, and the changes that were answered and must be kept.
func supervise(t *testing.T, domain string, survive bool, action string) (said string,
	acked words) {
	args := []string{domain, "list"}
	if survive {
		args = append(args, "survive")
		killedHost(t, args...)
	}
	host := childCommand("host", args...)
	host.Env = append(host.Env, sys.CrashEnv+"="+action)
	w, err := os.CreateTemp(t.TempDir(), "stderr") // a file, which survivors may hold open
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	host.Stderr = w
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	go func() { host.Wait(); cancel() }()
	c := dialList(t, domain)
	for range 2 + crashRounds() {
		x := uint64(len(acked) + 1)
		for ctx.Err() == nil {
			_, err := ipc.Invoke(ctx, c, methodAppend, &words{x})
			if err == nil {
				acked = append(acked, x)
				break
			}
			if ipc.OutcomeOf(err) == ipc.OutcomeUnknown {
				x += 1000 // of another supervisor
			}
		}
		conn, err := c.WaitConnected(ctx)
		if err != nil || ctx.Err() != nil {
			break
		}
		syscall.Kill(conn.PID, syscall.SIGKILL)
	}
	if ctx.Err() == nil {
		acked = nil // nothing is kept after an orderly end
		host.Process.Signal(syscall.SIGTERM)
		<-ctx.Done()
	}
	if context.Cause(ctx) == context.DeadlineExceeded {
		host.Process.Kill()
		t.Errorf("the supervisor neither came to the point nor ended")
	}
	text, err := os.ReadFile(w.Name())
	if err != nil {
		t.Error(err)
	}
	return string(text), acked
}

// succeedSupervisor starts a supervisor after one that was killed.
func succeedSupervisor(t *testing.T, domain string, survive bool, acked words) {
	cfg := listConfig(domain, 2)
	cfg.Survive = survive
	var events eventLog
	cfg.Events = events.add
	g := startGroup(t, cfg)
	before := healthyAfter(t, g, 0)
	c := dialList(t, domain)
	if all := readAll(t, c); survive {
		for _, x := range acked {
			if !slices.Contains(all, x) {
				t.Errorf("change %d was answered; the list is %v\nevents:\n%v", x, all, &events)
			}
		}
	}
	syscall.Kill(before.Replicas[before.Primary].PID, syscall.SIGKILL)
	healthyAfter(t, g, before.Epoch)
	appendTo(t, c, 1<<32)
}

// await waits for a group's status, with a limit that no group should need.
func await(t *testing.T, g *group.Group, cond func(group.Status) bool) group.Status {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s, err := g.Wait(ctx, cond)
	if err != nil {
		t.Fatalf("%v: %+v", err, s)
	}
	return s
}

func healthyAfter(t *testing.T, g *group.Group, epoch uint64) group.Status {
	t.Helper()
	return await(t, g, func(s group.Status) bool { return s.Epoch > epoch && s.Healthy() })
}

// TestCrashOfReplica kills a replica at every step of its life under load: when it joins, registers
// and catches up, as a standby, as the primary, and when it ends. Or it stops the replica there,
// lets another one become the primary, and continues it. Every change that was answered is kept
// each time.
func TestCrashOfReplica(t *testing.T) {
	list := func(t *testing.T) string {
		said, _ := replicate(t, "list", nil)
		return said
	}
	for _, action := range []string{"kill", "stop"} {
		t.Run(action, func(t *testing.T) {
			forEachPoint(t, list, 25, func(t *testing.T, point string, visit int) {
				var atPoint func(*group.Group, int)
				if action == "stop" {
					atPoint = func(g *group.Group, pid int) { rulePast(t, g, pid) }
				}
				said, reached := replicate(t,
					fmt.Sprintf("%s:%s:%d", action, point, visit), atPoint)
				if !reached {
					t.Errorf("the point was not reached; the replicas said:\n%s", said)
				}
			})
		})
	}
}

// replicate runs a group under load. Its fourth process, the first that replaces another one, does
// at its crash points what action says. Primaries are killed until that process has reached its
// point, and then atPoint is called.
func replicate(t *testing.T, action string, atPoint func(g *group.Group, pid int)) (said string,
	reached bool) {
	cfg := listConfig(newDomain(t), 3)
	cfg.Heartbeat = group.Heartbeat{Period: 5 * time.Millisecond, Grace: 20 * time.Second}
	// No replica is dropped because the machine is busy, except a standby that stands still. Two
	// replicas have every change that was answered.
	cfg.Replication.MinSync, cfg.Replication.AckTimeout = 1, time.Minute
	if atPoint != nil {
		cfg.Replication.AckTimeout = 100 * time.Millisecond
	}
	var starts, commands atomic.Int32
	cfg.Command = func(i int) *exec.Cmd {
		cmd := childCommand("list", fmt.Sprint(i))
		if commands.Add(1) == 4 {
			cmd.Env = append(cmd.Env, sys.CrashEnv+"="+action)
		}
		return cmd
	}
	w := newWitness()
	cfg.Stderr = w
	var events eventLog
	armed := make(chan int, 1)
	cfg.Events = func(ev group.Event) {
		events.add(ev)
		if ev.Kind == group.Started && starts.Add(1) == 4 {
			armed <- ev.PID
		}
	}
	g := startGroup(t, cfg)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("events:\n%v", &events)
		}
	})
	var done atomic.Int64
	loaders, stop := load(t, cfg.Domain, 2, &done)
	hit := func() bool {
		select {
		case <-w.hit:
			return true
		default:
			return false
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { <-w.hit; cancel() }()
	pid := 0
	for kills := 0; kills < 4 && !hit(); kills++ {
		s, err := g.Wait(ctx, func(s group.Status) bool {
			return s.Healthy() && s.Epoch > uint64(kills)
		})
		if err != nil {
			break
		}
		for until := done.Load() + 20 + rand.N(int64(50)); done.Load() < until && !hit(); {
			// a random moment, after some changes
			time.Sleep(time.Duration(rand.N(int64(time.Millisecond))))
		}
		if victim := s.Replicas[s.Primary].PID; victim == pid {
			syscall.Kill(victim, syscall.SIGTERM) // the last chance: an orderly end
		} else {
			syscall.Kill(victim, syscall.SIGKILL)
		}
		if kills == 0 {
			pid = <-armed
		}
	}
	if action != "list" {
		select {
		case <-w.hit:
			reached = true
		case <-time.After(patience):
		}
	}
	if reached && atPoint != nil {
		atPoint(g, pid)
	}
	await(t, g, group.Status.Healthy)
	stop()
	all := readAll(t, dialList(t, cfg.Domain))
	if events.has(group.StateLost) {
		t.Errorf("the state was lost:\n%v", &events)
	}
	checkOracle(t, loaders, all)
	history.Linearizable(t, histories(loaders), all)
	shutdown(t, g)
	return w.String(), reached
}

// rulePast lets another replica become the primary while the process with that pid stands still,
// and then continues the process.
func rulePast(t *testing.T, g *group.Group, pid int) {
	if err := unix.Waitid(unix.P_PID, pid, nil, unix.WSTOPPED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	defer syscall.Kill(pid, syscall.SIGCONT)
	// The next primary must have the state, and be awake. Possibly no other replica has the state;
	// then the others wait for this one.
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	s, err := g.Wait(ctx, func(s group.Status) bool {
		return s.Primary >= 0 && slices.ContainsFunc(s.Replicas, func(r group.ReplicaStatus) bool {
			return r.Index != s.Primary && r.PID != pid && r.Ready && g.MayRule(r.Index)
		})
	})
	if err != nil {
		t.Logf("nobody else has the state: %+v", s)
		return
	}
	if primary := s.Replicas[s.Primary].PID; primary != pid {
		syscall.Kill(primary, syscall.SIGKILL)
	} else {
		g.Depose()
	}
	await(t, g, func(now group.Status) bool { return now.Epoch > s.Epoch })
}
