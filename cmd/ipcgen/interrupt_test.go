//go:build linux

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/internal/stage"
	"github.com/ipcgen/ipcgen/internal/sys"
)

// patience is how long a process may take for what it does at once on an idle machine.
const patience = 5 * time.Minute

// tool builds the command with its crash points, once.
var tool = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "ipcgen")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "ipcgen")
	cmd := exec.Command("go", "build", "-tags", "ipccrash", "-o", path, ".")
	cmd.Dir = here // tests are elsewhere
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, out)
	}
	return path, err
})

// TestMain removes what tool built.
func TestMain(m *testing.M) {
	code := m.Run()
	if built {
		if path, err := tool(); err == nil {
			os.RemoveAll(filepath.Dir(path))
		}
	}
	os.Exit(code)
}

var (
	built   bool
	here, _ = os.Getwd()
)

// A process is a run of ipcgen with something to do at a crash point.
type process struct {
	*exec.Cmd
	stderr *bufio.Reader
	said   bytes.Buffer
}

// start starts a run in dir.
func start(t *testing.T, dir, crash string, args ...string) *process {
	t.Helper()
	built = true
	path, err := tool()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{Cmd: exec.Command(path, args...)}
	p.Dir = dir
	p.Env = append(os.Environ(), sys.CrashEnv+"="+crash)
	pipe, err := p.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stderr = bufio.NewReader(pipe)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	watchdog := time.AfterFunc(patience, func() { p.Process.Kill() })
	t.Cleanup(func() {
		watchdog.Stop()
		p.Process.Kill()
	})
	return p
}

// until reads what the process says up to a line that contains text. It reports
// whether there was one.
func (p *process) until(text string) bool {
	for {
		line, err := p.stderr.ReadString('\n')
		p.said.WriteString(line)
		if err != nil {
			return false
		}
		if strings.Contains(line, text) {
			return true
		}
	}
}

// stopped waits until the process has stopped at its crash point.
func (p *process) stopped(t *testing.T) {
	t.Helper()
	if !p.until("stop at ") { // it says so before it does
		t.Fatalf("the point was not reached: %s", p.said.String())
	}
	var status syscall.WaitStatus
	for {
		_, err := syscall.Wait4(p.Process.Pid, &status, syscall.WUNTRACED, nil)
		if err == nil && status.Stopped() {
			return
		}
		if !errors.Is(err, syscall.EINTR) {
			t.Fatalf("it did not stop: %v, %v, %s", err, status, p.said.String())
		}
	}
}

// end waits for the end of the process, and returns its status or what killed it.
func (p *process) end() (code int, killed syscall.Signal) {
	p.until("\x00")
	p.Wait()
	status := p.ProcessState.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		return -1, status.Signal()
	}
	return status.ExitStatus(), 0
}

// The schemas of these tests, before and after: one type changes, one goes, one comes in
// new folders, and one namespace gets another name.
var (
	before = map[string]string{
		"a.fbs": "namespace n; table A { x: int; } table B { x: int; } table C { x: int; } " +
			"namespace old.inner; table D { x: int; }",
		"b.fbs": "namespace b; table Other { x: int; }",
	}
	after = map[string]string{
		"a.fbs": "namespace n; table A { x: int; y: int; } table C { x: int; z: int; } table E " +
			"{ x: int; } namespace fresh.inner; table D { x: int; }",
		"b.fbs": before["b.fbs"],
	}
)

// generated returns a module with the schemas of then, and what ipcgen made of the
// schemas of before.
func generated(t *testing.T, then map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	s := scenario{files: before, oldRuns: []string{"-o gen a.fbs", "-o gen b.fbs"}}
	s.prepare(t, dir, before, true)
	for name, text := range then {
		write(t, filepath.Join(dir, name), text)
	}
	return dir
}

// trees returns the output before and after, as it has to be.
func trees(t *testing.T) (old, fresh map[string]string) {
	t.Helper()
	old = readTree(t, filepath.Join(generated(t, before), "gen"))
	dir := generated(t, after)
	mustRun(t, "-o gen a.fbs")
	return old, readTree(t, filepath.Join(dir, "gen"))
}

