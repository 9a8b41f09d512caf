package group_test

import (
	"bufio"
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

	"github.com/ipcgen/ipcgen/internal/sys"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/group"
	"github.com/ipcgen/ipcgen/runtime/registry"
)

// replaced waits until the group is healthy and has none of the processes of before.
func replaced(t *testing.T, g *group.Group, before group.Status, events *eventLog) group.Status {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s, err := g.Wait(ctx, func(s group.Status) bool {
		for i, now := range s.Replicas {
			if now.PID == before.Replicas[i].PID {
				return false
			}
		}
		return s.Healthy()
	})
	if err != nil {
		t.Fatalf("%v; %+v\n%v", err, s, events)
	}
	return s
}

// TestLockOfRefusedSupervisor has another process lock the file that the supervisor is about to
// make again, as a second supervisor does before it is refused.
func TestLockOfRefusedSupervisor(t *testing.T) {
	cfg := listConfig(newDomain(t), 2)
	var events eventLog
	told := make(chan string, 100)
	cfg.Events = func(ev group.Event) {
		events.add(ev)
		if ev.Kind == group.FileLost || ev.Kind == group.Stopping {
			told <- ev.Cause
		}
	}
	g := startGroup(t, cfg)
	c := dialList(t, cfg.Domain)
	before := g.Status()
	name := filepath.Join(cfg.Domain, ".groups", "list")
	f, err := os.Create(name + ".other")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := sys.TryLock(f, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+".other", name); err != nil {
		t.Fatal(err)
	}
	if cause := <-told; !strings.Contains(cause, "cannot be made again yet") {
		t.Errorf("the supervisor: %s", cause)
	}
	if err := sys.Unlock(f, 0); err != nil {
		t.Fatal(err)
	}
	replaced(t, g, before, &events)
	appendTo(t, c, 1)
	if events.has(group.Stopping) {
		t.Errorf("events:\n%v", &events)
	}
}

// A supervisor whose group's file is removed, or replaced, creates it again, and no call fails
// because of that. Another supervisor is refused all the time, and clients that come later find the
// group.
func TestGroupWhoseFileVanishes(t *testing.T) {
	t.Parallel()
	for name, vanish := range map[string]func(domain string) error{
		"removed": func(d string) error { return os.Remove(filepath.Join(d, ".groups", "list")) },
		"folder":  func(d string) error { return os.RemoveAll(filepath.Join(d, ".groups")) },
		"replaced": func(d string) error {
			return replaceFile(filepath.Join(d, ".groups", "list"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := listConfig(newDomain(t), 2)
			var events eventLog
			var stderr syncBuffer
			cfg.Events, cfg.Stderr = events.add, &stderr
			g := startGroup(t, cfg)
			c := dialList(t, cfg.Domain)
			n := appendTo(t, c, 1)
			before := g.Status()
			if err := vanish(cfg.Domain); err != nil {
				t.Fatal(err)
			}
			var inUse *group.InUseError
			if _, err := group.Start(t.Context(), cfg); !errors.As(err, &inUse) {
				t.Errorf("a second supervisor: %v", err)
			}
			over := make(chan struct{})
			go func() {
				defer close(over)
				replaced(t, g, before, &events)
			}()
			for done := false; !done; n++ {
				select {
				case <-over:
					done = true
				default:
				}
				rep, err := ipc.Invoke(t.Context(), c, methodAppend, &words{n})
				if err != nil || (*rep)[0] != n+1 {
					t.Fatalf("call %d: %v, %v\n%v\n%s", n, rep, err, &events, stderr.String())
				}
			}
			late := dialList(t, cfg.Domain)
			if now := appendTo(t, late, 1); now != n+1 {
				t.Errorf("the list has %d elements, not %d", now, n+1)
			}
			shutdown(t, g)
			if !events.has(group.FileLost) || events.has(group.StateLost) ||
				events.has(group.Suspected) {
				t.Errorf("events:\n%v\n%s", &events, stderr.String())
			}
		})
	}
}

// replaceFile replaces a file by one with arbitrary contents.
func replaceFile(path string) error {
	return errors.Join(os.WriteFile(path+".new", bytes.Repeat([]byte{0xff}, 100_000), 0o600),
		os.Rename(path+".new", path))
}

// overwriteWord stores 1 in one word of a file.
func overwriteWord(path string, at int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte{1, 0, 0, 0, 0, 0, 0, 0}, at)
	return errors.Join(err, f.Close())
}

