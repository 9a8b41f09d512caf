package main_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/internal/wave"
	"github.com/ipcgen/ipcgen/runtime/registry"
)

// TestRealtime plays a sweep for a second while primaries are killed: the sound is that of a
// render, bit by bit, and the report marks each kill.
func TestRealtime(t *testing.T) {
	args := []string{"-frames", "500", "-channels", "1", "-cutoff", "300", "-out", "-"}
	whole, errOut, err := run(t, newDomain(t), append(args, "-length", "1s")...)
	if err != nil {
		t.Fatalf("%v\n%s", err, errOut)
	}
	domain := newDomain(t)
	report := filepath.Join(t.TempDir(), "report.html")
	live, errOut, err := run(t, domain, append(args, "-realtime", "1s", "-crash-every", "100ms",
		"-report", report)...)
	if err != nil {
		t.Fatalf("%v\n%s", err, errOut)
	}
	if live != whole {
		t.Errorf("%d bytes were played, which are not the %d of the render", len(live), len(whole))
	}
	m := regexp.MustCompile(`(\d+) blocks, \d+ xruns, (\d+) primar(?:y|ies) killed`).
		FindStringSubmatch(errOut)
	if m == nil || m[1] != "96" {
		t.Fatalf("standard error is\n%swant 96 blocks", errOut)
	}
	said := []string{"slack p50", "a thread that only sleeps", "load of one"}
	if m[2] != "0" {
		said = append(said, "SIGKILL to the kernel's notice of death: median ")
	}
	for _, want := range said {
		if !strings.Contains(errOut, want) {
			t.Errorf("standard error is\n%swithout %q", errOut, want)
		}
	}
	page := readFile(t, report)
	if want := m[2] + " crash"; !bytes.Contains(page, []byte(want)) ||
		strings.Count(string(page), `class="crash"`) == 0 && m[2] != "0" {
		t.Errorf("the report does not show %s crashes", m[2])
	}
	for _, outside := range []string{"http:", "https:", "src=", "@import", "url("} {
		if bytes.Contains(page, []byte(outside)) {
			t.Errorf("the report needs the network: %s", outside)
		}
	}
	nothingLeft(t, domain)
}

// TestRealtimeUsage gives flags that do not fit each other.
func TestRealtimeUsage(t *testing.T) {
	for args, want := range map[string]string{
		"-realtime 1ms":                        "-realtime 1ms",
		"-realtime 1s -in no.wav":              "no.wav",
		"-realtime 1s -in no.wav -rate 8000":   "describe the sweep",
		"-realtime 1s -length 1s":              "-length",
		"-realtime 1s -crash-at 1s":            "-crash-every",
		"-out x.wav -priority":                 "need -realtime",
		"-out x.wav -crash-every 1s":           "need -realtime",
		"-realtime 1s -crash-every 1ms":        "-crash-every 1ms",
		"-realtime 1s -report no/folder/x.ht":  "no/folder",
		"-realtime 1s -report /dev/full":       "/dev/full: it is not a regular file",
		"-realtime 1s -report x -out ./x":      "-report x and -out ./x are one file",
		"-realtime 1s -report x -in x":         "-report x and -in x are one file",
		"-realtime 1s -report x -automation x": "-report x and -automation x are one file",
	} {
		domain := newDomain(t)
		out, errOut, err := run(t, domain, strings.Fields(args)...)
		if err == nil || !strings.Contains(errOut, want) {
			t.Errorf("%s: %v, want an error with %q\n%s%s", args, err, want, out, errOut)
		}
		nothingLeft(t, domain)
	}
}

// TestRealtimeSong plays a file with automation, whose end comes before that of the time, while
// primaries are killed: the output is the file that a render writes.
func TestRealtimeSong(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	f := wave.Format{Rate: 44_100, Channels: 3, Bits: 24}
	writeSong(t, at("in.wav"), f, rand.New(rand.NewPCG(3, 3)), 44_100+1)
	if err := os.WriteFile(at("automation"), []byte("0.3s cutoff 300\n0.7s gain 0.5\n"),
		0o644); err != nil {
		t.Fatal(err)
	}
	args := []string{"-in", at("in.wav"), "-automation", at("automation"), "-gain", "0.3",
		"-bits", "16"}
	for name, extra := range map[string][]string{
		"rendered.wav": nil,
		"played.wav": {"-realtime", "1h", "-frames", "777", "-crash-every", "100ms", "-report",
			at("report.html")},
	} {
		domain := at("domain of " + name)
		out, errOut, err := run(t, domain,
			slices.Concat(args, []string{"-out", at(name)}, extra)...)
		if err != nil {
			t.Fatalf("%s: %v\n%s%s", name, err, out, errOut)
		}
		if extra != nil && !strings.Contains(out, "57 blocks") {
			t.Errorf("want 57 blocks:\n%s", out)
		}
		nothingLeft(t, domain)
	}
	if !bytes.Equal(readFile(t, at("played.wav")), readFile(t, at("rendered.wav"))) {
		t.Error("what was played is not what was rendered")
	}
}

