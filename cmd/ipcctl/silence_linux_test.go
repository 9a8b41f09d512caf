package main

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"

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
