package group_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/ipcgen/ipcgen/internal/sys/systest"
)

// childGlutton is a replica that takes all available memory at SIGHUP. With an argument it first
// limits its memory to that number of bytes more.
func childGlutton(args []string) error {
	if _, err := bareUntilHangup(); err != nil {
		return err
	}
	if len(args) > 0 {
		if err := limitOwnMemory(args[0]); err != nil {
			return err
		}
	}
	eatMemory()
	return nil
}

// limitOwnMemory limits this process to the given number of bytes more.
func limitOwnMemory(bytes string) error {
	var pages, more uint64
	if statm, err := os.ReadFile("/proc/self/statm"); err != nil {
		return err
	} else if _, err := fmt.Sscan(string(statm)+bytes, &pages, new(int), new(int), new(int),
		new(int), new(int), new(int), &more); err != nil {
		return err
	}
	limit := pages*uint64(os.Getpagesize()) + more
	if err := syscall.Setrlimit(syscall.RLIMIT_AS,
		&syscall.Rlimit{Cur: limit, Max: limit}); err != nil {
		return err
	}
	return nil
}

// eatMemory takes all available memory.
func eatMemory() {
	type block struct {
		before *block
		memory [16 << 20]byte
	}
	var last *block
	for {
		last = &block{before: last}
		for i := 0; i < len(last.memory); i += os.Getpagesize() {
			last.memory[i] = 1
		}
	}
}

// loseToHunger lets the primary of a group of gluttons die, and waits until the group is healthy
// again.
func loseToHunger(t *testing.T, args []string, starve func(pid int)) (events *eventLog) {
	cfg := bareConfig(newDomain(t))
	cfg.Command = func(int) *exec.Cmd { return childCommand("glutton", args...) }
	cfg.Stderr = new(bytes.Buffer) // Go's tracebacks
	events = new(eventLog)
	cfg.Events = events.add
	g := startGroup(t, cfg)
	before := g.Status()
	pid := before.Replicas[before.Primary].PID
	starve(pid)
	syscall.Kill(pid, syscall.SIGHUP)
	if _, err := g.WaitHealthy(t.Context(), before.Epoch); err != nil {
		t.Fatal(err)
	}
	shutdown(t, g)
	return events
}

// A process that reaches its memory limit ends itself, as Go programs do.
func TestReplicaOutOfMemory(t *testing.T) {
	events := loseToHunger(t, []string{strconv.Itoa(64 << 20)}, func(int) {})
	// The allocator of the race detector gives up with status 66.
	if e := events.String(); !strings.Contains(e, "exit status 2") &&
		!strings.Contains(e, "exit status 66") {
		t.Errorf("events:\n%v", events)
	}
}

// The kernel kills a process that exceeds the memory limit of its control group.
func TestReplicaKilledForMemory(t *testing.T) {
	events := loseToHunger(t, nil, func(pid int) { limitMemory(t, pid, 64<<20) })
	if !strings.Contains(events.String(), "signal: killed") {
		t.Errorf("events:\n%v", events)
	}
}

// limitMemory puts a process into a control group of its own, if this process may create one.
func limitMemory(t *testing.T, pid, limit int) {
	t.Helper()
	g, err := systest.NewMemoryGroup(strconv.Itoa(pid), limit)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { _ = g.Remove() })
	if err := g.Add(pid); err != nil {
		t.Skipf("a process cannot be put into a control group here: %v", err)
	}
}
