package interop

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/internal/liar"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/ipctest"
	"github.com/ipcgen/ipcgen/runtime/topic"
)

// followed is the topic of the tests.
var followed = &topic.Info{Protocol: &ipc.Protocol{Name: "test.Bytes", Fingerprint: 0x5eed}}

// follow starts a subscriber in C.
func follow(t *testing.T, dir, domain, name string, fingerprint, history, policy int) *program {
	t.Helper()
	return start(t, filepath.Join(dir, "follow"), domain, "bytes", name,
		fmt.Sprintf("%x", fingerprint), fmt.Sprint(history), fmt.Sprint(policy), "60000")
}

// arrival is the line for message n, which has n bytes of 1.
func arrival(n, lost int) string { return fmt.Sprintf("%d %d %d %d", n, lost, n, n) }

// TestSubscriberInC lets subscribers in C follow a publisher in Go.
func TestSubscriberInC(t *testing.T) {
	dir, domain := build(t), newDomain(t)
	const lossy, latest = int(topic.Lossy), int(topic.Latest)
	follow(t, dir, domain, "test.Bytes", 0x5eed, 0, lossy).expect("subscribe: error 3")

	p := topic.NewPublisher(followed, topic.Options{Depth: 8, MaxMessage: 2000})
	defer p.Close()
	l, err := ipc.Listen("bytes", ipc.WithDomain(domain))
	if err != nil {
		t.Fatal(err)
	}
	s := ipc.NewServer(p)
	defer s.Close()
	go s.Serve(context.Background(), l)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	next := 0
	publish := func(n int) {
		t.Helper()
		for range n {
			m := make([]byte, next)
			for i := range m {
				m[i] = 1
			}
			if err := p.Publish(ctx, m); err != nil {
				t.Fatal(err)
			}
			next++
		}
	}
	follow(t, dir, domain, "test.Other", 0x5eed, 0, lossy).expect("subscribe: error 4")
	follow(t, dir, domain, "test.Bytes", 0x5eef, 0, lossy).expect("subscribe: error 8")

	publish(5)
	all := follow(t, dir, domain, "test.Bytes", 0x5eed, 2, lossy)
	all.expect("ready")
	all.expect(arrival(3, 0)) // the history
	all.expect(arrival(4, 0))
	newest := follow(t, dir, domain, "test.Bytes", 0x5eed, 1, latest)
	newest.expect("ready")
	newest.expect(arrival(4, 0))
	for range 20 { // each finds them asleep, or about to be
		publish(1)
		all.expect(arrival(next-1, 0))
		newest.expect(arrival(next-1, 0))
	}

	// Stopped ones lose messages, and count them: the lossy one goes on in the middle of those that
	// are kept, the other one at the newest.
	for _, f := range []*program{all, newest} {
		f.cmd.Process.Signal(syscall.SIGSTOP)
		var status syscall.WaitStatus
		if _, err := syscall.Wait4(f.cmd.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil {
			t.Fatal(err)
		}
	}
	before := next
	publish(100)
	if err := s.Shutdown(ctx); err != nil { // of which they learn behind what was published
		t.Error(err)
	}
	for _, f := range []*program{all, newest} {
		f.cmd.Process.Signal(syscall.SIGCONT)
	}
	middle := next - 4
	all.expect(arrival(middle, middle-before))
	for n := middle + 1; n < next; n++ {
		all.expect(arrival(n, 0))
	}
	newest.expect(arrival(next-1, next-1-before))
	all.expect("error 3")
	newest.expect("error 3")
}

// TestHostilePublisherInC lets readers in C follow publishers that lie about every word. They get
// messages within their limits, or errors, and touch nothing beyond the segment: they run under the
// sanitizers where the compiler has these.
func TestHostilePublisherInC(t *testing.T) {
	dir := build(t)
	rounds := 8
	if testing.Short() {
		rounds = 2
	}
	for name, l := range liar.Publishers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			domain := newDomain(t)
			ipctest.Serve(t, ipc.WithDomain(domain), "bytes", l.Serve(followed.Protocol))
			for round := range rounds {
				policy := int(topic.Lossy)
				if round%2 == 1 {
					policy = int(topic.Latest)
				}
				out, err := exec.Command(filepath.Join(dir, "follow"), domain, "bytes",
					"test.Bytes", "5eed", fmt.Sprint(round%5), fmt.Sprint(policy), "30").Output()
				if status := new(exec.ExitError); err != nil && (!errors.As(err, &status) ||
					status.ExitCode() != 1) {
					t.Fatalf("%v\n%s\n%s", err, out, status.Stderr)
				}
				lines := strings.Split(strings.TrimSpace(string(out)), "\n")
				for _, line := range lines[:len(lines)-1] {
					var number, lost, n, sum int
					if k, _ := fmt.Sscan(line, &number, &lost, &n, &sum); line != "ready" &&
						(k != 4 || n > liar.Geometry.Longest) {
						t.Errorf("%q", line)
					}
				}
				switch last := lines[len(lines)-1]; last {
				case "error 2", "error 9", "subscribe: error 9": // no message, or corrupt
				default:
					t.Errorf("the reader has ended with %q", last)
				}
			}
		})
	}
}