// TestRealtimeBadSong plays a file that ends too early, with a sample that is not a number before:
// that is one clear error, and there is no output.
func TestRealtimeBadSong(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	mono := wave.Format{Rate: 8_000, Channels: 1, Bits: 32, Float: true}
	good := writeSong(t, at("short.wav"), mono, rand.New(rand.NewPCG(1, 1)), 9_000)
	whole := readFile(t, at("short.wav"))
	if err := os.WriteFile(at("short.wav"), whole[:len(whole)-4_001], 0o644); err != nil {
		t.Fatal(err)
	}
	binary.LittleEndian.PutUint32(good[4*8_000:], math.Float32bits(float32(math.NaN())))
	writeWave(t, at("nan.wav"), mono, good)
	for name, want := range map[string]string{"short.wav": "cut short", "nan.wav": "frame 8000"} {
		domain := newDomain(t)
		_, errOut, err := run(t, domain, "-in", at(name), "-out", at("out.wav"), "-realtime", "1h",
			"-report", at("report.html"))
		if err == nil || strings.Count(errOut, "\n") != 1 || !strings.Contains(errOut, want) {
			t.Errorf("%s: %v, want one line with %q\n%s", name, err, want, errOut)
		}
		nothingLeft(t, domain)
	}
	left, err := filepath.Glob(at("*"))
	if err != nil || len(left) != 2 {
		t.Errorf("left: %q (%v)", left, err)
	}
}

// fieldsOf returns the fields of /proc/pid/task/tid/stat behind the name, of each thread.
func fieldsOf(t *testing.T, pid int) (threads [][]string) {
	t.Helper()
	names, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil || len(names) == 0 {
		t.Fatalf("no threads of process %d (%v)", pid, err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // the thread has ended
		}
		_, rest, _ := strings.Cut(string(b), ") ")
		threads = append(threads, strings.Fields(rest))
	}
	return threads
}

// TestPriority asks for real-time priority: each thread of the host and of the replica has it, and
// their memory is locked.
func TestPriority(t *testing.T) {
	domain := newDomain(t)
	p := startPiped(t, domain, "-realtime", "3s", "-priority", "-report",
		filepath.Join(t.TempDir(), "report.html"))
	defer p.Wait()
	got := p.read(t, 10_000)
	primary := primaryOf(t, domain)
	const rtPriority, policy, fifo = 37, 38, "1" // counted behind the name
	type found struct {
		pid     int
		threads [][]string
		status  string
	}
	var all []found
	for _, pid := range []int{p.Process.Pid, primary.PID} {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, found{pid, fieldsOf(t, pid), string(status)})
	}
	p.read(t, 3*48_000-len(got)/4)
	p.Wait()
	if strings.Contains(p.errOut.String(), "going on without") {
		t.Skipf("not permitted here:\n%s", &p.errOut)
	}
	for i, f := range all {
		for _, thread := range f.threads {
			if thread[policy] != fifo || thread[rtPriority] != []string{"11", "10"}[i] {
				t.Errorf("a thread of process %d (%d) has the policy %s and the priority %s", f.pid,
					i, thread[policy], thread[rtPriority])
			}
		}
		if regexp.MustCompile(`VmLck:\s+0 kB`).MatchString(f.status) {
			t.Errorf("process %d (%d) has locked no memory", f.pid, i)
		}
	}
}

