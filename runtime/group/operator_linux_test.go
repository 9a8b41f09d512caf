package group_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/group"
	"github.com/ipcgen/ipcgen/runtime/registry"
)

// operate connects to the supervisor of a group until the end of the test.
func operate(t *testing.T, cfg group.Config) *group.Operator {
	t.Helper()
	o, err := group.DialSupervisor(t.Context(), cfg.Service, cfg.Domain)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close() })
	return o
}

func pidsOf(s group.Status) (pids []int) {
	for _, r := range s.Replicas {
		pids = append(pids, r.PID)
	}
	return pids
}

// allReplaced reports whether no replica has the process that it had.
func allReplaced(before, now group.Status) bool {
	for i, pid := range pidsOf(before) {
		if now.Replicas[i].PID == pid {
			return false
		}
	}
	return true
}

// TestOrdersFromAnotherProcess gives orders to the supervisor of another process.
func TestOrdersFromAnotherProcess(t *testing.T) {
	cfg := audioConfig(newDomain(t))
	host, pids := startHost(t, cfg.Domain, "audio")
	o := operate(t, cfg)
	first, err := o.Status(t.Context())
	if err != nil || o.Supervisor() != host.Process.Pid || !first.Healthy() || first.Replicates ||
		fmt.Sprint(pidsOf(first)) != fmt.Sprint(pids) ||
		first.Replicas[0].Name != "audio_compute.0" {
		t.Fatalf("status %+v of %d, %v; the supervisor is %d, the replicas %v", first,
			o.Supervisor(), err, host.Process.Pid, pids)
	}
	second, err := o.Failover(t.Context(), first.Epoch)
	if err != nil || !second.Healthy() || second.Epoch <= first.Epoch ||
		second.Primary == first.Primary {
		t.Fatalf("after a failover: %+v, %v", second, err)
	}
	// An order about the first primary does not concern the second.
	if _, err := o.Failover(t.Context(), first.Epoch); ipc.CodeOf(
		err) != ipc.CodeFailedPrecondition || !strings.Contains(err.Error(), "is over") {
		t.Errorf("failover of an epoch that is over: %v", err)
	}
	third, err := o.Roll(t.Context())
	if err != nil || !third.Healthy() || !allReplaced(second, third) {
		t.Fatalf("after a roll: %+v, %v", third, err)
	}
	standby := third.Replicas[1-third.Primary]
	fourth, err := o.Replace(t.Context(), standby.Index, standby.PID)
	if err != nil || fourth.Replicas[standby.Index].PID == standby.PID || running(standby.PID) {
		t.Fatalf("after a replacement: %+v, %v", fourth, err)
	}
	if again, err := o.Replace(t.Context(), standby.Index, standby.PID); err != nil {
		t.Errorf("the same replacement again: %+v, %v", again, err)
	}
	if _, err := o.Replace(t.Context(), 7, 0); ipc.CodeOf(err) != ipc.CodeFailedPrecondition {
		t.Errorf("replacement of a replica that is not: %v", err)
	}
}

