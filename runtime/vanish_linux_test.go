package ipc_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// These tests remove the files of a domain that processes use, as cleaners of temporary files, rm
// and the end of a session do.

// dialUntil dials again and again until it reaches the server of that pid.
func dialUntil(t *testing.T, d ipc.RendezvousOption, pid int) *ipc.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		c, err := ipc.Dial(ctx, "echo", d)
		if err == nil && c.Peer().PID == pid {
			t.Cleanup(func() { c.Close() })
			return c
		}
		if err == nil {
			c.Close()
		}
		if ctx.Err() != nil {
			t.Fatalf("process %d cannot be reached: %v", pid, err)
		}
		time.Sleep(time.Millisecond)
	}
}

// refused starts a second server, which has to end before it is ready, and returns
// what it writes.
func refused(t *testing.T, path string) string {
	t.Helper()
	var said bytes.Buffer
	c := newChild(t, "server", path)
	c.Stderr = &said
	if c.start(t) {
		t.Error("there are two servers of one name")
	}
	c.kill()
	return said.String()
}

// terminate ends a child in order.
func terminate(t *testing.T, c *child) {
	t.Helper()
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-c.done
}

// nothingIn checks that a folder is empty.
func nothingIn(t *testing.T, path string) {
	t.Helper()
	left, err := os.ReadDir(path)
	if err != nil || len(left) > 0 {
		t.Errorf("left in the domain: %v, %v", left, err)
	}
}

func TestServerWhoseFilesVanish(t *testing.T) {
	for name, vanish := range map[string]func(path string) error{
		"socket": func(p string) error { return os.Remove(filepath.Join(p, "echo.sock")) },
		"both": func(p string) error {
			return errors.Join(os.Remove(filepath.Join(p, "echo.sock")),
				os.Remove(filepath.Join(p, "echo.lock")))
		},
		"socket replaced": func(p string) error {
			p = filepath.Join(p, "echo.sock")
			return errors.Join(os.Remove(p), os.WriteFile(p, nil, 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "d")
			d := ipc.WithDomain(path)
			srv := startChild(t, "server", path)
			old := dial(t, d)
			if err := vanish(path); err != nil {
				t.Fatal(err)
			}
			// The name is the living server's at every moment.
			if said := refused(t, path); !strings.Contains(said, "already exists") {
				t.Errorf("the second server said %q", said)
			}
			still(t, dialUntil(t, d, srv.Process.Pid))
			still(t, old)
			terminate(t, srv)
			nothingIn(t, path)
		})
	}
}

// A server whose lock file alone is gone is as much the name's owner as before.
func TestServerWhoseLockFileVanishes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d")
	srv := startChild(t, "server", path)
	for range 3 {
		if err := os.Remove(filepath.Join(path, "echo.lock")); err != nil {
			t.Fatal(err)
		}
		refused(t, path)
		still(t, dialUntil(t, ipc.WithDomain(path), srv.Process.Pid))
		for {
			if _, err := os.Stat(filepath.Join(path, "echo.lock")); err == nil {
				break
			}
			time.Sleep(time.Millisecond)
		}
	}
	terminate(t, srv)
	nothingIn(t, path)
}

// A server makes a domain again that was removed or moved away as a whole.
func TestServerWhoseDomainVanishes(t *testing.T) {
	for name, vanish := range map[string]func(path string) error{
		"removed": os.RemoveAll,
		"moved":   func(p string) error { return os.Rename(p, p+".old") },
		"parent moved": func(p string) error {
			p = filepath.Dir(p)
			return errors.Join(os.Rename(p, p+".old"), os.Mkdir(p, 0o700))
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "up", "d")
			if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			srv := startChild(t, "server", path)
			old := dial(t, ipc.WithDomain(path))
			if err := vanish(path); err != nil {
				t.Fatal(err)
			}
			still(t, dialUntil(t, ipc.WithDomain(path), srv.Process.Pid))
			still(t, old)
			if said := refused(t, path); !strings.Contains(said, "already exists") {
				t.Errorf("the second server said %q", said)
			}
			terminate(t, srv)
			nothingIn(t, path)
		})
	}
}

// A server whose name another has taken in a new domain learns of it, says so, lets go
// of its clients and ends, and leaves what is its successor's alone.
func TestDisplacedServerEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d")
	d := ipc.WithDomain(path)
	var said bytes.Buffer
	first := newChild(t, "server", path)
	first.Stderr = &said
	if !first.start(t) {
		t.Fatal("the server ended")
	}
	old := dial(t, d)
	stopProcess(t, first) // so that it does not come first
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	second := startChild(t, "server", path)
	if err := first.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	<-old.Done()
	<-first.done
	for _, part := range []string{"displaced", path, "process " + itoa(second.Process.Pid)} {
		if !strings.Contains(said.String(), part) {
			t.Errorf("the displaced server says %q, not %q", said.String(), part)
		}
	}
	still(t, dial(t, d))
	terminate(t, second)
	nothingIn(t, path)
}

