package group_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/internal/history"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/group"
)

// rules is set while this replica is the primary.
var rules atomic.Bool

// hangs makes this replica unhealthy.
var hangs atomic.Bool

// The ways in which a call of Kill ends the process that executes the call.
const (
	byExit = iota
	byPanic
	byHang
	byHunger
	byLateExit
	byExitOfStandby
	byOrder
)

// kill ends this process, unless the number stands for no way.
func kill(_ context.Context, w *words) (*words, error) {
	// The words after the first one make requests that differ.
	switch (*w)[0] {
	case byExit:
		os.Exit(3)
	case byLateExit:
		time.Sleep(100 * time.Millisecond)
		os.Exit(3)
	case byExitOfStandby:
		if !rules.Load() {
			os.Exit(3)
		}
	case byOrder:
		_ = syscall.Kill(os.Getpid(), syscall.SIGTERM)
		select {}
	case byPanic:
		go panic("on purpose")
		select {}
	case byHang:
		hangs.Store(true)
		select {}
	case byHunger:
		if err := limitOwnMemory(strconv.Itoa(64 << 20)); err != nil {
			return nil, err
		}
		eatMemory()
	}
	return &words{}, nil
}

// count counts the events of a kind.
func (l *eventLog) count(kind group.EventKind) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, ev := range l.all {
		if ev.Kind == kind {
			n++
		}
	}
	return n
}

// TestRequestThatKillsIsQuarantined sends a request that ends the processes that execute it, again
// and again, by several clients, beside innocent ones. Two processes die of it, and the rest of the
// service survives with its state.
func TestRequestThatKillsIsQuarantined(t *testing.T) {
	t.Parallel()
	for name, how := range map[string]uint64{"exit": byExit, "panic": byPanic, "hang": byHang,
		"hunger": byHunger, "late exit": byLateExit} {
		t.Run(name, func(t *testing.T) {
			cfg := listConfig(newDomain(t), 2)
			cfg.Replication.AckTimeout = time.Minute
			cfg.Replication.SyncTimeout = time.Minute
			cfg.Heartbeat = group.Heartbeat{Period: 20 * time.Millisecond, Grace: 3 * time.Second}
			cfg.Stderr = new(bytes.Buffer) // Go's tracebacks
			var events eventLog
			cfg.Events = events.add
			g := startGroup(t, cfg)
			var done atomic.Int64
			loaders, stop := load(t, cfg.Domain, 3, &done)
			killer := func() error {
				_, err := ipc.Invoke(t.Context(), dialList(t, cfg.Domain), methodKill, &words{how})
				return err
			}
			before := g.Status()
			err := killer()
			if ipc.CodeOf(err) != ipc.CodeUnavailable || ipc.OutcomeOf(err) != ipc.OutcomeUnknown ||
				!strings.Contains(err.Error(), "test.List/Kill") ||
				!strings.Contains(err.Error(), "2 servers were lost") {
				t.Errorf("the killer's call ends with %v", err)
			}
			for range 5 {
				err := killer()
				if ipc.CodeOf(err) != ipc.CodeFailedPrecondition ||
					ipc.OutcomeOf(err) != ipc.NotExecuted ||
					!strings.Contains(err.Error(), "quarantine") {
					t.Errorf("another killer's call ends with %v", err)
				}
			}
			// Other calls of the method succeed.
			if _, err := ipc.Invoke(t.Context(), dialList(t, cfg.Domain), methodKill,
				&words{99}); err != nil {
				t.Error(err)
			}
			status, err := g.WaitHealthy(t.Context(), before.Epoch)
			if err != nil {
				t.Fatal(err)
			}
			reach := done.Load() + 100
			for done.Load() < reach {
				time.Sleep(time.Millisecond)
			}
			stop()
			all := readAll(t, dialList(t, cfg.Domain))
			checkOracle(t, loaders, all)
			history.Linearizable(t, histories(loaders), all)
			for _, l := range loaders {
				for _, op := range l.history {
					if op.Err != nil && strings.Contains(op.Err.Error(), "quarantine") {
						t.Errorf("an innocent call: %v", op.Err)
					}
				}
			}
			if status.Quarantined != 1 || status.Quarantines != 1 {
				t.Errorf("%d requests in quarantine, %d so far", status.Quarantined,
					status.Quarantines)
			}
			shutdown(t, g)
			if n := events.count(group.Promoted); n != 3 || events.has(group.StateLost) ||
				events.has(group.Degraded) || events.count(group.Quarantined) != 1 {
				t.Errorf("%d promotions; events:\n%v", n, &events)
			}
			if !strings.Contains(events.String(), "a call of test.List/Kill was being executed") {
				t.Errorf("events:\n%v", &events)
			}
		})
	}
}

