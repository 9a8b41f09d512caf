package main

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/bench/internal/contest"
	"github.com/ipcgen/ipcgen/bench/internal/failover"
	"github.com/ipcgen/ipcgen/bench/internal/peer"
)

// TestMain lets the test binary be the server of a benchmark.
func TestMain(m *testing.M) {
	failover.Main()
	peer.Main(server)
	if os.Getenv(envBench) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// envBench makes the test binary the command.
const envBench = "IPCGEN_BENCH_TEST"

// TestEverythingRuns runs each benchmark once and as shortly as it goes, so
// that none can rot. It looks at no number.
func TestEverythingRuns(t *testing.T) {
	once := effort{rounds: 1, warm: time.Nanosecond, turn: time.Millisecond, idle: time.Millisecond,
		lookups: 1, kills: 1, hangs: 1, rolls: 1}
	dir := t.TempDir()
	var out strings.Builder
	if err := run([]string{"-quick", "-o", dir}, once, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	for _, c := range contest.All() {
		if !strings.Contains(out.String(), "| "+c.Name+" ") {
			t.Errorf("%s is in no table", c.Name)
		}
	}
	for _, row := range []string{"| verify, a table |", "| look up a name ", "first reply, warm standby ", "first reply after a hang", "rolling restarts"} {
		if !strings.Contains(out.String(), row) {
			t.Errorf("%q is in no table", row)
		}
	}
	tables, err := os.ReadFile(filepath.Join(dir, "tables.md"))
	if err != nil {
		t.Fatal(err)
	}
	if string(tables) != out.String() {
		t.Error("tables.md is not what was printed")
	}
	for _, size := range []string{"64B", "4KiB", "64KiB", "1MiB"} {
		svg, err := os.ReadFile(filepath.Join(dir, "latency_"+size+".svg"))
		if err != nil {
			t.Error(err)
		} else if !strings.HasSuffix(string(svg), "</svg>\n") {
			t.Errorf("the picture for %s is not complete", size)
		}
	}
}

func TestRefusesWhatItDoesNotKnow(t *testing.T) {
	for _, args := range [][]string{
		{"latency"},
		{"-run", "("},
		{"-run", "no such thing"},
	} {
		if err := run(append(args, "-o", t.TempDir()), brief(), io.Discard, io.Discard); err == nil {
			t.Errorf("bench %s succeeds", strings.Join(args, " "))
		}
	}
}

func TestListShowsWhatRunMatches(t *testing.T) {
	var out strings.Builder
	if err := run([]string{"-list", "-run", "latency/(bare|pipe)$"}, brief(), &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2 || !strings.HasPrefix(lines[0], "latency/bare ") || !strings.HasPrefix(lines[1], "latency/pipe ") {
		t.Errorf("-list prints:\n%s", out.String())
	}
}

func TestGeneratedCodeIsFresh(t *testing.T) {
	cmd := exec.Command("go", "run", "./cmd/ipcgen", "-check", "-o", "bench/gen", "bench/schema/bulk.fbs")
	cmd.Dir = ".."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("run go generate in bench: %v\n%s", err, out)
	}
}

// TestInterruptLeavesNothing interrupts the command while it starts groups of
// processes.
func TestInterruptLeavesNothing(t *testing.T) {
	tmp := t.TempDir()
	cmd := exec.Command(os.Args[0], "-run", "codec/64B|failover/10MB", "-o", t.TempDir())
	cmd.Env = append(os.Environ(), envBench+"=1", "TMPDIR="+tmp)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// The table of the first section is there, so the second one runs.
	if _, err := bufio.NewReader(out).ReadString('|'); err != nil {
		t.Error(err)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Error(err)
	}
	if _, err := io.Copy(io.Discard, out); err != nil { // until all that could write have ended
		t.Error(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("an interrupted run succeeds")
	}
	left, err := os.ReadDir(tmp)
	if err != nil {
		t.Fatal(err)
	}
	if len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
