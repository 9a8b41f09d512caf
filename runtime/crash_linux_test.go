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
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/internal/sys"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/ipctest"
)

// The crash tests kill or stop a client or a server at every store to shared memory and at every
// system call, and check the other side. They need a build with crash points:
//
//	go test -tags ipccrash -run Crash ./runtime
//
// IPC_CRASH_ROUNDS sets how often each point is tried, at a later visit each time.
// With -v they print the times until the survivors learned of a death. These depend on the machine,
// so no test limits them.

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
		c := newChild(t, role, path, append(env, sys.CrashEnv+"=list")...)
		c.Stderr = &said
		c.start(t)
		return c
	}
	if role == "client" {
		ipctest.Serve(t, ipc.WithDomain(path), "echo", everything(holdNotes())...)
		<-listing(role, callsEnv+"=20000", starveEnv+"=1").done
	} else {
		c := listing(role)
		conn := dial(t, ipc.WithDomain(path), ignoreNotes())
		if err := exercise(t.Context(), conn, ipc.WithDomain(path)); err != nil {
			t.Fatal(err)
		}
		conn.Close()
		c.end()
	}
	points := slices.DeleteFunc(lines(said.String(), "crash point: "), isFramePoint)
	slices.Sort(points)
	for _, p := range []string{"starve", "starved"} {
		if !slices.Contains(points, p) {
			t.Errorf("%s does not reach the point %q", role, p)
		}
	}
	if len(points) < 20 {
		t.Fatalf("%s reaches only the points %q", role, points)
	}
	return points
}

// isFramePoint reports whether a crash point is a store that publishes a frame of some kind. The
// points within that store, whatever the frame, are others. TestCrashStreaming has both.
func isFramePoint(point string) bool { return strings.HasPrefix(point, "frame ") }

// lines returns what is behind a prefix, for every line of s that has it.
func lines(s, prefix string) (found []string) {
	for line := range strings.Lines(s) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), prefix); ok {
			found = append(found, rest)
		}
	}
	return found
}

// end makes the child end by itself, and waits for that.
func (c *child) end() {
	c.stdin.Close()
	<-c.done
}

// exercise makes calls of all kinds, over c and other connections, has the server push messages,
// and exchanges blocks, until an operation fails because the server is gone.
func exercise(ctx context.Context, c *ipc.Conn, domain ipc.RendezvousOption) error {
	for i := range 200 {
		if _, err := echo(ctx, c, make([]byte, i*2000%300_000)); err != nil {
			return err
		}
		if i%50 == 0 {
			runtime.Gosched()
			// lets both sides fall asleep, so that the points of waking are reached
			time.Sleep(200 * time.Microsecond)
			if _, err := ipc.Invoke(ctx, c, methodNews,
				&blob{Data: make([]byte, i*2000)}); err != nil {
				return err
			}
			if err := exchangeBlocks(ctx, domain, 20); err != nil {
				return err
			}
			if err := callAside(ctx, domain); err != nil {
				return err
			}
			if err := starveServer(ctx, domain); err != nil {
				return err
			}
		}
	}
	return nil
}

// starveServer has a server push messages to a client that holds them up, until the server has
// declared that it waits for room.
func starveServer(ctx context.Context, domain ipc.RendezvousOption) error {
	probe, err := ipc.Dial(ctx, "echo", domain)
	if err != nil {
		return err
	}
	defer probe.Close()
	before, err := waitsForRoom(ctx, probe)
	if err != nil {
		return err
	}
	c, err := ipc.Dial(ctx, "echo", domain, ipc.NewService(echoProtocol, holdNotes()))
	if err != nil {
		return err
	}
	defer c.Close()
	calls, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		for calls.Err() == nil && c.Err() == nil {
			// The second one does not fit: the client has stopped to read.
			_, _ = ipc.Invoke(calls, c, methodNews, &blob{Data: make([]byte, 200_000)})
		}
	}()
	for {
		now, err := waitsForRoom(ctx, probe)
		if err != nil || now > before {
			return err
		}
	}
}

// waitsForRoom is how often a server has waited for room in rings to the clients of this process.
func waitsForRoom(ctx context.Context, probe *ipc.Conn) (n uint64, err error) {
	counters, err := ipc.ReadCounters(ctx, probe)
	if err != nil {
		return 0, err
	}
	for _, p := range counters.Processes {
		n += p.WaitsForRoom
	}
	return n, nil
}

