package group_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/gen/audio"
	"github.com/ipcgen/ipcgen/internal/audioservice"
	"github.com/ipcgen/ipcgen/runtime/group"
	"github.com/ipcgen/ipcgen/runtime/registry"
)

func TestFreshGroupIsRuledByItsFirst(t *testing.T) {
	cfg := bareConfig(newDomain(t))
	cfg.Replicas = 3
	g := startGroup(t, cfg)
	s := g.Status()
	if !s.Healthy() || s.Primary != 0 || s.Epoch != 1 || s.Alive() != 3 {
		t.Errorf("status %+v", s)
	}
	p, ok := g.Primary()
	if !ok || p.Name != "svc.0" || p.Role != registry.RolePrimary || p.PID == 0 {
		t.Errorf("primary %+v, %v", p, ok)
	}
}

func TestDeathOfPrimaryPromotesAndReplaces(t *testing.T) {
	cfg := bareConfig(newDomain(t))
	g := startGroup(t, cfg)
	for round := range uint64(6) {
		before := g.Status()
		victim := before.Replicas[before.Primary]
		if err := syscall.Kill(victim.PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		after, err := g.WaitHealthy(t.Context(), before.Epoch)
		if err != nil {
			t.Fatal(err)
		}
		survivor := 1 - victim.Index
		if after.Epoch != before.Epoch+1 || after.Primary != survivor {
			t.Fatalf("round %d: %+v", round, after)
		}
		if now := after.Replicas[survivor]; now.PID != before.Replicas[survivor].PID ||
			now.Role != registry.RolePrimary {
			t.Errorf("the standby %+v became %+v", before.Replicas[survivor], now)
		}
		if now := after.Replicas[victim.Index]; now.PID == victim.PID || now.Name != victim.Name ||
			now.Role != registry.RoleStandby {
			t.Errorf("the primary %+v was replaced by %+v", victim, now)
		}
	}
}

func TestEveryDeathEndsInHealth(t *testing.T) {
	for name, sig := range map[string]syscall.Signal{
		"killed": syscall.SIGKILL, "segmentation fault": syscall.SIGSEGV, "exit 0": syscall.SIGTERM,
		"abort": syscall.SIGABRT,
	} {
		t.Run(name, func(t *testing.T) {
			cfg := bareConfig(newDomain(t))
			cfg.Stderr = new(bytes.Buffer) // Go's tracebacks
			g := startGroup(t, cfg)
			before := g.Status()
			syscall.Kill(before.Replicas[0].PID, sig)
			if _, err := g.WaitHealthy(t.Context(), before.Epoch); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestReplicaWithoutRegistrationIsReplaced(t *testing.T) {
	cfg := bareConfig(newDomain(t))
	cfg.Grace = 50 * time.Millisecond
	cfg.Command = func(int) *exec.Cmd { return childCommand("quitter") }
	var events eventLog
	cfg.Events = events.add
	g := startGroup(t, cfg)
	before := g.Status()
	syscall.Kill(before.Replicas[0].PID, syscall.SIGHUP)
	if _, err := g.WaitHealthy(t.Context(), before.Epoch); err != nil {
		t.Fatal(err)
	}
	shutdown(t, g)
	if !strings.Contains(events.String(),
		"suspected svc.0: gave up its registration and did not end") {
		t.Errorf("events:\n%v", &events)
	}
}

func TestReplicaWithoutEndpointIsReplaced(t *testing.T) {
	cfg := audioConfig(newDomain(t))
	cfg.Command = func(i int) *exec.Cmd { return childCommand("deaf", strconv.Itoa(i)) }
	cfg.Grace = 50 * time.Millisecond
	var events eventLog
	cfg.Events = events.add
	g := startGroup(t, cfg)
	before := g.Status()
	syscall.Kill(before.Replicas[0].PID, syscall.SIGHUP)
	if _, err := g.WaitHealthy(t.Context(), before.Epoch); err != nil {
		t.Fatal(err)
	}
	shutdown(t, g)
	if !strings.Contains(events.String(),
		"suspected audio_compute.0: closed its endpoint and did not end") {
		t.Errorf("events:\n%v", &events)
	}
}

func TestAllKilledAtOnce(t *testing.T) {
	cfg := bareConfig(newDomain(t))
	cfg.Replicas = 3
	var events eventLog
	cfg.Events = events.add
	g := startGroup(t, cfg)
	before := g.Status()
	for _, r := range before.Replicas {
		syscall.Kill(r.PID, syscall.SIGKILL)
	}
	after, err := g.WaitHealthy(t.Context(), before.Epoch)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range after.Replicas {
		if r.PID == before.Replicas[r.Index].PID {
			t.Errorf("%+v was not replaced", r)
		}
	}
	shutdown(t, g)
	if events.has(group.Suspected) || !strings.Contains(events.String(), "signal: killed") {
		t.Errorf("events:\n%v", &events)
	}
}

func TestSecondSupervisorIsRefused(t *testing.T) {
	cfg := bareConfig(newDomain(t))
	startGroup(t, cfg)
	_, err := group.Start(t.Context(), cfg)
	var inUse *group.InUseError
	if !errors.As(err, &inUse) || !errors.Is(err, group.ErrInUse) || inUse.PID != os.Getpid() {
		t.Errorf("error %v", err)
	}
	cfg.Service = "other"
	g, err := group.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	g.Shutdown(t.Context())
}

func TestStartFailures(t *testing.T) {
	notExecutable := filepath.Join(t.TempDir(), "service")
	if err := os.WriteFile(notExecutable, []byte("#!/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		cmd  func() *exec.Cmd
		is   error
		want []string
	}{
		"missing": {func() *exec.Cmd {
			return exec.Command("/no/such/service")
		}, fs.ErrNotExist, []string{"/no/such/service", "give the path"}},
		"not executable": {func() *exec.Cmd {
			return exec.Command(notExecutable)
		}, fs.ErrPermission, []string{notExecutable, "chmod"}},
		"ends with 0": {func() *exec.Cmd {
			return childCommand("exit", "0")
		}, nil, []string{"ended before it was ready with status 0", "went 0"}},
		"ends with 1": {func() *exec.Cmd {
			return childCommand("exit", "1")
		}, nil, []string{"exit status 1", "first line | went 1 | error: as told"}},
		"panics": {func() *exec.Cmd {
			return childCommand("panicky")
		}, nil, []string{"exit status 2", "goroutine"}},
		"never registers": {func() *exec.Cmd {
			return childCommand("silent")
		}, nil, []string{"did not register within 50ms", "Config.ReadyTimeout",
			"group.Run", "killed"}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := bareConfig(newDomain(t))
			cfg.Command = func(int) *exec.Cmd { return tt.cmd() }
			cfg.Stderr = new(bytes.Buffer)
			if name == "never registers" {
				cfg.ReadyTimeout = 50 * time.Millisecond
				cfg.Grace = 50 * time.Millisecond
			}
			_, err := group.Start(t.Context(), cfg)
			var ie *group.ReplicaError
			if !errors.As(err, &ie) {
				t.Fatalf("error %v", err)
			}
			if tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("error %v is not %v", err, tt.is)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q lacks %q", err, want)
				}
			}
			nothingLeft(t, cfg.Domain)
		})
	}
}

func TestCancelledStartLeavesNothing(t *testing.T) {
	cfg := bareConfig(newDomain(t))
	cfg.Command = func(int) *exec.Cmd { return childCommand("silent") }
	cfg.Grace = 10 * time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	pids := make(chan int, 2)
	cfg.Events = func(ev group.Event) {
		if ev.Kind == group.Started {
			pids <- ev.PID
			cancel()
		}
	}
	if _, err := group.Start(ctx, cfg); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	close(pids)
	for pid := range pids {
		if running(pid) {
			t.Errorf("process %d still runs", pid)
		}
	}
	nothingLeft(t, cfg.Domain)
}

func TestEndOfContextEndsGroup(t *testing.T) {
	cfg := bareConfig(newDomain(t))
	ctx, cancel := context.WithCancel(t.Context())
	g, err := group.Start(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	<-g.Done()
	for _, r := range g.Replicas() {
		if r.Alive {
			t.Errorf("%+v", r)
		}
	}
	nothingLeft(t, cfg.Domain)
}

// The kernel kills the replicas of a killed supervisor, and the next supervisor finds the service
// free.
func TestReplicasDieWithTheirSupervisor(t *testing.T) {
	d := newDomain(t)
	killedHost(t, d, "bare")
	startGroup(t, bareConfig(d))
}

// killedHost starts a supervisor in a process of its own and kills it.
func killedHost(t *testing.T, args ...string) {
	t.Helper()
	killWhenUp(t, childCommand("host", args...))
}

// killWhenUp runs a host until its group is up, and kills it.
func killWhenUp(t *testing.T, host *exec.Cmd) {
	t.Helper()
	runHost(t, host)
	host.Process.Kill()
	host.Wait()
}

// runHost starts a host, which is killed at the end of the test, and returns the pids of its
// replicas when its group is up.
func runHost(t *testing.T, host *exec.Cmd) (pids []int) {
	t.Helper()
	// Not a pipe that Wait would read to its end, because survivors hold it open.
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	host.Stdout = w
	if host.Stderr == nil {
		host.Stderr = os.Stderr
	}
	err = host.Start()
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		host.Process.Kill()
		host.Wait()
		r.Close()
	})
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if lines.Text() == "up" {
			return pids
		}
		pid, err := strconv.Atoi(lines.Text())
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	t.Fatal("the host has ended")
	return nil
}

// Replicas that survive their supervisor continue to serve, and the next supervisor adopts them
// with their reign.
func TestSurvivorsAreAdopted(t *testing.T) {
	d := newDomain(t)
	c := dialGroup(t, d, group.DialConfig{})
	control := audio.NewAudioControlClient(c)
	killedHost(t, d, "audio", "survive")
	set := audio.SetParamT{ParamId: audio.ParamTypePan, Value: 0.25}
	if _, err := control.SetParam(t.Context(), &set); err != nil {
		t.Errorf("without a supervisor: %v", err)
	}
	r, err := registry.Open(d, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	left, err := r.List(audioservice.Service)
	if err != nil || len(left) != 2 {
		t.Fatalf("survivors %+v, %v", left, err)
	}
	cfg := audioConfig(d)
	cfg.Survive = true
	var events eventLog
	cfg.Events = events.add
	g := startGroup(t, cfg)
	before := g.Status()
	for i, rec := range left {
		if before.Replicas[i].PID != rec.PID {
			t.Errorf("%+v was not adopted: %+v\n%v", rec, before.Replicas[i], &events)
		}
	}
	if before.Epoch != left[before.Primary].Epoch ||
		left[before.Primary].Role != registry.RolePrimary {
		t.Errorf("the reign was not adopted: %+v, %+v", before, left)
	}
	v, err := control.GetParam(t.Context(), &audio.GetParamT{ParamId: audio.ParamTypePan})
	if err != nil || v.Value != 0.25 {
		t.Errorf("after the adoption: %+v, %v", v, err)
	}
	syscall.Kill(before.Replicas[before.Primary].PID, syscall.SIGKILL)
	after, err := g.WaitHealthy(t.Context(), before.Epoch)
	if err != nil || after.Primary == before.Primary {
		t.Errorf("%+v, %v", after, err)
	}
}

// A supervisor with fewer replicas leaves no survivor beside its own, and reports the eviction.
func TestSurvivorWithoutPlaceIsEvicted(t *testing.T) {
	d := newDomain(t)
	killedHost(t, d, "audio", "survive")
	cfg := audioConfig(d)
	cfg.Survive = true
	cfg.Replicas = 1
	var events eventLog
	cfg.Events = events.add
	g := startGroup(t, cfg)
	r, err := registry.Open(d, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.WaitGone(t.Context(), "audio_compute.1"); err != nil {
		t.Error(err)
	}
	shutdown(t, g) // after which all events have been reported
	if n := events.count(group.Evicted); n != 1 {
		t.Errorf("%d evictions; events:\n%v", n, &events)
	}
}

// TestStatusBelongsToItsReceiver overwrites each status that the package returns or passes to a
// condition. No other receiver of a status sees the changes.
func TestStatusBelongsToItsReceiver(t *testing.T) {
	g := startGroup(t, bareConfig(newDomain(t)))
	scribble := func(s group.Status) {
		for i := range s.Replicas {
			s.Replicas[i] = group.ReplicaStatus{Name: "scribbled"}
		}
	}
	untouched := func(s group.Status) {
		for _, r := range s.Replicas {
			if r.Name == "scribbled" {
				t.Error("a status that another has changed")
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var waiters sync.WaitGroup
	for range 4 {
		waiters.Go(func() {
			last, err := g.Wait(ctx, func(s group.Status) bool {
				untouched(s)
				scribble(s)
				return false
			})
			if err == nil {
				t.Error("the condition held")
			}
			untouched(last)
			scribble(last)
		})
	}
	for range 20 {
		s := g.Status()
		untouched(s)
		scribble(s)
		all := g.Replicas()
		untouched(group.Status{Replicas: all})
		scribble(group.Status{Replicas: all})
	}
	for range 2 {
		s, err := g.Failover(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		untouched(s)
		scribble(s)
	}
	cancel()
	waiters.Wait()
	if s, err := g.WaitHealthy(t.Context(), 0); err != nil || len(s.Replicas) != 2 {
		t.Errorf("status %+v, %v", s, err)
	}
}