// emptyFolders lists the folders below dir with nothing in them.
func emptyFolders(t *testing.T, dir string) (empty []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			if entries, err := os.ReadDir(path); err == nil && len(entries) == 0 {
				empty = append(empty, path)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return empty
}

// TestKilledAtEveryStep kills a run at each of its steps. No file is ever in part, what
// is left is in the hidden folder, a run for another schema removes it, and the same run
// again makes all right.
func TestKilledAtEveryStep(t *testing.T) {
	old, fresh := trees(t)
	p := start(t, generated(t, after), "list", "-o", "gen", "a.fbs")
	if code, _ := p.end(); code != exitOK {
		t.Fatal(p.said.String())
	}
	var points []string
	for line := range strings.SplitSeq(p.said.String(), "\n") {
		if point, ok := strings.CutPrefix(line, "crash point: "); ok {
			points = append(points, point)
		}
	}
	if len(points) < 7 {
		t.Fatalf("only these steps: %v", points)
	}
	kills := 0
	for _, point := range points {
		for n := 1; ; n++ {
			dir := generated(t, after)
			p := start(t, dir, fmt.Sprintf("kill:%s:%d", point, n), "-o", "gen", "a.fbs")
			code, killed := p.end()
			if killed == 0 {
				if code != exitOK || n == 1 {
					t.Fatalf("%s %d: status %d, %s", point, n, code, p.said.String())
				}
				break
			}
			kills++
			for name, text := range readTree(t, "gen") {
				hidden := strings.HasPrefix(name, stage.Folder+"/")
				if !hidden && text != old[name] && text != fresh[name] {
					t.Errorf("%s %d: %s is neither the old nor the new one: %q", point,
						n, name, text)
				}
			}
			mustRun(t, "-o gen b.fbs")
			if exists(filepath.Join("gen", stage.Folder)) {
				t.Errorf("%s %d: %v is left", point, n,
					slices.Sorted(maps.Keys(readTree(t, filepath.Join("gen", stage.Folder)))))
			}
			if empty := emptyFolders(t, "gen"); len(empty) > 0 {
				t.Errorf("%s %d: empty folders %v", point, n, empty)
			}
			mustRun(t, "-o gen a.fbs")
			sameTree(t, []int{n}, readTree(t, "gen"), fresh)
		}
	}
	t.Logf("%d kills at %d points", kills, len(points))
}

// TestKilledInANewFolder is the same where there is no output yet.
func TestKilledInANewFolder(t *testing.T) {
	for _, point := range []string{"stage folder made", "stage lock made", "stage begun",
		"stage written", "stage folders made", "stage placed"} {
		dir := newModule(t, after)
		if _, killed := start(t, dir, "kill:"+point+":1", "-o", "out/gen",
			"a.fbs").end(); killed == 0 {
			t.Fatalf("%s: not reached", point)
		}
		mustRun(t, "-o out/gen b.fbs")
		if exists("out/gen/" + stage.Folder) {
			t.Errorf("%s: the hidden folder is left", point)
		}
		if empty := emptyFolders(t, "out"); len(empty) > 0 {
			t.Errorf("%s: empty folders %v", point, empty)
		}
	}
}

// TestSignalsLeaveAllOrNothing sends a run the signals that end it, at each of its
// steps. It ends by the signal, with all files old or all new, and nothing beside them.
func TestSignalsLeaveAllOrNothing(t *testing.T) {
	old, fresh := trees(t)
	signals := []syscall.Signal{syscall.SIGINT, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // as under nohup
		signals = append(signals, syscall.SIGHUP)
	}
	for i, point := range []string{"stage folder made", "stage lock made", "stage begun",
		"stage written", "stage folders made", "stage removed", "stage placed", "stage cleaned"} {
		sig := signals[i%len(signals)]
		dir := generated(t, after)
		p := start(t, dir, "stop:"+point+":1", "-o", "gen", "a.fbs")
		p.stopped(t)
		p.Process.Signal(sig)
		p.Process.Signal(syscall.SIGCONT)
		code, killed := p.end()
		if killed != sig {
			t.Errorf("%s: status %d, killed by %v; want %v", point, code, killed, sig)
		}
		got := readTree(t, "gen")
		if !maps.Equal(got, old) && !maps.Equal(got, fresh) {
			t.Errorf("%s: the tree is neither the old nor the new one: %v", point,
				slices.Sorted(maps.Keys(got)))
		}
		if maps.Equal(got, old) && !strings.Contains(p.said.String(), "nothing was changed") {
			t.Errorf("%s: it says %q", point, p.said.String())
		}
		if empty := emptyFolders(t, "gen"); len(empty) > 0 {
			t.Errorf("%s: empty folders %v", point, empty)
		}
	}
}

// TestIgnoredSignalsStayIgnored runs ipcgen as nohup does.
func TestIgnoredSignalsStayIgnored(t *testing.T) {
	path, err := tool()
	if err != nil {
		t.Fatal(err)
	}
	built = true
	dir := newModule(t, after)
	cmd := exec.Command("sh", "-c", `trap "" INT; exec "$0" -o gen a.fbs`, path)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), sys.CrashEnv+"=stop:stage begun:1")
	pipe, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{Cmd: cmd, stderr: bufio.NewReader(pipe)}
	p.stopped(t)
	p.Process.Signal(syscall.SIGINT)
	p.Process.Signal(syscall.SIGCONT)
	if code, killed := p.end(); code != exitOK || killed != 0 || !exists("gen/n/A.go") {
		t.Errorf("status %d, killed by %v, %s", code, killed, p.said.String())
	}
}

