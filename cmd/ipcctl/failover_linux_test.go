package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/runtime/group"
	"golang.org/x/sys/unix"
)

// pseudo returns both ends of a pseudo terminal.
func pseudo(t *testing.T) (keyboard, tty *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { keyboard.Close() })
	if err := unix.IoctlSetPointerInt(int(keyboard.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Skip(err)
	}
	n, err := unix.IoctlGetInt(int(keyboard.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Skip(err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { tty.Close() })
	return keyboard, tty
}

func TestFailover(t *testing.T) {
	newDomain(t)
	expect(t, 67, "", "no process has used this domain", "", "failover", "-yes", "audio_compute")
	serve(t, "group")
	serve(t, "greeter")
	expect(t, 0, "audio_compute.1  PRIMARY  2", "audio_compute.0: pid ", "", "failover", "-yes",
		"audio_compute")
	expect(t, 0, "audio_compute.0  PRIMARY  3", "is the primary, in epoch 3", "", "failover",
		"-yes", "audio_compute")
	expect(t, 1, "", "-yes does without asking", "", "failover", "audio_compute")
	expect(t, 67, "", "did you mean audio_compute?", "", "failover", "-yes", "audio_compte")
	expect(t, 67, "", "audio_compute.0 is a replica; name its group audio_compute", "", "failover",
		"-yes", "audio_compute.0")
	expect(t, 67, "", "there is no group greeter", "", "failover", "-yes", "greeter")

	// On a terminal it asks.
	keyboard, tty := pseudo(t)
	s := start(t, tty, "failover", "audio_compute")
	s.err.await(t, "replace the primary audio_compute.0 (pid ")
	io.WriteString(keyboard, "n\n")
	s.ends(t, 1, "", "nothing was done")
	// The one that was shown is no longer the primary when the answer comes.
	s = start(t, tty, "failover", "audio_compute")
	s.err.await(t, "of epoch 3? [y/N]")
	expect(t, 0, "audio_compute.1  PRIMARY  4", "", "", "failover", "-yes", "audio_compute")
	io.WriteString(keyboard, "y\n")
	s.ends(t, 79, "", "epoch 3 is over")
	s = start(t, tty, "failover", "audio_compute")
	s.err.await(t, "[y/N]")
	s.cancel()
	s.ends(t, exitInterrupted, "", "")
	io.WriteString(keyboard, "\n") // for the reader that is left
}

func TestRoll(t *testing.T) {
	newDomain(t)
	stuck := filepath.Join(t.TempDir(), "stuck")
	t.Setenv(stuckVar, stuck)
	host := serve(t, "group")
	code, out, errOut := ipcctl(t, "", "roll", "-yes", "audio_compute")
	lines := strings.Split(out, "\n")
	if code != 0 || strings.Count(errOut, " has ended\n") != 2 || len(lines) != 4 {
		t.Fatalf("status %d, printed %q and %q", code, out, errOut)
	}
	for _, line := range lines[1:3] {
		if f := strings.Fields(line); f[3] == f[4] || f[3] == "-" || f[4] == "-" {
			t.Errorf("not replaced: %s", line)
		}
	}
	// Orders that cannot be carried out.
	write(t, stuck, "")
	expect(t, 66, "", "not done within 3s", "", "roll", "-yes", "-timeout", "3s",
		"audio_compute")
	s := start(t, strings.NewReader(""), "roll", "-yes", "audio_compute")
	s.err.await(t, "the order goes to")
	s.cancel()
	s.ends(t, exitInterrupted, "", "the supervisor carries the order out")
	s = start(t, strings.NewReader(""), "roll", "-yes", "audio_compute")
	s.err.await(t, "the order goes to")
	host.Signal(syscall.SIGSTOP)
	s.err.await(t, "does not answer; it hangs or is stopped")
	host.Kill()
	s.ends(t, 67, "", fmt.Sprintf("the supervisor (pid %d) has ended meanwhile", host.Pid))
}

// awaitHealthy waits until all replicas of a group are ready.
func awaitHealthy(t *testing.T, service string) {
	t.Helper()
	o, err := group.DialSupervisor(t.Context(), service, "")
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	for {
		s, err := o.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if s.Healthy() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestDrain(t *testing.T) {
	newDomain(t)
	expect(t, 67, "", "no process has used this domain", "", "drain", "-yes", "greeter")
	greeter := serve(t, "greeter")
	serve(t, "group")
	expect(t, 1, "", "audio_compute is a group: drain one replica", "", "drain", "-yes",
		"audio_compute")
	expect(t, 67, "", "did you mean greeter?", "", "drain", "-yes", "greter")
	expect(t, 1, "", "-yes does without asking", "", "drain", "greeter")
	expect(t, 0, "audio_compute.1 (pid ", "calls in flight: 0, clients: ", "", "drain", "-yes",
		"audio_compute.1")
	awaitHealthy(t, "audio_compute") // so that there is a standby to become the primary
	expect(t, 0, "audio_compute.0 (pid ", "is the primary, in epoch 2", "", "drain", "-yes",
		"audio_ctrl_0")
	expect(t, 0, fmt.Sprintf("greeter (pid %d) has ended", greeter.Pid), "calls in flight: 0", "",
		"drain", "-yes", "greeter")
	if _, err := greeter.Wait(); err != nil {
		t.Fatal(err)
	}
	expect(t, 67, "", "the server of channel greeter is dead", "", "drain", "-yes", "greeter")

	// A server that answers a call, and one that does not listen.
	audio, deaf := serve(t, "orderly"), serve(t, "deaf")
	call := start(t, strings.NewReader(""), "call", "-timeout", "1m", "orderly", "Greet",
		`{"name": "until the drain"}`)
	for busy := false; !busy; {
		_, out, _ := ipcctl(t, "", "describe", "orderly")
		busy = strings.Contains(out, "in flight   1 call\n")
	}
	expect(t, 0, fmt.Sprintf("orderly (pid %d) has ended", audio.Pid),
		"calls in flight: 1, clients: ", "", "drain", "-yes", "orderly")
	call.ends(t, 0, "Hello, until the drain!", "")
	expect(t, 66, "", "still runs after 1s", "", "drain", "-yes", "-timeout", "1s", "deaf")
	deaf.Signal(syscall.SIGSTOP)
	s := start(t, strings.NewReader(""), "drain", "-yes", "-timeout", "300ms", "deaf")
	s.cancel()
	s.ends(t, exitInterrupted, "", "")
}
