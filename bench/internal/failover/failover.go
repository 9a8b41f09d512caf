// Package failover measures how long the clients of a group are without an
// answer when its primary dies, beside the time in which the kernel itself
// lets anybody know of a death.
package failover

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/ipcgen/ipcgen/bench/gen/bulk"
	"github.com/ipcgen/ipcgen/bench/internal/replica"
	"github.com/ipcgen/ipcgen/runtime/group"
)

const (
	// settle is the rest before a kill, in which the processes fall asleep and
	// the client connects to the standby, as in real life.
	settle = 20 * time.Millisecond
	// patience is more than any failover takes.
	patience = 30 * time.Second
)

// Times are how long something took, sorted.
type Times []time.Duration

// Quantile is the time within which the share q of them lies.
func (t Times) Quantile(q float64) time.Duration {
	if len(t) == 0 {
		return 0
	}
	return t[min(int(q*float64(len(t))), len(t)-1)]
}

// Kills is what happened at the kills of one kind of process.
type Kills struct {
	Ballast int // bytes of memory that each process holds
	// From the death of a process until another one was told of it: by a robust futex, a pidfd,
	// and the end of a socket; and by a pidfd if the memory is in huge pages.
	Futex, Pidfd, Socket, HugePidfd Times
	// From the kill of a primary to the first answer: by a standby, and by a
	// new process where there is no standby.
	Warm, Cold Times
	// The timeline of the kills in Warm: from the kill until the supervisor had promoted the
	// standby, and until the standby handled the first call.
	Promoted, Handled Times
	// To the first answer of a standby if the supervisor has a process of its own, and if the
	// memory is in huge pages besides. Huge and HugePidfd are empty where the kernel has none.
	Apart, Huge Times
}

// Measure kills n processes of each kind, in turns.
func Measure(ballast, n int, progress func(string)) (*Kills, error) {
	dir, err := os.MkdirTemp("", "failover")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	small, huge := replica.Ballast{Bytes: ballast}, replica.Ballast{Bytes: ballast, Huge: true}
	k := &Kills{Ballast: ballast}
	groups := []struct {
		name  string
		start func(domain string) (*subject, error)
		times *Times
	}{
		{"warm", func(domain string) (*subject, error) {
			return startGroup(domain, small, 2, group.Heartbeat{})
		}, &k.Warm},
		{"cold", func(domain string) (*subject, error) {
			return startGroup(domain, small, 1, group.Heartbeat{})
		}, &k.Cold},
		{"apart", func(domain string) (*subject, error) {
			return startApart(domain, small)
		}, &k.Apart},
		{"huge", func(domain string) (*subject, error) {
			return startApart(domain, huge)
		}, &k.Huge},
	}
	if !replica.HugePages() {
		groups = groups[:len(groups)-1]
	}
	var subjects []*subject
	for _, g := range groups {
		s, err := g.start(filepath.Join(dir, g.name))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", g.name, err)
		}
		defer s.end()
		subjects = append(subjects, s)
	}
	for i := range n {
		progress(fmt.Sprintf("kill %d of %d, %d MB", i+1, n, ballast>>20))
		told, err := takeNotice(dir, small)
		if err != nil {
			return nil, err
		}
		k.Futex, k.Pidfd, k.Socket = append(k.Futex, told.Futex), append(k.Pidfd, told.Pidfd),
			append(k.Socket, told.Socket)
		if replica.HugePages() {
			if told, err = takeNotice(dir, huge); err != nil {
				return nil, err
			}
			k.HugePidfd = append(k.HugePidfd, told.Pidfd)
		}
		for j, g := range groups {
			d, err := subjects[j].lose(syscall.SIGKILL)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", g.name, err)
			}
			*g.times = append(*g.times, d.answered)
			if g.times == &k.Warm {
				k.Promoted = append(k.Promoted, d.promoted)
				k.Handled = append(k.Handled, d.handled)
			}
		}
	}
	for _, t := range []Times{k.Futex, k.Pidfd, k.Socket, k.HugePidfd, k.Warm, k.Cold, k.Promoted,
		k.Handled, k.Apart, k.Huge} {
		slices.Sort(t)
	}
	return k, nil
}

