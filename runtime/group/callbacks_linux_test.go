package group_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
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

func init() { children["faulty"], children["closer"] = childFaulty, childCloser }

// The faults of callbacks. A callback that blocks does so until the test has ended, or its trap is
// gone.
const (
	panics = "panics"
	exits  = "ends its goroutine"
	blocks = "blocks"
	enters = "calls the package"
)

// lapse does what a callback should not do.
func lapse(fault string, until <-chan struct{}, reenter func()) {
	switch fault {
	case panics:
		panic("on purpose")
	case exits:
		runtime.Goexit()
	case blocks:
		<-until
	case enters:
		reenter()
	}
}

// returns fails the test if f does not return soon.
func returns(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(patience):
		buf := make([]byte, 1<<20)
		t.Fatalf("%s does not return\n%s", what, buf[:runtime.Stack(buf, true)])
	}
}

// A syncBuffer is a buffer for several goroutines.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// A faultyHandler is a handler of logs with a fault.
type faultyHandler struct {
	slog.Handler
	fault func()
}

func (h faultyHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h faultyHandler) Handle(context.Context, slog.Record) error {
	h.fault()
	return nil
}

func (h faultyHandler) WithAttrs([]slog.Attr) slog.Handler { return h }
func (h faultyHandler) WithGroup(string) slog.Handler      { return h }

// supervisorCallbacks are the functions that users give to a supervisor. set gives the group one
// with a fault, which begins when the group is up.
var supervisorCallbacks = map[string]struct {
	set    func(cfg *group.Config, fault func())
	faults string // that are not for it
	traced bool   // a panic is logged
}{
	"group.Config.Command": {set: func(cfg *group.Config, fault func()) {
		command := cfg.Command
		cfg.Command = func(i int) *exec.Cmd {
			fault()
			return command(i)
		}
	}, traced: true},
	"group.Config.Prefix": {set: func(cfg *group.Config, fault func()) {
		cfg.Prefix = func(int) string {
			fault()
			return "> "
		}
	}, traced: true},
	"group.Config.Events": {set: func(cfg *group.Config, fault func()) {
		cfg.Events = func(group.Event) { fault() }
	}, traced: true},
	"group.Config.Logger": {set: func(cfg *group.Config, fault func()) {
		cfg.Logger = slog.New(faultyHandler{slog.DiscardHandler, fault})
	}, faults: exits}, // a logger must return
	"group.Config.Stdout": {set: func(cfg *group.Config, fault func()) {
		cfg.Stdout = writerFunc(func(p []byte) (int, error) { fault(); return len(p), nil })
	}},
	"group.Config.Stderr": {set: func(cfg *group.Config, fault func()) {
		cfg.Stderr = writerFunc(func(p []byte) (int, error) { fault(); return len(p), nil })
	}},
}

// TestFaultyCallbacksOfASupervisor gives a group functions that panic, end their goroutine, block
// or call the package. The group serves on, becomes healthy when they do what they should, and
// ends in order.
func TestFaultyCallbacksOfASupervisor(t *testing.T) {
	for name, cb := range supervisorCallbacks {
		for _, fault := range []string{panics, exits, blocks, enters} {
			if fault == cb.faults {
				continue
			}
			t.Run(name+" "+fault, func(t *testing.T) {
				var trace syncBuffer
				before := slog.Default()
				slog.SetDefault(slog.New(slog.NewTextHandler(&trace, nil)))
				defer slog.SetDefault(before)
				var g atomic.Pointer[group.Group]
				var armed atomic.Bool
				var hit atomic.Int64
				over := make(chan struct{})
				cfg := listConfig(newDomain(t), 2)
				cfg.Grace = 2 * time.Second
				cfg.Stdout, cfg.Stderr = io.Discard, io.Discard
				command := cfg.Command
				cfg.Command = func(i int) *exec.Cmd { // the replicas write something
					cmd := command(i)
					cmd.Env = append(cmd.Env, sayVar+"=1")
					return cmd
				}
				cb.set(&cfg, func() {
					if armed.Load() {
						hit.Add(1)
						lapse(fault, over, func() {
							group := g.Load()
							group.Status()
							ctx, cancel := context.WithTimeout(context.Background(),
								10*time.Millisecond)
							defer cancel()
							_, _ = group.WaitHealthy(ctx, 1<<30)
						})
					}
				})
				started := startGroup(t, cfg)
				g.Store(started)
				c := dialList(t, cfg.Domain)
				armed.Store(true)
				for x := range uint64(3) {
					status := started.Status()
					if status.Primary >= 0 && x == 0 {
						syscall.Kill(status.Replicas[1-status.Primary].PID, syscall.SIGKILL)
					}
					appendTo(t, c, x)
				}
				returns(t, "the callback's turn", func() {
					for hit.Load() == 0 {
						time.Sleep(time.Millisecond)
					}
				})
				if fault == enters { // the worst: the end of the group, from within
					returns(t, "Shutdown from the test", func() {
						_ = started.Shutdown(context.Background())
					})
					return
				}
				armed.Store(false)
				if fault == blocks {
					close(over)
				}
				returns(t, "WaitHealthy", func() {
					if _, err := started.WaitHealthy(context.Background(), 0); err != nil {
						t.Error(err)
					}
				})
				if all := readAll(t, c); len(all) != 3 {
					t.Errorf("the list is %v", all)
				}
				if text := trace.String(); cb.traced && fault == panics &&
					!strings.Contains(text, "callbacks_linux_test.go") {
					t.Errorf("no trace is left: %q", text)
				}
			})
		}
	}
}

