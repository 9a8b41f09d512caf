package group_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/runtime/group"
)

// childChatter is a bare replica that never stops writing, and counts its writes in a file.
func childChatter(args []string) error {
	go func() {
		f, err := os.Create(args[0])
		if err != nil {
			panic(err)
		}
		line := strings.Repeat("chatter ", 100)
		for n := 1; ; n++ {
			fmt.Fprintln(os.Stdout, line)
			fmt.Fprintln(os.Stderr, line)
			fmt.Fprint(os.Stdout, "progress\r")
			f.WriteAt(fmt.Appendf(nil, "%20d", n), 0)
			time.Sleep(time.Millisecond)
		}
	}()
	return childBare(nil)
}

func chatterConfig(domain string) group.Config {
	cfg := bareConfig(domain)
	cfg.Command = func(i int) *exec.Cmd { return childCommand("chatter", chatterFile(domain, i)) }
	return cfg
}

func chatterFile(domain string, i int) string { return fmt.Sprintf("%s.chatter.%d", domain, i) }

// chattersGoOn waits until both chatterers have written more.
func chattersGoOn(t *testing.T, domain string) {
	t.Helper()
	count := func(i int) (n int) {
		b, _ := os.ReadFile(chatterFile(domain, i))
		fmt.Sscan(string(b), &n)
		return n
	}
	for i := range 2 {
		before := count(i)
		eventually(t, fmt.Sprintf("replica %d writes on", i), func() bool {
			return count(i) > before+100
		})
	}
}

// eventually waits until cond holds.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// A chatterHost is a process that supervises two chatterers, whose output is its own standard
// output and standard error: the pipe that r reads.
type chatterHost struct {
	cmd *exec.Cmd
	r   *os.File
}

func startChatterHost(t *testing.T, args ...string) *chatterHost {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	h := &chatterHost{childCommand("host", args...), r}
	h.cmd.Stdout, h.cmd.Stderr = w, w
	err = h.cmd.Start()
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.cmd.Process.Kill(); h.cmd.Wait(); r.Close() })
	for lines := bufio.NewReader(r); ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(line, "up\n") {
			return h
		}
	}
}

// Neither a supervisor nor its replicas die, or block, when the reader of their output is gone or
// does not read any more.
func TestReaderOfOutputGoesAway(t *testing.T) {
	for name, leave := range map[string]func(*chatterHost){
		"closed":  func(h *chatterHost) { h.r.Close() },
		"stopped": func(*chatterHost) {},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDomain(t)
			h := startChatterHost(t, d, "chatter")
			before := processesOf(d)
			leave(h)
			chattersGoOn(t, d)
			if after := processesOf(d); len(before) != 2 ||
				fmt.Sprint(after) != fmt.Sprint(before) {
				t.Errorf("replicas before %v, after %v", before, after)
			}
			h.cmd.Process.Signal(syscall.SIGTERM)
			if err := h.cmd.Wait(); err != nil {
				t.Errorf("the supervisor: %v", err)
			}
			nothingLeft(t, d)
		})
	}
}

// Replicas that survive their supervisor do not die because it was the reader of their output, and
// the next supervisor continues to read.
func TestSurvivorsOutputIsAdopted(t *testing.T) {
	d := newDomain(t)
	h := startChatterHost(t, d, "chatter", "survive")
	h.cmd.Process.Kill()
	h.cmd.Wait()
	h.r.Close()
	before := processesOf(d)
	chattersGoOn(t, d)
	pipe, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	var got atomic.Int64
	var reading sync.WaitGroup
	reading.Go(func() { countTo(&got, pipe) })
	cfg := chatterConfig(d)
	cfg.Survive, cfg.Stdout, cfg.Stderr = true, w, w
	g := startGroup(t, cfg)
	var adopted []int // the former supervisor chose the places, and so the order
	for _, r := range g.Replicas() {
		adopted = append(adopted, r.PID)
	}
	slices.Sort(adopted)
	slices.Sort(before)
	if !slices.Equal(adopted, before) {
		t.Errorf("adopted %v, not %v", adopted, before)
	}
	eventually(t, "output of adopted replicas", func() bool { return got.Load() > 100_000 })
	shutdown(t, g)
	w.Close()
	reading.Wait()
}

func countTo(n *atomic.Int64, r *os.File) {
	defer r.Close()
	buf := make([]byte, 32<<10)
	for {
		got, err := r.Read(buf)
		n.Add(int64(got))
		if err != nil {
			return
		}
	}
}

