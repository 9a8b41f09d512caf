package group_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
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

// ledgerVar names the file to which the replicas of the ledger's service append the calls that they
// execute.
const ledgerVar = "GROUP_TEST_LEDGER"

// childLedger is a replica, without a state to keep, that records each number it is given.
func childLedger([]string) error {
	f, err := os.OpenFile(os.Getenv(ledgerVar), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	write := func(n uint64) error {
		_, err := f.Write(binary.LittleEndian.AppendUint64(nil, n))
		return err
	}
	record := func(_ context.Context, w *words) (*words, error) {
		err := write((*w)[0])
		switch (*w)[0] {
		case endless:
			select {}
		case lengthy:
			time.Sleep(time.Second)
		}
		time.Sleep(time.Duration((*w)[0]%4) * time.Millisecond)
		return &words{0}, err
	}
	return group.Run(context.Background(), group.RunConfig{},
		ipc.NewService(listProtocol, append(streamingRoutes(write),
			ipc.Handle(methodAppend, record), ipc.Handle(methodIdempotent, record))...))
}

// Numbers whose recording is never answered, and takes long.
const (
	endless = 1 << 62
	lengthy = 1 << 61
)

// methodIdempotent appends, and may be sent again in any case.
var methodIdempotent = idempotentMethod("Idempotent")

func ledgerConfig(domain string) group.Config {
	return group.Config{
		Service: "list", Domain: domain,
		Command: func(int) *exec.Cmd {
			cmd := childCommand("ledger")
			cmd.Env = append(cmd.Env, ledgerVar+"="+filepath.Join(filepath.Dir(domain), "ledger"))
			return cmd
		},
	}
}

// A claim is the outcome that a caller got for a call.
type claim struct {
	idempotent bool
	err        error
}

// claims has the claims of several callers, by the number of the call.
type claims struct {
	next atomic.Uint64
	mu   sync.Mutex
	all  map[uint64]claim
}

// callUntil makes calls with several clients until ctx is done or a call fails with a code that
// means that there is no service.
func (k *claims) callUntil(ctx context.Context, t *testing.T, domain string,
	limit func() (context.Context, context.CancelFunc)) (wait func()) {
	var callers sync.WaitGroup
	for i := range 6 {
		c := dialList(t, domain)
		callers.Go(func() {
			for ctx.Err() == nil {
				n := k.next.Add(1)
				m := methodAppend
				if i == 0 {
					m = methodIdempotent
				}
				within, cancel := limit()
				_, err := ipc.Invoke(within, c, m, &words{n})
				cancel()
				k.mu.Lock()
				k.all[n] = claim{i == 0, err}
				k.mu.Unlock()
			}
		})
	}
	return callers.Wait
}

// check compares the claims with the ledger. No replica may run any more.
func (k *claims) check(t *testing.T, path string) (count map[ipc.Outcome]int) {
	t.Helper()
	executed := make(map[uint64]int)
	for _, n := range ledger(t, path) {
		executed[n]++
	}
	count = make(map[ipc.Outcome]int)
	for n, c := range k.all {
		o := ipc.OutcomeOf(c.err)
		count[o]++
		switch times := executed[n]; {
		case times > 1 && !c.idempotent:
			t.Errorf("call %d was executed %d times", n, times)
		case times > 0 && (o == ipc.NotSent || o == ipc.NotExecuted):
			t.Errorf("call %d was executed, and its error says that it was not: %v", n, c.err)
		case times == 0 && o == ipc.Executed:
			t.Errorf("call %d was not executed, and was answered: %v", n, c.err)
		}
	}
	t.Logf("%d calls: %v", len(k.all), count)
	return count
}

// more waits until the given number of further calls have begun.
func (k *claims) more(n uint64) {
	for n += k.next.Load(); k.next.Load() < n; runtime.Gosched() {
	}
}

// unlimited is the limit of calls without one.
func unlimited() (context.Context, context.CancelFunc) { return context.Background(), func() {} }

// TestNoCallIsLostInOrder replaces replicas, orders failovers and shuts groups down under a load of
// calls that may be executed only once. No call may fail, except those made when there is no
// service any more, which are not executed; most of these wait for the next group.
func TestNoCallIsLostInOrder(t *testing.T) {
	configs := map[string]func(domain string) group.Config{
		"without state": ledgerConfig,
		"with state": func(domain string) group.Config {
			cfg := listConfig(domain, 3)
			cfg.Replication.MinSync = 1
			cfg.Replication.AckTimeout = time.Minute // the machine may be busy
			return cfg
		},
	}
	for name, config := range configs {
		t.Run(name, func(t *testing.T) {
			domain := newDomain(t)
			cfg := config(domain)
			cfg.Grace = time.Minute
			g := startGroup(t, cfg)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			k := &claims{all: map[uint64]claim{}}
			wait := k.callUntil(ctx, t, domain, unlimited)
			for range rollRounds() {
				k.more(100)
				if err := g.Roll(t.Context(), cfg.Command); err != nil {
					t.Fatal(err)
				}
				k.more(100)
				if _, err := g.Failover(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			k.more(100)
			k.mu.Lock()
			for n, c := range k.all {
				if c.err != nil {
					t.Errorf("call %d: %v", n, c.err)
				}
			}
			k.mu.Unlock()
			if name == "with state" {
				cancel()
				wait()
				checkList(t, k, readAll(t, dialList(t, domain)))
				k = &claims{all: map[uint64]claim{}}
				k.next.Store(1 << 40)
				ctx, cancel = context.WithCancel(t.Context())
				defer cancel()
				wait = k.callUntil(ctx, t, domain, unlimited)
				k.more(100)
			}
			shutdown(t, g)
			cancel()
			startGroup(t, cfg)
			wait()
			if name == "without state" {
				k.check(t, filepath.Join(filepath.Dir(domain), "ledger"))
			}
			for n, c := range k.all {
				if c.err != nil && ipc.OutcomeOf(c.err) != ipc.NotSent &&
					ipc.OutcomeOf(c.err) != ipc.NotExecuted {
					t.Errorf("call %d at the shutdown: %v", n, c.err)
				}
			}
		})
	}
}

// checkList expects each answered number once in the list, and no other one.
func checkList(t *testing.T, k *claims, all words) {
	t.Helper()
	there := make(map[uint64]int)
	for _, x := range all {
		there[x]++
	}
	for n := range k.all {
		if there[n] != 1 {
			t.Errorf("number %d is there %d times", n, there[n])
		}
	}
	if len(all) != len(k.all) {
		t.Errorf("%d numbers are there, and %d were answered", len(all), len(k.all))
	}
}

// rollRounds is the number of rolls and failovers.
func rollRounds() int {
	if n, err := strconv.Atoi(os.Getenv("GROUP_TEST_ROLLS")); err == nil {
		return n
	}
	return 3
}

// TestStoppedAtOnce sends SIGTERM to a supervisor and all its replicas at the same time, as a
// service manager does. Calls that were taken are answered, which needs a standby if the state is
// kept.
func TestStoppedAtOnce(t *testing.T) {
	for kind, config := range map[string]func(domain string) group.Config{
		"ledger": ledgerConfig,
		"list":   func(domain string) group.Config { return listConfig(domain, 2) },
	} {
		t.Run(kind, func(t *testing.T) {
			for round := range 3 {
				domain := newDomain(t)
				host, pids := startHost(t, domain, kind)
				ctx, cancel := context.WithCancel(t.Context())
				k := &claims{all: map[uint64]claim{}}
				wait := k.callUntil(ctx, t, domain, unlimited)
				k.more(200)
				all := append(pids, host.Process.Pid)
				for i := range all { // another process is first each time
					syscall.Kill(all[(i+2*round)%len(all)], syscall.SIGTERM)
				}
				for _, pid := range all { // coreutils' timeout, for example, sends it twice
					syscall.Kill(pid, syscall.SIGTERM)
				}
				if err := host.Wait(); err != nil {
					t.Error(err)
				}
				nothingLeft(t, domain)
				cancel()
				g := startGroup(t, config(domain)) // for the calls that wait for a primary
				wait()
				shutdown(t, g)
				for n, c := range k.all {
					if o := ipc.OutcomeOf(c.err); c.err != nil && o != ipc.NotSent &&
						o != ipc.NotExecuted {
						t.Errorf("call %d: %v", n, c.err)
					}
				}
				if kind == "ledger" {
					k.check(t, filepath.Join(filepath.Dir(domain), "ledger"))
				}
			}
		})
	}
}

// startHost starts a supervisor in a process of its own, and returns the pids of its replicas.
func startHost(t *testing.T, args ...string) (host *exec.Cmd, pids []int) {
	t.Helper()
	host = childCommand("host", args...)
	return host, runHost(t, host)
}

// TestOutcomesOfAGroup kills, stops and continues primaries, and lets deadlines pass, under load.
// The outcomes that callers get must agree with the executed calls.
func TestOutcomesOfAGroup(t *testing.T) {
	domain := newDomain(t)
	cfg := ledgerConfig(domain)
	cfg.Restart = group.Restart{Delay: 1e6, MaxDelay: 1e6, Intensity: 1 << 30}
	cfg.Heartbeat = group.Heartbeat{Period: 20 * time.Millisecond, Grace: 500 * time.Millisecond}
	g := startGroup(t, cfg)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	k := &claims{all: map[uint64]claim{}}
	wait := k.callUntil(ctx, t, domain, func() (context.Context, context.CancelFunc) {
		return context.WithTimeout(context.Background(), 50*time.Millisecond)
	})
	for i := range 4 * rollRounds() {
		before, err := g.WaitHealthy(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		k.more(100)
		pid := before.Replicas[before.Primary].PID
		switch i % 3 {
		case 0:
			syscall.Kill(pid, syscall.SIGKILL)
		case 1:
			syscall.Kill(pid, syscall.SIGSTOP) // until the group detects the hang
		case 2:
			syscall.Kill(pid, syscall.SIGTERM)
		}
		if _, err := g.WaitHealthy(t.Context(), before.Epoch); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	wait()
	shutdown(t, g)
	k.check(t, filepath.Join(filepath.Dir(domain), "ledger"))
}

// TestOutcomeOfAllAttempts has a call executed by a primary that dies, and sent again to one that
// does not take it before the deadline. That the second one certainly did not execute the call says
// nothing about the first.
func TestOutcomeOfAllAttempts(t *testing.T) {
	t.Parallel()
	domain := newDomain(t)
	g := startGroup(t, ledgerConfig(domain))
	before := g.Status()
	standby := before.Replicas[1-before.Primary].PID
	c := dialList(t, domain)
	for connected := false; !connected; { // the supervisor and the client are connected
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", standby))
		if err != nil {
			t.Fatal(err)
		}
		connected = strings.Count(string(b), "memfd:") >= 2
		runtime.Gosched()
	}
	syscall.Kill(standby, syscall.SIGSTOP)
	defer syscall.Kill(standby, syscall.SIGCONT)
	result := make(chan error, 1)
	invoke := func() {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := ipc.Invoke(ctx, c, methodIdempotent, &words{endless})
		result <- err
	}
	go invoke()
	path := filepath.Join(filepath.Dir(domain), "ledger")
	for executed := false; !executed; {
		b, _ := os.ReadFile(path)
		executed = len(b) > 0
		select {
		case err := <-result:
			if executed {
				result <- err
				break
			}
			go invoke() // the machine was so busy that the deadline has passed before
		default:
			runtime.Gosched()
		}
	}
	syscall.Kill(before.Replicas[before.Primary].PID, syscall.SIGKILL)
	if err := <-result; ipc.CodeOf(err) != ipc.CodeDeadlineExceeded ||
		ipc.OutcomeOf(err) != ipc.OutcomeUnknown {
		t.Errorf("error %v, %v", err, ipc.OutcomeOf(err))
	}
}

// startCall starts a call, and returns when its primary has taken it.
func startCall(t *testing.T, domain string, n uint64) (result <-chan error) {
	t.Helper()
	c := dialList(t, domain)
	done := make(chan error, 1)
	go func() {
		_, err := ipc.Invoke(context.Background(), c, methodAppend, &words{n})
		done <- err
	}()
	path := filepath.Join(filepath.Dir(domain), "ledger")
	before, _ := os.ReadFile(path)
	for {
		if now, _ := os.ReadFile(path); len(now) > len(before) {
			return done
		}
		runtime.Gosched()
	}
}

// expectCutOff checks the error of a call that its primary took and did not answer.
func expectCutOff(t *testing.T, err error) {
	t.Helper()
	if ipc.CodeOf(err) != ipc.CodeUnavailable || ipc.OutcomeOf(err) != ipc.OutcomeUnknown {
		t.Errorf("error %v, %v", err, ipc.OutcomeOf(err))
	}
}

// A drain that takes too long is cut off, and a drain whose process dies ends at once. The service
// continues in both cases.
func TestDrainThatDoesNotEnd(t *testing.T) {
	for name, grace := range map[string]time.Duration{"too long": 100 * time.Millisecond,
		"death": time.Hour} {
		t.Run(name, func(t *testing.T) {
			domain := newDomain(t)
			cfg := ledgerConfig(domain)
			cfg.Grace = grace
			g := startGroup(t, cfg)
			before := g.Status()
			result := startCall(t, domain, endless)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			failed := make(chan error, 1)
			go func() { _, err := g.Failover(ctx); failed <- err }()
			primary := before.Replicas[before.Primary]
			if name == "death" {
				conn, err := ipc.Dial(t.Context(), primary.Control, ipc.WithDomain(domain))
				for err == nil { // until it drains
					conn.Close()
					conn, err = ipc.Dial(t.Context(), primary.Control, ipc.WithDomain(domain))
				}
				select {
				case err := <-result:
					t.Errorf("the call ended while its primary drains: %v", err)
				default:
				}
				syscall.Kill(primary.PID, syscall.SIGKILL)
			}
			expectCutOff(t, <-result)
			if err := <-failed; err != nil {
				t.Error(err)
			}
			if got := appendTo(t, dialList(t, domain), 1); got != 0 {
				t.Error(got)
			}
		})
	}
}

// A supervisor that is killed while its primary drains leaves a group, with the drain, that the
// next supervisor takes over.
func TestSupervisorDiesDuringDrain(t *testing.T) {
	domain := newDomain(t)
	host, pids := startHost(t, domain, "ledger", "survive")
	result := startCall(t, domain, lengthy)
	host.Process.Signal(syscall.SIGTERM)
	for { // until the primary takes no more calls
		conn, err := ipc.Dial(t.Context(), "list.0", ipc.WithDomain(domain))
		if err != nil {
			break
		}
		conn.Close()
	}
	host.Process.Kill()
	host.Wait()
	cfg := ledgerConfig(domain)
	cfg.Survive = true
	g := startGroup(t, cfg)
	if err := <-result; err != nil {
		t.Errorf("the call in flight: %v", err)
	}
	s, err := g.WaitHealthy(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if running(pids[0]) {
		t.Error("the old primary runs on")
	}
	if s.Replicas[1].PID != pids[1] {
		t.Errorf("the standby %d was not adopted: %+v", pids[1], s.Replicas[1])
	}
	appendTo(t, dialList(t, domain), 1)
}

// TestRunAlone runs a replica that no group supervises, in this process.
func TestRunAlone(t *testing.T) {
	domain := newDomain(t)
	entered, gate := make(chan struct{}), make(chan struct{})
	svc := ipc.NewService(listProtocol,
		ipc.Handle(methodAppend, func(context.Context, *words) (*words, error) {
			close(entered)
			<-gate
			return &words{}, nil
		}))
	cfg := group.RunConfig{Join: group.JoinConfig{Domain: domain}}
	if err := group.Run(t.Context(), cfg, svc); err == nil ||
		!strings.Contains(err.Error(), "Control") {
		t.Errorf("without a channel: %v", err)
	}
	cfg.Record = registry.Record{Control: "alone", Service: "list"}
	cfg.Options = []ipc.ServerOption{ipc.WithServerInterceptor(
		func(ctx context.Context, call *ipc.ServerCall, next func(context.Context) error) error {
			if call.Method.ReadOnly {
				return ipc.Errorf(ipc.CodePermissionDenied, "no reading")
			}
			return next(ctx)
		})}
	ready := make(chan struct{})
	cfg.Ready = func() { close(ready) }
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- group.Run(ctx, cfg, svc) }()
	<-ready
	reg, err := registry.Open(domain, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer reg.Close()
	rec, err := reg.Lookup("alone")
	if err != nil || rec.Control != "alone" || rec.Service != "list" ||
		rec.Protocol != listProtocol.Name || rec.Fingerprint != listProtocol.Fingerprint {
		t.Errorf("record %+v, %v", rec, err)
	}
	c, err := ipc.Dial(t.Context(), "alone", ipc.WithDomain(domain))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	result := make(chan error, 1)
	go func() { _, err := ipc.Invoke(t.Context(), c, methodAppend, &words{1}); result <- err }()
	<-entered
	cancel()
	close(gate)
	if err := <-result; err != nil {
		t.Errorf("the call in flight: %v", err)
	}
	if err := <-ran; err != nil {
		t.Errorf("Run: %v", err)
	}
	nothingLeft(t, domain)
}

// TestShutdownEndsThePrimaryFirst shuts a group down while its primary executes a change that the
// standbys must have before it is answered. They are told when the primary has drained, or was cut
// off.
func TestShutdownEndsThePrimaryFirst(t *testing.T) {
	t.Parallel()
	for _, stays := range []bool{false, true} {
		t.Run(fmt.Sprint("primary stays: ", stays), func(t *testing.T) {
			var events eventLog
			cfg, b := barrierConfig(t, 3, &events)
			cfg.Replication = &group.Replication{MinSync: 2, AckTimeout: time.Minute}
			cfg.Grace = time.Minute
			if stays {
				cfg.Grace = 3 * time.Second
			}
			command := cfg.Command
			cfg.Command = func(i int) *exec.Cmd {
				cmd := command(i)
				cmd.Env = append(cmd.Env, toldVar+"=1")
				return cmd
			}
			var said lines
			cfg.Stderr = &said
			g := startGroup(t, cfg)
			all := g.Replicas()
			result := pause(t, dialList(t, cfg.Domain), 1, 0)
			b.await(t, all[0].PID)
			ended := make(chan error, 1)
			go func() { ended <- g.Shutdown(context.Background()) }()
			said.await(t, "told 0")
			time.Sleep(200 * time.Millisecond) // time for the standbys to be told, wrongly
			if now := said.String(); strings.Contains(now, "told 1") ||
				strings.Contains(now, "told 2") {
				t.Errorf("the standbys are told while the primary drains:\n%s", now)
			}
			if !stays {
				for _, r := range all {
					b.pass(t, r.PID)
				}
				if err := <-result; err != nil {
					t.Errorf("the call in flight: %v", err)
				}
			}
			if err := <-ended; err != nil {
				t.Error(err)
			}
			if now := said.String(); !strings.Contains(now, "told 1") ||
				!strings.Contains(now, "told 2") {
				t.Errorf("the standbys were not told:\n%s", now)
			}
		})
	}
}

// lines collects the output of replicas.
type lines struct {
	mu  sync.Mutex
	all strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

// await blocks until a text is among the output.
func (l *lines) await(t *testing.T, text string) {
	t.Helper()
	for give := time.Now().Add(patience); !strings.Contains(l.String(), text); {
		if time.Sleep(time.Millisecond); time.Now().After(give) {
			t.Fatalf("no %q in:\n%s", text, l)
		}
	}
}
