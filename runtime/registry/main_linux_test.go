package registry_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/ipcgen/ipcgen/internal/sys/systest"
	"github.com/ipcgen/ipcgen/runtime/registry"
)

// The test binary runs itself for the other processes of a test. With this variable set it is the
// child of that name, with its arguments in os.Args.
const childVar = "REGISTRY_TEST_CHILD"

var children = map[string]func(args []string) error{
	"register": childRegister,
	"open":     childOpen,
	"step":     childStep,
}

func TestMain(m *testing.M) {
	if name := os.Getenv(childVar); name != "" {
		if err := children[name](os.Args[1:]); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(systest.RunWithoutLeaks(m))
}

// A child is another process of the test.
type child struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	out   *bufio.Scanner
}

// start starts a child, which is killed at the end of the test.
func start(t testing.TB, name string, args ...string) *child {
	t.Helper()
	c := prepare(t, name, args...)
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.kill)
	return c
}

func prepare(t testing.TB, name string, args ...string) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	// With the race detector a process sleeps for a second before it exits.
	cmd.Env = append(os.Environ(), childVar+"="+name, "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	return &child{cmd, in, bufio.NewScanner(out)}
}

// line returns the next line that the child prints.
func (c *child) line(t testing.TB) string {
	t.Helper()
	if !c.out.Scan() {
		t.Fatal("the child ended")
	}
	return c.out.Text()
}

func (c *child) expect(t testing.TB, want string) {
	t.Helper()
	if got := c.line(t); got != want {
		t.Fatalf("the child printed %q, want %q", got, want)
	}
}

func (c *child) kill() {
	c.cmd.Process.Kill()
	c.cmd.Wait()
}

// childRegister holds the given names until its input ends.
func childRegister(args []string) error {
	r, err := registry.Open(args[0], nil)
	if err != nil {
		return err
	}
	for _, name := range args[1:] {
		if _, err := r.Register(registry.Record{Name: name}); err != nil {
			return err
		}
	}
	fmt.Println("registered")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func newDomain(t testing.TB) string {
	return filepath.Join(t.TempDir(), "domain")
}

func open(t testing.TB, domain string) *registry.Registry {
	t.Helper()
	r, err := registry.Open(domain, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func register(t testing.TB, r *registry.Registry, name string) *registry.Registration {
	t.Helper()
	reg, err := r.Register(registry.Record{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reg.Close() })
	return reg
}
