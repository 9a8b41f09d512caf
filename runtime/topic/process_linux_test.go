package topic_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/internal/sys"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/shm"
	"github.com/ipcgen/ipcgen/runtime/topic"
)

// TestPublisherDies kills publishers. The subscriber gets all that was published before, learns of
// the death, and goes on with the next process under the name.
func TestPublisherDies(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d")
	s := subscribe(t, ipc.WithDomain(path), breaking(topic.Lossless))
	for life := range 3 {
		last := uint64(10 + 7*life)
		c := startChild(t, "publisher", path, os.Stderr, fmt.Sprintf("%s=%d", killEnv, last))
		for n := range last {
			if a := expect(t, s, n); a.Lost != 0 || a.Break != (life > 0 && n == 0) {
				t.Errorf("life %d: %+v", life, a)
			}
		}
		_, _, err := s.Next(within(t), nil)
		if !died(err) {
			t.Errorf("life %d: %v", life, err)
		}
		<-c.done
	}
	c := startChild(t, "publisher", path, os.Stderr)
	for n := range uint64(messages) {
		expect(t, s, n)
	}
	if _, _, err := s.Next(within(t), nil); ipc.CodeOf(err) != ipc.CodeUnavailable || died(err) {
		t.Error(err)
	}
	<-c.done
}

// TestSubscriberStops stops a lossless subscriber. The publisher waits for it until its deadline,
// and goes on when it is killed.
func TestSubscriberStops(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d")
	where := ipc.WithDomain(path)
	p := publisher(t, where, topic.Options{Depth: 4})
	other := subscribe(t, where, topic.SubscribeOptions{})
	c := startChild(t, "subscriber", path, os.Stderr)
	heardOf(t, p, 2)
	c.stop(t)
	publish(t, p, 0, 4)
	for range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		if err := p.Publish(ctx, message(4)); ipc.CodeOf(err) != ipc.CodeDeadlineExceeded {
			t.Error(err)
		}
		cancel()
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		publish(t, p, 4, 50)
	}()
	c.kill()
	<-done
	lost, n := uint64(0), uint64(0)
	for ; lost+n < 50; n++ {
		_, a, err := other.Next(within(t), nil)
		if err != nil {
			t.Fatal(err)
		}
		lost += a.Lost
	}
	heardOf(t, p, 1)
}

// TestSubscriberLetGo stops a lossless subscriber for longer than the publisher allows. The
// subscriber is told.
func TestSubscriberLetGo(t *testing.T) {
	for _, env := range []string{"", inPlaceEnv + "=1"} {
		path := filepath.Join(t.TempDir(), "d")
		p := publisher(t, ipc.WithDomain(path), topic.Options{Depth: 4,
			LetGo: 20 * time.Millisecond})
		c := startChild(t, "subscriber", path, os.Stderr, env)
		heardOf(t, p, 1)
		c.stop(t)
		publish(t, p, 0, 30)
		if n := p.Subscribers(); n != 0 {
			t.Error(n, "subscribers")
		}
		if err := c.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		<-c.done
		if status := c.ProcessState.ExitCode(); status != letGo {
			t.Errorf("%q: the subscriber ended with status %d", env, status)
		}
	}
}

// TestPublisherStandsStill stops a publisher that waits for a lossless subscriber, and with it that
// subscriber, for longer than it allows one. The subscriber has done nothing wrong, and goes on.
func TestPublisherStandsStill(t *testing.T) {
	const limit = 2 * time.Second
	path := filepath.Join(t.TempDir(), "d")
	p := startChild(t, "publisher", path, os.Stderr, letGoEnv+"="+limit.String(),
		subscribersEnv+"=2")
	lossless := startChild(t, "subscriber", path, os.Stderr)
	lossless.stop(t)
	other := subscribe(t, ipc.WithDomain(path), topic.SubscribeOptions{History: 4})
	for n := range uint64(4) {
		expect(t, other, n)
	}
	p.stop(t) // it waits for room for a fifth one
	time.Sleep(limit + limit/4)
	for _, c := range []*child{p, lossless} {
		if err := c.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		time.Sleep(limit / 16) // in which the publisher looks
	}
	<-lossless.done
	if !lossless.ProcessState.Success() {
		t.Errorf("the subscriber: %v", lossless.ProcessState)
	}
}

