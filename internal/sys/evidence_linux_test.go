package sys_test

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/internal/sys"
)

func TestOFDLocksBelongToTheDescription(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	open := func() *os.File {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	a, b, c := open(), open(), open()
	if err := sys.TryLock(a, 7); err != nil {
		t.Fatal(err)
	}
	if err := sys.TryLock(b, 7); !errors.Is(err, sys.ErrLocked) {
		t.Errorf("second lock: %v", err)
	}
	if err := sys.TryLock(b, 1<<62); err != nil {
		t.Errorf("another byte: %v", err)
	}
	c.Close() // which would drop a POSIX lock
	for _, tt := range []struct {
		f    *os.File
		off  int64
		want bool
	}{{b, 7, true}, {a, 7, false}, {a, 1 << 62, true}, {b, 8, false}} {
		if got, err := sys.Locked(tt.f, tt.off); err != nil || got != tt.want {
			t.Errorf("Locked(%v, %d) = %v, %v", tt.f.Fd(), tt.off, got, err)
		}
	}
	if err := sys.Unlock(b, 1<<62); err != nil {
		t.Error(err)
	}
	if locked, _ := sys.Locked(a, 1<<62); locked {
		t.Error("Unlock did not")
	}
	a.Close()
	if err := sys.TryLock(b, 7); err != nil {
		t.Errorf("after the holder's close: %v", err)
	}
}

func TestSharedLocksAreFound(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	open := func(flag int) *os.File {
		f, err := os.OpenFile(path, flag, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	reader, other, looker := open(os.O_RDONLY), open(os.O_RDONLY), open(os.O_RDWR)
	for _, f := range []*os.File{reader, other} {
		if err := sys.ShareLock(f, 1<<62+7); err != nil {
			t.Fatal(err)
		}
	}
	if at, found, err := sys.FindLock(looker, 1<<62, 100); at != 1<<62+7 || !found || err != nil {
		t.Errorf("FindLock = %d, %v, %v", at, found, err)
	}
	if _, found, err := sys.FindLock(looker, 1<<62+8, 100); found || err != nil {
		t.Errorf("behind it: %v, %v", found, err)
	}
	if err := sys.TryLock(looker, 1<<62+7); !errors.Is(err, sys.ErrLocked) {
		t.Errorf("exclusive lock beside shared ones: %v", err)
	}
	reader.Close()
	other.Close()
	if _, found, err := sys.FindLock(looker, 1<<62, 100); found || err != nil {
		t.Errorf("after the close: %v, %v", found, err)
	}
}

func TestAliveIsNotZombie(t *testing.T) {
	if !sys.Alive(os.Getpid()) {
		t.Error("this process")
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^$")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := sys.OpenProcess(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
	if sys.Alive(cmd.Process.Pid) {
		t.Error("a dead process that is not reaped")
	}
	cmd.Wait()
	if sys.Alive(cmd.Process.Pid) {
		t.Error("a process that is reaped")
	}
}

func TestPublishFileIsAllOrNothing(t *testing.T) {
	dir := t.TempDir()
	fail := errors.New("fill failed")
	if err := sys.PublishFile(dir, "x", func(*os.File) error {
		return fail
	}); !errors.Is(err, fail) {
		t.Errorf("error %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	write := func(s string) func(*os.File) error {
		return func(f *os.File) error {
			_, err := f.WriteString(s)
			return err
		}
	}
	if err := sys.PublishFile(dir, "x", write("first")); err != nil {
		t.Fatal(err)
	}
	if err := sys.PublishFile(dir, "x", write("second")); !errors.Is(err, os.ErrExist) {
		t.Errorf("second: %v", err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "x")); string(b) != "first" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestDirWatchTellsOfWritesAndCloses(t *testing.T) {
	dir := t.TempDir()
	w, err := sys.WatchDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	f, err := os.Create(filepath.Join(dir, "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	next := func() (got string) {
		t.Helper()
		err := w.Next(func(name string, closed bool) {
			got = name
			if closed {
				got += " closed"
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := next(); got != "f" {
		t.Errorf("create: %q", got)
	}
	f.WriteAt([]byte{0}, 0)
	if got := next(); got != "f" {
		t.Errorf("write: %q", got)
	}
	f.Close()
	if got := next(); got != "f closed" {
		t.Errorf("close: %q", got)
	}
	w.SetDeadline(time.Unix(1, 0))
	if err := w.Next(nil); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("deadline: %v", err)
	}
}

// A watch belongs to a path: it continues with the directory that comes to have the path.
func TestDirWatchOutlivesItsDirectory(t *testing.T) {
	for name, replace := range map[string]func(dir string) error{
		"removed": func(dir string) error {
			return errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700))
		},
		"replaced": func(dir string) error {
			return errors.Join(os.Rename(dir, dir+".old"), os.Mkdir(dir, 0o700))
		},
	} {
		dir := filepath.Join(t.TempDir(), "d")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		w, err := sys.WatchDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := replace(dir); err != nil {
			t.Fatal(err)
		}
		w.SetDeadline(time.Now().Add(5 * time.Minute))
		for n := 0; ; n++ { // until an event names a file of the new directory
			told := false
			if err := os.WriteFile(filepath.Join(dir, "f"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := w.Next(func(name string, _ bool) { told = told || name == "f" }); err != nil {
				t.Fatalf("%s: %v after %d events", name, err, n)
			}
			if told && sys.WatchTrouble() == nil {
				break
			}
		}
		w.Close()
		if err := w.Next(nil); !errors.Is(err, os.ErrClosed) {
			t.Errorf("%s: after Close: %v", name, err)
		}
	}
}

// A user has 128 inotify instances. A process needs one, whatever the number of its watches, and
// returns it.
func TestDirWatchesShareAnInstance(t *testing.T) {
	instances := func() (n int) {
		fds, _ := filepath.Glob("/proc/self/fd/*")
		for _, fd := range fds {
			if to, _ := os.Readlink(fd); to == "anon_inode:inotify" {
				n++
			}
		}
		return n
	}
	var all []*sys.DirWatch
	for range 300 {
		w, err := sys.WatchDir(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, w)
	}
	if n := instances(); n != 1 || sys.WatchTrouble() != nil {
		t.Errorf("%d instances, %v", n, sys.WatchTrouble())
	}
	for _, w := range all {
		w.Close()
	}
	if n := instances(); n != 0 {
		t.Errorf("%d instances are left", n)
	}
}

func TestStartedProcessIsALeaderThatTellsItsEnd(t *testing.T) {
	// The parent is killed; its child, in the same group, would survive.
	cmd := exec.Command("/bin/sh", "-c", "sleep 1000 & echo started; wait")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p, err := sys.StartLeader(cmd, false)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if err := p.Signal(sys.SIGKILL); err != nil {
		t.Error(err)
	}
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
	if err := p.SignalGroup(sys.SIGKILL); err != nil {
		t.Error(err)
	}
	io.Copy(io.Discard, out) // ends when the sleep, which also holds it, has ended
	cmd.Wait()
	if err := p.Signal(sys.SIGKILL); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("signal to the dead: %v", err)
	}
	if _, err := sys.OpenProcess(cmd.Process.Pid); err == nil {
		t.Error("a handle on the dead")
	}
}

func TestCloseEndsWait(t *testing.T) {
	p, err := sys.OpenProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	waited := make(chan error)
	go func() { waited <- p.Wait() }()
	runtime.Gosched()
	p.Close()
	if err := <-waited; err == nil {
		t.Error("this process has ended")
	}
}

// childRobust holds a robust futex in the file of its argument until it is killed, or releases the
// futex after a line on its standard input.
func childRobust(path string) {
	word := mapWord(path)
	release, err := sys.HoldRobust(word)
	if err != nil {
		panic(err)
	}
	os.Stdout.WriteString("held\n")
	if n, _ := os.Stdin.Read(make([]byte, 1)); n == 1 {
		release()
	}
	select {}
}

func TestRobustFutexTellsOfDeath(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(cmd *exec.Cmd, in io.Writer, word *atomic.Uint32)
		died bool
	}{
		{"killed", func(cmd *exec.Cmd, _ io.Writer, _ *atomic.Uint32) {
			cmd.Process.Signal(syscall.SIGKILL)
		}, true},
		{"aborted", func(cmd *exec.Cmd, _ io.Writer, _ *atomic.Uint32) {
			cmd.Process.Signal(syscall.SIGABRT)
		}, true},
		{"let go", func(_ *exec.Cmd, in io.Writer, _ *atomic.Uint32) {
			in.Write([]byte{1})
		}, false},
		{"dropped", func(_ *exec.Cmd, _ io.Writer, w *atomic.Uint32) { sys.DropRobust(w) }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "word")
			if err := os.WriteFile(path, make([]byte, os.Getpagesize()), 0o600); err != nil {
				t.Fatal(err)
			}
			word := mapWord(path)
			if died, err := sys.WaitRobust(t.Context(), word); died || err != nil {
				t.Errorf("held by nobody: %v, %v", died, err)
			}
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), "SYS_TEST_ROBUST="+path)
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { cmd.Process.Kill(); cmd.Wait() }()
			if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
				t.Fatal(err)
			}
			told := make(chan bool)
			go func() {
				died, err := sys.WaitRobust(t.Context(), word)
				if err != nil {
					t.Error(err)
				}
				told <- died
			}()
			tt.end(cmd, in, word)
			if died := <-told; died != tt.died {
				t.Errorf("died = %v, want %v", died, tt.died)
			}
			// A later caller gets the same answer, and does not wait.
			if died, err := sys.WaitRobust(t.Context(), word); died != tt.died || err != nil {
				t.Errorf("asked again: %v, %v, want %v", died, err, tt.died)
			}
		})
	}
}