// TestGroupEndsBesideABlockedCallback shuts down groups while a function of the user blocks for
// ever, or calls Shutdown itself.
func TestGroupEndsBesideABlockedCallback(t *testing.T) {
	t.Parallel()
	for name, cb := range supervisorCallbacks {
		for _, fault := range []string{blocks, enters} {
			if strings.HasSuffix(name, "Stdout") && fault == enters {
				continue // bare replicas write nothing there
			}
			t.Run(name+" "+fault, func(t *testing.T) {
				cfg := bareConfig(newDomain(t))
				cfg.Stdout, cfg.Stderr = io.Discard, io.Discard
				var g atomic.Pointer[group.Group]
				over, hit := make(chan struct{}), make(chan struct{})
				once := sync.OnceFunc(func() { close(hit) })
				defer close(over)
				cb.set(&cfg, func() {
					if started := g.Load(); started != nil {
						once()
						lapse(fault, over, func() { _ = started.Shutdown(context.Background()) })
					}
				})
				started, err := group.Start(t.Context(), cfg)
				if err != nil {
					t.Fatal(err)
				}
				g.Store(started)
				syscall.Kill(started.Replicas()[1].PID, syscall.SIGABRT) // with a traceback
				if !strings.HasSuffix(name, "Stdout") {
					returns(t, "the callback's turn", func() { <-hit })
				}
				returns(t, "Shutdown", func() {
					if err := started.Shutdown(context.Background()); err != nil {
						t.Error(err)
					}
				})
				nothingLeft(t, cfg.Domain)
			})
		}
	}
}

// TestStartWithFaultyCommand starts groups whose function for commands has a fault.
func TestStartWithFaultyCommand(t *testing.T) {
	t.Parallel()
	for _, fault := range []string{panics, exits, blocks} {
		t.Run(fault, func(t *testing.T) {
			over := make(chan struct{})
			defer close(over)
			cfg := bareConfig(newDomain(t))
			cfg.ReadyTimeout = 5 * time.Second
			cfg.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
			command := cfg.Command
			cfg.Command = func(i int) *exec.Cmd {
				if i == 1 {
					lapse(fault, over, nil)
				}
				return command(i)
			}
			returns(t, "Start", func() {
				_, err := group.Start(t.Context(), cfg)
				var failed *group.ReplicaError
				if !errors.As(err, &failed) || failed.Replica != "svc.1" ||
					ipc.CodeOf(failed.Err) != ipc.CodeInternal {
					t.Errorf("error %v", err)
				}
			})
			nothingLeft(t, cfg.Domain)
		})
	}
}

// TestRollToFaultyCommand rolls a group to a function for commands with a fault. Roll fails, and
// every replica has its former command.
func TestRollToFaultyCommand(t *testing.T) {
	t.Parallel()
	over := make(chan struct{})
	defer close(over)
	cfg := bareConfig(newDomain(t))
	cfg.ReadyTimeout = 5 * time.Second
	cfg.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	g := startGroup(t, cfg)
	for _, fault := range []string{"nil", panics, exits, blocks} {
		t.Run("group.Group.Roll.command "+fault, func(t *testing.T) {
			returns(t, "Roll", func() {
				err := g.Roll(t.Context(), func(int) *exec.Cmd {
					lapse(fault, over, nil)
					return nil
				})
				var failed *group.ReplicaError
				if !errors.As(err, &failed) ||
					!strings.Contains(err.Error(), "every replica runs the former command") {
					t.Errorf("error %v", err)
				}
			})
			if s := g.Status(); !s.Healthy() {
				t.Errorf("status %+v", s)
			}
		})
	}
}