// TestRunsTakeTurns stops a run in the middle and starts others. They wait for it, and do
// not take it for dead.
func TestRunsTakeTurns(t *testing.T) {
	dir := generated(t, after)
	write(t, "b.fbs", "namespace b; table Other { x: int; y: int; }")
	first := start(t, dir, "stop:stage written:2", "-o", "gen", "a.fbs")
	first.stopped(t)
	second := start(t, dir, "", "-o", "gen", "b.fbs")
	third := start(t, dir, "", "-o", "gen", "a.fbs")
	for _, p := range []*process{second, third} {
		if !p.until("waiting for another ipcgen") {
			t.Fatalf("it did not wait: %s", p.said.String())
		}
	}
	first.Process.Signal(syscall.SIGCONT)
	for i, p := range []*process{first, second, third} {
		if code, killed := p.end(); code != exitOK || killed != 0 {
			t.Errorf("run %d: status %d, killed by %v, %s", i, code, killed, p.said.String())
		}
	}
	for _, run := range []string{"-check -o gen a.fbs", "-check -o gen b.fbs"} {
		mustRun(t, run)
	}
	if exists(filepath.Join("gen", stage.Folder)) {
		t.Error("the hidden folder is left")
	}
}

// TestARunThatWaitsCanBeInterrupted interrupts a run while another has the lock.
func TestARunThatWaitsCanBeInterrupted(t *testing.T) {
	dir := generated(t, after)
	write(t, "b.fbs", "namespace b; table Other { x: int; y: int; }")
	first := start(t, dir, "stop:stage written:1", "-o", "gen", "a.fbs")
	first.stopped(t)
	second := start(t, dir, "", "-o", "gen", "b.fbs")
	if !second.until("waiting for another ipcgen") {
		t.Fatal(second.said.String())
	}
	second.Process.Signal(syscall.SIGTERM)
	if code, killed := second.end(); killed != syscall.SIGTERM {
		t.Errorf("status %d, killed by %v, %s", code, killed, second.said.String())
	}
	first.Process.Signal(syscall.SIGCONT)
	if code, _ := first.end(); code != exitOK {
		t.Error(first.said.String())
	}
}

// TestManyRunsAtOnce runs all of a module's runs in parallel, as make does, some for the
// same files.
func TestManyRunsAtOnce(t *testing.T) {
	files := map[string]string{"base.fbs": included}
	for i := range 4 {
		files[fmt.Sprintf("s%d.fbs",
			i)] = fmt.Sprintf(`include "base.fbs"; namespace s%d; table A { p: base.Point; } table B { a: A; }`, i)
	}
	dir := newModule(t, files)
	var ps []*process
	for i := range 8 {
		ps = append(ps, start(t, dir, "", "-all", "-o", "gen", fmt.Sprintf("s%d.fbs", i%4)))
	}
	for i, p := range ps {
		if code, killed := p.end(); code != exitOK || killed != 0 {
			t.Errorf("run %d: status %d, killed by %v, %s", i, code, killed, p.said.String())
		}
	}
	got := readTree(t, "gen")
	if len(got) != 4+4*2 {
		t.Errorf("%d files: %v", len(got), slices.Sorted(maps.Keys(got)))
	}
	mustRun(t, "-check -all -o gen s0.fbs s1.fbs s2.fbs s3.fbs")
}