// badWriters are writers that users may pass to a group as Stdout.
var badWriters = map[string]func(release <-chan struct{}) io.Writer{
	"blocks": func(release <-chan struct{}) io.Writer {
		return writerFunc(func(p []byte) (int, error) { <-release; return len(p), nil })
	},
	"fails": func(<-chan struct{}) io.Writer {
		return writerFunc(func([]byte) (int, error) { return 0, errors.New("full") })
	},
	"panics": func(<-chan struct{}) io.Writer {
		return writerFunc(func([]byte) (int, error) { panic("as told") })
	},
	"exits": func(<-chan struct{}) io.Writer {
		return writerFunc(func([]byte) (int, error) { runtime.Goexit(); return 0, nil })
	},
	"writes less": func(<-chan struct{}) io.Writer {
		return writerFunc(func(p []byte) (int, error) { return len(p) / 2, nil })
	},
	"writes more": func(<-chan struct{}) io.Writer {
		return writerFunc(func(p []byte) (int, error) { return len(p) * 2, io.EOF })
	},
	"broken pipe": func(<-chan struct{}) io.Writer { r, w, _ := os.Pipe(); r.Close(); return w },
	"full device": func(<-chan struct{}) io.Writer {
		f, _ := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		return f
	},
	"nobody reads": func(<-chan struct{}) io.Writer { return stalledPipe() },
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// stalledPipe returns the writing end of a pipe that is not read. Both ends stay open.
func stalledPipe() *os.File {
	r, w, _ := os.Pipe()
	stalled = append(stalled, r)
	return w
}

var stalled []*os.File

// TestBadWriter uses writers that do not write. Replicas stay alive, dead ones are replaced, the
// group can end, and lost output is counted.
func TestBadWriter(t *testing.T) {
	t.Parallel()
	for name, newWriter := range badWriters {
		for _, prefix := range []func(int) string{nil, func(int) string { return "> " }} {
			t.Run(fmt.Sprint(name, ", prefix: ", prefix != nil), func(t *testing.T) {
				release := make(chan struct{})
				defer close(release)
				w := newWriter(release)
				cfg := chatterConfig(newDomain(t))
				cfg.Stdout, cfg.Stderr, cfg.Prefix = w, w, prefix
				g := startGroup(t, cfg)
				chattersGoOn(t, cfg.Domain)
				before := g.Status()
				syscall.Kill(before.Replicas[before.Primary].PID, syscall.SIGKILL)
				after, err := g.WaitHealthy(t.Context(), before.Epoch)
				if err != nil || after.Primary == before.Primary {
					t.Errorf("%+v, %v", after, err)
				}
				eventually(t, "output is counted as lost", func() bool {
					return g.Status().OutputLost > 0
				})
				shutdown(t, g)
				if f, ok := w.(*os.File); ok {
					f.Close()
				}
				for _, f := range stalled {
					f.Close()
				}
				stalled = nil
			})
		}
	}
}

// TestBadPrefix uses functions for prefixes that do not return: the lines go without a prefix.
func TestBadPrefix(t *testing.T) {
	for name, prefix := range map[string]func(int) string{
		"panics": func(int) string { panic("as told") },
		"exits":  func(int) string { runtime.Goexit(); return "" },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := bareConfig(newDomain(t))
			cfg.Replicas, cfg.Prefix = 1, prefix
			cfg.Command = func(i int) *exec.Cmd { return childCommand("endless", "100") }
			var got strings.Builder
			cfg.Stdout = writerFunc(got.Write)
			g, err := group.Start(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			shutdown(t, g)
			if n := strings.Count(got.String(), "#"); n != 100 {
				t.Errorf("%d bytes of 100 arrived: %q", n, got.String())
			}
		})
	}
}

// childEndless writes a line without an end, of the given number of bytes, and then is a bare
// replica.
func childEndless(args []string) error {
	var n int
	fmt.Sscan(args[0], &n)
	piece := strings.Repeat("#", 1<<16)
	for ; n > 0; n -= len(piece) {
		fmt.Print(piece[:min(n, len(piece))])
	}
	return childBare(nil)
}

// A line that is too long is passed on in pieces, and is not kept in memory.
func TestEndlessLineIsCut(t *testing.T) {
	const size = 8<<20 + 1
	cfg := bareConfig(newDomain(t))
	cfg.Replicas = 1
	cfg.Command = func(i int) *exec.Cmd { return childCommand("endless", fmt.Sprint(size)) }
	var got strings.Builder
	longest := 0
	cfg.Stdout = writerFunc(func(p []byte) (int, error) {
		longest = max(longest, len(p))
		return got.Write(p)
	})
	cfg.Prefix = func(int) string { return "> " }
	g, err := group.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	// The replica was ready, so all of its output is at least in the pipe.
	shutdown(t, g)
	// A busy machine may call the writer so late that pieces are dropped, which is told then.
	n, lost := strings.Count(got.String(), "#"), g.Status().OutputLost
	if n > size || n+int(lost) < size || lost > 0 && n == size {
		t.Errorf("%d bytes of %d arrived, %d are counted as lost", n, size, lost)
	}
	if longest > 1<<17 {
		t.Errorf("%d bytes were written at once", longest)
	}
	var told uint64
	lines := strings.Split(strings.TrimSpace(got.String()), "\n")
	for i, line := range lines {
		var missing uint64
		if _, err := fmt.Sscanf(line, "[ipcgen: %d bytes of output are missing here:",
			&missing); err == nil {
			told += missing
			continue
		}
		if line == "" && i+1 < len(lines) && strings.HasPrefix(lines[i+1], "[ipcgen: ") {
			continue // a mark of missing output begins a line
		}
		if !strings.HasPrefix(line, "> #") ||
			(i < len(lines)-1) != strings.HasSuffix(line, "#"+" [cut: the line goes on]") {
			t.Fatalf("line %d of %d: %.40q...%q", i, len(lines), line, line[max(0, len(line)-40):])
		}
	}
	if told > lost || told == 0 && n < size-(1<<20) {
		t.Errorf("%d bytes are said to be missing in the output, %d are counted", told, lost)
	}
}

// A file on a full disk loses output, and no process dies.
func TestOutputToFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("no small file system can be mounted: %v", err)
	}
	defer syscall.Unmount(dir, syscall.MNT_DETACH)
	f, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cfg := chatterConfig(newDomain(t))
	cfg.Stdout, cfg.Stderr = f, f
	g := startGroup(t, cfg)
	chattersGoOn(t, cfg.Domain)
	if s := g.Status(); s.Replicas[0].Restarts+s.Replicas[1].Restarts != 0 {
		t.Errorf("%+v", s)
	}
	shutdown(t, g)
}