// TestFaultyConditions waits for conditions with faults. Other waits go on.
func TestFaultyConditions(t *testing.T) {
	var trace syncBuffer
	cfg := bareConfig(newDomain(t))
	cfg.Logger = slog.New(slog.NewTextHandler(&trace, nil))
	g := startGroup(t, cfg)
	for _, fault := range []string{panics, exits, blocks, enters} {
		t.Run("group.Group.Wait.cond "+fault, func(t *testing.T) {
			over := make(chan struct{})
			ended := make(chan error, 1)
			go func() {
				left := errors.New("the goroutine has ended")
				defer func() { ended <- left }()
				_, left = g.Wait(t.Context(), func(group.Status) bool {
					lapse(fault, over, func() {
						if _, err := g.Failover(t.Context()); err != nil {
							t.Error(err)
						}
					})
					return true
				})
			}()
			returns(t, "another wait", func() {
				if _, err := g.Failover(t.Context()); err != nil && fault != enters {
					t.Error(err)
				}
			})
			close(over)
			returns(t, "the wait", func() {
				err := <-ended
				if (fault == panics) != (ipc.CodeOf(err) == ipc.CodeInternal) ||
					(err == nil) != (fault == blocks || fault == enters) {
					t.Errorf("the wait ends with %v", err)
				}
			})
			if fault == panics && !strings.Contains(trace.String(), "callbacks_linux_test.go") {
				t.Errorf("no trace is left: %q", trace.String())
			}
			if _, err := g.WaitHealthy(t.Context(), 0); err != nil {
				t.Error(err)
			}
		})
	}
}

// childFaulty is a replica of the list of which one function has a fault while a file exists.
func childFaulty(args []string) error {
	index, name, fault, trap := args[0], args[1], args[2], args[3]
	lapse := func(of string) {
		if of != name {
			return
		}
		if _, err := os.Stat(trap); err != nil {
			return
		}
		fmt.Fprintln(os.Stderr, "lapse of", of)
		gone := make(chan struct{})
		go func() {
			for {
				if _, err := os.Stat(trap); err != nil {
					close(gone)
					return
				}
				time.Sleep(time.Millisecond)
			}
		}()
		lapse(fault, gone, nil)
	}
	l := &list{}
	join := group.JoinConfig{
		State:  lapsingState{l, lapse},
		OnRole: func(registry.Role, uint64) { lapse("group.JoinConfig.OnRole") },
		Healthy: func() bool {
			lapse("group.JoinConfig.Healthy")
			return true
		},
		Logger: slog.New(faultyHandler{slog.DiscardHandler,
			func() { lapse("group.JoinConfig.Logger") }}),
	}
	if name != "group.JoinConfig.Logger" {
		join.Logger = nil
	}
	return group.Run(context.Background(), group.RunConfig{Join: join,
		Record: registry.Record{Control: "list_" + index},
		Ready:  func() { lapse("group.RunConfig.Ready") }}, l.service())
}

// childCloser is a replica that closes itself in OnRole: when it is told its first role or, with
// "later", another one. Then it ends.
func childCloser(args []string) error {
	var replica atomic.Pointer[group.Replica]
	joined, closed := make(chan struct{}), make(chan error)
	told := 0
	r, err := group.Join(group.JoinConfig{OnRole: func(registry.Role, uint64) {
		<-joined
		told++
		if args[0] != "later" || told == 2 {
			r := replica.Load()
			_ = r.Admit(0)
			closed <- errors.Join(r.Close(), r.Close())
		}
	}})
	if err != nil {
		return err
	}
	replica.Store(r)
	close(joined)
	go r.Announce(registry.Record{})
	err = <-closed
	fmt.Fprintln(os.Stderr, "closed:", err)
	return err
}

