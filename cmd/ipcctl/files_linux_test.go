package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestFilesThatAreNone gives commands pipes, and files that are larger than the memory.
func TestFilesThatAreNone(t *testing.T) {
	newDomain(t)
	serve(t, "greeter")
	schema, err := filepath.Abs(greeterSchema)
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	if err := syscall.Mkfifo("pipe", 0o600); err != nil {
		t.Fatal(err)
	}
	write(t, "sparse", "")
	if err := os.Truncate("sparse", 10<<30); err != nil {
		t.Skip(err) // the file system has no holes
	}

	// A recording is a file, so no writer of a pipe is waited for.
	expect(t, exitFile, "", "pipe: not a recording of ipcctl: no regular file", "", "replay",
		"pipe", "greeter")
	expect(t, exitFile, "", "sparse: not a recording of ipcctl", "", "replay", "-list", "sparse")

	// A schema may come from a pipe. Ctrl-C ends the command even if nothing comes.
	for _, args := range [][]string{{"call", "-schema", "pipe", "greeter", "Greet", "{}"},
		{"publish", "-schema", "pipe", "status", "Status"},
		{"convert", "-schema", "pipe", "x", "y"},
		{"convert", "-schema", schema, "-type", "greeter.Hello", "pipe", "y"}} {
		s := start(t, strings.NewReader(""), args...)
		w, err := os.OpenFile("pipe", os.O_WRONLY, 0) // returns when the command reads
		if err != nil {
			t.Fatal(err)
		}
		s.cancel()
		s.ends(t, exitInterrupted, "", "")
		w.Close()
	}

	// A file that is too long is refused before the memory is full.
	expect(t, 1, "", "sparse: error: cannot read the file: a schema has at most 64 MiB", "", "call",
		"-schema", "sparse", "greeter", "Greet", "{}")
	expect(t, 1, "", "sparse: more than 268435456 bytes; -max-size allows more", "", "convert",
		"-schema", schema, "-type", "greeter.Hello", "sparse", "-")

	// A pipe without a reader holds up no command that Ctrl-C ends.
	for _, args := range [][]string{{"describe", "-bfbs", "pipe", "greeter"},
		{"bench", "-n", "1", "-svg", "pipe", "greeter", "Greet", `{"name": "x"}`},
		{"top", "-interval", "10ms", "-svg", "pipe"}} {
		s := start(t, strings.NewReader(""), args...)
		s.cancel()
		<-s.code
	}

	// What was measured is printed, even if the picture cannot be written.
	if err := os.Mkdir("folder", 0o700); err != nil {
		t.Fatal(err)
	}
	expect(t, 1, "\n10 calls in ", "folder: is a directory", "", "bench", "-n", "10", "-svg",
		"folder", "greeter", "Greet", `{"name": "x"}`)
}
