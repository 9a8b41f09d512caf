package group_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/group"
	"github.com/ipcgen/ipcgen/runtime/registry"
)

func init() {
	children["fickle"] = childFickle
	children["namesake"] = childNamesake
	children["refuser"] = childRefuser
}

// childFickle is a replica of the list that leaves the group's set at SIGHUP, in the way that its
// second argument names, and lives on.
func childFickle(args []string) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	resigns, stuck := make(chan struct{}), make(chan struct{})
	l := &list{}
	r, err := group.Join(group.JoinConfig{State: failingState{l, args[2]}, Healthy: func() bool {
		select {
		case <-resigns:
			close(stuck)
			select {} // keeps Close from ending the connection of the primary
		default:
			return true
		}
	}})
	if err != nil {
		return err
	}
	ln, err := ipc.Listen("list_" + args[0])
	if err != nil {
		return err
	}
	server := ipc.NewServer(r.ServerOptions(l.service())...)
	go server.Serve(context.Background(), ln)
	if err := r.Announce(registry.Record{Control: "list_" + args[0]}); err != nil {
		return err
	}
	for range hup {
		switch args[1] {
		case "resign":
			close(resigns)
			<-stuck
			go r.Close()
		case "cut":
			cutConnections()
		}
	}
	return nil
}

// failingState is a list that cannot be snapshot while a file exists.
type failingState struct {
	*list
	trap string
}

func (s failingState) Snapshot() ([]byte, error) {
	if _, err := os.Stat(s.trap); err == nil {
		return nil, errors.New("the trap is there")
	}
	return s.list.Snapshot()
}

// cutConnections shuts down all connections of this process.
func cutConnections() {
	fds, _ := filepath.Glob("/proc/self/fd/*")
	for _, path := range fds {
		fd, _ := strconv.Atoi(filepath.Base(path))
		if _, err := unix.Getpeername(fd); err == nil {
			unix.Shutdown(fd, unix.SHUT_RDWR)
		}
	}
}

// awaitEvent blocks until an event fits.
func (l *eventLog) awaitEvent(t *testing.T, what string, fits func(group.Event) bool) group.Event {
	t.Helper()
	for give := time.Now().Add(patience); time.Now().Before(give); time.Sleep(time.Millisecond) {
		l.mu.Lock()
		for _, ev := range l.all {
			if fits(ev) {
				l.mu.Unlock()
				return ev
			}
		}
		l.mu.Unlock()
	}
	t.Fatalf("no event: %s; events:\n%v", what, l)
	return group.Event{}
}

// fell reports whether a process has fallen out of sync.
func (l *eventLog) fell(pid int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.all, func(ev group.Event) bool {
		return ev.Kind == group.OutOfSync && ev.PID == pid
	})
}

// awaitLoss blocks until a process has fallen out of sync, and checks what is said of it.
func (l *eventLog) awaitLoss(t *testing.T, pid int, reason group.OutOfSyncReason,
	detail string) {
	t.Helper()
	ev := l.awaitEvent(t, "out of sync", func(ev group.Event) bool {
		return ev.Kind == group.OutOfSync && ev.PID == pid
	})
	var why *group.OutOfSyncError
	switch {
	case !errors.As(ev.Err, &why):
		t.Errorf("the event's error is %v", ev.Err)
	case why.Reason != reason || why.Replica != ev.Replica || why.PID != pid ||
		!strings.Contains(why.Detail, detail):
		t.Errorf("the loss is %+v, and not one of %q", why, reason)
	case !strings.Contains(ev.Cause, reason.String()) ||
		!strings.Contains(why.Error(), reason.String()):
		t.Errorf("the texts are %q and %q", ev.Cause, why)
	}
}

