package group_test

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/internal/sys/systest"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/group"
)

// clocksVar has how far the monotonic clocks of a group's replicas are ahead of the machine's.
const clocksVar = "GROUP_TEST_CLOCKS"

// TestReplicasAtClocks has replicas replicate, die, and refuse what kills them, while calls with
// deadlines are under way.
func TestReplicasAtClocks(t *testing.T) {
	clocks := strings.Fields(os.Getenv(clocksVar))
	cfg := listConfig(newDomain(t), 3)
	cfg.Replication.AckTimeout = time.Minute
	cfg.Stderr = new(strings.Builder)
	command := cfg.Command
	cfg.Command = func(i int) *exec.Cmd {
		cmd := command(i)
		if len(clocks) > 0 {
			cmd.Env = append(cmd.Env, systest.ClockVar+"="+clocks[i%len(clocks)])
		}
		return cmd
	}
	var events eventLog
	cfg.Events = events.add
	g := startGroup(t, cfg)
	c := dialList(t, cfg.Domain)
	limited := func(m *ipc.Method[words, words], x uint64) error {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		_, err := ipc.Invoke(ctx, c, m, &words{x})
		return err
	}
	for x := range uint64(3) {
		if err := limited(methodAppend, x+1); err != nil {
			t.Fatal(err)
		}
		if err := g.Roll(t.Context(), cfg.Command); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := limited(methodKill, byExit); err == nil {
			t.Error("a call that kills was answered")
		}
	}
	if err := limited(methodKill, byExit); ipc.CodeOf(err) != ipc.CodeFailedPrecondition {
		t.Errorf("what killed twice ends with %v", err)
	}
	if err := limited(methodAppend, 4); err != nil {
		t.Error(err)
	}
	if all := readAll(t, c); len(all) != 4 {
		t.Errorf("the list is %v", all)
	}
	if events.has(group.StateLost) {
		t.Errorf("events:\n%v", &events)
	}
}

// TestTimeNamespaces runs a group whose supervisor, replicas and clients are in different time
// namespaces.
func TestTimeNamespaces(t *testing.T) {
	if err := systest.TimeNamespaces(); err != nil {
		t.Skip(err)
	}
	for name, at := range map[string]struct{ supervisor, replicas string }{
		"the replicas are ahead":  {"0s", "24h 0s 48h"},
		"the supervisor is ahead": {"24h", "0s"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(os.Args[0], "-test.run=^TestReplicasAtClocks$", "-test.v",
				"-test.timeout=2m")
			cmd.Env = append(os.Environ(), systest.ClockVar+"="+at.supervisor,
				clocksVar+"="+at.replicas)
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), "--- PASS: TestReplicasAtClocks") {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}