// The end of a server that was not looked at for a while removes nothing of its
// successor.
func TestEndOfServerSparesItsSuccessor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d")
	first := startChild(t, "server", path)
	stopProcess(t, first)
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	second := startChild(t, "server", path)
	if err := errors.Join(first.Process.Signal(syscall.SIGTERM),
		first.Process.Signal(syscall.SIGCONT)); err != nil {
		t.Fatal(err)
	}
	<-first.done
	c := dial(t, ipc.WithDomain(path))
	if still(t, c); c.Peer().PID != second.Process.Pid {
		t.Errorf("process %d answers", c.Peer().PID)
	}
}

// What systemd-tmpfiles cleans away without regard to age it leaves alone in a domain
// with a server, however deep that lies.
func TestCleanerLeavesDomainAlone(t *testing.T) {
	cleaner, err := exec.LookPath("systemd-tmpfiles")
	if err != nil {
		t.Skip(err)
	}
	for _, depth := range []int{1, 120} {
		base := t.TempDir()
		path := filepath.Join(base, strings.Repeat("d", depth))
		srv := startChild(t, "server", path)
		litter := filepath.Join(base, "litter")
		conf := filepath.Join(t.TempDir(), "clean.conf")
		if err := errors.Join(os.WriteFile(litter, nil, 0o600),
			os.WriteFile(conf, []byte("d "+base+" - - - 0\n"), 0o600)); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(cleaner, "--clean", conf).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if _, err := os.Stat(litter); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("the cleaner does not clean: %v", err)
		}
		for _, name := range []string{"echo.sock", "echo.lock"} {
			if _, err := os.Stat(filepath.Join(path, name)); err != nil {
				t.Error(err)
			}
		}
		terminate(t, srv)
	}
}

// Cleaners that know nothing of locks see in /proc/net/unix that a socket is in use.
func TestSocketIsListedByItsPath(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d")
	serve(t, ipc.WithDomain(path))
	list, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(path, "echo.sock"); len(want) < 108 &&
		!bytes.Contains(list, []byte(" "+want+"\n")) {
		t.Errorf("%s is not in /proc/net/unix", want)
	}
}

// crampedRole fills the file system of its domain, and then serves and calls in it.
func crampedRole(domain ipc.RendezvousOption) error {
	filler, err := os.Create(os.Getenv(domainEnv) + ".filler")
	if err != nil {
		return err
	}
	defer filler.Close()
	for err == nil {
		_, err = filler.Write(make([]byte, 512))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		return err
	}
	l, err := ipc.Listen("echo", domain)
	if err != nil {
		return err
	}
	srv := ipc.NewServer(echoService())
	defer srv.Close()
	go srv.Serve(context.Background(), l)
	c, err := ipc.Dial(context.Background(), "echo", domain)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = echo(context.Background(), c, []byte("hello"))
	return err
}

func TestFullDiskStopsNoServer(t *testing.T) {
	mount := t.TempDir()
	if out, err := exec.Command("unshare", "-rm", "mount", "-t", "tmpfs", "none",
		mount).CombinedOutput(); err != nil {
		t.Skipf("no file system can be mounted here: %v: %s", err, out)
	}
	c := newChild(t, "cramped", filepath.Join(mount, "d"))
	args := append([]string{"unshare", "-rm", "sh", "-c",
		`mount -t tmpfs -o size=64k none "$0" && exec "$1"`, mount}, c.Args...)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = c.Env
	stdin, err := cmd.StdinPipe() // whose end would end the child
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// Two processes that do not meet because one of them lacks XDG_RUNTIME_DIR are
// told so.
func TestDialNamesTheOtherDomain(t *testing.T) {
	const variable = "XDG_RUNTIME_DIR"
	run, tmp := t.TempDir(), t.TempDir()
	t.Setenv("IPCGEN_DOMAIN", "")
	t.Setenv("TMPDIR", tmp)
	t.Setenv(variable, run)
	inTmp := filepath.Join(tmp, "ipcgen-"+itoa(os.Getuid()), "default")
	startChild(t, "server", "", variable+"=")
	_, err := ipc.Dial(t.Context(), "echo")
	want(t, err, ipc.CodeUnavailable, ipc.NotSent, "in domain "+run+"/ipcgen/default",
		"IPCGEN_DOMAIN is not set",
		variable+" is set", inTmp+", and there is such a name")
	_, err = ipc.Dial(t.Context(), "other")
	if err == nil || strings.Contains(err.Error(), "there is such a name") {
		t.Errorf("%v", err)
	}
	t.Setenv(variable, "")
	_, err = ipc.Dial(t.Context(), "other")
	want(t, err, ipc.CodeUnavailable, ipc.NotSent, "in domain "+inTmp, variable+" is not set",
		"/run/user/"+itoa(os.Getuid())+"/ipcgen/default")
	t.Setenv("IPCGEN_DOMAIN", run+"/mine")
	_, err = ipc.Dial(t.Context(), "echo")
	want(t, err, ipc.CodeUnavailable, ipc.NotSent, "in domain "+run+"/mine", "from IPCGEN_DOMAIN")
}
