package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestCompletion completes command lines word by word, and in each shell that this machine has.
func TestCompletion(t *testing.T) {
	newDomain(t)
	serve(t, "greeter")
	serve(t, "control")
	serve(t, "topic.status")
	serve(t, "group")
	dir := t.TempDir()
	schema, err := filepath.Abs(greeterSchema)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		words string
		want  []string // in this order; the first ones, if the last is "..."
	}{
		{"desc", []string{"describe"}},
		{"r", []string{"record", "replay", "roll"}},
		{"", []string{"ls", "describe", "call", "..."}},
		{"nosuch x", nil},
		{"call gr", []string{"greeter"}},
		{"call -timeout 5s gr", []string{"greeter"}},
		{"call -timeout=5s greeter ", []string{"Greet"}},
		{"call greeter greeter.Greeter.G", []string{"greeter.Greeter.Greet"}},
		{"call -schema " + schema + " nosuch G", []string{"Greet"}},
		{"call greeter Greet ", nil}, // a request
		{"call nosuch ", nil},
		{"call -me", []string{"-metadata"}},
		{"call -", []string{"-schema", "-I", "-domain", "-timeout", "-metadata", "-h"}},
		{"call -schema ", nil}, // a file
		{"send control S", []string{"SetParam", "StartStream", "StopStream"}},
		{"subscribe topic.status ", []string{"Status"}},
		{"bench greeter ", []string{"Greet"}},
		{"record greeter topic", []string{"topic.status"}},
		{"record topic.status -method S", []string{"Status"}},
		{"tap control -method Gr", []string{"Greet"}},
		{"replay ", nil}, // a file
		{"replay f.mcap gr", []string{"greeter"}},
		{"replay f.mcap -speed ", []string{"max"}},
		{"failover ", []string{"audio_compute"}},
		{"roll audio", []string{"audio_compute"}},
		{"drain audio_compute.", []string{"audio_compute.0", "audio_compute.1"}},
		{"describe control -bfbs f -protocol greeter", []string{"greeter.Greeter"}},
		{"completion ", []string{"bash", "fish", "zsh"}},
		{"ls x", nil},
		{"convert -to b", []string{"binary"}},
	} {
		code, out, errOut := ipcctl(t, "", append([]string{completeCommand},
			strings.Split(c.words, " ")...)...)
		var got []string
		for line := range strings.Lines(out) {
			word, _, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
			got = append(got, word)
		}
		want := c.want
		if n := len(want); n > 0 && want[n-1] == "..." {
			want = want[:n-1]
			got = got[:min(len(got), n-1)]
		}
		if code != 0 || errOut != "" || !slices.Equal(got, want) {
			t.Errorf("%q: status %d, %q, printed %q", c.words, code, errOut, got)
		}
	}

	// The shells themselves. A program on the path is the one that is completed.
	program := filepath.Join(dir, "ipcctl")
	write(t, program, fmt.Sprintf("#!/bin/sh\n%s=ipcctl exec %s \"$@\"\n", childEnv, os.Args[0]))
	if err := os.Chmod(program, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	danger := filepath.Join(dir, "danger")
	for shell, script := range map[string]string{
		"bash": `source <(ipcctl completion bash)
			complete -p ipcctl | grep -q _ipcctl || echo "it is not registered"
			try() { COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)); _ipcctl; echo "${COMPREPLY[*]}"; }
			try ipcctl desc; try ipcctl call gr; try ipcctl call greeter ''
			try ipcctl call '$(touch ` + danger + `)' ''`,
		"zsh": `autoload -Uz compinit && compinit -u -d ` + dir + `/dump
			source <(ipcctl completion zsh)
			[[ ${_comps[ipcctl]} = _ipcctl ]] || echo "it is not registered"
			_describe() { local -a all=("${(@P)2}"); echo "${(@)all%%:*}" }; _files() { echo }
			try() { words=("$@") CURRENT=$#; _ipcctl }
			try ipcctl desc; try ipcctl call gr; try ipcctl call greeter ''
			try ipcctl call '$(touch ` + danger + `)' ''`,
		"fish": `ipcctl completion fish | source
			for line in 'ipcctl desc' 'ipcctl call gr' 'ipcctl call greeter '
				complete -C $line | string replace -r '\\t.*' ''
			end
			complete -C 'ipcctl call \'$(touch ` + danger + `)\' ' >/dev/null # files`,
	} {
		path, err := exec.LookPath(shell)
		if err != nil {
			t.Logf("there is no %s here", shell)
			continue
		}
		cmd := exec.Command(path, "-c", script)
		cmd.Env = append(os.Environ(), "HOME="+dir)
		out, err := cmd.CombinedOutput()
		if want := "describe\ngreeter\nGreet"; strings.TrimSpace(string(out)) != want {
			t.Errorf("%s: %v\n%s\nand not\n%s", shell, err, out, want)
		}
		if _, err := os.Stat(danger); err == nil {
			t.Fatalf("%s has run what was typed", shell)
		}
	}
	expect(t, 2, "", "bash, zsh or fish", "", "completion", "csh")
}

// TestMetadata sends metadata with calls and gets that of replies.
func TestMetadata(t *testing.T) {
	newDomain(t)
	serve(t, "greeter")
	expect(t, 0, `{"text":"trace=a,b;trace=c=d"}`, "ipcctl: metadata got-trace=a,b\n"+
		"ipcctl: metadata got-trace=c=d\n", "", "call", "-metadata", "trace=a,b", "-metadata",
		"trace=c=d", "greeter", "Greet", `{"name": "metadata"}`)
	expect(t, 0, "{}\n", "", "", "call", "greeter", "Greet", `{"name": "metadata"}`)
	for _, wrong := range []string{"trace", "=x", "Trace=x", "ipcgen-x=y"} {
		for _, command := range []string{"call", "send"} {
			expect(t, exitUsage, "", "-metadata", "", command, "-metadata", wrong, "greeter",
				"Greet", "{}")
		}
	}
	long := strings.Repeat("x", 5000)
	expect(t, exitUsage, "", "-metadata", "", "call", "-metadata", "k="+long, "greeter", "Greet",
		"{}")
}

