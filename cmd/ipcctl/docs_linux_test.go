package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	block  = regexp.MustCompile("(?ms)^```console\n(.*?)^```$")
	figure = regexp.MustCompile(`[0-9]+`)
	spaces = regexp.MustCompile(` +`)
	folder = regexp.MustCompile(`/\S*/\S*`)
)

// alike replaces what differs between two runs: numbers, the width of columns, and the path of the
// domain.
func alike(text string) string {
	for _, r := range []struct {
		was *regexp.Regexp
		is  string
	}{{folder, "PATH"}, {figure, "N"}, {spaces, " "}} {
		text = r.was.ReplaceAllString(text, r.is)
	}
	return text
}

// TestDocs runs the commands of docs/ipcctl.md in their order, beside one process of the demo, and
// compares what they print.
func TestDocs(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "ipcctl.md"))
	if err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"schema", "cmd", "examples"} {
		if err := os.Symlink(filepath.Join(root, name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	newDomain(t)
	serve(t, "audio", "0")
	t.Cleanup(func() { // if a step before has failed
		var pid int
		text, _ := os.ReadFile(filepath.Join(dir, "controller.pid"))
		if _, err := fmt.Sscan(string(text), &pid); err == nil {
			if p, err := os.FindProcess(pid); err == nil {
				p.Kill()
			}
		}
	})
	bin := t.TempDir()
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	t.Setenv("GOBIN", bin)
	commands := 0
	for _, b := range block.FindAllStringSubmatch(string(page), -1) {
		for _, step := range strings.Split("\n"+b[1], "\n$ ")[1:] {
			command, want, _ := strings.Cut(step, "\n")
			for strings.HasPrefix(want, "> ") { // the command goes on
				var more string
				more, want, _ = strings.Cut(want[2:], "\n")
				command += "\n" + more
			}
			if strings.Contains(command, "until grep -q ") {
				t.Errorf("$ %s\ngrep without -s prints that the file is not there yet", command)
			}
			cmd := exec.Command("sh", "-c", command)
			cmd.Dir = dir
			out, _ := cmd.CombinedOutput()
			if got := strings.TrimSpace(string(out)); alike(got) != alike(strings.TrimSpace(want)) {
				t.Errorf("$ %s\nprints\n%s\nand not\n%s", command, got, want)
			}
			commands++
		}
	}
	if commands < 9 {
		t.Errorf("%d commands were run", commands)
	}
}
