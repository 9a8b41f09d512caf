package main_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/runtime/registry"
)

// The binaries under test, built once by TestMain.
var hostPath, servicePath string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "audio_host_test")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	build := exec.Command("go", "build", "-o", dir)
	if raceEnabled() {
		build.Args = append(build.Args, "-race")
	}
	build.Args = append(build.Args, "github.com/ipcgen/ipcgen/cmd/audio_host",
		"github.com/ipcgen/ipcgen/cmd/audio_service")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%v: %v\n%s", build, err, out)
		return 1
	}
	hostPath, servicePath = filepath.Join(dir, "audio_host"), filepath.Join(dir, "audio_service")
	return m.Run()
}

// raceEnabled reports whether this test was built with -race; what it builds
// then is too.
func raceEnabled() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// demo is the output of a run, the pids aside and the services' own lines taken
// out.
const demo = `host: starting service group (2 replicas)...
host: 2 instances alive
host: connecting to audio_compute.0 (pid=A) ctrl='audio_ctrl_0' reply='audio_reply_0'
host: connected (recv_count=1)
host: sending StartStream (48kHz, 2ch, 256)
host:   ack ref_seq=1 status=0
host: sending SetParam(Gain, 0.75)
host:   ack ref_seq=2 status=0

host: --- instances before crash ---
  [0] audio_compute.0           role=PRIMARY   pid=A  alive=1
  [1] audio_compute.1           role=STANDBY   pid=B  alive=1

*** SIMULATING PRIMARY CRASH ***

host: --- instances after failover ---
  [0] audio_compute.0           role=STANDBY   pid=C  alive=1
  [1] audio_compute.1           role=PRIMARY   pid=B  alive=1
host: connecting to audio_compute.1 (pid=B) ctrl='audio_ctrl_1' reply='audio_reply_1'
host: connected (recv_count=1)
host: sending StartStream (re-sent after failover)
host:   ack ref_seq=3 status=0
host: sending GetParam(Gain) on new primary
host:   param 0 = 1.000000

host: shutting down all instances...
host: done
`

// services is what the three services print, in the order in which they must
// appear for each of them.
const services = `audio_service[audio_compute.0]: starting (pid=A)...
audio_service[audio_compute.0]: registered in service registry
audio_service[audio_compute.0]: starting (pid=C)...
audio_service[audio_compute.0]: registered in service registry
audio_service[audio_compute.1]: starting (pid=B)...
audio_service[audio_compute.1]: registered in service registry
`

// replicated is the output of a run whose state survives.
var replicated = strings.Replace(demo, "param 0 = 1.000000", "param 0 = 0.750000", 1)

// TestDemo runs the host in all its forms and compares all of its output. The
// letters that replace the pids are given in the order of the host's own lines,
// so a pid that differs between two lines shows as another letter.
func TestDemo(t *testing.T) {
	for _, form := range []struct {
		name string
		args []string
		want string
	}{
		{"carried", nil, demo},
		{"two binaries", []string{servicePath}, demo},
		{"replicated", []string{"-replicate"}, replicated},
		{"replicated, two binaries", []string{"-replicate", servicePath}, replicated},
	} {
		t.Run(form.name, func(t *testing.T) {
			domain := newDomain(t)
			out, errOut, err := run(t, domain, form.args...)
			if err != nil {
				t.Fatalf("%v\nstandard output:\n%s\nstandard error:\n%s", err, out, errOut)
			}
			if errOut != "" {
				t.Errorf("standard error: %q, want nothing", errOut)
			}
			own, theirs := split(out)
			letters := map[string]string{}
			if got := normalise(own, letters); got != form.want {
				t.Errorf("the host printed:\n%s\nwant:\n%s", got, form.want)
			}
			if got := normalise(sorted(theirs), letters); got != services {
				t.Errorf("the services printed:\n%s\nwant:\n%s", got, services)
			}
			if len(letters) != 3 {
				t.Errorf("%d different pids, want 3: %v", len(letters), letters)
			}
			nothingLeft(t, domain)
		})
	}
}

// TestDemoAgain runs the demo several times in one domain: what a run leaves,
// the next one finds.
func TestDemoAgain(t *testing.T) {
	domain := newDomain(t)
	for range 5 {
		out, errOut, err := run(t, domain)
		if err != nil {
			t.Fatalf("%v\n%s%s", err, out, errOut)
		}
		if own, _ := split(out); normalise(own, map[string]string{}) != demo {
			t.Errorf("the host printed:\n%s", own)
		}
	}
	nothingLeft(t, domain)
}

