package ipc_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	flatbuffers "github.com/google/flatbuffers/go"
	"github.com/ipcgen/ipcgen/internal/sys/systest"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// Tests with several processes run this test binary again, in a role that
// roleEnv names. A child says on its standard output when it is ready, and ends when its standard
// input does, so that none outlives the test.

const (
	roleEnv   = "IPC_TEST_ROLE"
	domainEnv = "IPC_TEST_DOMAIN"
)

var roles = map[string]func(domain ipc.RendezvousOption) error{
	"server":   serverRole,
	"client":   clientRole,
	"vandal":   vandalRole,
	"cramped":  crampedRole,
	"recorder": recorderRole,
	"streamer": streamerRole,
	"opener":   openerRole,
	"hostile":  hostileRole,
	"prey":     preyRole,
	"narrow":   narrowRole,
	"silent":   silentRole,
	"runner":   runnerRole,
	"keeper":   keeperRole,
	"patient":  patientRole,
	"stopped":  stoppedRole,
	"greedy":   greedyRole,
	"giver":    giverRole,
	"hoarder":  hoarderRole,
	"stingy":   stingyRole,
	"polite":   politeRole,
	"crowd":    crowdRole,
	"crowded":  crowdedRole,
	"teller":   tellerRole,

	"stream hostile": streamHostileRole,
	"stream prey":    streamPreyRole,
	"link prey":      linkPreyRole,
}

