package main

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/bench/internal/contest"
	"github.com/ipcgen/ipcgen/bench/internal/report"
)

// TestMain lets the test binary be the server of a benchmark.
func TestMain(m *testing.M) {
	becomeChild()
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
	readme := filepath.Join(t.TempDir(), "README.md")
	if err := errors.Join(
		os.WriteFile(readme,
			[]byte("# Title\n"+readmeFrom+"what was there\n"+readmeTo+"The end.\n"), 0o666),
		os.Mkdir(filepath.Join(filepath.Dir(readme), "docs"), 0o777),
	); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := run([]string{"-quick", "-o", dir, "-readme", readme}, once, &out,
		io.Discard); err != nil {
		t.Fatal(err)
	}
	for _, c := range append(contest.All(), contest.Replicated()...) {
		if !strings.Contains(out.String(), "| "+c.Name+" ") {
			t.Errorf("%s is in no table", c.Name)
		}
	}
	for _, f := range contest.Fans() {
		if !strings.Contains(out.String(), "| "+f.Name+" ") {
			t.Errorf("%s is in no table", f.Name)
		}
	}
	if strings.Contains(out.String(), "failed ") {
		t.Error("something failed, and yet there was no error")
	}
	for _, row := range []string{"| one processor: p50 |", "| verify, a table |",
		"| look up a name ", "first reply, warm standby ",
		"first reply, supervisor in a process of its own ", "first reply after a hang",
		"rolling restarts", "| 1000 "} {
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
	text, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	summary, err := os.ReadFile(filepath.Join(dir, "summary.md"))
	if err != nil {
		t.Fatal(err)
	}
	if want := "# Title\n" + readmeFrom + "\n" + string(summary) + "\n" + readmeTo +
		"The end.\n"; string(text) != want {
		t.Errorf("the README reads:\n%s\nwant:\n%s", text, want)
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(readme), report.SummaryPicture)); err != nil {
		t.Error(err)
	}
	for _, size := range []string{"64B", "4KiB", "64KiB", "1MiB", "16MiB"} {
		svg, err := os.ReadFile(filepath.Join(dir, "latency_"+size+".svg"))
		if err != nil {
			t.Error(err)
		} else if !strings.HasSuffix(string(svg), "</svg>\n") {
			t.Errorf("the picture for %s is not complete", size)
		}
	}
}

// TestCompares compares the program with itself.
func TestCompares(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(envBench, "1")
	var out strings.Builder
	args := []string{"-against", self, "-quick", "-rounds", "3", "-turn", "1ms", "-size", "64",
		"-run", "latency/ring$"}
	if err := run(args, brief(), &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"3 pairs", "| 64 B: ipcgen, raw ring, p50 "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in:\n%s", want, out.String())
		}
	}
	args[1] = filepath.Join(t.TempDir(), "nothing")
	if err := run(args, brief(), &out, io.Discard); err == nil {
		t.Error("no error from a tree that does not exist")
	}
}

func TestRefusesWhatItDoesNotKnow(t *testing.T) {
	for _, args := range [][]string{
		{"latency"},
		{"-run", "("},
		{"-run", "no such thing"},
		{"-readme", "main.go"},
	} {
		if err := run(append(args, "-o", t.TempDir()), brief(), io.Discard,
			io.Discard); err == nil {
			t.Errorf("bench %s succeeds", strings.Join(args, " "))
		}
	}
}

func TestListShowsWhatRunMatches(t *testing.T) {
	var out strings.Builder
	if err := run([]string{"-list", "-run", "latency/(bare|pipe)$"}, brief(), &out,
		io.Discard); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2 || !strings.HasPrefix(lines[0], "latency/bare ") ||
		!strings.HasPrefix(lines[1], "latency/pipe ") {
		t.Errorf("-list prints:\n%s", out.String())
	}
}

func TestGeneratedCodeIsFresh(t *testing.T) {
	cmd := exec.Command("go", "run", "./cmd/ipcgen", "-check", "-o", "bench/gen",
		"bench/schema/bulk.fbs")
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