// TestSegmentIsReadOnly tries to write to the publisher's memory as a subscriber.
func TestSegmentIsReadOnly(t *testing.T) {
	where := ipc.WithDomain(filepath.Join(t.TempDir(), "d"))
	p := publisher(t, where, topic.Options{})
	s := subscribe(t, where, topic.SubscribeOptions{})
	source, err := ipc.NewLinkSource(channelName, where)
	if err != nil {
		t.Fatal(err)
	}
	var segment *os.File
	end, err := source.Open(within(t), meter.Protocol, [4]uint32{1, 0, 0, 0},
		func(memory []shm.Memory, sizes [3]int) ([]byte, error) {
			fd, err := syscall.Dup(int(memory[0].(shm.FileMemory).Fd()))
			segment = os.NewFile(uintptr(fd), "segment")
			return nil, err
		})
	if err != nil {
		t.Fatal(err)
	}
	defer end.Leave(nil)
	defer segment.Close()
	refused := func(what string, err error) {
		t.Helper()
		if err == nil {
			t.Errorf("%s succeeds", what)
		}
	}
	again, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", segment.Fd()), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	for _, f := range []*os.File{segment, again} {
		_, err := sys.MapFile(f, 0, 4096, true)
		refused("mapping for writing", err)
		_, err = f.WriteAt([]byte{1}, 0)
		refused("writing", err)
		refused("truncating", f.Truncate(0))
		refused("growing", f.Truncate(1<<30))
		const punchHole = 3 // FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
		refused("punching a hole", syscall.Fallocate(int(f.Fd()), punchHole, 0, 4096))
		mem, err := sys.MapFile(f, 0, 4096, false)
		if err != nil {
			t.Fatal(err)
		}
		refused("mprotect", syscall.Mprotect(mem, syscall.PROT_READ|syscall.PROT_WRITE))
		if err := sys.UnmapFile(mem); err != nil {
			t.Error(err)
		}
	}
	publish(t, p, 0, 1)
	expect(t, s, 0)
}

// TestManySubscribers subscribes a thousand times, and prints what a subscription takes.
func TestManySubscribers(t *testing.T) {
	count := 1000
	if testing.Short() {
		count = 100
	}
	where := ipc.WithDomain(filepath.Join(t.TempDir(), "d"))
	p := publisher(t, where, topic.Options{}, ipc.WithMaxConns(8*count))
	ctx := within(t)
	before := memoryUse(t)
	subs := make([]*topic.Subscription, count)
	for i := range subs {
		subs[i] = subscribe(t, where, topic.SubscribeOptions{Policy: topic.Policy(i % 2)})
	}
	var readers sync.WaitGroup
	for _, s := range subs {
		readers.Go(func() {
			var b []byte
			var a topic.Arrival
			var err error
			for lost, n := uint64(0), uint64(0); lost+n < 300; n++ {
				if b, a, err = s.Next(ctx, b); err != nil {
					t.Error(err)
					return
				}
				lost += a.Lost
			}
		})
	}
	publish(t, p, 0, 300)
	readers.Wait()
	after := memoryUse(t)
	t.Logf("%d subscriptions; each takes, on both sides together, %d bytes of memory and %d of "+
		"page tables", count, (after.pages-before.pages)/count, (after.tables-before.tables)/count)
	for _, s := range subs {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	heardOf(t, p, 0)
	publish(t, p, 300, 400)
}

// A usage is memory of this process, in bytes. Pages that are mapped often count once.
type usage struct{ pages, tables int }

func memoryUse(t testing.TB) (u usage) {
	t.Helper()
	runtime.GC()
	for _, name := range []string{"status", "smaps_rollup"} {
		b, err := os.ReadFile("/proc/self/" + name)
		if err != nil {
			t.Skip(err)
		}
		for line := range strings.Lines(string(b)) {
			var kb int
			if n, _ := fmt.Sscanf(line, "VmPTE: %d kB", &kb); n == 1 {
				u.tables = kb << 10
			}
			if n, _ := fmt.Sscanf(line, "Pss: %d kB", &kb); n == 1 {
				u.pages = kb << 10
			}
		}
	}
	return u
}