// A group's file that is cut short or overwritten in use is an error to supervisor, replicas and
// clients, and crashes none of them. All replicas are replaced, so the service continues.
func TestGroupWhoseFileIsDamaged(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(path string) error{
		"cut to nothing": func(p string) error { return os.Truncate(p, 0) },
		"cut to a page":  func(p string) error { return os.Truncate(p, int64(os.Getpagesize())) },
		"zeros":          func(p string) error { return overwrite(p, 0) },
		"rubbish":        func(p string) error { return overwrite(p, 0xa5) },
		"the grace":      func(p string) error { return overwriteWord(p, 24) },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := audioConfig(newDomain(t))
			var events eventLog
			cfg.Events = events.add
			g := startGroup(t, cfg)
			c, err := group.Dial(t.Context(), cfg.Service,
				group.DialConfig{Domain: cfg.Domain, Patience: patience})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := c.WaitConnected(t.Context()); err != nil {
				t.Fatal(err)
			}
			before := g.Status()
			if err := damage(filepath.Join(cfg.Domain, ".groups", cfg.Service)); err != nil {
				t.Fatal(err)
			}
			after := replaced(t, g, before, &events)
			for {
				conn, err := c.WaitConnected(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if conn.PID == after.Replicas[after.Primary].PID {
					break
				}
			}
			shutdown(t, g)
			if log := events.String(); !events.has(group.FileLost) ||
				strings.Contains(log, "bus error") || strings.Contains(log, "SIGBUS") {
				t.Errorf("events:\n%v", log)
			}
		})
	}
}

func overwrite(path string, b byte) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	_, err = f.WriteAt(bytes.Repeat([]byte{b}, int(fi.Size())), 0)
	return err
}

// The state of a group is lost if its file is damaged, and the group reports that.
func TestDamagedFileLosesStateAloud(t *testing.T) {
	cfg := listConfig(newDomain(t), 2)
	var events eventLog
	cfg.Events = events.add
	g := startGroup(t, cfg)
	appendTo(t, dialList(t, cfg.Domain), 1)
	before := g.Status()
	if err := os.Truncate(filepath.Join(cfg.Domain, ".groups", "list"), 0); err != nil {
		t.Fatal(err)
	}
	replaced(t, g, before, &events)
	shutdown(t, g)
	if !events.has(group.StateLost) {
		t.Errorf("events:\n%v", &events)
	}
}

// Replicas that cannot be adopted, because the group's file vanished while they had no supervisor,
// end: the replicas of the next supervisor need their names.
func TestSurvivorsWithoutFileEnd(t *testing.T) {
	d := newDomain(t)
	killedHost(t, d, "audio", "survive")
	if len(processesOf(d)) != 2 {
		t.Fatalf("processes %v", processesOf(d))
	}
	if err := os.Remove(filepath.Join(d, ".groups", "audio_compute")); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); len(processesOf(d)) > 0; time.Sleep(
		time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("processes %v run", processesOf(d))
		}
	}
	cfg := audioConfig(d)
	cfg.Survive = true
	startGroup(t, cfg)
}

// A group whose domain is removed creates it again, with the names of all its processes in it, and
// no call fails because of that.
func TestGroupWhoseDomainVanishes(t *testing.T) {
	cfg := listConfig(newDomain(t), 2)
	var events eventLog
	cfg.Events = events.add
	g := startGroup(t, cfg)
	c := dialList(t, cfg.Domain)
	n := appendTo(t, c, 1)
	for range 2 {
		before := g.Status()
		if err := os.RemoveAll(cfg.Domain); err != nil {
			t.Fatal(err)
		}
		over := make(chan struct{})
		go func() {
			defer close(over)
			replaced(t, g, before, &events)
		}()
		for done := false; !done; n++ {
			select {
			case <-over:
				done = true
			default:
			}
			rep, err := ipc.Invoke(t.Context(), c, methodAppend, &words{n})
			if err != nil || (*rep)[0] != n+1 {
				t.Fatalf("call %d: %v, %v\n%v", n, rep, err, &events)
			}
		}
		n = appendTo(t, dialList(t, cfg.Domain), n)
	}
	shutdown(t, g)
	if !events.has(group.FileLost) || events.has(group.StateLost) || events.has(group.Suspected) {
		t.Errorf("events:\n%v", &events)
	}
}