// TestReplicaClosesItselfInOnRole closes replicas in their own OnRole.
func TestReplicaClosesItselfInOnRole(t *testing.T) {
	for _, when := range []string{"at once", "later"} {
		t.Run("group.JoinConfig.OnRole "+when, func(t *testing.T) {
			var out syncBuffer
			cfg := bareConfig(newDomain(t))
			cfg.Stderr = &out
			bad := childCommand("closer", when)
			bare := cfg.Command
			cfg.Command = func(i int) *exec.Cmd {
				if i == 0 {
					defer func() { bad = bare(0) }()
					return bad
				}
				return bare(i)
			}
			g, err := group.Start(t.Context(), cfg)
			if err == nil { // the first primary has closed itself, and was replaced
				if _, err := g.WaitHealthy(t.Context(), 1); err != nil {
					t.Error(err)
				}
				shutdown(t, g)
			}
			if !strings.Contains(out.String(), "closed: <nil>") {
				t.Errorf("start: %v; output: %q", err, out.String())
			}
			nothingLeft(t, cfg.Domain)
		})
	}
}

// A lapsingState is a list whose functions may have a fault.
type lapsingState struct {
	*list
	lapse func(string)
}

func (s lapsingState) Snapshot() ([]byte, error) {
	s.lapse("group.State.Snapshot")
	return s.list.Snapshot()
}

func (s lapsingState) Restore(b []byte) error {
	s.lapse("group.State.Restore")
	return s.list.Restore(b)
}

// replicaCallbacks are the functions that users give to a replica.
var replicaCallbacks = map[string]struct {
	holds  string // the fault that holds changes up, as is documented
	faults string // that are not for it
}{
	"group.JoinConfig.OnRole":  {},
	"group.JoinConfig.Healthy": {},
	"group.JoinConfig.Logger":  {faults: exits}, // a logger must return
	"group.RunConfig.Ready":    {},
	"group.State.Snapshot":     {holds: blocks},
	"group.State.Restore":      {},
}

// TestFaultyCallbacksOfAReplica lets a function of the replicas have a fault for a while, in which
// standbys are replaced. The primary serves on, no change is lost, and the group becomes healthy
// when the function does what it should.
func TestFaultyCallbacksOfAReplica(t *testing.T) {
	for name, cb := range replicaCallbacks {
		for _, fault := range []string{panics, exits, blocks} {
			if fault == cb.faults {
				continue
			}
			t.Run(name+" "+fault, func(t *testing.T) {
				var out syncBuffer
				trap := filepath.Join(t.TempDir(), "trap")
				cfg := listConfig(newDomain(t), 2)
				cfg.Grace, cfg.ReadyTimeout = 2*time.Second, 10*time.Second
				cfg.Restart.Delay, cfg.Restart.MaxDelay = 50*time.Millisecond, 50*time.Millisecond
				cfg.Stderr = &out
				if strings.HasSuffix(name, "Healthy") {
					cfg.Heartbeat = group.Heartbeat{Period: 20 * time.Millisecond,
						Grace: 5 * time.Second}
				}
				cfg.Command = func(i int) *exec.Cmd {
					return childCommand("faulty", fmt.Sprint(i), name, fault, trap)
				}
				g := startGroup(t, cfg)
				c := dialList(t, cfg.Domain)
				appendTo(t, c, 1)
				if err := os.WriteFile(trap, nil, 0o600); err != nil {
					t.Fatal(err)
				}
				status := g.Status()
				syscall.Kill(status.Replicas[1-status.Primary].PID, syscall.SIGKILL)
				returns(t, "the function's turn", func() {
					for !strings.Contains(out.String(), "lapse of "+name) {
						time.Sleep(time.Millisecond)
					}
				})
				if cb.holds != fault {
					returns(t, "a change", func() { appendTo(t, c, 2) })
				}
				returns(t, "a read", func() {
					if cb.holds == fault {
						return // it waits for the change
					}
					if all := readAll(t, c); len(all) != 2 {
						t.Errorf("the list is %v", all)
					}
				})
				if err := os.Remove(trap); err != nil {
					t.Fatal(err)
				}
				returns(t, "WaitHealthy", func() {
					if _, err := g.WaitHealthy(context.Background(), 0); err != nil {
						t.Error(err)
					}
				})
				appendTo(t, c, 3)
				if text := out.String(); fault != blocks && !strings.HasSuffix(name, "Logger") &&
					!strings.Contains(text, "callbacks_linux_test.go") {
					t.Errorf("no trace is left: %q", text)
				}
			})
		}
	}
}
