package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/vitals"
)

// TestTop looks at servers that are busy, slow, stopped, and gone.
func TestTop(t *testing.T) {
	newDomain(t)
	expect(t, 1, "", "no process has used this domain", "", "top")
	serve(t, "greeter")
	serve(t, "audio", "0")
	stopped := serve(t, "stopped")
	busy := start(t, strings.NewReader(""), "bench", "-duration", "1h", "audio_ctrl_0", "GetParam",
		"{}")
	slow := start(t, strings.NewReader(""), "call", "-timeout", "1h", "greeter", "Greet",
		`{"name": "slow"}`)
	// The servers count from the first question on, which may come after the call that hangs.
	server := func(name string) (s vitals.Server) {
		code, out, errOut := ipcctl(t, "", "top", "-json", "-interval", "300ms")
		var v vitals.View
		if err := json.Unmarshal([]byte(out), &v); code != 0 || err != nil {
			t.Fatalf("status %d, %v\n%s%s", code, err, out, errOut)
		}
		for _, s := range v.Servers {
			if s.Name == name {
				return s
			}
		}
		t.Fatalf("there is no %s: %s", name, out)
		return s
	}
	for ready := false; !ready; {
		a, g := server("audio_compute.0"), server("greeter")
		ready = a.Calls > 0 && a.P99 >= a.P50 && a.P50 > 0 && len(a.Methods) == 1 &&
			strings.HasSuffix(a.Methods[0].Name, "GetParam") &&
			g.Waiting == fmt.Sprintf("pid %d waits for Greet: handler slow, no call has ended",
				os.Getpid()) && g.InFlight == 1
		if ready && (len(g.Processes) != 1 || g.Processes[0].PID != os.Getpid() ||
			g.Processes[0].InFlight != 1 || g.Processes[0].Connections != 1 ||
			len(a.Processes) != 1 || a.Processes[0].Received <= 0 || a.Processes[0].Sent <= 0) {
			t.Errorf("processes: %+v, %+v", a.Processes, g.Processes)
		}
	}
	if err := stopped.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if s := server("stopped"); !strings.Contains(s.Waiting, "it does not answer") {
		t.Errorf("a server that is stopped: %+v", s)
	}
	expect(t, 0, "METHODS OF audio_compute.0", "", "", "top", "-interval", "300ms")
	expect(t, 0, fmt.Sprintf("CLIENTS OF greeter  CONNECTIONS  IN FLIGHT  SENDS/S  GETS/S  "+
		"FULL RINGS/S  WAITING\npid %-14d", os.Getpid()), "", "", "top", "-interval", "300ms")
	expect(t, 0, fmt.Sprintf("// client      pid %d: 2 connections, 1 call in flight, received ",
		os.Getpid()), "", "", "describe", "greeter")
	file := filepath.Join(t.TempDir(), "top.svg")
	expect(t, 0, "", "", "", "top", "-interval", "300ms", "-svg", file)
	if svg, err := os.ReadFile(file); err != nil || !strings.Contains(string(svg), "GetParam") ||
		!strings.HasSuffix(string(svg), "</svg>\n") {
		t.Errorf("the picture: %v\n%s", err, svg)
	}
	expect(t, 2, "", "-interval", "", "top", "-interval", "1ms")
	busy.cancel()
	slow.cancel()
	<-busy.code
	<-slow.code
}

// TestTopOnATerminal chooses a server with the keys of a terminal, and ends the view.
func TestTopOnATerminal(t *testing.T) {
	newDomain(t)
	serve(t, "greeter")
	serve(t, "audio", "0")
	keyboard, tty := pseudo(t)
	if err := unix.IoctlSetWinsize(int(tty.Fd()), unix.TIOCSWINSZ,
		&unix.Winsize{Row: 30, Col: 150}); err != nil {
		t.Fatal(err)
	}
	shown := newLineWriter()
	go io.Copy(shown, keyboard)
	for _, end := range []string{"q", "\x03"} {
		code := make(chan int, 1)
		go func() {
			code <- run(t.Context(), []string{"ipcctl", "top", "-interval", "50ms"}, tty, tty,
				io.Discard)
		}()
		shown.await(t, "METHODS OF audio_compute.0")
		fmt.Fprint(keyboard, "j")
		shown.await(t, "\x1b[7mgreeter ") // only what has changed is drawn
		fmt.Fprint(keyboard, end)
		if got := <-code; got != 0 {
			t.Errorf("%q: status %d", end, got)
		}
		shown.mu.Lock()
		shown.text = ""
		shown.mu.Unlock()
	}
}
