package group_test

import (
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/group"
)

// stall makes a change that takes much longer than AckTimeout on every replica.
func stall(t *testing.T, c ipc.Caller, x uint64) {
	t.Helper()
	if _, err := ipc.Invoke(t.Context(), c, methodStall, &words{x, 1000}); err != nil {
		t.Error(err)
	}
}

// TestSlowHandlerKeepsStandbysInSync makes changes that take longer than AckTimeout, in a group
// that must have a standby in sync. The standbys take as long, and stay in sync.
func TestSlowHandlerKeepsStandbysInSync(t *testing.T) {
	cfg := listConfig(newDomain(t), 3)
	cfg.Replication = &group.Replication{AckTimeout: 300 * time.Millisecond, MinSync: 2}
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