// fickleConfig is a group of replicas that leave the set as told.
func fickleConfig(t *testing.T, how string, events *eventLog) (cfg group.Config, trap string) {
	trap = filepath.Join(t.TempDir(), "trap")
	cfg = listConfig(newDomain(t), 2)
	cfg.Replication = &group.Replication{AckTimeout: time.Minute, SyncTimeout: time.Minute}
	cfg.Heartbeat = group.Heartbeat{Period: 5 * time.Millisecond, Grace: time.Hour}
	cfg.Grace = 3 * time.Second
	cfg.Command = func(i int) *exec.Cmd { return childCommand("fickle", fmt.Sprint(i), how, trap) }
	cfg.Events = events.add
	return cfg, trap
}

// TestReasonsOfLosses has a standby fall out of sync in each way in which it can, and checks that
// the event says why.
func TestReasonsOfLosses(t *testing.T) {
	// The standby resigns as soon as it can, perhaps before the primary watches the registry.
	t.Run("resigned", func(t *testing.T) {
		var events eventLog
		cfg, _ := fickleConfig(t, "resign", &events)
		g := startGroup(t, cfg)
		standby := g.Replicas()[1].PID
		syscall.Kill(standby, syscall.SIGHUP)
		// Its connection ends then, too, and the primary may see that first.
		ev := events.awaitEvent(t, "out of sync", func(ev group.Event) bool {
			return ev.Kind == group.OutOfSync && ev.PID == standby
		})
		var why *group.OutOfSyncError
		if !errors.As(ev.Err, &why) || why.Reason != group.OutOfSyncGone &&
			why.Reason != group.OutOfSyncLinkEnded {
			t.Errorf("the event is %+v", ev)
		}
	})
	t.Run("cut", func(t *testing.T) {
		var events eventLog
		cfg, _ := fickleConfig(t, "cut", &events)
		g := startGroup(t, cfg)
		for range 2 { // also in the second reign
			before, err := g.WaitHealthy(t.Context(), 0)
			if err != nil {
				t.Fatal(err)
			}
			standby := before.Replicas[1-before.Primary].PID
			syscall.Kill(standby, syscall.SIGHUP)
			events.awaitLoss(t, standby, group.OutOfSyncLinkEnded, "gone")
			// The standby joins again at once. That it had left is told nevertheless.
			fell := false
			events.awaitEvent(t, "in sync again", func(ev group.Event) bool {
				fell = fell || ev.Kind == group.OutOfSync && ev.PID == standby
				return fell && ev.Kind == group.InSync && ev.PID == standby
			})
			syscall.Kill(before.Replicas[before.Primary].PID, syscall.SIGKILL)
			if _, err := g.WaitHealthy(t.Context(), before.Epoch); err != nil {
				t.Fatal(err)
			}
		}
	})
	t.Run("late", func(t *testing.T) {
		var events eventLog
		cfg := listConfig(newDomain(t), 2)
		cfg.Replication.AckTimeout = 50 * time.Millisecond
		cfg.Events = events.add
		g := startGroup(t, cfg)
		standby := g.Replicas()[1].PID
		stop(t, standby)
		appendTo(t, dialList(t, cfg.Domain), 1)
		events.awaitLoss(t, standby, group.OutOfSyncLate, "Apply")
	})
	t.Run("diverged", func(t *testing.T) {
		var events eventLog
		cfg := listConfig(newDomain(t), 2)
		cfg.Events = events.add
		g := startGroup(t, cfg)
		standby := g.Replicas()[1].PID
		if _, err := ipc.Invoke(t.Context(), dialList(t, cfg.Domain), methodStray,
			&words{}); err != nil {
			t.Fatal(err)
		}
		events.awaitLoss(t, standby, group.OutOfSyncDiverged, "change 1")
	})
	t.Run("promotion", func(t *testing.T) {
		var events eventLog
		cfg := listConfig(newDomain(t), 3)
		cfg.Replication = &group.Replication{AckTimeout: 100 * time.Millisecond,
			SyncTimeout: time.Minute}
		cfg.Events = events.add
		g := startGroup(t, cfg)
		standby := g.Replicas()[2].PID
		stop(t, standby)
		syscall.Kill(g.Replicas()[0].PID, syscall.SIGKILL)
		events.awaitLoss(t, standby, group.OutOfSyncPromotion, "")
	})
	t.Run("snapshot", func(t *testing.T) {
		var events eventLog
		cfg, trap := fickleConfig(t, "cut", &events)
		cfg.Replication.SyncTimeout = 300 * time.Millisecond
		g := startGroup(t, cfg)
		if err := os.WriteFile(trap, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		syscall.Kill(g.Replicas()[1].PID, syscall.SIGKILL)
		// On a busy machine one may be suspected before the primary has tried.
		events.awaitEvent(t, "suspected for the trap", func(ev group.Event) bool {
			return ev.Kind == group.Suspected && ev.Replica == "list.1" &&
				strings.Contains(ev.Cause, group.OutOfSyncSnapshot.String()) &&
				strings.Contains(ev.Cause, "the trap is there")
		})
		if err := os.Remove(trap); err != nil {
			t.Fatal(err)
		}
		if _, err := g.WaitHealthy(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
	})
}

// childRefuser is a replica that gets in sync as others do, and refuses every change.
func childRefuser(args []string) error {
	r, err := group.Join(group.JoinConfig{State: &list{}})
	if err != nil {
		return err
	}
	for channel, opts := range map[string][]ipc.ServerOption{
		"list_" + args[0]: {(&list{}).service()},
		group.ReplicaChannel(r.Name()): {ipc.NewService(listProtocol), group.RawStandby(
			func(method int, _ []byte) ([]byte, error) {
				switch method {
				case enter: // at the beginning, with the whole state
					return append(make([]byte, 16), 1, 0, 0, 0, 0, 0, 0, 0), nil
				case apply:
					return nil, ipc.Errorf(ipc.CodeFailedPrecondition, "not this one")
				}
				return nil, nil
			})},
	} {
		l, err := ipc.Listen(channel)
		if err != nil {
			return err
		}
		go ipc.NewServer(opts...).Serve(context.Background(), l)
	}
	reg, err := registry.Open("", nil)
	if err != nil {
		return err
	}
	rec := r.ActAsStandby()
	rec.Control, rec.Role = "list_"+args[0], registry.RoleStandby
	own, err := reg.Register(rec)
	if err != nil {
		return err
	}
	if err := own.SetRole(registry.RoleStandby, 1); err != nil {
		return err
	}
	select {}
}

// TestStandbyThatRefuses has a standby in sync refuse a change.
func TestStandbyThatRefuses(t *testing.T) {
	var events eventLog
	cfg := listConfig(newDomain(t), 2)
	cfg.Events = events.add
	honest := cfg.Command
	cfg.Command = func(i int) *exec.Cmd {
		if i == 1 && !events.has(group.OutOfSync) {
			return childCommand("refuser", "1")
		}
		return honest(i)
	}
	cfg.Replication.SyncTimeout = 5 * time.Second
	g := startGroup(t, cfg)
	refuser := g.Replicas()[1].PID
	appendTo(t, dialList(t, cfg.Domain), 1)
	events.awaitLoss(t, refuser, group.OutOfSyncRefused, "not this one")
	// It comes in sync again and again, and falls out of it with each change.
	syscall.Kill(refuser, syscall.SIGKILL)
	if _, err := g.Wait(t.Context(), func(s group.Status) bool {
		return s.Healthy() && s.Replicas[1].PID != refuser
	}); err != nil {
		t.Fatal(err)
	}
}

// TestStandbyBehindItsBacklog keeps a standby from getting in sync by more changes than the primary
// keeps for it. When it is replaced, the reason is told.
func TestStandbyBehindItsBacklog(t *testing.T) {
	t.Parallel()
	cfg, gate := gatedConfig(t)
	var events eventLog
	cfg.Events = events.add
	cfg.Replication.Backlog, cfg.Replication.SyncTimeout = 100, 10*time.Second
	g := startGroup(t, cfg)
	c := dialList(t, cfg.Domain)
	appendTo(t, c, 1)
	syscall.Kill(g.Replicas()[1].PID, syscall.SIGKILL)
	passGate(t, gate, func() {
		for n := range uint64(20) {
			appendTo(t, c, n+2)
		}
	}, "")
	// It starts again, and stays at the gate.
	ev := events.awaitEvent(t, "suspected", func(ev group.Event) bool {
		return ev.Kind == group.Suspected && ev.Replica == "list.1"
	})
	if !strings.Contains(ev.Cause, group.OutOfSyncBacklog.String()) {
		t.Errorf("the cause is %q", ev.Cause)
	}
	go func() { // also those of processes that were killed at the gate
		for {
			conn, err := gate.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	if _, err := g.WaitHealthy(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
}

// stop stops a process, and returns when it has stopped.
func stop(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	// The signal takes effect later.
	if err := unix.Waitid(unix.P_PID, pid, nil, unix.WSTOPPED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
}

// childNamesake is a replica of the list that cannot register, because another process has its
// name, and lives on.
func childNamesake(args []string) error {
	l := &list{}
	r, err := group.Join(group.JoinConfig{State: l})
	if err != nil {
		return err
	}
	ipc.NewServer(r.ServerOptions(l.service())...)
	if err := r.Announce(registry.Record{Control: "list_" + args[0]}); err == nil {
		return errors.New("the name was free")
	}
	select {}
}

// TestSessionIsWithTheProcessMeant has the registry name a process of a replica that is not the one
// which answers on the replica's channel, as it does for a moment when a process has died, the next
// one has its place, and the primary has not learned of that yet. The primary must not take the one
// for the other: it would drop the new process as dead when it learns of the death.
func TestSessionIsWithTheProcessMeant(t *testing.T) {
	t.Parallel()
	cfg := listConfig(newDomain(t), 2)
	cfg.Replication = &group.Replication{AckTimeout: time.Minute, SyncTimeout: time.Minute}
	cfg.ReadyTimeout = 10 * time.Second
	var mu sync.Mutex
	swap := false
	cfg.Command = func(i int) *exec.Cmd {
		mu.Lock()
		defer mu.Unlock()
		if swap {
			return childCommand("namesake", fmt.Sprint(i))
		}
		return childCommand("list", fmt.Sprint(i))
	}
	var events eventLog
	cfg.Events = events.add
	g := startGroup(t, cfg)
	mu.Lock()
	swap = true
	mu.Unlock()
	reg, err := registry.Open(cfg.Domain, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer reg.Close()
	syscall.Kill(g.Replicas()[1].PID, syscall.SIGKILL)
	// The record of a process of the group that has died, which is still seen. A namesake that is
	// faster ends.
	var dead *registry.Registration
	for give := time.Now().Add(patience); dead == nil; time.Sleep(time.Millisecond) {
		dead, err = reg.Register(registry.Record{Name: "list.1", Service: "list",
			Control: "list_1", Incarnation: 4711})
		if err != nil && time.Now().After(give) {
			t.Fatal(err)
		}
	}
	namesake := 0
	events.awaitEvent(t, "a namesake that is suspected", func(ev group.Event) bool {
		if ev.Kind == group.Suspected && ev.Replica == "list.1" {
			namesake = ev.PID
		}
		return namesake != 0
	})
	events.mu.Lock()
	for _, ev := range events.all {
		if ev.Kind == group.InSync && ev.PID == namesake {
			t.Errorf("the primary counts on process %d, which is not the registered one", namesake)
		}
	}
	events.mu.Unlock()
	mu.Lock()
	swap = false
	mu.Unlock()
	dead.Close()
	if _, err := g.WaitHealthy(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
}
