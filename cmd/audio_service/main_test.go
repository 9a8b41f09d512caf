package main_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/gen/audio"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/registry"
)

var binary string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "audio_service_test")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "audio_service")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// A service is a running audio_service.
type service struct {
	*exec.Cmd
	errOut bytes.Buffer
}

// start starts an instance and waits until it has registered, by its own word.
func start(t *testing.T, domain, instance string) *service {
	t.Helper()
	s := &service{Cmd: exec.Command(binary)}
	name := "audio_compute"
	if instance != "" {
		s.Args = append(s.Args, instance)
		name += "." + instance
	}
	s.Env = append(os.Environ(), "IPCGEN_DOMAIN="+domain)
	s.Stderr = &s.errOut
	out, err := s.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Process.Kill() })
	watchdog := time.AfterFunc(5*time.Minute, func() { s.Process.Signal(syscall.SIGQUIT) })
	t.Cleanup(func() { watchdog.Stop() })
	lines := bufio.NewScanner(out)
	for _, want := range []string{
		fmt.Sprintf("audio_service[%s]: starting (pid=%d)...", name, s.Process.Pid),
		fmt.Sprintf("audio_service[%s]: registered in service registry", name),
	} {
		if !lines.Scan() || lines.Text() != want {
			t.Fatalf("%s printed %q, want %q", name, lines.Text(), want)
		}
	}
	return s
}

// end sends a signal and waits for the process.
func (s *service) end(sig os.Signal) error {
	s.Process.Signal(sig)
	return s.Wait()
}

func dial(t *testing.T, domain, control, reply string) *audio.AudioControlClient {
	t.Helper()
	conn, err := ipc.Dial(t.Context(), control, ipc.WithDomain(domain), ipc.WithReplyChannel(reply))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return audio.NewAudioControlClient(conn)
}