// TestRequestThatOrdersTheEndIsQuarantined sends a request whose execution sends SIGTERM to its own
// process, and blocks. Its processes end in order, which looks like an order from outside, and
// nevertheless the request is refused before long. The state is kept.
func TestRequestThatOrdersTheEndIsQuarantined(t *testing.T) {
	t.Parallel()
	cfg := listConfig(newDomain(t), 3)
	cfg.Replication.AckTimeout = time.Minute
	cfg.Replication.SyncTimeout = time.Minute
	cfg.Grace = time.Second
	cfg.Stderr = new(bytes.Buffer)
	var events eventLog
	cfg.Events = events.add
	g := startGroup(t, cfg)
	c := dialList(t, cfg.Domain)
	appendTo(t, c, 1)
	refused := func() bool {
		_, err := ipc.Invoke(t.Context(), dialList(t, cfg.Domain), methodKill, &words{byOrder})
		return ipc.CodeOf(err) == ipc.CodeFailedPrecondition &&
			strings.Contains(err.Error(), "quarantine")
	}
	for calls := 0; !refused(); calls++ {
		if calls == 5 {
			t.Fatalf("five calls ended processes; events:\n%v", &events)
		}
		// Each call may end two of the three processes before their deaths are known.
		if _, err := g.WaitHealthy(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := g.Wait(t.Context(), group.Status.Healthy); err != nil {
		t.Fatal(err)
	}
	deaths := events.count(group.Died)
	for range 5 {
		if !refused() {
			t.Error("a call was not refused")
		}
	}
	if n := events.count(group.Died); n != deaths {
		t.Errorf("%d processes died of calls that were refused", n-deaths)
	}
	if n := len(readAll(t, c)); n != 1 || events.has(group.StateLost) {
		t.Errorf("%d elements; events:\n%v", n, &events)
	}
}

// TestRequestThatKillsStandbysIsQuarantined sends a request that ends the standbys which execute it
// and not the primary, by two clients in turn and with different deadlines, beside innocent ones.
// After three deaths it is refused. There is no failover, and the state is kept.
func TestRequestThatKillsStandbysIsQuarantined(t *testing.T) {
	for _, replicas := range []int{2, 3} {
		t.Run(fmt.Sprint(replicas, " replicas"), func(t *testing.T) {
			cfg := listConfig(newDomain(t), replicas)
			cfg.Replication = &group.Replication{AckTimeout: time.Minute, SyncTimeout: time.Minute}
			var events eventLog
			cfg.Events = events.add
			g := startGroup(t, cfg)
			var done atomic.Int64
			loaders, stop := load(t, cfg.Domain, 3, &done)
			killers := []*group.Client{dialList(t, cfg.Domain), dialList(t, cfg.Domain)}
			for i := 0; ; i++ {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute+time.Duration(i))
				_, err := ipc.Invoke(ctx, killers[i%2], methodKill, &words{byExitOfStandby})
				cancel()
				if ipc.CodeOf(err) == ipc.CodeFailedPrecondition &&
					ipc.OutcomeOf(err) == ipc.NotExecuted &&
					strings.Contains(err.Error(), "quarantine") {
					break
				}
				if err != nil || i > 20 {
					t.Fatalf("killer's call %d ends with %v", i, err)
				}
				if i > 0 { // the first two come one right after the other
					if _, err := g.WaitHealthy(t.Context(), 0); err != nil {
						t.Fatal(err)
					}
				}
			}
			status, err := g.WaitHealthy(t.Context(), 0)
			if err != nil {
				t.Fatal(err)
			}
			reach := done.Load() + 100
			for done.Load() < reach {
				time.Sleep(time.Millisecond)
			}
			stop()
			all := readAll(t, killers[0])
			checkOracle(t, loaders, all)
			history.Linearizable(t, histories(loaders), all)
			for _, l := range loaders {
				for _, op := range l.history {
					if op.Err != nil {
						t.Errorf("an innocent call: %v", op.Err)
					}
				}
			}
			deaths := 0
			for _, r := range status.Replicas {
				deaths += r.Restarts
			}
			if status.Epoch != 1 || status.Quarantined != 1 || deaths > 3*(replicas-1) {
				t.Errorf("%d deaths, status %+v; events:\n%v", deaths, status, &events)
			}
		})
	}
}

// TestSuspectOfAStandbysDeathDoesNotWait makes a change that was in execution when the only standby
// died, while there is no standby. The primary has survived it, and executes it again alone.
func TestSuspectOfAStandbysDeathDoesNotWait(t *testing.T) {
	cfg := listConfig(newDomain(t), 2)
	cfg.Replication = &group.Replication{AckTimeout: time.Minute, SyncTimeout: time.Minute}
	var starts atomic.Int32
	cfg.Command = func(i int) *exec.Cmd {
		if starts.Add(1) > 2 {
			return childCommand("silent")
		}
		return childCommand("list", fmt.Sprint(i))
	}
	g := startGroup(t, cfg)
	c := dialList(t, cfg.Domain)
	standby := g.Replicas()[1].PID
	// A change that waits for a standby is refused. The suspicion lasts for a minute.
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
	defer cancel()
	for range 3 {
		if _, err := ipc.Invoke(ctx, c, methodKill, &words{byExitOfStandby}); err != nil {
			t.Fatal(err)
		}
		if _, err := g.Wait(t.Context(), func(s group.Status) bool {
			return s.Replicas[1].PID != standby
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestStandbyKilledBesideEqualCallsBlamesNobody kills standbys, from outside, while equal changes
// are made all the time. None of these is refused.
func TestStandbyKilledBesideEqualCallsBlamesNobody(t *testing.T) {
	cfg := listConfig(newDomain(t), 2)
	cfg.Replication = &group.Replication{AckTimeout: time.Minute, SyncTimeout: time.Minute}
	cfg.Stderr = new(bytes.Buffer) // Go's tracebacks
	g := startGroup(t, cfg)
	var failed atomic.Pointer[error]
	var done atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range 3 {
		c := dialList(t, cfg.Domain)
		go func() {
			for ctx.Err() == nil {
				if _, err := ipc.Invoke(t.Context(), c, methodKill, &words{99}); err != nil &&
					ctx.Err() == nil {
					failed.Store(&err)
				}
				done.Add(1)
			}
		}()
	}
	for range 6 {
		before, err := g.WaitHealthy(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		reach := done.Load() + 200
		for done.Load() < reach {
			time.Sleep(time.Millisecond)
		}
		pid := before.Replicas[1].PID
		syscall.Kill(pid, syscall.SIGSEGV) // looks like a fault of the process
		if _, err := g.Wait(t.Context(), func(s group.Status) bool {
			return s.Replicas[1].PID != pid && s.Healthy()
		}); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if err := failed.Load(); err != nil {
		t.Error(*err)
	}
	if s := g.Status(); s.Quarantines != 0 || s.Epoch != 1 {
		t.Errorf("status %+v", s)
	}
}

// TestLongTrialHoldsOthersUpForAWhile has two suspects that take long, and shows that one does not
// wait for the end of the other.
func TestLongTrialHoldsOthersUpForAWhile(t *testing.T) {
	t.Parallel()
	var events eventLog
	cfg, b := barrierConfig(t, 2, &events)
	cfg.Replication = &group.Replication{AckTimeout: time.Minute, SyncTimeout: time.Minute}
	command := cfg.Command
	cfg.Command = func(i int) *exec.Cmd {
		cmd := command(i)
		cmd.Env = append(cmd.Env, hastyVar+"=1")
		return cmd
	}
	g := startGroup(t, cfg)
	result := make(chan error, 2)
	arrive := func(pid int) (held []net.Conn) {
		for len(held) < 2 {
			b.await(t, pid)
			held = append(held, b.arrived[pid])
			delete(b.arrived, pid)
		}
		return held
	}
	for n := range uint64(2) {
		c := dialList(t, cfg.Domain)
		go func() {
			_, err := ipc.Invoke(t.Context(), c, methodLook, &words{n})
			result <- err
		}()
	}
	arrive(g.Replicas()[0].PID)
	syscall.Kill(g.Replicas()[0].PID, syscall.SIGKILL)
	for _, held := range arrive(g.Replicas()[1].PID) { // both are executed at a time
		held.Close()
	}
	for range 2 {
		if err := <-result; err != nil {
			t.Error(err)
		}
	}
	if _, err := g.WaitHealthy(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
}

// TestQuarantineEnds sends a killer again when its quarantine is over. The request ends one more
// process, and is then refused for longer.
func TestQuarantineEnds(t *testing.T) {
	t.Parallel()
	cfg := listConfig(newDomain(t), 3)
	cfg.Quarantine = time.Second // mostly longer than it takes a client to send a request again
	var events eventLog
	cfg.Events = events.add
	g := startGroup(t, cfg)
	killer := func() error {
		_, err := ipc.Invoke(t.Context(), dialList(t, cfg.Domain), methodKill, &words{byExit})
		return err
	}
	killer()
	for range 2 {
		status, err := g.Wait(t.Context(), func(s group.Status) bool {
			return s.Quarantines > 0 && s.Quarantined == 0 && s.Healthy()
		})
		if err != nil {
			t.Fatal(err)
		}
		// One more process dies of it. The client sends it once more, which is refused, unless that
		// takes longer than the quarantine.
		err = killer()
		if err == nil {
			t.Fatal("the killer's call was answered")
		}
		after, err := g.Wait(t.Context(), func(s group.Status) bool {
			return s.Quarantines > status.Quarantines && // published before the next promotion
				s.Epoch-status.Epoch >= uint64(s.Quarantines-status.Quarantines)
		})
		if err != nil {
			t.Fatal(err)
		}
		if after.Epoch-status.Epoch != uint64(after.Quarantines-status.Quarantines) {
			t.Errorf("status %+v, then %+v: more processes died than quarantines began", status,
				after)
		}
	}
	if events.has(group.StateLost) {
		t.Errorf("events:\n%v", &events)
	}
}

// TestDeathsAtRandomBlameNobody kills primaries under a load of equal calls, of which some are in
// flight at every death. None of them is refused.
func TestDeathsAtRandomBlameNobody(t *testing.T) {
	cfg := listConfig(newDomain(t), 3)
	cfg.Replication.AckTimeout = time.Minute
	g := startGroup(t, cfg)
	var failed atomic.Pointer[error]
	var done atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	for range 4 {
		c := dialList(t, cfg.Domain)
		go func() {
			for ctx.Err() == nil {
				if _, err := ipc.Invoke(t.Context(), c, methodLast, &words{}); err != nil &&
					ipc.CodeOf(err) == ipc.CodeFailedPrecondition {
					failed.Store(&err)
				}
				done.Add(1)
			}
		}()
	}
	defer cancel()
	for range 6 {
		before, err := g.WaitHealthy(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		reach := done.Load() + 200
		for done.Load() < reach {
			time.Sleep(time.Millisecond)
		}
		syscall.Kill(before.Replicas[before.Primary].PID, syscall.SIGKILL)
		if _, err := g.WaitHealthy(t.Context(), before.Epoch); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if err := failed.Load(); err != nil {
		t.Error(*err)
	}
	if s := g.Status(); s.Quarantines != 0 {
		t.Errorf("%d quarantines", s.Quarantines)
	}
}

// TestRetriesLoseNoMorePrimaries sends a request that ends the processes that execute it through a
// client that tries again. Two processes die of it, as without a policy, and the request stays in
// quarantine.
func TestRetriesLoseNoMorePrimaries(t *testing.T) {
	cfg := listConfig(newDomain(t), 3)
	cfg.Replication.AckTimeout = time.Minute
	cfg.Replication.SyncTimeout = time.Minute
	g := startGroup(t, cfg)
	before := g.Status()
	c, err := group.Dial(t.Context(), "list", group.DialConfig{Domain: cfg.Domain,
		Patience: patience, Options: []ipc.DialOption{ipc.WithTimeout(5 * time.Minute),
			ipc.WithRetry(ipc.RetryPolicy{Attempts: 8, Backoff: 1, MaxBackoff: 1})}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = ipc.Invoke(t.Context(), c, methodKill, &words{byExit, 1})
	if ipc.CodeOf(err) != ipc.CodeUnavailable || ipc.OutcomeOf(err) != ipc.OutcomeUnknown ||
		!strings.Contains(err.Error(), "2 servers were lost") {
		t.Errorf("the killer's call ends with %v", err)
	}
	status, err := g.WaitHealthy(t.Context(), before.Epoch+1)
	if err != nil {
		t.Fatal(err)
	}
	if status.Epoch != before.Epoch+2 {
		t.Errorf("%d processes died", status.Epoch-before.Epoch)
	}
	_, err = ipc.Invoke(t.Context(), c, methodKill, &words{byExit, 1})
	if ipc.CodeOf(err) != ipc.CodeFailedPrecondition || ipc.OutcomeOf(err) != ipc.NotExecuted {
		t.Errorf("another killer's call ends with %v", err)
	}
	if s := c.Stats(); s.Retries != 0 || s.Resent == 0 {
		t.Errorf("%+v; what the group's client sends again is no retry", s)
	}
}

// TestRequestsThatKillAndDiffer sends requests that end the processes that execute them, no two of
// them equal, one right after the other, beside innocent calls of other methods. Three processes
// die, and then the method is in quarantine. The state is kept, although there are only two
// replicas.
func TestRequestsThatKillAndDiffer(t *testing.T) {
	for name, method := range map[string]*ipc.Method[words, words]{"idempotent": methodKill,
		"once": methodKillOnce} {
		t.Run(name, func(t *testing.T) {
			cfg := listConfig(newDomain(t), 2)
			cfg.Replication.AckTimeout = time.Minute
			cfg.Replication.SyncTimeout = time.Minute
			var events eventLog
			cfg.Events = events.add
			g := startGroup(t, cfg)
			before := g.Status()
			var done atomic.Int64
			loaders, stop := load(t, cfg.Domain, 3, &done)
			c := dialList(t, cfg.Domain)
			for i := uint64(0); ; i++ {
				_, err := ipc.Invoke(t.Context(), c, method, &words{byExit, i})
				if err == nil {
					t.Fatal("a killer's call was answered")
				}
				if ipc.CodeOf(err) == ipc.CodeFailedPrecondition &&
					strings.Contains(err.Error(), "every request of this method is in quarantine") {
					break
				}
				if ipc.OutcomeOf(err) != ipc.OutcomeUnknown || i > 10 {
					t.Fatalf("killer's call %d ends with %v", i, err)
				}
			}
			// The quarantine is published before the death ends the reign.
			status, err := g.WaitHealthy(t.Context(), before.Epoch+2)
			if err != nil {
				t.Fatal(err)
			}
			reach := done.Load() + 100
			for done.Load() < reach {
				time.Sleep(time.Millisecond)
			}
			stop()
			all := readAll(t, dialList(t, cfg.Domain))
			checkOracle(t, loaders, all)
			history.Linearizable(t, histories(loaders), all)
			for _, l := range loaders {
				for _, op := range l.history {
					if op.Err != nil && strings.Contains(op.Err.Error(), "quarantine") {
						t.Errorf("an innocent call: %v", op.Err)
					}
				}
			}
			if status.Epoch != before.Epoch+3 {
				t.Errorf("%d processes died", status.Epoch-before.Epoch)
			}
			shutdown(t, g)
			if events.has(group.StateLost) || events.has(group.Degraded) {
				t.Errorf("events:\n%v", &events)
			}
		})
	}
}

// TestMethodInUseIsProven lets processes exit for other reasons than requests, while a method is in
// use all the time, by requests that differ. The method is in flight at every death, and none of
// its calls is refused.
func TestMethodInUseIsProven(t *testing.T) {
	cfg := listConfig(newDomain(t), 3)
	cfg.Replication.AckTimeout = time.Minute
	cfg.Stderr = new(bytes.Buffer) // Go's tracebacks
	g := startGroup(t, cfg)
	var failed atomic.Pointer[error]
	var done, number atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range 4 {
		c := dialList(t, cfg.Domain)
		go func() {
			for ctx.Err() == nil {
				if _, err := ipc.Invoke(t.Context(), c, methodKill,
					&words{99, uint64(number.Add(1))}); err != nil &&
					ipc.OutcomeOf(err) != ipc.OutcomeUnknown {
					failed.Store(&err)
				}
				done.Add(1)
			}
		}()
	}
	for range 6 {
		before, err := g.WaitHealthy(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		reach := done.Load() + 200
		for done.Load() < reach {
			time.Sleep(time.Millisecond)
		}
		// looks like a fault of the process itself
		syscall.Kill(before.Replicas[before.Primary].PID, syscall.SIGSEGV)
		if _, err := g.WaitHealthy(t.Context(), before.Epoch); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if err := failed.Load(); err != nil {
		t.Error(*err)
	}
	if s := g.Status(); s.Quarantines != 0 {
		t.Errorf("%d quarantines", s.Quarantines)
	}
}
