// Package failover measures how long the clients of a group are without an
// answer when its primary dies, beside the time in which the kernel itself
// lets anybody know of a death.
package failover

import (
	"context"
	"errors"
	"fmt"
	"os"
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
	// and the end of a socket.
	Futex, Pidfd, Socket Times
	// From the kill of a primary to the first answer: by a standby, and by a
	// new process where there is no standby.
	Warm, Cold Times
	// The timeline of the kills in Warm: from the kill until the supervisor had promoted the
	// standby, and until the standby handled the first call.
	Promoted, Handled Times
}

// Measure kills n processes of each kind, in turns.
func Measure(ballast, n int, progress func(string)) (*Kills, error) {
	dir, err := os.MkdirTemp("", "failover")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	warm, err := startGroup(dir+"/warm", ballast, 2, group.Heartbeat{})
	if err != nil {
		return nil, err
	}
	defer warm.end()
	cold, err := startGroup(dir+"/cold", ballast, 1, group.Heartbeat{})
	if err != nil {
		return nil, err
	}
	defer cold.end()
	k := &Kills{Ballast: ballast}
	for i := range n {
		progress(fmt.Sprintf("kill %d of %d, %d MB", i+1, n, ballast>>20))
		told, err := takeNotice(dir, ballast)
		if err != nil {
			return nil, err
		}
		k.Futex, k.Pidfd, k.Socket = append(k.Futex, told.Futex), append(k.Pidfd, told.Pidfd),
			append(k.Socket, told.Socket)
		d, err := warm.lose(syscall.SIGKILL)
		if err != nil {
			return nil, fmt.Errorf("warm: %w", err)
		}
		k.Promoted, k.Handled = append(k.Promoted, d.promoted), append(k.Handled, d.handled)
		k.Warm = append(k.Warm, d.answered)
		if d, err = cold.lose(syscall.SIGKILL); err != nil {
			return nil, fmt.Errorf("cold: %w", err)
		}
		k.Cold = append(k.Cold, d.answered)
	}
	for _, t := range []Times{k.Futex, k.Pidfd, k.Socket, k.Warm, k.Cold, k.Promoted, k.Handled} {
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
	s, err := startGroup(dir, 0, 2, beat)
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
	group      *group.Group
	client     *group.Client
	bulk       *bulk.BulkClient
	promotions chan group.Event
}

const service = "failover"

// startGroup starts a group in a domain of its own, whose replicas hold ballast
// bytes each.
func startGroup(domain string, ballast, replicas int, beat group.Heartbeat) (*subject, error) {
	cfg := replica.Teller(service, ballast)
	cfg.Domain, cfg.Replicas, cfg.Heartbeat = domain, replicas, beat
	promotions := make(chan group.Event, 16)
	cfg.Events = func(ev group.Event) {
		if ev.Kind == group.Promoted {
			promotions <- ev
		}
	}
	// Every kill is a first one: it is not the limits that are measured.
	cfg.Restart = group.Restart{Delay: time.Nanosecond, Intensity: 1 << 20,
		Window: time.Millisecond}
	g, err := group.Start(context.Background(), cfg)
	if err != nil {
		return nil, err
	}
	c, err := group.Dial(context.Background(), service,
		group.DialConfig{Domain: domain, Patience: patience})
	if err != nil {
		return nil, errors.Join(err, g.Shutdown(context.Background()))
	}
	return &subject{g, c, bulk.NewBulkClient(c), promotions}, nil
}

func (s *subject) end() {
	s.client.Close()
	s.group.Shutdown(context.Background())
}

// A timeline is when after the loss of a primary its standby was promoted,
// handled a call, and had answered it.
type timeline struct{ promoted, handled, answered time.Duration }

// lose takes the primary out, and returns when another process answered. The thread that kills has
// one of this process's GOMAXPROCS, and loses its processor to the threads of the victim; the
// supervisor is in this process, too, and may have to wait for that. So the tail is longer than
// where the supervisor has a process of its own.
func (s *subject) lose(by syscall.Signal) (t timeline, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	before, err := s.group.WaitHealthy(ctx, 0)
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
	for {
		select {
		case ev := <-s.promotions:
			if ev.Epoch > before.Epoch {
				t.promoted = ev.Time.Sub(start)
				_, err := s.group.WaitHealthy(ctx, before.Epoch)
				return t, err
			}
		case <-ctx.Done():
			return t, ctx.Err()
		}
	}
}
