// Package examples holds small programs for people to read and run; the test follows their
// READMEs.
package examples

import (
	"bufio"
	"bytes"
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
)

// A terminal is what a README has typed in one terminal: commands, and what each prints.
type terminal struct {
	name     string
	commands []command
}

type command struct{ line, want string }

var consoles = regexp.MustCompile("(?ms)(^Terminal \\d:\n\n)?^```console\n(.*?)^```$")

// terminals reads a README.
func terminals(t *testing.T, path string) (all []terminal) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range consoles.FindAllSubmatch(text, -1) {
		term := terminal{name: strings.TrimSpace(string(m[1]))}
		for _, c := range strings.Split("\n"+string(m[2]), "\n$ ")[1:] {
			line, want, _ := strings.Cut(strings.TrimSuffix(c, "\n"), "\n")
			term.commands = append(term.commands, command{line, want})
		}
		all = append(all, term)
	}
	return all
}

// varies matches what differs from run to run.
var varies = regexp.MustCompile(
	`process \d+|robot_controller\.\d|driving at \d\.\d m/s|obstacle at \d\.\d m`)

func masked(s string) string { return varies.ReplaceAllString(strings.TrimSpace(s), "*") }

// TestReadmes types what the README of each example says, in the same order, and compares what the
// commands print. The commands of all terminals but the last go on until the end.
func TestReadmes(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs eleven programs")
	}
	paths, err := filepath.Glob("*/README.md")
	if err != nil || len(paths) != 4 {
		t.Fatalf("READMEs: %v, %v; want 4", paths, err)
	}
	for _, path := range paths {
		t.Run(filepath.Dir(path), func(t *testing.T) {
			root, err := filepath.Abs("..")
			if err != nil {
				t.Fatal(err)
			}
			all := terminals(t, path)
			tmp := t.TempDir()
			env := append(os.Environ(), "IPCGEN_DOMAIN="+tmp+"/domain")
			var running []*background
			for i, term := range all {
				for _, c := range term.commands {
					cmd := exec.Command("sh", "-c", strings.ReplaceAll(c.line, "/tmp/", tmp+"/"))
					cmd.Dir, cmd.Env = root, env
					if i < len(all)-1 {
						running = append(running, start(t, cmd, c))
						continue
					}
					out, _ := cmd.CombinedOutput()
					if got := strings.ReplaceAll(string(out), "exit status 1\n",
						""); masked(got) != masked(c.want) {
						t.Errorf("$ %s\nprinted:\n%s\nwant:\n%s", c.line, got, c.want)
					}
				}
			}
			slices.Reverse(running)
			for _, b := range running {
				b.finish(t)
			}
		})
	}
}

// A background is a command that goes on while others run.
type background struct {
	line   string
	cmd    *exec.Cmd
	out    *bufio.Reader
	errOut bytes.Buffer
	dog    *time.Timer
}

// start runs a command until it has printed what c wants, and leaves it running.
func start(t *testing.T, cmd *exec.Cmd, c command) *background {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	b := &background{line: c.line, cmd: cmd, out: bufio.NewReader(out)}
	cmd.Stderr = &b.errOut
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	b.dog = time.AfterFunc(5*time.Minute, func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	})
	t.Cleanup(func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }) // after a failure
	for want := range strings.Lines(c.want) {
		got, err := b.out.ReadString('\n')
		if err != nil || masked(got) != masked(want) {
			t.Fatalf("$ %s\nprinted %q (%v), want %q", c.line, got, err, want)
		}
	}
	return b
}

// finish ends the command as Ctrl-C does in a terminal, where all processes of the command receive
// the signal. The example must end in order; go run adds a line of its own.
func (b *background) finish(t *testing.T) {
	t.Helper()
	syscall.Kill(-b.cmd.Process.Pid, syscall.SIGINT)
	io.Copy(io.Discard, b.out)
	b.cmd.Wait()
	b.dog.Stop()
	if text := strings.TrimSpace(b.errOut.String()); text != "" && text != "signal: interrupt" {
		t.Errorf("$ %s\nended with:\n%s", b.line, text)
	}
}
