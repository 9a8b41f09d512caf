package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/reach"
	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/survey"
	"github.com/ipcgen/ipcgen/internal/audioservice"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// TestServerThatHangs stops a server under a tap and a recording, and before either.
func TestServerThatHangs(t *testing.T) {
	newDomain(t)
	server := serve(t, "greeter")
	file := filepath.Join(t.TempDir(), "r.mcap")
	tap := start(t, strings.NewReader(""), "tap", "-n", "1", "greeter")
	tap.err.await(t, "watching")
	record := start(t, strings.NewReader(""), "record", "-o", file, "greeter")
	record.err.await(t, "recording")
	if err := server.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	tap.err.await(t, "does not answer: it is stopped or hangs; kill -QUIT")
	record.err.await(t, "ipcctl: greeter: process")
	record.err.await(t, "does not answer")
	late := start(t, strings.NewReader(""), "tap", "greeter")
	late.err.await(t, "ipcctl: greeter has not answered yet\n")
	late.ends(t, exitCall+int(ipc.CodeDeadlineExceeded), "",
		"the server does not answer: process ")
	if err := server.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	tap.err.await(t, "answers again")
	record.err.await(t, "answers again")
	expect(t, 0, "Hello, x!", "", "", "call", "greeter", "Greet", `{"name": "x"}`)
	tap.ends(t, 0, "Hello, x!", "")
	record.cancel()
	record.ends(t, 0, "", "1 call, ")
}

// TestRecordOfStoppedServer ends a recording while the server is stopped: the end is not held up,
// and the recorder says that it may lack calls.
func TestRecordOfStoppedServer(t *testing.T) {
	newDomain(t)
	server := serve(t, "greeter")
	file := filepath.Join(t.TempDir(), "r.mcap")
	record := start(t, strings.NewReader(""), "record", "-o", file, "greeter")
	record.err.await(t, "recording")
	if err := server.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	record.err.await(t, "does not answer")
	record.cancel()
	record.ends(t, 0, "", "greeter: the last calls may be missing: the server has not told them")
	if err := server.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
}

// TestPublisherThatIsSilent stops and kills a publisher under a subscription, which tells each of
// it, and of the next one.
func TestPublisherThatIsSilent(t *testing.T) {
	newDomain(t)
	status := serve(t, "topic.status")
	sub := start(t, strings.NewReader(""), "subscribe", "-n", "2", "-history", "1", "topic.status")
	sub.out.await(t, `"number":0,`)
	if err := status.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	sub.err.await(t, fmt.Sprintf("ipcctl: no message comes: process %d does not answer: it is "+
		"stopped or hangs; kill -QUIT", status.Pid))
	if err := status.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	sub.err.await(t, fmt.Sprintf("ipcctl: process %d answers again\n", status.Pid))
	if err := status.Kill(); err != nil {
		t.Fatal(err)
	}
	sub.err.await(t, "ipcctl: the publisher is gone; the next one is waited for: ")
	_, _ = status.Wait() // then the kernel has released the channel
	r, w := io.Pipe()
	next := start(t, r, "publish", "-schema", robotSchema, "topic.status", "Status")
	next.err.await(t, "publishing")
	sub.err.await(t, fmt.Sprintf("ipcctl: process %d is there now; no message has come from it "+
		"yet\n", os.Getpid()))
	fmt.Fprintln(w, `{"changes": 7}`)
	sub.ends(t, 0, `"break":true,"message":{"changes":7}`, "another publisher from here on\n")
	w.Close()
	next.ends(t, 0, "", "published 1 message")
}

// TestServerOfAGroup asks the primary of a group, and the next one.
func TestServerOfAGroup(t *testing.T) {
	newDomain(t)
	serve(t, "group")
	s := reach.NewServer("", audioservice.Service)
	defer s.Close()
	answers := func(not int) (pid int) {
		for {
			pid, err := s.Ask(t.Context())
			switch {
			case err == nil && pid != not:
				return pid
			case err != nil && ipc.CodeOf(err) != ipc.CodeUnavailable:
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
	}
	first := answers(0)
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	answers(first)
}

// TestServerThatIsKilled kills a server under a tap and calls without end.
func TestServerThatIsKilled(t *testing.T) {
	newDomain(t)
	server := serve(t, "greeter")
	tap := start(t, strings.NewReader(""), "tap", "greeter")
	tap.err.await(t, "watching")
	bench := start(t, strings.NewReader(""), "bench", "-duration", "1h", "greeter", "Greet",
		`{"name": "x"}`)
	expect(t, 0, "Hello, x!", "", "", "tap", "-n", "5", "greeter") // the calls have begun
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	gone := exitCall + int(ipc.CodeUnavailable)
	tap.ends(t, gone, "", "ipcctl: unavailable: the server of greeter, process ")
	bench.ends(t, gone, " failed: unavailable", "unavailable")
}

// TestSignalAgain sends a recorder the same signal again and again; timeout(1) sends it twice.
func TestSignalAgain(t *testing.T) {
	newDomain(t)
	serve(t, "greeter")
	file := filepath.Join(t.TempDir(), "f.mcap")
	cmd := exec.Command(os.Args[0], "record", "-o", file, "greeter")
	cmd.Env = append(os.Environ(), childEnv+"=ipcctl of one signal")
	errOut, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := bufio.NewReader(errOut)
	if line, err := said.ReadString('\n'); err != nil || !strings.Contains(line, "recording") {
		t.Fatalf("%q, %v", line, err)
	}
	ended, sent := make(chan bool), make(chan bool)
	go func() {
		defer close(sent)
		for {
			select {
			case <-ended:
				return
			default:
				_ = cmd.Process.Signal(syscall.SIGINT) // it may have ended just now
			}
		}
	}()
	var rest bytes.Buffer
	_, _ = rest.ReadFrom(said) // up to the end of the process
	close(ended)
	<-sent
	if err := cmd.Wait(); err != nil || !strings.Contains(rest.String(), "0 calls, 0 messages") {
		t.Errorf("%v, said %q", err, &rest)
	}
	expect(t, 0, "greeter: servers 1, lost 0", "", "", "replay", "-list", file)
}

// TestLooksForPublishersBecomeRare checks the pauses between the looks for the next publisher.
func TestLooksForPublishersBecomeRare(t *testing.T) {
	w := newPublisherWatch(&terminal{err: io.Discard}, nil)
	expect := func(want ...time.Duration) {
		t.Helper()
		for i, want := range want {
			if got := w.period(); got != want {
				t.Errorf("pause %d is %v, want %v", i, got, want)
			}
		}
	}
	expect(hesitation, hesitation)
	for range 2 {
		w.breaks(io.ErrUnexpectedEOF)
		expect(soon, 2*soon, 4*soon, 8*soon, hesitation, hesitation)
	}
	w.comes()
	expect(hesitation)
}

// TestUnknownProcessIsNotNamed says that a server hangs whose process is not known, as while it has
// taken its channel and has not yet written its number: the user is not told to kill process 0.
func TestUnknownProcessIsNotNamed(t *testing.T) {
	if text := hangs(0); strings.Contains(text, "0") {
		t.Error(text)
	}
	if text := recovers(0); text != "the server answers again" {
		t.Error(text)
	}
	if text := (survey.Channel{Name: "c", Live: true}).Process(); text != "a process" {
		t.Error(text)
	}
	if text := hangs(17); strings.Count(text, " 17 ") != 2 {
		t.Error(text)
	}
}
