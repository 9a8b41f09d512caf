package group_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/group"
)

// ackTimeout is the AckTimeout of groups whose standbys are not to be late, though the machine may
// be busy; a slow change takes longer.
const ackTimeout, slow = 2 * time.Second, 3 * time.Second

// stall makes a change that takes longer than ackTimeout on every replica.
func stall(t *testing.T, c ipc.Caller, x uint64) {
	t.Helper()
	if _, err := ipc.Invoke(t.Context(), c, methodStall,
		&words{x, uint64(slow.Milliseconds())}); err != nil {
		t.Error(err)
	}
}

// TestSlowHandlerKeepsStandbysInSync makes changes that take longer than AckTimeout, in a group
// that must have a standby in sync. The standbys take as long, and stay in sync.
func TestSlowHandlerKeepsStandbysInSync(t *testing.T) {
	t.Parallel()
	cfg := listConfig(newDomain(t), 3)
	cfg.Replication = &group.Replication{AckTimeout: ackTimeout, MinSync: 2}
	var events eventLog
	cfg.Events = events.add
	g := startGroup(t, cfg)
	c := dialList(t, cfg.Domain)
	read := make(chan error, 1)
	stall(t, c, 1)
	go func() {
		_, err := ipc.Invoke(t.Context(), dialList(t, cfg.Domain), methodLast, &words{})
		read <- err
	}()
	stall(t, c, 2)
	if err := <-read; err != nil {
		t.Error(err)
	}
	if events.has(group.OutOfSync) {
		t.Errorf("events:\n%v", &events)
	}
	before := g.Status()
	syscall.Kill(before.Replicas[before.Primary].PID, syscall.SIGKILL)
	if all := readAll(t, c); !slices.Equal(all, words{1, 2}) {
		t.Errorf("the list is %v", all)
	}
}

// TestStoppedStandbyAndSlowHandler stops the standby of a slow change, which is dropped all the
// same.
func TestStoppedStandbyAndSlowHandler(t *testing.T) {
	t.Parallel()
	cfg := listConfig(newDomain(t), 2)
	cfg.Replication = &group.Replication{AckTimeout: 300 * time.Millisecond}
	var events eventLog
	cfg.Events = events.add
	g := startGroup(t, cfg)
	c := dialList(t, cfg.Domain)
	standby := g.Replicas()[1].PID
	syscall.Kill(standby, syscall.SIGSTOP)
	if err := unix.Waitid(unix.P_PID, standby, nil, unix.WSTOPPED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	stall(t, c, 1)
	if !events.has(group.OutOfSync) {
		if _, err := g.Wait(t.Context(), func(s group.Status) bool {
			return !s.Replicas[1].InSync
		}); err != nil {
			t.Fatal(err)
		}
	}
	syscall.Kill(standby, syscall.SIGCONT)
	if _, err := g.WaitHealthy(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
}

// barrierVar names a socket to which the handler of Pause connects before it does anything.
const barrierVar = "GROUP_TEST_BARRIER"

// pauseAtBarrier is the handler's side of the barrier.
func pauseAtBarrier() error {
	conn, err := net.Dial("unix", os.Getenv(barrierVar))
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := binary.Write(conn, binary.NativeEndian, uint64(os.Getpid())); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, conn)
	return err
}

// A barrier holds the handlers of Pause up.
type barrier struct {
	*net.UnixListener
	arrived map[int]net.Conn // by pid
}

// barrierConfig is a group whose calls of Pause wait at a barrier.
func barrierConfig(t *testing.T, replicas int, events *eventLog) (group.Config, *barrier) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "barrier"))
	if err != nil {
		t.Fatal(err)
	}
	b := &barrier{l.(*net.UnixListener), make(map[int]net.Conn)}
	t.Cleanup(func() {
		l.Close()
		for _, c := range b.arrived {
			c.Close()
		}
	})
	cfg := listConfig(newDomain(t), replicas)
	cfg.Command = func(i int) *exec.Cmd {
		cmd := childCommand("list", fmt.Sprint(i))
		cmd.Env = append(cmd.Env, barrierVar+"="+l.Addr().String())
		return cmd
	}
	cfg.Events = events.add
	return cfg, b
}

// await blocks until a process is at the barrier.
func (b *barrier) await(t *testing.T, pid int) {
	t.Helper()
	b.SetDeadline(time.Now().Add(patience))
	for b.arrived[pid] == nil {
		c, err := b.Accept()
		if err != nil {
			t.Fatal(err)
		}
		var who uint64
		if err := binary.Read(c, binary.NativeEndian, &who); err != nil {
			t.Fatal(err)
		}
		b.arrived[int(who)] = c
	}
}