// process returns ipcctl as a process of its own.
func process(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), childEnv+"=ipcctl")
	return cmd
}

// TestPipeBreaks ends the readers of commands after a line, as head -1 does.
func TestPipeBreaks(t *testing.T) {
	newDomain(t)
	serve(t, "greeter")
	serve(t, "topic.status")
	load := start(t, strings.NewReader(""), "bench", "-duration", "1h", "greeter", "Greet",
		`{"name": "x"}`)
	defer func() { load.cancel(); <-load.code }()
	for _, args := range [][]string{
		{"ls"}, {"ls", "-watch"}, {"ls", "-json"}, {"describe", "greeter"},
		{"tap", "greeter"}, {"subscribe", "-history", "1", "topic.status"}, {"-h"},
		{"top", "-once", "-interval", "10ms"}, {"doctor"}, {"completion", "bash"},
		{"call", "greeter", "Greet"}, {"record", "-o", "-", "greeter"}, {"web"},
	} {
		cmd := process(args...)
		var errOut bytes.Buffer
		cmd.Stderr = &errOut
		if args[0] == "call" {
			cmd.Stdin = strings.NewReader(strings.Repeat("{\"name\": \"x\"}\n", 10_000))
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 1)); err != nil {
			t.Errorf("%q: %v, %q", args, err, &errOut)
		}
		out.Close()
		if args[0] == "web" || args[0] == "subscribe" || slices.Contains(args, "-watch") {
			// It has nothing more to write, and would notice when it has.
			cmd.Process.Signal(os.Interrupt)
		}
		watchdog := time.AfterFunc(tooLong, func() { cmd.Process.Kill() })
		cmd.Wait()
		watchdog.Stop()
		state := cmd.ProcessState.Sys().(syscall.WaitStatus)
		said := regexp.MustCompile(`(?m)^ipcctl: (watching|subscribed|recording).*\n`).ReplaceAllString(
			errOut.String(), "")
		if state.Signaled() && state.Signal() != syscall.SIGPIPE ||
			args[0] != "record" && said != "" || strings.Contains(said, "panic") {
			t.Errorf("%q: %v, printed %q", args, cmd.ProcessState, said)
		}
	}
}

// endless is input without an end and without line breaks. It counts what is read.
type endless struct{ read int64 }

func (e *endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = '['
	}
	e.read += int64(len(b))
	if e.read > 1<<30 {
		return 0, io.EOF
	}
	return len(b), nil
}

// TestHugeInput gives commands a line of a gibibyte: each stops reading at its limit.
func TestHugeInput(t *testing.T) {
	newDomain(t)
	serve(t, "control")
	dir := t.TempDir()
	robot := filepath.Join("..", "..", "examples", "robot", "robot.fbs")
	for _, args := range [][]string{
		{"call", "control", "Greet"}, {"send", "control", "SetParam"},
		{"publish", "-schema", robot, "huge", "Status"},
		{"convert", "-max-size", "1000000", "-schema", greeterSchema, "-type", "greeter.Hello", "-",
			filepath.Join(dir, "out")},
	} {
		var in endless
		var out, errOut bytes.Buffer
		code := run(t.Context(), append([]string{"ipcctl"}, args...), &in, &out, &errOut)
		if code != exitFailed || out.Len() > 0 ||
			!strings.Contains(errOut.String(), "more than ") || in.read > 2*maxRequest {
			t.Errorf("%q: status %d after %d bytes, printed %q and %q", args, code, in.read, &out,
				&errOut)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// style matches what changes the colour or the weight of a text on a terminal.
var style = regexp.MustCompile("\x1b\\[[0-9;]+m")

// TestColours shows top on a terminal, with and without colours, and elsewhere.
func TestColours(t *testing.T) {
	newDomain(t)
	serve(t, "greeter")
	t.Setenv("TERM", "xterm-256color")
	t.Setenv("CLICOLOR_FORCE", "")
	for _, noColour := range []string{"", "1"} {
		t.Setenv("NO_COLOR", noColour)
		keyboard, tty := pseudo(t)
		if err := unix.IoctlSetWinsize(int(tty.Fd()), unix.TIOCSWINSZ,
			&unix.Winsize{Row: 24, Col: 100}); err != nil {
			t.Fatal(err)
		}
		shown := newLineWriter()
		go io.Copy(shown, keyboard)
		ctx, cancel := context.WithCancel(t.Context())
		code := make(chan int, 1)
		go func() {
			code <- run(ctx, []string{"ipcctl", "top", "-interval", "50ms"}, tty, tty, io.Discard)
		}()
		shown.await(t, "METHODS OF greeter")
		cancel()
		if got := <-code; got != exitInterrupted {
			t.Errorf("status %d", got)
		}
		shown.mu.Lock()
		if got := style.MatchString(shown.text); got != (noColour == "") {
			t.Errorf("NO_COLOR=%s: styles %v in %q", noColour, got, shown.text)
		}
		shown.mu.Unlock()
	}
	t.Setenv("NO_COLOR", "")
	for _, args := range [][]string{{"top", "-once", "-interval", "10ms"}, {"ls"}, {"doctor"},
		{"describe", "greeter"}, {"-h"}} {
		if _, out, errOut := ipcctl(t, "", args...); strings.Contains(out+errOut, "\x1b") {
			t.Errorf("%q without a terminal: %q and %q", args, out, errOut)
		}
	}
}