// TestBadService gives the host services that cannot serve: each is one clear
// error and a failed status, and nothing is left.
func TestBadService(t *testing.T) {
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, []byte("not a program"), 0o644); err != nil {
		t.Fatal(err)
	}
	sleeper := filepath.Join(t.TempDir(), "sleeper")
	if err := os.WriteFile(sleeper, []byte("#!/bin/sh\nexec /bin/sleep 3600\n"),
		0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		args []string
		code int
		want string // in the error
	}{
		{"missing", []string{"/does/not/exist"}, 1, "/does/not/exist"},
		{"a directory", []string{t.TempDir()}, 1, "directory"},
		{"not executable", []string{plain}, 1, "permission denied"},
		{"exits at once", []string{"/bin/false"}, 1, "exit status 1"},
		{"never registers", []string{"-ready-timeout", "300ms", sleeper}, 1, "300ms"},
		{"two paths", []string{servicePath, servicePath}, 2, "one path at most"},
		{"unknown flag", []string{"-what"}, 2, "-what"},
	} {
		t.Run(c.name, func(t *testing.T) {
			domain := newDomain(t)
			out, errOut, err := run(t, domain, c.args...)
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != c.code {
				t.Errorf("ended with %v, want status %d\n%s%s", err, c.code, out, errOut)
			}
			if !strings.Contains(strings.ToLower(errOut), c.want) {
				t.Errorf("standard error %q does not say %q", errOut, c.want)
			}
			if c.code == 1 && strings.Count(errOut, "audio_host:") != 1 {
				t.Errorf("standard error %q: want one error", errOut)
			}
			nothingLeft(t, domain)
		})
	}
}

// TestInterrupt sends SIGINT after each of the lines that a run prints.
func TestInterrupt(t *testing.T) {
	for n, line := range strings.Split(strings.TrimSpace(demo), "\n") {
		if line == "" || line == "host: done" || testing.Short() && n%4 != 0 {
			continue
		}
		t.Run(fmt.Sprintf("line %d", n+1), func(t *testing.T) {
			domain := newDomain(t)
			cmd := host(domain)
			w := &interrupter{after: n + 1}
			var errOut bytes.Buffer
			cmd.Stdout, cmd.Stderr = w, &errOut
			w.fire = func() { cmd.Process.Signal(os.Interrupt) }
			err := start(t, cmd)
			var exit *exec.ExitError
			if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 130) {
				t.Errorf("ended with %v, want status 130, or 0 where the run was done first\n%s",
					err, errOut.String())
			}
			nothingLeft(t, domain)
		})
	}
}

// TestHostKilled kills the host itself: its services end by themselves, and the
// next run is as the first.
func TestHostKilled(t *testing.T) {
	domain := newDomain(t)
	cmd := host(domain)
	w := &interrupter{after: 8}
	cmd.Stdout = w
	w.fire = func() { cmd.Process.Kill() }
	// Wait returns when the pipe's last writer is gone: the services have ended.
	if err := start(t, cmd); err == nil {
		t.Fatal("the host was killed and ended well")
	}
	noProcess(t, domain)
	if out, errOut, err := run(t, domain); err != nil {
		t.Errorf("the next run: %v\n%s%s", err, out, errOut)
	}
	nothingLeft(t, domain)
}

// TestFullOutput runs the demo with an output that takes nothing: the demo ends as always, says so,
// and its status tells scripts that the output is incomplete.
func TestFullOutput(t *testing.T) {
	domain := newDomain(t)
	cmd := host(domain)
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	var errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = full, &errOut
	err = start(t, cmd)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 ||
		!strings.Contains(errOut.String(), "no space left on device") {
		t.Errorf("ended with %v\n%s", err, &errOut)
	}
	nothingLeft(t, domain)
}

// TestTwoHosts starts a second host while the first runs.
func TestTwoHosts(t *testing.T) {
	domain := newDomain(t)
	first := host(domain)
	second := make(chan error, 1)
	w := &interrupter{after: 2}
	first.Stdout = w
	w.fire = func() {
		_, errOut, err := run(t, domain)
		var exit *exec.ExitError
		switch want := fmt.Sprintf("pid %d", first.Process.Pid); {
		case !errors.As(err, &exit) || exit.ExitCode() != 1:
			second <- fmt.Errorf("the second host ended with %v, want status 1", err)
		case !strings.Contains(errOut, want):
			second <- fmt.Errorf("the second host said %q, want it to name %s", errOut, want)
		default:
			second <- nil
		}
	}
	if err := start(t, first); err != nil {
		t.Errorf("the first host: %v", err)
	}
	if err := <-second; err != nil {
		t.Error(err)
	}
	nothingLeft(t, domain)
}

