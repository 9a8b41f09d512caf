package group_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/runtime/group"
)

// gateVar names a socket to which Restore connects before it does anything. By that the test knows
// that Restore has begun, decides when it continues, and whether it fails.
const gateVar = "GROUP_TEST_GATE"

// waitAtGate is Restore's side of the gate.
func waitAtGate(gate string) error {
	conn, err := net.Dial("unix", gate)
	if err != nil {
		return err
	}
	defer conn.Close()
	reason, err := io.ReadAll(conn)
	if err == nil && len(reason) > 0 {
		err = errors.New(string(reason))
	}
	return err
}

// gatedConfig is a group of two whose replicas, except the first two processes, restore through the
// gate.
func gatedConfig(t *testing.T) (cfg group.Config, gate net.Listener) {
	gate, err := net.Listen("unix", filepath.Join(t.TempDir(), "gate"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { gate.Close() })
	cfg = listConfig(newDomain(t), 2)
	cfg.Replication = &group.Replication{AckTimeout: time.Minute, SyncTimeout: time.Minute}
	var starts atomic.Int32
	cfg.Command = func(i int) *exec.Cmd {
		cmd := childCommand("list", fmt.Sprint(i))
		if starts.Add(1) > 2 {
			cmd.Env = append(cmd.Env, gateVar+"="+gate.Addr().String())
		}
		return cmd
	}
	return cfg, gate
}

// passGate waits until a replica restores, calls f, and lets Restore continue, or fail with reason.
func passGate(t *testing.T, gate net.Listener, f func(), reason string) {
	t.Helper()
	conn, err := gate.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	f()
	if _, err := io.WriteString(conn, reason); err != nil {
		t.Error(err)
	}
}

// TestBacklogIsLimited makes more changes while a standby restores than the primary keeps for it.
// The primary answers all the same, and starts again with the standby, from a new snapshot.
func TestBacklogIsLimited(t *testing.T) {
	cfg, gate := gatedConfig(t)
	cfg.Replication.Backlog = 100
	g := startGroup(t, cfg)
	c := dialList(t, cfg.Domain)
	appendTo(t, c, 1)
	before := g.Status()
	syscall.Kill(before.Replicas[1].PID, syscall.SIGKILL)
	want := words{1}
	passGate(t, gate, func() {
		for n := range uint64(20) {
			appendTo(t, c, n+2)
			want = append(want, n+2)
		}
	}, "")
	passGate(t, gate, func() { // the second snapshot, which lacks these changes
		appendTo(t, c, 99)
		want = append(want, 99)
	}, "")
	after, err := g.Wait(t.Context(), group.Status.Healthy)
	if err != nil {
		t.Fatal(err)
	}
	if after.Replicas[1].Restarts != before.Replicas[1].Restarts+1 {
		t.Errorf("the standby was replaced for its backlog: %+v", after)
	}
	syscall.Kill(after.Replicas[0].PID, syscall.SIGKILL)
	if all := readAll(t, c); !slices.Equal(all, want) {
		t.Errorf("the standby has %v, want %v", all, want)
	}
	// The replica that replaces the primary restores, too.
	passGate(t, gate, func() {}, "")
}

// TestFailedRestoreReplaces shows that a replica that cannot restore is replaced, and that the
// primary answers meanwhile.
func TestFailedRestoreReplaces(t *testing.T) {
	cfg, gate := gatedConfig(t)
	var events eventLog
	cfg.Events = events.add
	g := startGroup(t, cfg)
	c := dialList(t, cfg.Domain)
	appendTo(t, c, 1)
	before := g.Status()
	syscall.Kill(before.Replicas[1].PID, syscall.SIGKILL)
	var broken int
	passGate(t, gate, func() { broken = g.Replicas()[1].PID }, "as told")
	passGate(t, gate, func() { appendTo(t, c, 2) }, "")
	after, err := g.Wait(t.Context(), group.Status.Healthy)
	if err != nil {
		t.Fatal(err)
	}
	if after.Replicas[1].PID == broken || after.Epoch != before.Epoch {
		t.Errorf("after a failed Restore in process %d: %+v", broken, after)
	}
	syscall.Kill(after.Replicas[0].PID, syscall.SIGKILL)
	if all := readAll(t, c); !slices.Equal(all, words{1, 2}) {
		t.Errorf("the standby has %v", all)
	}
	passGate(t, gate, func() {}, "")
	shutdown(t, g)
	if !strings.Contains(events.String(), "suspected list.1: could not restore the state") {
		t.Errorf("events:\n%v", &events)
	}
}

// TestLargeSnapshotUnderLoad sends a snapshot of many pieces to replicas while clients change the
// state, and expects the whole state there.
func TestLargeSnapshotUnderLoad(t *testing.T) {
	cfg := listConfig(newDomain(t), 2)
	cfg.ReadyTimeout = patience
	cfg.Replication.AckTimeout, cfg.Replication.SyncTimeout = patience, patience
	cfg.Command = func(i int) *exec.Cmd {
		return childCommand("list", fmt.Sprint(i), strconv.Itoa(8<<20+1))
	}
	var events eventLog
	cfg.Events = events.add
	g := startGroup(t, cfg)
	var done atomic.Int64
	loaders, stop := load(t, cfg.Domain, 2, &done)
	killPrimaries(t, g, 3, 1, &done)
	if _, err := g.WaitHealthy(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	stop()
	all := readAll(t, dialList(t, cfg.Domain))
	checkOracle(t, loaders, all)
	if events.has(group.StateLost) || events.has(group.Suspected) {
		t.Errorf("events:\n%v", &events)
	}
}