// pass lets a process pass the barrier, which is there or comes.
func (b *barrier) pass(t *testing.T, pid int) {
	t.Helper()
	b.await(t, pid)
	b.arrived[pid].Close()
	delete(b.arrived, pid)
}

// pause makes a call of Pause, and returns a channel of its error.
func pause(t *testing.T, c ipc.Caller, x, ms uint64) <-chan error {
	result := make(chan error, 1)
	go func() {
		_, err := ipc.Invoke(t.Context(), c, methodPause, &words{x, ms})
		result <- err
	}()
	return result
}

// healthyWith waits until a group is healthy, and checks the list of the primary and, after a
// failover, of a standby.
func healthyWith(t *testing.T, g *group.Group, c ipc.Caller, want words) {
	t.Helper()
	for range 2 {
		before, err := g.WaitHealthy(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		if all := readAll(t, c); !slices.Equal(all, want) {
			t.Errorf("the list is %v, and not %v", all, want)
		}
		syscall.Kill(before.Replicas[before.Primary].PID, syscall.SIGKILL)
		if _, err := g.WaitHealthy(t.Context(), before.Epoch); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTakeoverWaitsForASlowStandby kills a primary while both standbys execute a change that takes
// longer than AckTimeout. The one that is promoted waits for the other, which is slower.
func TestTakeoverWaitsForASlowStandby(t *testing.T) {
	t.Parallel()
	var events eventLog
	cfg, b := barrierConfig(t, 3, &events)
	cfg.Replication = &group.Replication{AckTimeout: ackTimeout}
	g := startGroup(t, cfg)
	c := dialList(t, cfg.Domain)
	all := g.Replicas()
	result := pause(t, c, 1, uint64(slow.Milliseconds()))
	b.pass(t, all[0].PID)
	b.await(t, all[1].PID)
	b.await(t, all[2].PID)
	syscall.Kill(all[0].PID, syscall.SIGKILL)
	b.pass(t, all[1].PID)
	<-result
	if _, err := g.Wait(t.Context(), func(s group.Status) bool {
		return s.Primary == 1
	}); err != nil {
		t.Fatal(err)
	}
	answered := make(chan words, 1)
	go func() { answered <- readAll(t, c) }()
	select {
	case all := <-answered:
		t.Fatalf("the new primary has answered %v without the standby", all)
	case <-time.After(slow + time.Second): // the new primary is ready after slow
	}
	b.pass(t, all[2].PID)
	if list := <-answered; !slices.Equal(list, words{1}) {
		t.Errorf("the list is %v", list)
	}
	if events.fell(all[2].PID) {
		t.Errorf("events:\n%v", &events)
	}
	healthyWith(t, g, c, words{1})
}

// TestHangingStandbyIsReplaced has a handler hang on the standby only. The primary answers without
// it, the standby is replaced, and the reason is told.
func TestHangingStandbyIsReplaced(t *testing.T) {
	t.Parallel()
	for minSync := range 2 {
		t.Run(fmt.Sprint("MinSync ", minSync), func(t *testing.T) {
			var events eventLog
			cfg, b := barrierConfig(t, 2, &events)
			cfg.Replication = &group.Replication{MinSync: minSync,
				AckTimeout: 500 * time.Millisecond, SyncTimeout: ackTimeout}
			g := startGroup(t, cfg)
			c := dialList(t, cfg.Domain)
			primary, standby := g.Replicas()[0].PID, g.Replicas()[1].PID
			result := pause(t, c, 1, 0)
			b.pass(t, primary)
			b.await(t, standby) // where it stays
			err := <-result
			switch {
			case minSync == 0 && err != nil:
				t.Error(err)
			case minSync == 1 && (ipc.CodeOf(err) != ipc.CodeFailedPrecondition ||
				ipc.OutcomeOf(err) != ipc.OutcomeUnknown ||
				!strings.Contains(err.Error(), "MinSync")):
				t.Error(err)
			}
			events.awaitLoss(t, standby, group.OutOfSyncLate, "did not answer within")
			ev := events.awaitEvent(t, "suspected", func(ev group.Event) bool {
				return ev.Kind == group.Suspected && ev.PID == standby
			})
			if !strings.Contains(ev.Cause, "was out of sync for 2s") ||
				!strings.Contains(ev.Cause, group.OutOfSyncLate.String()) {
				t.Errorf("the cause is %q", ev.Cause)
			}
			if s, err := g.WaitHealthy(t.Context(), 0); err != nil || s.Epoch != 1 {
				t.Fatalf("status %+v, %v", s, err)
			}
			healthyWith(t, g, c, words{1}) // the change was made, whatever its caller was told
		})
	}
}

// TestStandbyStopsInASlowHandler stops the standby while it executes a change, in a group that must
// have a standby in sync.
func TestStandbyStopsInASlowHandler(t *testing.T) {
	t.Run("for a moment", func(t *testing.T) {
		var events eventLog
		cfg, b := barrierConfig(t, 2, &events)
		cfg.Replication = &group.Replication{MinSync: 1, AckTimeout: time.Minute}
		g := startGroup(t, cfg)
		c := dialList(t, cfg.Domain)
		primary, standby := g.Replicas()[0].PID, g.Replicas()[1].PID
		result := pause(t, c, 1, 0)
		b.pass(t, primary)
		b.await(t, standby)
		stop(t, standby)
		b.pass(t, standby)
		syscall.Kill(standby, syscall.SIGCONT)
		if err := <-result; err != nil || events.has(group.OutOfSync) {
			t.Errorf("%v; events:\n%v", err, &events)
		}
		healthyWith(t, g, c, words{1})
	})
	t.Run("for too long", func(t *testing.T) {
		var events eventLog
		cfg, b := barrierConfig(t, 2, &events)
		cfg.Replication = &group.Replication{MinSync: 1, AckTimeout: ackTimeout,
			SyncTimeout: time.Minute}
		g := startGroup(t, cfg)
		c := dialList(t, cfg.Domain)
		primary, standby := g.Replicas()[0].PID, g.Replicas()[1].PID
		result := pause(t, c, 1, 0)
		b.pass(t, primary)
		b.await(t, standby)
		stop(t, standby)
		if err := <-result; ipc.CodeOf(err) != ipc.CodeFailedPrecondition ||
			ipc.OutcomeOf(err) != ipc.OutcomeUnknown {
			t.Error(err)
		}
		events.awaitLoss(t, standby, group.OutOfSyncLate, "did not answer within")
		_, err := ipc.Invoke(t.Context(), c, methodAppend, &words{2})
		if ipc.CodeOf(err) != ipc.CodeFailedPrecondition || ipc.OutcomeOf(err) != ipc.NotExecuted {
			t.Error(err)
		}
		b.pass(t, standby)
		syscall.Kill(standby, syscall.SIGCONT)
		after, err := g.WaitHealthy(t.Context(), 0)
		if err != nil || after.Epoch != 1 || after.Replicas[1].PID != standby {
			t.Errorf("status %+v, %v; events:\n%v", after, err, &events)
		}
		appendTo(t, c, 3)
		healthyWith(t, g, c, words{1, 3})
	})
}

// TestPrimaryStopsWithAStandbyInASlowHandler stops the primary while the standby executes a change,
// for longer than AckTimeout. That is no fault of the standby, which answers when the primary
// continues.
func TestPrimaryStopsWithAStandbyInASlowHandler(t *testing.T) {
	t.Parallel()
	var events eventLog
	cfg, b := barrierConfig(t, 2, &events)
	cfg.Replication = &group.Replication{MinSync: 1, AckTimeout: 3 * time.Second}
	g := startGroup(t, cfg)
	c := dialList(t, cfg.Domain)
	primary, standby := g.Replicas()[0].PID, g.Replicas()[1].PID
	result := pause(t, c, 1, 0)
	b.pass(t, primary)
	b.await(t, standby)
	stop(t, primary)
	time.Sleep(3500 * time.Millisecond) // AckTimeout passes
	syscall.Kill(primary, syscall.SIGCONT)
	b.pass(t, standby)
	if err := <-result; err != nil || events.has(group.OutOfSync) {
		t.Errorf("%v; events:\n%v", err, &events)
	}
	healthyWith(t, g, c, words{1})
}

// TestPrimaryStopsInASlowHandler stops the primary while it executes a change. It is found to hang,
// and the standby is promoted, with every change that was answered.
func TestPrimaryStopsInASlowHandler(t *testing.T) {
	t.Parallel()
	var events eventLog
	cfg, b := barrierConfig(t, 2, &events)
	cfg.Replication = &group.Replication{AckTimeout: time.Minute, SyncTimeout: time.Minute}
	cfg.Heartbeat = group.Heartbeat{Period: 20 * time.Millisecond, Grace: 3 * time.Second}
	g := startGroup(t, cfg)
	c := dialList(t, cfg.Domain)
	appendTo(t, c, 1)
	before := g.Status()
	primary := before.Replicas[0].PID
	result := pause(t, c, 2, 0)
	b.await(t, primary)
	stop(t, primary)
	if err := <-result; ipc.OutcomeOf(err) != ipc.OutcomeUnknown {
		t.Error(err)
	}
	if _, err := g.WaitHealthy(t.Context(), before.Epoch); err != nil {
		t.Fatal(err)
	}
	appendTo(t, c, 3)
	healthyWith(t, g, c, words{1, 3}) // the stopped primary had not passed the change on
	if events.has(group.StateLost) || !strings.Contains(events.String(), "hangs") {
		t.Errorf("events:\n%v", &events)
	}
}
