package group_test

import (
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/internal/history"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/group"
)

// checkNoneFailed reports failed calls.
func checkNoneFailed(t *testing.T, loaders []*loader) {
	t.Helper()
	for _, l := range loaders {
		for _, op := range l.history {
			if op.Err != nil {
				t.Errorf("change %#x (0 is a read): %v", op.Append, op.Err)
			}
		}
	}
}

// TestPlannedSuccessionKeepsTheState shows that neither Failover nor Roll loses a change or fails a
// call, although changes must not be sent twice.
func TestPlannedSuccessionKeepsTheState(t *testing.T) {
	for name, succeed := range map[string]func(*group.Group) error{
		"failover": func(g *group.Group) error {
			for range 3 {
				if _, err := g.Failover(t.Context()); err != nil {
					return err
				}
			}
			return nil
		},
		"roll": func(g *group.Group) error {
			return g.Roll(t.Context(), func(i int) *exec.Cmd {
				return childCommand("list", fmt.Sprint(i))
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := listConfig(newDomain(t), 2)
			cfg.Replication.AckTimeout = time.Minute
			var events eventLog
			cfg.Events = events.add
			g := startGroup(t, cfg)
			var done atomic.Int64
			loaders, stop := load(t, cfg.Domain, 2, &done)
			if err := succeed(g); err != nil {
				t.Error(err)
			}
			stop()
			all := readAll(t, dialList(t, cfg.Domain))
			checkNoneFailed(t, loaders)
			checkOracle(t, loaders, all)
			history.Linearizable(t, histories(loaders), all)
			if events.has(group.StateLost) {
				t.Errorf("events:\n%v", &events)
			}
		})
	}
}

// TestRollsThatFailKeepTheState rolls to a command that fails, once as a standby and once as the
// last replica, when all others have been replaced. Both rolls are made twice at once, beside
// failovers. The group goes back without a failed call and without a loss.
func TestRollsThatFailKeepTheState(t *testing.T) {
	cfg := listConfig(newDomain(t), 3)
	var stderr syncBuffer
	cfg.Stderr = &stderr
	cfg.Replication.AckTimeout = time.Minute // the machine may be busy
	cfg.Restart = group.Restart{Delay: time.Millisecond, Intensity: 1 << 20}
	var events eventLog
	cfg.Events = events.add
	g := startGroup(t, cfg)
	var done atomic.Int64
	loaders, stop := load(t, cfg.Domain, 2, &done)
	for range 2 {
		var orders sync.WaitGroup
		for range 2 {
			last := g.Status().Primary
			orders.Go(func() {
				rollTo(t, g, func(i int) bool { return i != last })
			})
			orders.Go(func() {
				rollTo(t, g, func(int) bool { return false })
			})
		}
		orders.Go(func() {
			if _, err := g.Failover(t.Context()); err != nil {
				t.Logf("failover: %v", err) // another order may have left it no standby in sync
			}
		})
		orders.Wait()
	}
	stop()
	all := readAll(t, dialList(t, cfg.Domain))
	checkNoneFailed(t, loaders)
	checkOracle(t, loaders, all)
	history.Linearizable(t, histories(loaders), all)
	if events.has(group.StateLost) {
		t.Error("the state was lost")
	}
	if s := g.Status(); !s.Healthy() {
		t.Errorf("status %+v", s)
	}
	if t.Failed() {
		t.Logf("events:\n%v\nstandard error:\n%s", &events, stderr.String())
	}
}

// rollTo rolls to a command that works for the replicas for which works holds, and expects that the
// roll fails.
func rollTo(t *testing.T, g *group.Group, works func(i int) bool) {
	err := g.Roll(t.Context(), func(i int) *exec.Cmd {
		if works(i) {
			return childCommand("list", fmt.Sprint(i))
		}
		return childCommand("exit", "1")
	})
	if err == nil || !strings.Contains(err.Error(), "every replica runs the former command") {
		t.Errorf("a roll to a command that fails: %v", err)
	}
}

// TestMetadataInGroups sends metadata through a group that keeps a state, also beyond the death of
// its primary. Handlers of changes see none, so the replicas stay alike.
func TestMetadataInGroups(t *testing.T) {
	cfg := listConfig(newDomain(t), 3)
	g := startGroup(t, cfg)
	c := dialList(t, cfg.Domain)
	for i := range 3 {
		var reply ipc.Metadata
		ctx := ipc.WithReplyMetadata(ipc.WithMetadata(t.Context(), "trace", fmt.Sprint(i)), &reply)
		n, err := ipc.Invoke(ctx, c, methodAppend, &words{uint64(i)})
		if err != nil || (*n)[0] != uint64(i+1) || reply.Get("length") != fmt.Sprint(i+1) {
			t.Fatalf("change %d: %v, %q, %v", i, n, reply.Get("length"), err)
		}
		if _, err := ipc.Invoke(ctx, c, methodLast, &words{}); err != nil ||
			reply.Get("seen") != fmt.Sprint(i) {
			t.Fatalf("read %d: %q, %v", i, reply.Get("seen"), err)
		}
		before := g.Status()
		syscall.Kill(before.Replicas[before.Primary].PID, syscall.SIGKILL)
		if _, err := g.WaitHealthy(t.Context(), before.Epoch); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAdoptedReplicasKeepTheState shows that replicas continue to replicate without a supervisor,
// and that the next supervisor finds out which replicas may be promoted, even if the primary died
// while there was no supervisor.
func TestAdoptedReplicasKeepTheState(t *testing.T) {
	for _, orphan := range []bool{false, true} {
		t.Run(fmt.Sprint("primary died before: ", orphan), func(t *testing.T) {
			cfg := listConfig(newDomain(t), 2)
			cfg.Survive = true
			killedHost(t, cfg.Domain, "list", "survive")
			c := dialList(t, cfg.Domain)
			appendTo(t, c, 1)
			if orphan {
				conn, err := c.WaitConnected(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				syscall.Kill(conn.PID, syscall.SIGKILL)
			}
			var events eventLog
			cfg.Events = events.add
			g := startGroup(t, cfg)
			before := g.Status()
			if orphan != (before.Epoch > 1) {
				t.Errorf("adopted as %+v", before)
			}
			appendTo(t, c, 2)
			syscall.Kill(before.Replicas[before.Primary].PID, syscall.SIGKILL)
			if all := readAll(t, c); !slices.Equal(all, words{1, 2}) {
				t.Errorf("the list is %v", all)
			}
			shutdown(t, g)
			if !events.has(group.Adopted) || events.has(group.StateLost) {
				t.Errorf("events:\n%v", &events)
			}
		})
	}
}

// TestAdopterThatKeepsNoState has a supervisor without replication find replicas that keep a state.
// It is refused, and they serve on.
func TestAdopterThatKeepsNoState(t *testing.T) {
	cfg := listConfig(newDomain(t), 2)
	cfg.Survive = true
	killedHost(t, cfg.Domain, "list", "survive")
	c := dialList(t, cfg.Domain)
	appendTo(t, c, 1)
	stateless := cfg
	stateless.Replication = nil
	if g, err := group.Start(t.Context(), stateless); err == nil ||
		!strings.Contains(err.Error(), "keep a state, and this one does not") {
		t.Errorf("the supervisor without a state: %v, %v", g, err)
	}
	appendTo(t, c, 2)
	g := startGroup(t, cfg)
	if s := g.Status(); s.Epoch != 1 {
		t.Errorf("adopted as %+v", s)
	}
	if all := readAll(t, c); !slices.Equal(all, words{1, 2}) {
		t.Errorf("the list is %v", all)
	}
}

// TestStoppedPrimaryChangesNothing stops a primary and continues it when another replica is the
// primary. The old one acknowledges nothing, neither new calls nor those that waited for it, and
// soon has the state of its successor.
func TestStoppedPrimaryChangesNothing(t *testing.T) {
	cycles := 25
	if testing.Short() {
		cycles = 5
	}
	cfg := listConfig(newDomain(t), 2)
	cfg.Replication.AckTimeout = 50 * time.Millisecond
	g := startGroup(t, cfg)
	c := dialList(t, cfg.Domain)
	var direct []*ipc.Conn
	for i := range 2 {
		conn, err := ipc.Dial(t.Context(), "list_"+strconv.Itoa(i), ipc.WithDomain(cfg.Domain))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		direct = append(direct, conn)
	}
	var mu sync.Mutex
	answered := make(map[uint64]bool)
	for cycle, deposed := uint64(0), 0; deposed < cycles; cycle++ {
		s, err := g.Wait(t.Context(), group.Status.Healthy)
		if err != nil {
			t.Fatal(err)
		}
		old := s.Replicas[s.Primary]
		syscall.Kill(old.PID, syscall.SIGSTOP)
		var waiting sync.WaitGroup
		for n := range uint64(2) {
			x := cycle<<8 | n
			waiting.Go(func() {
				_, err := ipc.Invoke(t.Context(), direct[old.Index], methodAppend, &words{x})
				switch {
				case err == nil: // before the signal came through
					mu.Lock()
					answered[x] = true
					mu.Unlock()
				case ipc.CodeOf(err) != ipc.CodeFenced || ipc.OutcomeOf(err) == ipc.Executed:
					t.Errorf("cycle %d: waiting change: %v", cycle, err)
				}
			})
		}
		g.Depose()
		if g.Status().Epoch == s.Epoch { // the standby was late, and does not have all
			syscall.Kill(old.PID, syscall.SIGCONT)
			waiting.Wait()
			continue
		}
		deposed++
		x := cycle<<8 | 0xf0
		appendTo(t, direct[1-old.Index], x) // by the successor, while the old primary is stopped
		mu.Lock()
		answered[x] = true
		mu.Unlock()
		syscall.Kill(old.PID, syscall.SIGCONT)
		x++
		if _, err := ipc.Invoke(t.Context(), direct[old.Index], methodAppend,
			&words{x}); ipc.CodeOf(err) != ipc.CodeFenced || ipc.OutcomeOf(err) != ipc.NotExecuted {
			t.Fatalf("cycle %d: the old primary answered: %v", cycle, err)
		}
		waiting.Wait()
		if _, err := g.WaitHealthy(t.Context(), s.Epoch); err != nil {
			t.Fatal(err)
		}
	}
	// The last standby, which was a stopped primary, has exactly the changes that were answered.
	s := g.Status()
	syscall.Kill(s.Replicas[s.Primary].PID, syscall.SIGKILL)
	there := make(map[uint64]bool)
	for _, x := range readAll(t, c) {
		if there[x] || x&0xff == 0xf1 {
			t.Errorf("change %#x is there twice, or was refused", x)
		}
		there[x] = true
	}
	for x := range answered {
		if !there[x] {
			t.Errorf("change %#x was answered and is not there", x)
		}
	}
}

// TestHungPrimaryLosesNothing stops a primary under load. The heartbeat detects that, the primary
// is killed and replaced, and nothing of it is left.
func TestHungPrimaryLosesNothing(t *testing.T) {
	t.Parallel()
	cfg := listConfig(newDomain(t), 2)
	// On a busy machine, the only standby must not be taken for hung, too.
	cfg.Heartbeat = group.Heartbeat{Period: 5 * time.Millisecond, Grace: 5 * time.Second}
	cfg.Replication.AckTimeout = time.Minute
	g := startGroup(t, cfg)
	var done atomic.Int64
	loaders, stop := load(t, cfg.Domain, 2, &done)
	before := g.Status()
	old := before.Replicas[before.Primary].PID
	syscall.Kill(old, syscall.SIGSTOP)
	after, err := g.WaitHealthy(t.Context(), before.Epoch)
	if err != nil {
		t.Fatal(err)
	}
	stop()
	all := readAll(t, dialList(t, cfg.Domain))
	checkOracle(t, loaders, all)
	history.Linearizable(t, histories(loaders), all)
	if after.Primary == before.Primary || running(old) {
		t.Errorf("status %+v; the old primary runs: %v", after, running(old))
	}
}
