package main

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestScreen shows that what a server says is shown on a terminal, and never obeyed, while a file
// gets what it is.
func TestScreen(t *testing.T) {
	newDomain(t)
	serve(t, "greeter")
	keyboard, tty := pseudo(t)
	const name = "\u009b31m\u202eexe"
	args := []string{"ipcctl", "call", "greeter", "Greet", `{"name": "` + name + `"}`}
	if code := run(t.Context(), args, strings.NewReader(""), tty, os.Stderr); code != 0 {
		t.Fatal(code)
	}
	line := make([]byte, 1000)
	n, err := keyboard.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(line[:n]), `"Hello, \u009b31m\u202eexe!"`; !strings.Contains(got, want) {
		t.Errorf("the terminal shows %q, want %q", got, want)
	}
	var file bytes.Buffer
	if code := run(t.Context(), args, strings.NewReader(""), &file, os.Stderr); code != 0 ||
		!strings.Contains(file.String(), name) {
		t.Errorf("status %d, the file has %q", code, &file)
	}
}

// TestTerminalIsNotAsked runs a command on a terminal that answers nothing. A library that asked it
// for its colours at the start of each process made every command wait for seconds.
func TestTerminalIsNotAsked(t *testing.T) {
	keyboard, tty := pseudo(t)
	cmd := exec.Command(os.Args[0], "-h")
	cmd.Env = append(os.Environ(), childEnv+"=ipcctl", "TERM=xterm-256color", "CI=")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	shown := make([]byte, 1<<16) // more than the help has
	n, err := keyboard.Read(shown)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(shown[:n]); !strings.HasPrefix(got, "usage: ipcctl") ||
		strings.Contains(got, "\x1b") {
		t.Errorf("the terminal got %q", got)
	}
}
