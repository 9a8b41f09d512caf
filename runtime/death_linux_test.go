package ipc_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// TestServerKilled kills a server that executes some calls and has not read others. All of them
// fail at once, each with its outcome.
func TestServerKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d")
	for range 20 {
		srv := startChild(t, "server", path)
		c := dial(t, ipc.WithDomain(path))
		if c.Err() != nil || c.Peer().PID != srv.Process.Pid {
			t.Errorf("peer %d, want %d; error %v", c.Peer().PID, srv.Process.Pid, c.Err())
		}
		blocked := make(chan error, 1)
		go func() {
			_, err := ipc.Invoke(t.Context(), c, methodBlock, &blob{})
			blocked <- err
		}()
		_, err := ipc.Invoke(t.Context(), c, methodCrash, &blob{})
		if ipc.CodeOf(err) != ipc.CodeUnavailable || ipc.OutcomeOf(err) != ipc.OutcomeUnknown {
			t.Errorf("call that killed the server: %v, %v", err, ipc.OutcomeOf(err))
		}
		if err := <-blocked; ipc.CodeOf(err) != ipc.CodeUnavailable {
			t.Errorf("call in flight: %v", err)
		}
		<-c.Done()
		if ipc.CodeOf(c.Err()) != ipc.CodeUnavailable {
			t.Errorf("error %v", c.Err())
		}
		if _, err := echo(t.Context(), c, nil); ipc.OutcomeOf(err) != ipc.NotSent {
			t.Errorf("call after the death: %v", err)
		}
		srv.kill() // reap
		if _, err := ipc.Dial(t.Context(), "echo",
			ipc.WithDomain(path)); ipc.CodeOf(err) != ipc.CodeUnavailable {
			t.Errorf("dial a dead server: %v", err)
		}
	}
}

// TestStoppedServer shows that a call to a server that hangs ends at its deadline, and that a
// request that the server has not read is not executed later.
func TestStoppedServer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d")
	srv := startChild(t, "server", path)
	c := dial(t, ipc.WithDomain(path))
	if _, err := echo(t.Context(), c, nil); err != nil {
		t.Fatal(err)
	}
	stopProcess(t, srv)
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		_, err := echo(ctx, c, []byte("late"))
		cancel()
		if ipc.OutcomeOf(err) == ipc.NotSent && c.Err() == nil {
			continue // this process was late, too
		}
		if !errors.Is(err, context.DeadlineExceeded) || ipc.OutcomeOf(err) != ipc.NotExecuted {
			t.Errorf("call to a stopped server: %v", err)
		}
		break
	}
	// One without a deadline, which the server does not come to read either.
	unread := make(chan error, 1)
	go func() {
		_, err := echo(t.Context(), c, []byte("unread"))
		unread <- err
	}()
	for c.Stats().Sent < 3 { // echo, late, unread
		runtime.Gosched()
	}
	srv.kill()
	if err := <-unread; ipc.CodeOf(err) != ipc.CodeUnavailable ||
		ipc.OutcomeOf(err) != ipc.NotExecuted {
		t.Errorf("call that was not read: %v", err)
	}
}

// TestClientKilled shows that a server releases the connection of a killed client at once.
func TestClientKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d")
	srv := serve(t, ipc.WithDomain(path), blocks()...)
	for range 20 {
		startChild(t, "client", path).kill() // it has called, so the server knows it
		for srv.Conns() != 0 {
			runtime.Gosched()
		}
	}
}

func TestOneServerPerName(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d")
	srv := startChild(t, "server", path)
	_, err := ipc.Listen("echo", ipc.WithDomain(path))
	if ipc.CodeOf(err) != ipc.CodeAlreadyExists ||
		!strings.Contains(err.Error(), "process "+itoa(srv.Process.Pid)) {
		t.Errorf("second server: %v", err)
	}
	srv.kill()
	l, err := ipc.Listen("echo", ipc.WithDomain(path)) // what the first left behind is no obstacle
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	left, err := os.ReadDir(path)
	if err != nil || len(left) != 0 {
		t.Errorf("left in the domain: %v, %v", left, err)
	}
}

func TestNames(t *testing.T) {
	d := newDomain(t)
	for _, name := range []string{"", "a/b", "..", strings.Repeat("x", 1000)} {
		if _, err := ipc.Listen(name, d); ipc.CodeOf(err) != ipc.CodeInvalidArgument {
			t.Errorf("Listen(%q): %v", name, err)
		}
		if _, err := ipc.Dial(t.Context(), name, d); ipc.CodeOf(err) != ipc.CodeInvalidArgument {
			t.Errorf("Dial(%q): %v", name, err)
		}
	}
}

// TestDeepDomain serves in a directory whose path is longer than the address
// of a Unix socket can be.
func TestDeepDomain(t *testing.T) {
	path := t.TempDir()
	for range 3 {
		path = filepath.Join(path, strings.Repeat("d", 80))
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
	name := strings.Repeat("n", 80)
	l, err := ipc.Listen(name, ipc.WithDomain(path))
	if err != nil {
		t.Fatal(err)
	}
	srv := ipc.NewServer(echoService())
	go srv.Serve(t.Context(), l)
	defer srv.Close()
	c, err := ipc.Dial(t.Context(), name, ipc.WithDomain(path))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := echo(t.Context(), c, []byte("hello")); err != nil {
		t.Error(err)
	}
}