// interrupter counts lines of the host's own and calls fire, once, in line with
// the writer, after the given number of them.
type interrupter struct {
	after int
	fire  func()
	rest  []byte
}

func (w *interrupter) Write(p []byte) (int, error) {
	w.rest = append(w.rest, p...)
	for {
		line, rest, found := bytes.Cut(w.rest, []byte("\n"))
		if !found {
			return len(p), nil
		}
		w.rest = rest
		if bytes.HasPrefix(line, []byte("audio_service[")) {
			continue
		}
		if w.after--; w.after == 0 {
			w.fire()
		}
	}
}

// newDomain returns the path of a fresh domain.
func newDomain(t *testing.T) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "domain")
}

func host(domain string, args ...string) *exec.Cmd {
	cmd := exec.Command(hostPath, args...)
	cmd.Env = append(os.Environ(), "IPCGEN_DOMAIN="+domain)
	return cmd
}

// run runs the host to its end.
func run(t *testing.T, domain string, args ...string) (out, errOut string, err error) {
	t.Helper()
	cmd := host(domain, args...)
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	err = start(t, cmd)
	return o.String(), e.String(), err
}

// start runs cmd under a watchdog that dumps its goroutines.
func start(t *testing.T, cmd *exec.Cmd) error {
	t.Helper()
	if err := cmd.Start(); err != nil {
		return err
	}
	defer watch(t, cmd.Process)()
	return cmd.Wait()
}

// watch has a process dump its goroutines and end shortly before the time of the test is over. It
// returns a function that ends this.
func watch(t *testing.T, p *os.Process) (stop func()) {
	t.Helper()
	end, ok := t.Deadline()
	if !ok {
		return func() {}
	}
	timer := time.AfterFunc(time.Until(end)*9/10, func() { p.Signal(syscall.SIGQUIT) })
	return func() { timer.Stop() }
}

// split takes the services' lines out of the host's.
func split(out string) (own string, services []string) {
	var b strings.Builder
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "audio_service[") {
			services = append(services, line)
		} else {
			b.WriteString(line)
		}
	}
	return b.String(), services
}

// sorted groups the services' lines by instance and keeps their order in each.
func sorted(lines []string) string {
	var b strings.Builder
	for _, instance := range []string{"[audio_compute.0]", "[audio_compute.1]"} {
		for _, line := range lines {
			if strings.Contains(line, instance) {
				b.WriteString(line)
			}
		}
	}
	return b.String()
}

var pid = regexp.MustCompile(`pid=(\d+)`)

// normalise replaces each pid by a letter, in order of appearance: A, B, C...
func normalise(out string, letters map[string]string) string {
	return pid.ReplaceAllStringFunc(out, func(m string) string {
		digits := strings.TrimPrefix(m, "pid=")
		if letters[digits] == "" {
			letters[digits] = string(rune('A' + len(letters)))
		}
		return "pid=" + letters[digits]
	})
}

// nothingLeft checks that a run left no process, socket or registry entry. Its
// memory was anonymous, so it went with the processes.
func nothingLeft(t *testing.T, domain string) {
	t.Helper()
	noProcess(t, domain)
	if _, err := os.Stat(domain); errors.Is(err, os.ErrNotExist) {
		return
	}
	err := filepath.WalkDir(domain, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type()&os.ModeSocket != 0 {
			t.Errorf("left behind: socket %s", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	r, err := registry.Open(domain, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	live, err := r.List("")
	if err != nil {
		t.Error(err)
	}
	for _, rec := range live {
		t.Errorf("left behind: registry entry %+v", rec)
	}
	dead, err := r.GC()
	if err != nil {
		t.Error(err)
	}
	for _, rec := range dead {
		t.Errorf("left behind: dead registry entry %+v", rec)
	}
}

// noProcess checks that no process has the domain in its environment.
func noProcess(t *testing.T, domain string) {
	t.Helper()
	envs, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil || len(envs) == 0 {
		t.Fatalf("cannot list processes: %v", err)
	}
	for _, path := range envs {
		if env, err := os.ReadFile(path); err == nil &&
			bytes.Contains(env, []byte("IPCGEN_DOMAIN="+domain+"\x00")) {
			cmdline, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
			t.Errorf("left behind: process %s (%q)", filepath.Base(filepath.Dir(path)),
				bytes.ReplaceAll(cmdline, []byte{0}, []byte{' '}))
		}
	}
}