// TestPriorityRefused asks for real-time priority as a user who may not have it: one line says so,
// with what to change, and the sound goes on.
func TestPriorityRefused(t *testing.T) {
	dir := t.TempDir()
	cmd := host(filepath.Join(dir, "domain"), "-realtime", "1s", "-priority", "-crash-every",
		"200ms", "-report", filepath.Join(dir, "report.html"))
	if os.Geteuid() == 0 {
		const nobody = 65_534
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody,
			Gid: nobody}}
		for _, d := range []string{filepath.Dir(hostPath), filepath.Dir(dir)} {
			if err := os.Chmod(d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chown(dir, nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := start(t, cmd); err != nil {
		t.Fatalf("%v\n%s%s", err, &out, &errOut)
	}
	if errOut.Len() == 0 && os.Geteuid() != 0 {
		t.Skip("this user may")
	}
	if got := errOut.String(); strings.Count(got, "\n") != 1 ||
		!strings.HasPrefix(got, "audio_host: -priority: ") ||
		!strings.Contains(got, "rtprio in /etc/security/limits.conf") ||
		!strings.Contains(got, "CAP_SYS_NICE") || !strings.Contains(got, "memlock") {
		t.Errorf("standard error is\n%swant one line", got)
	}
	if !strings.Contains(out.String(), " blocks, ") {
		t.Errorf("standard output is\n%s", &out)
	}
}

// TestRealtimeInterrupted ends a session before its time: there is a report about what was played,
// and no sound that is not complete.
func TestRealtimeInterrupted(t *testing.T) {
	dir, domain := t.TempDir(), newDomain(t)
	report := filepath.Join(dir, "report.html")
	cmd := host(domain, "-realtime", "1h", "-report", report, "-out", filepath.Join(dir, "out.wav"))
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer watch(t, cmd.Process)()
	draftGrows(t, dir, ".out.wav.")
	cmd.Process.Signal(os.Interrupt)
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 130 {
		t.Errorf("ended with %v, want status 130", err)
	}
	m := regexp.MustCompile(`(\d+) blocks, `).FindStringSubmatch(out.String())
	if m == nil || m[1] == "0" || !strings.Contains(string(readFile(t, report)), m[1]+" blocks") {
		t.Errorf("the page does not have the blocks of the session:\n%s", &out)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*out*")); err != nil || len(left) > 0 {
		t.Errorf("left: %q (%v)", left, err)
	}
	nothingLeft(t, domain)
}

// TestRealtimeLost stops all replicas for so long that blocks are lost: the sound is not complete,
// which is an error, and there is no output.
func TestRealtimeLost(t *testing.T) {
	for stopped := 100 * time.Millisecond; ; stopped *= 2 {
		dir, domain := t.TempDir(), newDomain(t)
		report := filepath.Join(dir, "report.html")
		cmd := host(domain, "-realtime", "3s", "-rate", "384000", "-frames", "16", "-report",
			report, "-out", filepath.Join(dir, "out.wav"))
		var out, errOut bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errOut
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		stop := watch(t, cmd.Process)
		draftGrows(t, dir, ".out.wav.")
		r, err := registry.Open(domain, nil)
		if err != nil {
			t.Fatal(err)
		}
		live, err := r.List("audio_compute")
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		for _, replica := range live {
			syscall.Kill(replica.PID, syscall.SIGSTOP)
		}
		time.Sleep(stopped) // not long enough on a machine on which nothing is lost meanwhile
		for _, replica := range live {
			syscall.Kill(replica.PID, syscall.SIGCONT)
		}
		err = cmd.Wait()
		stop()
		_, missing := os.Stat(filepath.Join(dir, "out.wav"))
		if !strings.Contains(out.String(), "of the blocks were not sent") {
			if err != nil || missing != nil {
				t.Fatalf("nothing was lost: %v, %v\n%s%s", err, missing, &out, &errOut)
			}
			continue
		}
		if err == nil || missing == nil ||
			!strings.Contains(errOut.String(), "the sound is not complete") {
			t.Errorf("blocks were lost: %v, output %v\n%s", err, missing, &errOut)
		}
		if _, err := os.Stat(report); err != nil {
			t.Error(err)
		}
		nothingLeft(t, domain)
		return
	}
}

// TestStuckReader ends runs whose reader takes nothing.
func TestStuckReader(t *testing.T) {
	for _, args := range [][]string{nil, {"-realtime", "1h", "-report",
		filepath.Join(t.TempDir(), "report.html")}} {
		domain := newDomain(t)
		p := startPiped(t, domain, args...)
		p.read(t, 1)
		stop := watch(t, p.Process)
		p.Process.Signal(syscall.SIGTERM)
		state, err := p.Process.Wait() // p.Wait would close the pipe
		if stop(); err != nil || state.ExitCode() != 130 {
			t.Errorf("%q: ended with %v, %v", args, state, err)
		}
		p.out.Close()
		nothingLeft(t, domain)
	}
}

// TestStuckSource ends runs whose input is a named pipe, the writer of which stops within the
// header and within the samples.
func TestStuckSource(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	writeSong(t, at("whole.wav"), wave.Format{Rate: 8_000, Channels: 1, Bits: 16},
		rand.New(rand.NewPCG(1, 1)), 100_000)
	whole := readFile(t, at("whole.wav"))
	for n, c := range []struct {
		bytes int // that come
		args  []string
	}{
		{20, nil},
		{100_000, nil},
		{100_000, []string{"-realtime", "1h", "-report", at("report.html")}},
	} {
		fifo, domain := at(fmt.Sprint("fifo ", n)), newDomain(t)
		if err := syscall.Mkfifo(fifo, 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := host(domain, append(c.args, "-in", fifo, "-out", at("out.wav"))...)
		var errOut bytes.Buffer
		cmd.Stderr = &errOut
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		stop := watch(t, cmd.Process)
		w, err := os.OpenFile(fifo, os.O_WRONLY, 0) // waits for the host
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(whole[:c.bytes]); err != nil {
			t.Fatal(err)
		}
		cmd.Process.Signal(syscall.SIGTERM)
		err = cmd.Wait()
		stop()
		w.Close()
		if cmd.ProcessState.ExitCode() != 130 {
			t.Errorf("%d bytes, %q: ended with %v\n%s", c.bytes, c.args, err, &errOut)
		}
		nothingLeft(t, domain)
	}
	if left, err := filepath.Glob(at(".*.tmp")); err != nil || len(left) > 0 {
		t.Errorf("left: %q (%v)", left, err)
	}
}
