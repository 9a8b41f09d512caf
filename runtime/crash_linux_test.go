//go:build ipccrash

package ipc_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/internal/sys"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// The crash tests kill or stop a client or a server at every store to shared
// memory and at every kernel call that it makes, and look what the other side
// makes of it. They need a build with the crash points in it:
//
//	go test -tags ipccrash -run Crash ./runtime
//
// IPC_CRASH_ROUNDS sets how often each point is tried, at a later visit each time.

func crashRounds() int {
	if n, err := strconv.Atoi(os.Getenv("IPC_CRASH_ROUNDS")); err == nil {
		return n
	}
	return 3
}

// crashPoints are those that a role reaches, as it says itself.
func crashPoints(t *testing.T, role string) []string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "d")
	var said bytes.Buffer
	listing := func(role string, env ...string) *child {
		c := newChild(t, role, path, env...)
		c.Stderr = &said
		return c
	}
	if role == "client" {
		serve(t, ipc.WithDomain(path))
		c := listing(role, sys.CrashEnv+"=list", callsEnv+"=20000")
		c.start(t)
		<-c.done
	} else {
		c := listing(role, sys.CrashEnv+"=list")
		c.start(t)
		conn := dial(t, ipc.WithDomain(path))
		exercise(t.Context(), conn)
		conn.Close()
		c.end()
	}
	var points []string
	for line := range strings.Lines(said.String()) {
		if p, ok := strings.CutPrefix(strings.TrimSpace(line), "crash point: "); ok {
			points = append(points, p)
		}
	}
	slices.Sort(points)
	if len(points) < 8 {
		t.Fatalf("%s reaches only the points %q", role, points)
	}
	return points
}

// end makes the child end by itself, and waits for that.
func (c *child) end() {
	c.stdin.Close()
	<-c.done
}

// exercise makes calls of all kinds, until one fails because the server is
// gone.
func exercise(ctx context.Context, c *ipc.Conn) error {
	for i := range 200 {
		if _, err := echo(ctx, c, make([]byte, i*2000%300_000)); err != nil {
			return err
		}
		if i%50 == 0 {
			runtime.Gosched()
			time.Sleep(200 * time.Microsecond) // lets both sides fall asleep, so that the points of waking are reached
		}
	}
	return nil
}

func TestCrashServer(t *testing.T) {
	for _, point := range crashPoints(t, "server") {
		for n := 1; n <= crashRounds(); n++ {
			crashServer(t, "kill", point, n)
			crashServer(t, "stop", point, n)
		}
	}
}

// crashServer lets the server crash while a client calls it.
func crashServer(t *testing.T, action, point string, n int) {
	what := fmt.Sprintf("server, %s at %q, visit %d", action, point, n)
	path := filepath.Join(t.TempDir(), "d")
	fds, goroutines := descriptors(t), runtime.NumGoroutine()
	srv := newChild(t, "server", path, fmt.Sprintf("%s=%s:%s:%d", sys.CrashEnv, action, point, n))
	ready := srv.start(t)
	if ready {
		patience := 10 * time.Second // a bound for the test, not for the code
		if action == "stop" {
			patience = 300 * time.Millisecond
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		c, err := ipc.Dial(ctx, "echo", ipc.WithDomain(path))
		if err == nil {
			err = exercise(ctx, c)
		}
		cancel()
		switch code := ipc.CodeOf(err); {
		case code == ipc.CodeOK: // this visit did not happen
		case action == "kill" && code != ipc.CodeUnavailable:
			t.Errorf("%s: %v", what, err)
		case action == "stop" && code != ipc.CodeDeadlineExceeded:
			t.Errorf("%s: %v", what, err)
		case action == "stop" && c != nil:
			_ = srv.Process.Signal(syscall.SIGCONT)
			if _, err := echo(t.Context(), c, []byte("on we go")); err != nil {
				t.Errorf("%s, then continued: %v", what, err)
			}
		}
		if c != nil {
			c.Close()
		}
	}
	_ = srv.Process.Signal(syscall.SIGCONT)
	srv.kill()
	// At once there can be another server, and a connection to it.
	next := startChild(t, "server", path)
	c, err := ipc.Dial(t.Context(), "echo", ipc.WithDomain(path))
	if err == nil {
		_, err = echo(t.Context(), c, []byte("hello"))
		c.Close()
	}
	if err != nil {
		t.Errorf("%s: next server: %v", what, err)
	}
	next.kill()
	settle(t, what, fds, goroutines)
}

func TestCrashClient(t *testing.T) {
	for _, point := range crashPoints(t, "client") {
		for n := 1; n <= crashRounds(); n++ {
			crashClient(t, "kill", point, n)
			crashClient(t, "stop", point, n)
		}
	}
}

// crashClient lets a client crash, and expects the server to serve others
// meanwhile and to be rid of it.
func crashClient(t *testing.T, action, point string, n int) {
	what := fmt.Sprintf("client, %s at %q, visit %d", action, point, n)
	path := filepath.Join(t.TempDir(), "d")
	before, goroutinesBefore := descriptors(t), runtime.NumGoroutine()
	l, err := ipc.Listen("echo", ipc.WithDomain(path))
	if err != nil {
		t.Fatal(err)
	}
	srv := ipc.NewServer(echoService())
	served := make(chan error, 1)
	go func() { served <- srv.Serve(context.Background(), l) }()
	other, err := ipc.Dial(t.Context(), "echo", ipc.WithDomain(path))
	if err != nil {
		t.Fatal(err)
	}
	client := newChild(t, "client", path, fmt.Sprintf("%s=%s:%s:%d", sys.CrashEnv, action, point, n), callsEnv+"=2000")
	client.start(t)
	if action == "stop" {
		client.untilStopped()
	}
	for range 20 {
		if _, err := echo(t.Context(), other, []byte("me too")); err != nil {
			t.Errorf("%s: another client: %v", what, err)
		}
	}
	_ = client.Process.Signal(syscall.SIGCONT)
	<-client.done
	client.kill() // closes its pipe
	other.Close()
	srv.Close()
	<-served
	settle(t, what, before, goroutinesBefore)
}