// Hangs stops a primary n times, which a heartbeat of the given period finds
// out, and returns the times until the first answer.
func Hangs(beat group.Heartbeat, n int, progress func(string)) (Times, error) {
	dir, err := os.MkdirTemp("", "failover")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	s, err := startGroup(dir, replica.Ballast{}, 2, beat)
	if err != nil {
		return nil, err
	}
	defer s.end()
	var times Times
	for i := range n {
		progress(fmt.Sprintf("hang %d of %d", i+1, n))
		d, err := s.lose(syscall.SIGSTOP)
		if err != nil {
			return nil, err
		}
		times = append(times, d.answered)
	}
	slices.Sort(times)
	return times, nil
}

// A subject is a group under observation, with a client.
type subject struct {
	keeper
	client     *group.Client
	bulk       *bulk.BulkClient
	promotions chan group.Event // nil if the supervisor has a process of its own
}

// A keeper is the supervisor of a subject.
type keeper interface {
	// healthy waits until all replicas are ready, in an epoch after this one.
	healthy(ctx context.Context, after uint64) (group.Status, error)
	stop()
}

const service = "failover"

// A keeperHere is in this process.
type keeperHere struct{ *group.Group }

func (k keeperHere) healthy(ctx context.Context, after uint64) (group.Status, error) {
	return k.WaitHealthy(ctx, after)
}

func (k keeperHere) stop() { k.Shutdown(context.Background()) }

// startGroup starts a group in a domain of its own.
func startGroup(domain string, b replica.Ballast, replicas int,
	beat group.Heartbeat) (*subject, error) {
	cfg := config(domain, b)
	cfg.Replicas, cfg.Heartbeat = replicas, beat
	promotions := make(chan group.Event, 16)
	cfg.Events = func(ev group.Event) {
		if ev.Kind == group.Promoted {
			promotions <- ev
		}
	}
	g, err := group.Start(context.Background(), cfg)
	if err != nil {
		return nil, err
	}
	return observe(domain, keeperHere{g}, promotions)
}

func config(domain string, b replica.Ballast) group.Config {
	cfg := replica.Teller(service, b)
	cfg.Domain = domain
	// Every kill is a first one: it is not the limits that are measured.
	cfg.Restart = group.Restart{Delay: time.Nanosecond, Intensity: 1 << 20,
		Window: time.Millisecond}
	return cfg
}

// observe connects a client to a group.
func observe(domain string, k keeper, promotions chan group.Event) (*subject, error) {
	c, err := group.Dial(context.Background(), service,
		group.DialConfig{Domain: domain, Patience: patience})
	if err != nil {
		k.stop()
		return nil, err
	}
	return &subject{k, c, bulk.NewBulkClient(c), promotions}, nil
}

func (s *subject) end() {
	s.client.Close()
	s.stop()
}

// A timeline is when after the loss of a primary its standby was promoted, if
// that is known, handled a call, and had answered it.
type timeline struct{ promoted, handled, answered time.Duration }

// lose takes the primary out, and returns when another process answered. The thread that kills has
// one of this process's GOMAXPROCS, and loses its processor to the threads of the victim. A
// supervisor in this process may have to wait for that.
func (s *subject) lose(by syscall.Signal) (t timeline, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	before, err := s.healthy(ctx, 0)
	if err != nil {
		return t, err
	}
	if _, err := s.bulk.Put(ctx, new(bulk.BlockT)); err != nil {
		return t, err
	}
	time.Sleep(settle)
	victim := before.Replicas[before.Primary].PID
	start := time.Now()
	if err := syscall.Kill(victim, by); err != nil {
		return t, err
	}
	for {
		taken, err := s.bulk.Put(ctx, new(bulk.BlockT))
		if err != nil {
			return t, err
		}
		if pid, ago := replica.Told(taken); pid != victim {
			t.answered = time.Since(start)
			t.handled = t.answered - ago
			break
		}
	}
	for t.promoted == 0 && s.promotions != nil {
		select {
		case ev := <-s.promotions:
			if ev.Epoch > before.Epoch {
				t.promoted = ev.Time.Sub(start)
			}
		case <-ctx.Done():
			return t, ctx.Err()
		}
	}
	_, err = s.healthy(ctx, before.Epoch)
	return t, err
}