// TestFilesOfTheUser checks what a run does to files that are not as it would have made
// them: modes and links stay, and what is read-only or no file is refused.
func TestFilesOfTheUser(t *testing.T) {
	_, fresh := trees(t)
	t.Run("mode", func(t *testing.T) {
		generated(t, after)
		if err := os.Chmod("gen/n/A.go", 0o640); err != nil {
			t.Fatal(err)
		}
		mustRun(t, "-o gen a.fbs")
		if info, err := os.Stat("gen/n/A.go"); err != nil || info.Mode().Perm() != 0o640 {
			t.Errorf("%v, %v", info.Mode(), err)
		}
		sameTree(t, nil, readTree(t, "gen"), fresh)
	})
	t.Run("link", func(t *testing.T) {
		generated(t, after)
		if err := os.Rename("gen/n/A.go", "elsewhere.go"); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("../../elsewhere.go", "gen/n/A.go"); err != nil {
			t.Fatal(err)
		}
		mustRun(t, "-o gen a.fbs")
		if to, err := os.Readlink("gen/n/A.go"); err != nil || to != "../../elsewhere.go" {
			t.Errorf("the link leads to %q, %v", to, err)
		}
		sameTree(t, nil, readTree(t, "gen"), fresh)
	})
	t.Run("linked folder", func(t *testing.T) {
		generated(t, after)
		if err := os.Rename("gen/n", "elsewhere"); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("../elsewhere", "gen/n"); err != nil {
			t.Fatal(err)
		}
		mustRun(t, "-o gen a.fbs")
		mustRun(t, "-check -o gen a.fbs")
		want := maps.Clone(fresh)
		for name := range want {
			if rest, ok := strings.CutPrefix(name, "n/"); ok {
				if text, err := os.ReadFile("elsewhere/" + rest); err != nil ||
					string(text) != want[name] {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
		if exists("elsewhere/B.go") {
			t.Error("B.go is left behind the link")
		}
	})
	for _, c := range []struct {
		name, want string
		prepare    func() error
	}{
		{"read-only", "cannot write gen/n/A.go: the file is read-only", func() error {
			return os.Chmod("gen/n/A.go", 0o444)
		}},
		{"read-only, to be removed", "gen/n/B.go: the file is read-only", func() error {
			return os.Chmod("gen/n/B.go", 0o444)
		}},
		{"link to nothing", "cannot write gen/n/A.go: it is a symbolic link to nothing",
			func() error {
				return errors.Join(os.Remove("gen/n/A.go"), os.Symlink("nothing", "gen/n/A.go"))
			}},
		{"directory", "cannot write gen/n/A.go: it is a directory", func() error {
			return errors.Join(os.Remove("gen/n/A.go"), os.Mkdir("gen/n/A.go", 0o777))
		}},
		{"pipe", "cannot write gen/n/A.go: it is not a regular file", func() error {
			return errors.Join(os.Remove("gen/n/A.go"), syscall.Mkfifo("gen/n/A.go", 0o666))
		}},
		{"file in the place of a folder", "cannot write gen/fresh/inner/D.go: not a directory",
			func() error {
				return os.WriteFile("gen/fresh", nil, 0o666)
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			generated(t, after)
			if err := c.prepare(); err != nil {
				t.Fatal(err)
			}
			list := func() (all []string) {
				filepath.WalkDir("gen", func(path string, d fs.DirEntry, err error) error {
					text := ""
					if d.Type().IsRegular() {
						data, _ := os.ReadFile(path)
						text = string(data)
					}
					all = append(all, path+" "+d.Type().String()+" "+text)
					return nil
				})
				return all
			}
			was := list()
			code, stdout, stderr := ipcgen("-o", "gen", "a.fbs")
			if code != exitFailed || stdout != "" || !strings.Contains(stderr, c.want) {
				t.Errorf("status %d, %q, %q; want %q", code, stdout, stderr, c.want)
			}
			if is := list(); !slices.Equal(is, was) {
				t.Errorf("before: %q\nafter: %q", was, is)
			}
		})
	}
}

// TestFullAndReadOnlyFileSystems runs ipcgen where nothing can be written, on file systems
// that are mounted in a namespace of the test's own.
func TestFullAndReadOnlyFileSystems(t *testing.T) {
	path, err := tool()
	if err != nil {
		t.Fatal(err)
	}
	built = true
	script := `set -e
mount -t tmpfs -o size=128k none "$1" || exit 77
cd "$1"
echo "module example.com/demo" > go.mod
echo "namespace n; table A { x: int; }" > a.fbs
"$0" -o gen a.fbs
find . -type f | sort | xargs cksum > /tmp/before.$$
cp a.fbs keep
{ echo "namespace n; table A { x: int; y: int; }"; for i in $(seq 60); do echo "table T$i { a: int; b: string; c: [int]; d: double; }"; done; } > a.fbs
set +e
"$0" -o gen a.fbs; echo "full: $?"
set -e
mv keep a.fbs
find . -type f | sort | xargs cksum > /tmp/after.$$
cmp /tmp/before.$$ /tmp/after.$$; rm /tmp/before.$$ /tmp/after.$$
find . -name '.ipcgen*'
mount -o remount,ro "$1"
set +e
"$0" -o gen a.fbs; echo "up to date: $?"
"$0" -o gen -package p a.fbs; echo "read-only: $?"
`
	dir := t.TempDir()
	cmd := exec.Command("unshare", "-rm", "sh", "-c", script, path, dir)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() == 77 ||
		strings.Contains(string(out), "unshare failed") {
		t.Skipf("no mounts here: %v, %s", err, out)
	}
	var said []string
	for line := range strings.SplitSeq(strings.TrimSpace(string(out)), "\n") {
		said = append(said, line)
	}
	want := []string{"no space left on device", "full: 1", "up to date: 0", "read-only file system",
		"read-only: 1"}
	if err != nil || len(said) != len(want) {
		t.Fatalf("%v:\n%s", err, out)
	}
	for i, line := range said {
		if !strings.Contains(line, want[i]) {
			t.Errorf("line %d is %q, want %q", i+1, line, want[i])
		}
	}
}
