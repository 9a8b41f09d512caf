package group_test

import (
	"context"
	"fmt"
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

	"golang.org/x/sys/unix"

	"github.com/ipcgen/ipcgen/internal/history"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/group"
)

func TestStateSurvivesThePrimary(t *testing.T) {
	cfg := listConfig(newDomain(t), 2)
	g := startGroup(t, cfg)
	c := dialList(t, cfg.Domain)
	for n := range uint64(20) {
		if got := appendTo(t, c, n+1); got != n+1 {
			t.Fatalf("change %d made the list %d long", n+1, got)
		}
		before, err := g.WaitHealthy(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		syscall.Kill(before.Replicas[before.Primary].PID, syscall.SIGKILL)
	}
	all := readAll(t, c)
	for i, x := range all {
		if x != uint64(i+1) {
			t.Fatalf("the list is %v", all)
		}
	}
	if len(all) != 20 {
		t.Errorf("the list is %v", all)
	}
}

// kills is the number of times that the test of survival kills the primary.
func kills() int {
	if n, err := strconv.Atoi(os.Getenv("GROUP_TEST_KILLS")); err == nil {
		return n
	}
	return 30
}

// A loader is a client under load that records its operations, or what it is told by streaming
// calls.
type loader struct {
	c       ipc.Caller
	history history.Client
	items   []item
	ends    []streamEnd
}

// An item is what an item of a streaming call tells of the list.
type item struct{ length, last uint64 }

// A streamEnd is how a streaming call has failed, behind so many items.
type streamEnd struct {
	items int
	err   error
}

// watch makes one streaming call after the other.
func (l *loader) watch(ctx context.Context) {
	for ctx.Err() == nil {
		n := 0
		for w, err := range ipc.InvokeServerStream(ctx, l.c, methodWatch, &words{}) {
			if err != nil {
				l.ends = append(l.ends, streamEnd{n, err})
				break
			}
			n++
			l.items = append(l.items, item{(*w)[1], (*w)[2]})
		}
	}
}

func (l *loader) run(ctx context.Context, id int, start time.Time, tick func()) {
	for n := uint64(1); ctx.Err() == nil; n++ {
		op := history.Operation{Call: time.Since(start).Nanoseconds()}
		var rep *words
		if rand.N(4) == 0 {
			rep, op.Err = ipc.Invoke(context.WithoutCancel(ctx), l.c, methodLast, &words{})
		} else {
			op.Append = uint64(id)<<32 | n
			rep, op.Err = ipc.Invoke(context.WithoutCancel(ctx), l.c, methodAppend,
				&words{op.Append})
		}
		op.End = time.Since(start).Nanoseconds()
		if op.Err == nil {
			op.Length = (*rep)[0]
			if op.Append == 0 {
				op.Last = (*rep)[1]
			}
		}
		l.history = append(l.history, op)
		tick()
		// paced: replicas must be able to start
		time.Sleep(time.Duration(rand.N(int64(time.Millisecond))))
	}
}

// TestAcknowledgedIsKept kills primaries at random moments under load. Every change that was
// answered must be in the list once, where the answer said. Any other change must be there at most
// once, and not at all if its error says that it was not executed.
func TestAcknowledgedIsKept(t *testing.T) {
	for left := kills(); left > 0; left -= 2 * killsPerHistory {
		for _, replicas := range []int{2, 3} {
			t.Run(fmt.Sprint(replicas, " replicas"), func(t *testing.T) {
				keepsAcknowledged(t, replicas)
			})
		}
	}
}

// killsPerHistory limits the length of one history, because the time of a check grows faster than
// the history.
const killsPerHistory = 15

func keepsAcknowledged(t *testing.T, replicas int) {
	cfg := listConfig(newDomain(t), replicas)
	// No standby is dropped because the machine is busy; the last one could be killed then.
	cfg.Replication.AckTimeout = time.Minute
	var events eventLog
	cfg.Events = events.add
	g := startGroup(t, cfg)
	var done atomic.Int64
	loaders, stop := load(t, cfg.Domain, 3, &done)
	killPrimaries(t, g, killsPerHistory, 1, &done)
	stop()
	all := readAll(t, dialList(t, cfg.Domain))
	checkOracle(t, loaders, all)
	history.Linearizable(t, histories(loaders), all)
	if events.has(group.StateLost) {
		t.Errorf("the state was lost:\n%v", &events)
	}
}

// load starts clients that make calls, and one that makes streaming calls, until stop is called or
// the test ends.
func load(t *testing.T, domain string, clients int, done *atomic.Int64) (loaders []*loader,
	stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	start := time.Now()
	for id := range clients {
		l := &loader{c: dialList(t, domain)}
		loaders = append(loaders, l)
		running.Go(func() { l.run(ctx, id+1, start, func() { done.Add(1) }) })
	}
	watcher := &loader{c: dialList(t, domain)}
	loaders = append(loaders, watcher)
	running.Go(func() { watcher.watch(ctx) })
	stop = func() { cancel(); running.Wait() }
	t.Cleanup(stop)
	return loaders, stop
}

// killPrimaries kills the primary n times, each time at a random moment at which the given number
// of standbys are in sync.
func killPrimaries(t *testing.T, g *group.Group, n, standbys int, done *atomic.Int64) {
	for range n {
		for until := done.Load() + rand.N(int64(100)); done.Load() < until; {
			time.Sleep(time.Duration(rand.N(int64(time.Millisecond)))) // a random moment
		}
		// The last replica with the state must live, and the set may have shrunk since the last
		// check.
		status, err := g.Wait(t.Context(), func(s group.Status) bool {
			return s.Primary >= 0 && standbysInSync(s) >= standbys
		})
		if err != nil {
			t.Fatal(err)
		}
		syscall.Kill(status.Replicas[status.Primary].PID, syscall.SIGKILL)
		if _, err := g.Wait(t.Context(), func(s group.Status) bool {
			return s.Epoch > status.Epoch
		}); err != nil {
			t.Fatal(err)
		}
	}
}

func standbysInSync(s group.Status) (n int) {
	for _, r := range s.Replicas {
		if r.Index != s.Primary && r.Ready && r.InSync {
			n++
		}
	}
	return n
}

// checkOracle checks that the list has what clients were told, see [history.Kept].
func checkOracle(t *testing.T, loaders []*loader, all words) {
	t.Helper()
	for _, l := range loaders {
		l.checkItems(t, all)
	}
	counts := history.Kept(t, histories(loaders), all)
	t.Logf("%d changes: %d answered, %d unknown, %d refused", len(all), counts.Answered,
		counts.Unknown, counts.NotExecuted)
}

// histories are those of loaders.
func histories(loaders []*loader) (all []history.Client) {
	for _, l := range loaders {
		all = append(all, l.history)
	}
	return all
}

// checkItems expects that what streaming calls have told is kept, that no item tells of less than
// one before it, and that each call which failed says what is known.
func (l *loader) checkItems(t *testing.T, all words) {
	t.Helper()
	longest := uint64(0)
	for n, i := range l.items {
		switch {
		case i.length > uint64(len(all)), i.length > 0 && all[i.length-1] != i.last:
			t.Errorf("item %d tells of %d numbers that end with %#x, which the list of %d does "+
				"not have", n, i.length, i.last, len(all))
		case i.length < longest:
			t.Errorf("item %d tells of %d numbers after one of %d", n, i.length, longest)
		}
		longest = max(longest, i.length)
	}
	for _, end := range l.ends {
		switch code := ipc.CodeOf(end.err); {
		case code != ipc.CodeUnavailable && code != ipc.CodeFenced &&
			code != ipc.CodeFailedPrecondition && code != ipc.CodeCanceled:
			t.Errorf("a streaming call ended behind %d items with: %v", end.items, end.err)
		case end.items > 0 && ipc.OutcomeOf(end.err) != ipc.OutcomeUnknown:
			t.Errorf("a streaming call that had %d items ended with the outcome %v: %v", end.items,
				ipc.OutcomeOf(end.err), end.err)
		}
	}
	if l.items != nil {
		t.Logf("%d items, and %d streaming calls that failed", len(l.items), len(l.ends))
	}
}

// TestStoppedStandbyHoldsNobodyUp stops a standby under load. The primary continues without it in
// bounded time, and the standby is replaced.
func TestStoppedStandbyHoldsNobodyUp(t *testing.T) {
	cfg := listConfig(newDomain(t), 2)
	cfg.Replication = &group.Replication{AckTimeout: 500 * time.Millisecond,
		SyncTimeout: time.Second}
	var events eventLog
	cfg.Events = events.add
	g := startGroup(t, cfg)
	c := dialList(t, cfg.Domain)
	appendTo(t, c, 1)
	standby := g.Replicas()[1].PID
	syscall.Kill(standby, syscall.SIGSTOP)
	// The signal takes effect later. Only a standby that has stopped is out of reach of the next
	// change.
	if err := unix.Waitid(unix.P_PID, standby, nil, unix.WSTOPPED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	appendTo(t, c, 2)
	status, err := g.Wait(t.Context(), func(s group.Status) bool {
		return s.Replicas[1].PID != standby && s.Healthy()
	})
	if err != nil {
		t.Fatal(err)
	}
	if status.Epoch != 1 || !events.has(group.OutOfSync) ||
		!strings.Contains(events.String(), "was out of sync for 1s") {
		t.Errorf("status %+v, events:\n%v", status, &events)
	}
	syscall.Kill(status.Replicas[0].PID, syscall.SIGKILL)
	if all := readAll(t, c); !slices.Equal(all, words{1, 2}) {
		t.Errorf("the new standby has %v", all)
	}
}

// TestDivergedStandbyIsReplaced lets the handlers of two replicas differ: in their answers, and in
// that one of them ends its goroutine.
func TestDivergedStandbyIsReplaced(t *testing.T) {
	for name, request := range map[string]func(primary, standby int) words{
		"answers":           func(int, int) words { return words{} },
		"exit of a standby": func(_, standby int) words { return words{uint64(standby)} },
		"exit of a primary": func(primary, _ int) words { return words{uint64(primary)} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := listConfig(newDomain(t), 2)
			var events eventLog
			cfg.Events = events.add
			g := startGroup(t, cfg)
			c := dialList(t, cfg.Domain)
			standby := g.Replicas()[1].PID
			req := request(g.Replicas()[0].PID, standby)
			_, err := ipc.Invoke(t.Context(), c, methodStray, &req)
			if err != nil && ipc.OutcomeOf(err) != ipc.Executed {
				t.Fatal(err)
			}
			if _, err := g.Wait(t.Context(), func(s group.Status) bool {
				return s.Replicas[1].PID != standby && s.Healthy()
			}); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(events.String(),
				"suspected list.1: does not answer as the primary does") {
				t.Errorf("events:\n%v", &events)
			}
		})
	}
}

// TestFailedCallsAreReplicated shows that calls whose handler returns an error, panics or ends its
// goroutine are replicated: they may have changed the state.
func TestFailedCallsAreReplicated(t *testing.T) {
	cfg := listConfig(newDomain(t), 2)
	g := startGroup(t, cfg)
	c := dialList(t, cfg.Domain)
	before := g.Status()
	for m, code := range map[*ipc.Method[words, words]]ipc.Code{methodRefuse: ipc.CodeNotFound,
		methodPanic: ipc.CodeInternal, methodExit: ipc.CodeInternal} {
		_, err := ipc.Invoke(t.Context(), c, m, &words{7})
		if ipc.CodeOf(err) != code || ipc.OutcomeOf(err) != ipc.Executed {
			t.Errorf("%s: %v", m.Info().Name, err)
		}
		if strings.Contains(err.Error(), ".go:") {
			t.Errorf("%s tells its caller a stack: %v", m.Info().Name, err)
		}
	}
	syscall.Kill(before.Replicas[0].PID, syscall.SIGKILL)
	// Clients may know the next primary before the status shows it.
	after, err := g.Wait(t.Context(), func(s group.Status) bool {
		return s.Epoch > before.Epoch && s.Primary >= 0
	})
	if err != nil {
		t.Fatal(err)
	}
	if all := readAll(t, c); !slices.Equal(all, words{7, 7, 7}) {
		t.Errorf("the standby has %v", all)
	}
	p, standby := after.Replicas[after.Primary].PID, before.Replicas[1].PID
	if p != standby {
		t.Errorf("the primary is process %d; the standby was %d", p, standby)
	}
}

func TestChangesWaitForMinSync(t *testing.T) {
	cfg := listConfig(newDomain(t), 2)
	trap := filepath.Join(t.TempDir(), "trap")
	cfg.Replication = &group.Replication{MinSync: 1}
	cfg.Command = func(i int) *exec.Cmd {
		if _, err := os.Stat(trap); err == nil {
			return childCommand("silent")
		}
		return childCommand("list", fmt.Sprint(i))
	}
	g := startGroup(t, cfg)
	c := dialList(t, cfg.Domain)
	appendTo(t, c, 1)
	if err := os.WriteFile(trap, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	syscall.Kill(g.Replicas()[1].PID, syscall.SIGKILL)
	if _, err := g.Wait(t.Context(), func(s group.Status) bool {
		return !s.Replicas[1].InSync
	}); err != nil {
		t.Fatal(err)
	}
	_, err := ipc.Invoke(t.Context(), c, methodAppend, &words{2})
	for err == nil { // until the primary has noticed, too
		_, err = ipc.Invoke(t.Context(), c, methodAppend, &words{2})
	}
	if ipc.CodeOf(err) != ipc.CodeFailedPrecondition || !strings.Contains(err.Error(), "MinSync") {
		t.Errorf("without a standby: %v", err)
	}
}

// TestStateLostIsTold ends all replicas. The state is gone, and the group reports that.
func TestStateLostIsTold(t *testing.T) {
	cfg := listConfig(newDomain(t), 2)
	var events eventLog
	cfg.Events = events.add
	g := startGroup(t, cfg)
	c := dialList(t, cfg.Domain)
	appendTo(t, c, 1)
	before := g.Status()
	for _, r := range before.Replicas {
		syscall.Kill(r.PID, syscall.SIGSTOP) // none may see the death of the other
	}
	for _, r := range before.Replicas {
		syscall.Kill(r.PID, syscall.SIGKILL)
	}
	if _, err := g.WaitHealthy(t.Context(), before.Epoch); err != nil {
		t.Fatal(err)
	}
	if all := readAll(t, c); len(all) != 0 {
		t.Errorf("the list is %v", all)
	}
	if !events.has(group.StateLost) {
		t.Errorf("events:\n%v", &events)
	}
}

func TestReplicaWithoutStateIsRefused(t *testing.T) {
	cfg := listConfig(newDomain(t), 2)
	cfg.Command = func(int) *exec.Cmd { return childCommand("bare") }
	cfg.Stderr = new(strings.Builder)
	g, err := group.Start(t.Context(), cfg)
	if err == nil {
		g.Shutdown(t.Context())
		t.Fatal("a replica without a state became ready")
	}
	if !strings.Contains(err.Error(), "set JoinConfig.State") {
		t.Errorf("error %v", err)
	}
	for _, r := range []group.Replication{{MinSync: 2}, {MinSync: -1}, {AckTimeout: -1}} {
		cfg.Replication = &r
		if _, err := group.Start(t.Context(), cfg); err == nil ||
			!strings.Contains(err.Error(), "Replication") {
			t.Errorf("%+v: %v", r, err)
		}
	}
}