// keepGoing continues the child whenever it has stopped, until end is called: on a busy machine
// it may come to where it stops only when the test's patience is over.
func (c *child) keepGoing() (end func()) {
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			if c.state() == 'T' {
				_ = c.Process.Signal(syscall.SIGCONT)
			}
			select {
			case <-over:
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	return func() {
		close(over)
		<-ended
	}
}

// notices are the times that survivors took to learn of a death.
type notices []time.Duration

// add records that the death that a child announced, if it did, is known now.
func (n *notices) add(said string, now int64) {
	for _, at := range lines(said, "crash at ") {
		if ns, err := strconv.ParseInt(at, 10, 64); err == nil {
			*n = append(*n, time.Duration(now-ns))
		}
	}
}

func (n notices) log(t *testing.T) {
	if len(n) == 0 {
		t.Error("no crash was noticed: the points were not reached")
		return
	}
	slices.Sort(n)
	at := func(q float64) time.Duration { return n[int(q*float64(len(n)-1))] }
	t.Logf("from %d deaths to their notice: median %v, 90%% %v, 99%% %v, longest %v", len(n),
		at(0.5), at(0.9), at(0.99), at(1))
}

// threads is the number of this process's threads. The Go runtime keeps those that
// it once needed, so it is of use for comparing over many repetitions only.
func threads(t testing.TB) int {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	return len(tasks)
}

// expectNoThreadPerCrash fails the test if this process has many more threads at its
// end than at the beginning, given that it went through so many crashes.
func expectNoThreadPerCrash(t *testing.T, crashes int) {
	before := threads(t)
	t.Cleanup(func() {
		if now := threads(t); now-before > max(crashes/4, 16) {
			t.Errorf("%d threads after %d crashes, %d before", now, crashes, before)
		}
	})
}

func TestCrashServer(t *testing.T) {
	points := crashPoints(t, "server")
	expectNoThreadPerCrash(t, 2*len(points)*crashRounds())
	var noticed notices
	for _, point := range points {
		t.Run(point, func(t *testing.T) {
			for n := 1; n <= crashRounds(); n++ {
				crashServer(t, "kill", point, n, &noticed)
				crashServer(t, "stop", point, n, &noticed)
			}
		})
	}
	noticed.log(t)
}

// crashServer lets the server crash while a client calls it.
func crashServer(t *testing.T, action, point string, n int, noticed *notices) {
	what := fmt.Sprintf("server, %s at %q, visit %d", action, point, n)
	path := filepath.Join(t.TempDir(), "d")
	before := footprintNow(t)
	var said bytes.Buffer
	srv := newChild(t, "server", path, fmt.Sprintf("%s=%s:%s:%d", sys.CrashEnv, action, point, n))
	srv.Stderr = &said
	ready := srv.start(t)
	var known int64
	if ready {
		patience := 20 * time.Second // a bound for the test, not for the code
		if action == "stop" {
			patience = 300 * time.Millisecond
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		c, err := ipc.Dial(ctx, "echo", ipc.WithDomain(path), ignoreNotes())
		if err == nil {
			err = exercise(ctx, c, ipc.WithDomain(path))
		}
		known = sys.Monotonic()
		cancel()
		switch code := ipc.CodeOf(err); {
		case code == ipc.CodeOK: // this visit did not happen
		case action == "kill" && code != ipc.CodeUnavailable:
			t.Errorf("%s: %v", what, err)
		case action == "stop" && code != ipc.CodeDeadlineExceeded:
			t.Errorf("%s: %v", what, err)
		case action == "stop" && c != nil:
			goOn := srv.keepGoing()
			if _, err := echo(t.Context(), c, []byte("on we go")); err != nil {
				t.Errorf("%s, then continued: %v", what, err)
			}
			goOn()
		}
		if c != nil {
			c.Close()
		}
	}
	_ = srv.Process.Signal(syscall.SIGCONT)
	srv.kill()
	if ready {
		noticed.add(said.String(), known)
	}
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
	settle(t, what, before)
}

func TestCrashClient(t *testing.T) {
	points := crashPoints(t, "client")
	expectNoThreadPerCrash(t, 2*len(points)*crashRounds())
	var noticed notices
	for _, point := range points {
		t.Run(point, func(t *testing.T) {
			for n := 1; n <= crashRounds(); n++ {
				crashClient(t, "kill", point, n, &noticed)
				crashClient(t, "stop", point, n, &noticed)
			}
		})
	}
	noticed.log(t)
}

// crashClient lets a client crash, and expects the server to serve others
// meanwhile and to be rid of it.
func crashClient(t *testing.T, action, point string, n int, noticed *notices) {
	what := fmt.Sprintf("client, %s at %q, visit %d", action, point, n)
	path := filepath.Join(t.TempDir(), "d")
	before := footprintNow(t)
	l, err := ipc.Listen("echo", ipc.WithDomain(path))
	if err != nil {
		t.Fatal(err)
	}
	var gone atomic.Int64 // when the server learned of the end of the client's connection
	srv := ipc.NewServer(append(everything(holdNotes()), ipc.WithServerInterceptor(
		func(ctx context.Context, call *ipc.ServerCall, next func(context.Context) error) error {
			m, _ := call.Request.(*blob) // nil in place
			if (m == nil || string(m.Data) != "me too") && gone.CompareAndSwap(0, -1) {
				go func() {
					<-call.Peer.Done()
					gone.Store(sys.Monotonic())
				}()
			}
			return next(ctx)
		}))...)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(context.Background(), l) }()
	other, err := ipc.Dial(t.Context(), "echo", ipc.WithDomain(path))
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	client := newChild(t, "client", path,
		fmt.Sprintf("%s=%s:%s:%d", sys.CrashEnv, action, point, n), callsEnv+"=2000",
		starveEnv+"=1")
	client.Stderr = &said
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
	if st := client.ProcessState; !st.Success() &&
		(action == "stop" || st.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL) {
		t.Errorf("%s: it ended with: %v, %s", what, st, said.String())
	}
	client.kill() // closes its pipe
	other.Close()
	srv.Close()
	<-served
	settle(t, what, before)
	if at := gone.Load(); at > 0 {
		noticed.add(said.String(), at)
	}
}

// holdNotes makes one side of a connection hold up the messages of the other.
func holdNotes() ipc.Route {
	return ipc.Receive(messageNote, func(ctx context.Context, _ *blob) error {
		<-ctx.Done()
		return nil
	})
}
