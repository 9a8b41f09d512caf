package ipc_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"testing"

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
	"server": serverRole,
	"client": clientRole,
}

func TestMain(m *testing.M) {
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
	srv := ipc.NewServer(echoService(ipc.Handle(methodCrash, func(context.Context, *blob) (*blob, error) {
		return nil, syscall.Kill(os.Getpid(), syscall.SIGKILL)
	})), ipc.HandleStreamWriter(blockStream, func(ctx context.Context, w *ipc.StreamWriter) error {
		for n := uint64(0); ; n++ {
			if err := writeBlock(ctx, w, n, int(n%4096)); err != nil {
				return err
			}
		}
	}))
	fmt.Println("ready")
	if err := srv.Serve(ctx, l); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// clientRole connects, makes a call, and then more without end.
func clientRole(domain ipc.RendezvousOption) error {
	c, err := ipc.Dial(context.Background(), "echo", domain)
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		if _, err := echo(context.Background(), c, make([]byte, i%5000)); err != nil {
			return err
		}
		if i == 0 {
			fmt.Println("ready")
		}
	}
}

// A child is a process of this test.
type child struct {
	*exec.Cmd
	stdin io.Closer
}

// startChild starts a child in a role and waits until it is ready.
func startChild(t testing.TB, role, domain string, env ...string) *child {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &child{Cmd: exec.Command(exe)}
	c.Env = append(append(os.Environ(), roleEnv+"="+role, domainEnv+"="+domain), env...)
	c.Stderr = os.Stderr
	if c.stdin, err = c.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.kill)
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("%s: said %q, %v", role, line, err)
	}
	return c
}

// kill ends the child by SIGKILL and reaps it.
func (c *child) kill() {
	if c.ProcessState == nil {
		_ = c.Process.Kill()
		_ = c.Wait()
		c.stdin.Close()
	}
}

// stopProcess stops the child and waits until it has stopped.
func stopProcess(t testing.TB, c *child) {
	t.Helper()
	if err := c.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var ws syscall.WaitStatus
	if _, err := syscall.Wait4(c.Process.Pid, &ws, syscall.WUNTRACED, nil); err != nil || !ws.Stopped() {
		t.Fatalf("the child did not stop: %v, %v", ws, err)
	}
}

func itoa(n int) string { return strconv.Itoa(n) }

func BenchmarkCallProcess(b *testing.B) {
	path := b.TempDir() + "/d"
	startChild(b, "server", path)
	c := dial(b, ipc.WithDomain(path))
	req := &blob{make([]byte, 64)}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ipc.Invoke(context.Background(), c, methodEcho, req); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	b.Logf("%+v", c.Stats())
}