func TestMain(m *testing.M) {
	if err := systest.Obey(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	role := os.Getenv(roleEnv)
	if role == "" {
		os.Exit(m.Run())
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	if err := roles[role](ipc.WithDomain(os.Getenv(domainEnv))); err != nil {
		fmt.Fprintln(os.Stderr, role+":", err)
		os.Exit(1)
	}
}

// serverRole serves the echo protocol until it is told to end.
func serverRole(domain ipc.RendezvousOption) error {
	l, err := ipc.Listen("echo", domain)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	srv := ipc.NewServer(everything(ipc.Handle(methodCrash,
		func(context.Context, *blob) (*blob, error) {
			return nil, syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}))...)
	fmt.Println("ready")
	if err := srv.Serve(ctx, l); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// callAside makes a call in place, and one whose handler takes so long that the caller falls
// asleep, over a connection of its own, which has no handlers of messages.
func callAside(ctx context.Context, domain ipc.RendezvousOption) error {
	c, err := ipc.Dial(ctx, "echo", domain)
	if err != nil {
		return err
	}
	defer c.Close()
	data := make([]byte, 1000)
	err = c.InvokeInPlace(ctx, &ipc.InPlaceCall{
		Method: methodAside.Info(), Size: len(data) + 64,
		Build: func(b *flatbuffers.Builder, _ uint64) { _ = encodeBlob(b, 0, &blob{Data: data}) },
		Read: func(reply []byte) error {
			var m blob
			if _, err := decodeBlob(reply, &m); err != nil || len(m.Data) != len(data) {
				return fmt.Errorf("%d bytes came back, %w", len(m.Data), err)
			}
			return nil
		},
	})
	if err == nil {
		_, err = ipc.Invoke(ctx, c, methodPause, &blob{Data: make([]byte, 300)})
	}
	return err
}

// starveClient sends messages to a server that holds them up, until this side has declared that it
// waits for room.
func starveClient(ctx context.Context, domain ipc.RendezvousOption) error {
	c, err := ipc.Dial(ctx, "echo", domain)
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := make(chan error, 1)
	go func() {
		for {
			if err := ipc.Send(ctx, c, messageNote,
				&blob{Data: make([]byte, 10_000)}); err != nil {
				failed <- err
				return
			}
		}
	}()
	for c.Stats().WaitsForRoom == 0 {
		select {
		case err := <-failed:
			return err
		case <-time.After(time.Millisecond):
		}
	}
	cancel()
	if err := <-failed; ipc.CodeOf(err) != ipc.CodeCanceled {
		return err
	}
	return nil
}

// exchangeBlocks opens the stream in both directions, and reads and writes n blocks each. If the
// server is gone, its error has CodeUnavailable.
func exchangeBlocks(ctx context.Context, domain ipc.RendezvousOption, n int) error {
	o := ipc.StreamOptions{Depth: 4, Payload: 4096}
	r, err := ipc.OpenStreamReader(ctx, "echo", blockStream, o, domain)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := ipc.OpenStreamWriter(ctx, "echo", blockStream, o, domain)
	if err != nil {
		return err
	}
	defer w.Close()
	for i := range n {
		if _, _, err := readBlock(ctx, r); err == io.EOF {
			return ipc.Errorf(ipc.CodeUnavailable, "the writer is gone")
		} else if err != nil {
			return err
		}
		if err := writeBlock(ctx, w, uint64(i), i%4096); err != nil {
			return err
		}
	}
	return nil
}

// ignoreNotes makes a client handle the messages that the server pushes.
func ignoreNotes() *ipc.Service {
	return ipc.NewService(echoProtocol,
		ipc.Receive(messageNote, func(context.Context, *blob) error {
			return nil
		}))
}

// callsEnv limits the calls that clientRole makes.
const callsEnv = "IPC_TEST_CALLS"

// starveEnv makes clientRole also fill its ring. The server must hold up notes.
const starveEnv = "IPC_TEST_STARVE"

// clientRole connects and makes calls: as many as callsEnv says, or without end. Between the calls
// it asks the server to push messages, and exchanges blocks.
func clientRole(domain ipc.RendezvousOption) error {
	ctx := context.Background()
	c, err := ipc.Dial(ctx, "echo", domain, ignoreNotes())
	if err != nil {
		return err
	}
	calls, err := strconv.Atoi(os.Getenv(callsEnv))
	if err != nil {
		calls = math.MaxInt
	}
	for i := range calls {
		_, err := echo(ctx, c, make([]byte, i%5000))
		if err == nil && i%100 == 1 {
			if _, err = ipc.Invoke(ctx, c, methodNews, &blob{Data: make([]byte, i)}); err == nil {
				err = exchangeBlocks(ctx, domain, 10)
			}
			if err == nil {
				err = callAside(ctx, domain)
			}
			if err == nil && os.Getenv(starveEnv) != "" {
				err = starveClient(ctx, domain)
			}
			if err == nil {
				_, err = echo(ctx, c, make([]byte, 600_000)) // more than fits into the ring
			}
		}
		if ipc.CodeOf(err) == ipc.CodeUnavailable {
			return nil // the test has killed the server
		}
		if err != nil {
			return err
		}
		if i == 0 {
			fmt.Println("ready")
		}
	}
	return c.Close()
}

// A child is a process of this test.
type child struct {
	*exec.Cmd
	stdin io.Closer
	done  chan struct{} // closed when it has been reaped
}

// startChild starts a child in a role and waits until it is ready.
func startChild(t testing.TB, role, domain string, env ...string) *child {
	t.Helper()
	c := newChild(t, role, domain, env...)
	if !c.start(t) {
		t.Fatalf("%s: ended before it was ready", role)
	}
	return c
}

// newChild prepares a child.
func newChild(t testing.TB, role, domain string, env ...string) *child {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &child{Cmd: exec.Command(exe), done: make(chan struct{})}
	c.Env = append(append(os.Environ(), roleEnv+"="+role, domainEnv+"="+domain), env...)
	if clock := os.Getenv(clockEnv); clock != "" {
		c.Env = append(c.Env, systest.ClockVar+"="+clock)
	}
	c.Stderr = os.Stderr
	return c
}

// start starts the child. It returns false when the child ends, or stops, before it
// is ready.
func (c *child) start(t testing.TB) (ready bool) {
	t.Helper()
	// Wait closes the pipes of package exec before everything in them has been read. So the child
	// gets pipes that this test makes.
	in, stdin, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, stdout, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c.Stdin, c.Stdout, c.stdin = in, stdout, stdin
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	in.Close()
	stdout.Close()
	t.Cleanup(c.kill)
	go func() {
		_ = c.Wait()
		close(c.done)
	}()
	line := make(chan string, 1)
	go func() {
		defer out.Close()
		r := bufio.NewReader(out)
		s, _ := r.ReadString('\n')
		line <- s
		_, _ = io.Copy(io.Discard, r)
	}()
	for {
		select {
		case s := <-line:
			return s == "ready\n"
		case <-time.After(time.Millisecond):
			if c.state() == 'T' {
				return false
			}
		}
	}
}

// state returns the letter by which the kernel reports the child's state. 'T' means stopped, and 0
// that the process is gone.
func (c *child) state() byte {
	b, err := os.ReadFile("/proc/" + itoa(c.Process.Pid) + "/stat")
	if err != nil {
		return 0
	}
	return b[bytes.LastIndexByte(b, ')')+2]
}

// asleep reports whether no thread of the child runs, or would if a processor were free.
func (c *child) asleep() bool {
	threads, _ := filepath.Glob("/proc/" + itoa(c.Process.Pid) + "/task/*/stat")
	for _, thread := range threads {
		b, err := os.ReadFile(thread)
		if err == nil && b[bytes.LastIndexByte(b, ')')+2] != 'S' {
			return false
		}
	}
	return true
}

// kill ends the child by SIGKILL and reaps it.
func (c *child) kill() {
	_ = c.Process.Kill()
	<-c.done
	c.stdin.Close()
}

// untilStopped waits until the child has stopped or ended.
func (c *child) untilStopped() {
	for {
		select {
		case <-c.done:
			return
		case <-time.After(time.Millisecond):
			if c.state() == 'T' {
				return
			}
		}
	}
}

// stopProcess stops the child and waits until it has stopped.
func stopProcess(t testing.TB, c *child) {
	t.Helper()
	if err := c.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	c.untilStopped()
}

// succeeds waits for a child that ends by itself. On a busy machine, one with much to do takes many
// minutes; a hang ends here before the test binary gives up.
func (c *child) succeeds(t *testing.T) {
	t.Helper()
	select {
	case <-c.done:
	case <-time.After(30 * time.Minute):
		t.Fatal("the child hangs")
	}
	if !c.ProcessState.Success() {
		t.Errorf("the child: %v", c.ProcessState)
	}
}

func itoa(n int) string { return strconv.Itoa(n) }

func BenchmarkCallProcess(b *testing.B) {
	path := b.TempDir() + "/d"
	startChild(b, "server", path)
	c := dial(b, ipc.WithDomain(path))
	req := &blob{Data: make([]byte, 64)}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ipc.Invoke(context.Background(), c, methodEcho, req); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	b.Logf("%+v", c.Stats())
}

func BenchmarkLargeProcess(b *testing.B) {
	path := b.TempDir() + "/d"
	startChild(b, "server", path)
	c := dial(b, ipc.WithDomain(path))
	for _, n := range []int{4 << 10, 64 << 10, 1 << 20} {
		b.Run(itoa(n), func(b *testing.B) {
			req := &blob{Data: make([]byte, n)}
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ipc.Invoke(context.Background(), c, methodEcho, req); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