// If two groups have one name, which can happen after a domain is removed, the one that was not
// first in the new domain ends, and does not affect the other.
func TestDisplacedGroupEnds(t *testing.T) {
	d := newDomain(t)
	host := childCommand("host", d, "audio")
	var said bytes.Buffer
	host.Stderr = &said
	out, err := host.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { host.Process.Kill() })
	for lines := bufio.NewScanner(out); lines.Scan() && lines.Text() != "up"; {
	}
	first := append(processesOf(d), host.Process.Pid)
	if len(first) != 3 {
		t.Fatalf("processes %v", first)
	}
	client := dialGroup(t, d, group.DialConfig{Patience: patience})
	if _, err := client.WaitConnected(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, pid := range first { // so that they do not come first
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.RemoveAll(d); err != nil {
		t.Fatal(err)
	}
	cfg := audioConfig(d)
	var events eventLog
	cfg.Events = events.add
	g := startGroup(t, cfg)
	for _, pid := range first {
		if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
	}
	if err := host.Wait(); err != nil && !strings.Contains(said.String(), "displaced") {
		t.Errorf("the first supervisor: %v, %s", err, &said)
	}
	s := g.Status()
	for {
		conn, err := client.WaitConnected(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if conn.PID == s.Replicas[s.Primary].PID {
			break
		}
	}
	for _, pid := range first {
		if running(pid) {
			t.Errorf("process %d of the first group runs", pid)
		}
	}
	shutdown(t, g)
	if events.has(group.Suspected) || events.has(group.FileLost) {
		t.Errorf("events:\n%v", &events)
	}
}

func init() { children["imaged"] = childImaged }

// childImaged is the client of a group whose file is in a lower layer of its file system, and then
// the supervisor of that group.
func childImaged(args []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cfg := audioConfig(args[0])
	c, err := group.Dial(ctx, cfg.Service,
		group.DialConfig{Domain: cfg.Domain, Patience: patience})
	if err != nil {
		return err
	}
	defer c.Close()
	g, err := group.Start(ctx, cfg)
	if err != nil {
		return err
	}
	defer g.Shutdown(context.Background())
	_, err = c.WaitConnected(ctx)
	return err
}

func TestGroupOfAnImage(t *testing.T) {
	folder, image := t.TempDir(), filepath.Join(t.TempDir(), "image")
	mount := `mount -t tmpfs none "$0" && mkdir "$0/u" "$0/w" "$0/m" && mount -t overlay -o "lowerdir=` + image + `,upperdir=$0/u,workdir=$0/w" none "$0/m"`
	if err := os.Mkdir(image, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("unshare", "-rm", "sh", "-c", mount,
		folder).CombinedOutput(); err != nil {
		t.Skipf("no file system can be mounted here: %v: %s", err, out)
	}
	killedHost(t, filepath.Join(image, "d"), "audio") // leaves the group's file
	child := childCommand("imaged", filepath.Join(folder, "m", "d"))
	cmd := exec.Command("unshare",
		append([]string{"-rm", "sh", "-c", mount + ` && exec "$@"`, folder}, child.Args...)...)
	cmd.Env = child.Env
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// A process without a supervisor, whose name another process has taken, answers nothing any more.
func TestDisplacedReplicaAnswersNothing(t *testing.T) {
	d := newDomain(t)
	first, err := group.Join(group.JoinConfig{Domain: d})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if err := first.Announce(registry.Record{Name: "alone"}); err != nil {
		t.Fatal(err)
	}
	if err := first.Admit(0); err != nil {
		t.Fatal(err)
	}
	for range 100 { // until the other is first in the new domain
		if err := os.RemoveAll(d); err != nil {
			t.Fatal(err)
		}
		r, err := registry.Open(d, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		other, err := r.Register(registry.Record{Name: "alone"})
		if err != nil {
			continue
		}
		defer other.Close()
		for deadline := time.Now().Add(patience); !errors.Is(first.Admit(0),
			ipc.ErrDisplaced); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the first one admits calls")
			}
		}
		return
	}
	t.Skip("the first one always came first")
}