func open(t *testing.T, domain string) *registry.Registry {
	t.Helper()
	r, err := registry.Open(domain, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// TestByHand runs three instances side by side, finds each by the registry,
// calls each, and ends each by one of the signals that ask for it.
func TestByHand(t *testing.T) {
	domain := filepath.Join(t.TempDir(), "domain")
	instances := []struct {
		instance, name, control, reply string
		signal                         os.Signal
	}{
		{"", "audio_compute", "audio_ctrl", "audio_reply", os.Interrupt},
		{"0", "audio_compute.0", "audio_ctrl_0", "audio_reply_0", syscall.SIGTERM},
		{"1", "audio_compute.1", "audio_ctrl_1", "audio_reply_1", os.Interrupt},
	}
	var running []*service
	for _, i := range instances {
		running = append(running, start(t, domain, i.instance))
	}
	r := open(t, domain)
	for n, i := range instances {
		rec, err := r.Lookup(i.name)
		if err != nil {
			t.Fatal(err)
		}
		if rec.Control != i.control || rec.Reply != i.reply || rec.Service != "audio_compute" ||
			rec.PID != running[n].Process.Pid ||
			rec.Role != registry.RoleNone || rec.Protocol != "audio.AudioControl" ||
			rec.Fingerprint != audio.AudioControlProtocol.Fingerprint {
			t.Errorf("%s is registered as %+v", i.name, rec)
		}
		// Each has a state of its own.
		client := dial(t, domain, rec.Control, rec.Reply)
		gain := float32(n) / 4
		if ack, err := client.SetParam(t.Context(),
			&audio.SetParamT{ParamId: audio.ParamTypeGain, Value: gain}); err != nil ||
			ack.Status != audio.StatusOk {
			t.Errorf("%s: SetParam: %+v, %v", i.name, ack, err)
		}
		if v, err := client.GetParam(t.Context(),
			&audio.GetParamT{ParamId: audio.ParamTypeGain}); err != nil || v.Value != gain {
			t.Errorf("%s: GetParam: %+v, %v; want %v", i.name, v, err, gain)
		}
		if ack, err := client.StopStream(t.Context(), &audio.StopStreamT{}); err != nil ||
			ack.Status != audio.StatusNotRunning {
			t.Errorf("%s: StopStream with no stream: %+v, %v; want NotRunning", i.name, ack, err)
		}
		if ack, err := client.SetParam(t.Context(),
			&audio.SetParamT{ParamId: 77, Value: 1}); err != nil ||
			ack.Status != audio.StatusInvalidParam {
			t.Errorf("%s: SetParam(77): %+v, %v; want InvalidParam", i.name, ack, err)
		}
		if _, err := client.GetParam(t.Context(),
			&audio.GetParamT{ParamId: 77}); ipc.CodeOf(err) != ipc.CodeInvalidArgument {
			t.Errorf("%s: GetParam(77): %v; want code InvalidArgument", i.name, err)
		}
	}
	for n, i := range instances {
		if err := running[n].end(i.signal); err != nil || running[n].errOut.Len() > 0 {
			t.Errorf("%s ended on %v with %v and %q, want status 0 and silence", i.name, i.signal,
				err, running[n].errOut.String())
		}
	}
	nothingLeft(t, domain)
}

// nothingLeft checks that instances that ended by themselves left no socket, no
// claim and no record.
func nothingLeft(t *testing.T, domain string) {
	t.Helper()
	err := filepath.WalkDir(domain, func(path string, d fs.DirEntry, err error) error {
		if err == nil && (d.Type()&fs.ModeSocket != 0 || strings.HasSuffix(path, ".lock")) {
			t.Errorf("left behind: %s", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	r := open(t, domain)
	if live, err := r.List(""); err != nil || len(live) > 0 {
		t.Errorf("left behind: records %+v (%v)", live, err)
	}
	if dead, err := r.GC(); err != nil || len(dead) > 0 {
		t.Errorf("left behind: dead records %+v (%v)", dead, err)
	}
}

// TestKilled kills an instance, over and over: what it leaves never stops the
// next start, and the last one cleans up after all of them.
func TestKilled(t *testing.T) {
	domain := filepath.Join(t.TempDir(), "domain")
	for range 5 {
		s := start(t, domain, "0")
		if err := s.end(os.Kill); err == nil {
			t.Fatal("killed, and ended well")
		}
		if rec, err := open(t, domain).Lookup("audio_compute.0"); !errors.Is(err,
			registry.ErrNotFound) {
			t.Errorf("a killed instance is found: %+v, %v", rec, err)
		}
	}
	s := start(t, domain, "0")
	client := dial(t, domain, "audio_ctrl_0", "audio_reply_0")
	if _, err := client.GetParam(t.Context(), &audio.GetParamT{}); err != nil {
		t.Error(err)
	}
	if err := s.end(os.Interrupt); err != nil {
		t.Errorf("%v: %s", err, s.errOut.String())
	}
	nothingLeft(t, domain)
}

// TestTwice starts an instance that runs already: the second is refused, names
// the first, and does it no harm.
func TestTwice(t *testing.T) {
	domain := filepath.Join(t.TempDir(), "domain")
	first := start(t, domain, "0")
	second := exec.Command(binary, "0")
	second.Env = append(os.Environ(), "IPCGEN_DOMAIN="+domain)
	out, err := second.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("the second ended with %v, want status 1", err)
	}
	if want := fmt.Sprint(first.Process.Pid); !strings.Contains(string(out), "audio_ctrl_0") ||
		!strings.Contains(string(out), want) {
		t.Errorf("the second said %q, want the channel and pid %s", out, want)
	}
	client := dial(t, domain, "audio_ctrl_0", "audio_reply_0")
	if _, err := client.GetParam(t.Context(), &audio.GetParamT{}); err != nil {
		t.Errorf("the first no longer answers: %v", err)
	}
	if err := first.end(syscall.SIGTERM); err != nil {
		t.Errorf("%v: %s", err, first.errOut.String())
	}
	nothingLeft(t, domain)
}

func TestUsage(t *testing.T) {
	for _, c := range []struct {
		args   []string
		code   int
		stdout bool // whether it prints the usage
		errOut string
	}{
		{[]string{"-h"}, 0, true, ""},
		{[]string{"--help"}, 0, true, ""},
		{[]string{"0", "1"}, 2, false, "one instance at most, not 2\nRun audio_service -h"},
		{[]string{"-x"}, 2, false, "not defined: -x\nRun audio_service -h"},
		{[]string{""}, 2, false, `"" is no instance`},
		{[]string{"--", "-x"}, 2, false, `"-x" is no instance`},
		{[]string{"a/b"}, 1, false, "contains '/'"},
		{[]string{strings.Repeat("x", 500)}, 1, false, "audio_service["},
	} {
		cmd := exec.Command(binary, c.args...)
		cmd.Env = append(os.Environ(), "IPCGEN_DOMAIN="+filepath.Join(t.TempDir(), "domain"))
		var out, errOut bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errOut
		cmd.Run()
		if code := cmd.ProcessState.ExitCode(); code != c.code {
			t.Errorf("%q: status %d, want %d\n%s%s", c.args, code, c.code, &out, &errOut)
		}
		if strings.Contains(out.String(), "usage: audio_service") != c.stdout {
			t.Errorf("%q: printed %q and %q", c.args, &out, &errOut)
		}
		if !strings.Contains(errOut.String(), c.errOut) || c.stdout && errOut.Len() != 0 {
			t.Errorf("%q: printed %q, want %q", c.args, &errOut, c.errOut)
		}
	}
}