// TestOrdersKeepTheState gives orders under load. No call fails, and no change is lost.
func TestOrdersKeepTheState(t *testing.T) {
	cfg := listConfig(newDomain(t), 2)
	cfg.Replication.AckTimeout = time.Minute
	g := startGroup(t, cfg)
	var done atomic.Int64
	loaders, stop := load(t, cfg.Domain, 2, &done)
	o := operate(t, cfg)
	for what, order := range map[string]func() (group.Status, error){
		"failover": func() (group.Status, error) { return o.Failover(t.Context(), 0) },
		"roll":     func() (group.Status, error) { return o.Roll(t.Context()) },
		"replace":  func() (group.Status, error) { return o.Replace(t.Context(), 0, 0) },
	} {
		if s, err := order(); err != nil {
			t.Errorf("%s: %v; status %+v", what, err, s)
		}
		if _, err := g.WaitHealthy(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	checkNoneFailed(t, loaders)
	checkOracle(t, loaders, readAll(t, dialList(t, cfg.Domain)))
}

// TestOrdersNeedASupervisor asks for the supervisors of groups that have none, or one that is
// stopped.
func TestOrdersNeedASupervisor(t *testing.T) {
	cfg := bareConfig(newDomain(t))
	if _, err := group.DialSupervisor(t.Context(), "svc", cfg.Domain); !errors.Is(err,
		group.ErrNoSupervisor) {
		t.Errorf("without a domain: %v", err)
	}
	if _, err := os.Stat(cfg.Domain); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the question has made a domain: %v", err)
	}
	host, pids := startHost(t, cfg.Domain, "bare", "survive")
	defer func() {
		for _, pid := range pids {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}()
	if _, err := group.DialSupervisor(t.Context(), "other", cfg.Domain); !errors.Is(err,
		group.ErrNoSupervisor) {
		t.Errorf("of a group that is not: %v", err)
	}
	o := operate(t, cfg)
	stop(t, host.Process.Pid)
	short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := group.DialSupervisor(short, "svc", cfg.Domain); ipc.CodeOf(
		err) != ipc.CodeDeadlineExceeded {
		t.Errorf("of a supervisor that is stopped: %v", err)
	}
	if _, err := o.Failover(short, 0); ipc.CodeOf(err) != ipc.CodeDeadlineExceeded {
		t.Errorf("order to a supervisor that is stopped: %v", err)
	}
	if err := host.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	host.Wait()
	if _, err := o.Status(t.Context()); ipc.CodeOf(err) != ipc.CodeUnavailable {
		t.Errorf("order to a supervisor that is dead: %v", err)
	}
	if _, err := group.DialSupervisor(t.Context(), "svc", cfg.Domain); !errors.Is(err,
		group.ErrNoSupervisor) {
		t.Errorf("of a group whose supervisor is dead: %v", err)
	}
	// The next supervisor takes orders on the same channel.
	next, pids := startHost(t, cfg.Domain, "bare", "survive")
	defer func() {
		for _, pid := range pids {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}()
	if o := operate(t, cfg); o.Supervisor() != next.Process.Pid {
		t.Errorf("the supervisor is %d, not %d", o.Supervisor(), next.Process.Pid)
	}
}

// TestOrderOutlivesItsOperator ends the connection in the middle of a roll. The roll goes on.
func TestOrderOutlivesItsOperator(t *testing.T) {
	cfg := bareConfig(newDomain(t))
	cfg.Replicas = 3
	g := startGroup(t, cfg)
	before := g.Status()
	o := operate(t, cfg)
	ended := make(chan error, 1)
	go func() {
		_, err := o.Roll(t.Context())
		ended <- err
	}()
	if _, err := g.Wait(t.Context(), func(s group.Status) bool {
		return fmt.Sprint(pidsOf(s)) != fmt.Sprint(pidsOf(before))
	}); err != nil {
		t.Fatal(err)
	}
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Error("the operator saw the end of the roll")
	}
	if _, err := g.Wait(t.Context(), func(s group.Status) bool {
		return allReplaced(before, s) && s.Healthy()
	}); err != nil {
		t.Fatal(err)
	}
	// The group's end ends an order that waits.
	o = operate(t, cfg)
	waiting := make(chan error, 1)
	go func() {
		_, err := o.Roll(t.Context())
		waiting <- err
	}()
	ill := func(s group.Status) bool { return !s.Healthy() }
	if _, err := g.Wait(t.Context(), ill); err != nil {
		t.Fatal(err)
	}
	shutdown(t, g)
	if err := <-waiting; ipc.CodeOf(err) != ipc.CodeUnavailable {
		t.Errorf("order to a group that has ended: %v", err)
	}
}

// TestRollToABrokenExecutable rolls when the command has become one that fails. The primary runs
// on, and the group heals when the command is mended.
func TestRollToABrokenExecutable(t *testing.T) {
	cfg := bareConfig(newDomain(t))
	cfg.Stderr = new(strings.Builder)
	cfg.Restart = group.Restart{Delay: time.Millisecond, MaxDelay: time.Millisecond,
		Intensity: 1 << 20}
	var broken atomic.Bool
	good := cfg.Command
	cfg.Command = func(i int) *exec.Cmd {
		if broken.Load() {
			return childCommand("exit", "1")
		}
		return good(i)
	}
	g := startGroup(t, cfg)
	before := g.Status()
	o := operate(t, cfg)
	broken.Store(true)
	_, err := o.Roll(t.Context())
	after := g.Status()
	if err == nil || !strings.Contains(err.Error(), "svc.1") || after.Epoch != before.Epoch ||
		after.Replicas[0].PID != before.Replicas[0].PID {
		t.Errorf("roll: %v; before %+v, after %+v", err, before, after)
	}
	if s, err := o.Status(t.Context()); err != nil || s.Healthy() {
		t.Errorf("status %+v, %v", s, err)
	}
	broken.Store(false)
	if _, err := o.Roll(t.Context()); err != nil { // it waits until the group is healthy
		t.Fatal(err)
	}
	if !allReplaced(before, g.Status()) {
		t.Errorf("before %+v, after %+v", before, g.Status())
	}
}

// TestOrderThatWouldLoseTheState wants the only replica with the state to end.
func TestOrderThatWouldLoseTheState(t *testing.T) {
	cfg := listConfig(newDomain(t), 2)
	cfg.Restart = group.Restart{Delay: time.Hour, MaxDelay: time.Hour}
	g := startGroup(t, cfg)
	o := operate(t, cfg)
	s := g.Status()
	for range 2 { // the second start waits
		standby := g.Status().Replicas[1-s.Primary]
		syscall.Kill(standby.PID, syscall.SIGKILL)
		if _, err := g.Wait(t.Context(), func(s group.Status) bool {
			now := s.Replicas[standby.Index]
			return now.PID != standby.PID && (now.Restarts > 1 || s.Healthy())
		}); err != nil {
			t.Fatal(err)
		}
	}
	for what, order := range map[string]func() (group.Status, error){
		"failover": func() (group.Status, error) { return o.Failover(t.Context(), 0) },
		"replace":  func() (group.Status, error) { return o.Replace(t.Context(), s.Primary, 0) },
	} {
		if _, err := order(); ipc.CodeOf(err) != ipc.CodeFailedPrecondition {
			t.Errorf("%s: %v", what, err)
		}
	}
	if now := g.Status(); now.Epoch != s.Epoch || now.Replicas[s.Primary].PID != pidsOf(
		s)[s.Primary] {
		t.Errorf("before %+v, after %+v", s, now)
	}
}

// TestHostileOperators connects as processes of the same user can: with garbage, with many
// connections, with a connection that says nothing. The group works on, and takes orders.
func TestHostileOperators(t *testing.T) {
	cfg := bareConfig(newDomain(t))
	g := startGroup(t, cfg)
	socket := filepath.Join(cfg.Domain, ".groups", ".orders", "svc.sock")
	for i := range 40 {
		c, err := net.Dial("unixpacket", socket)
		if err != nil {
			c, err = net.Dial("unix", socket)
		}
		if err != nil {
			continue // there is no room
		}
		if i%4 != 0 {
			c.Write([]byte(strings.Repeat("\xff\x00garbage", 1+i*50)))
		}
		if i%2 != 0 {
			c.Close()
		} else {
			t.Cleanup(func() { c.Close() })
		}
	}
	for {
		o, err := group.DialSupervisor(t.Context(), "svc", cfg.Domain)
		if err == nil {
			_, err = o.Failover(t.Context(), 0)
			o.Close()
			if err == nil {
				break
			}
			t.Fatal(err)
		}
		if ipc.CodeOf(err) != ipc.CodeResourceExhausted {
			t.Fatal(err)
		}
	}
	if s := g.Status(); !s.Healthy() || s.Epoch != 2 || s.Replicas[s.Primary].Role !=
		registry.RolePrimary {
		t.Errorf("status %+v", s)
	}
}
