package measure

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/ipcgen/ipcgen/bench/internal/peer"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/topic"
)

// A Mood is what the readers of an audience do while a message is published.
type Mood int

// The moods.
const (
	// Awake readers read message after message, as many as there are processors beside the
	// publisher's. The other subscriptions do not wait.
	Awake Mood = iota
	// Asleep readers, all of them, wait for each message.
	Asleep
	// InPlace readers are as Awake, and hold a claim on the message that they read.
	InPlace
)

// An Audience is what it costs to publish to so many subscriptions of a topic.
type Audience struct {
	Readers int
	Mood    Mood
	// Publish is the time of a call of Publish with 64 bytes.
	Publish time.Duration
	// Memory is what each subscription takes, on both sides together: a page that both sides have
	// mapped counts twice.
	Memory int64
}

// Publishing measures publishing to so many subscriptions, which are in this process. repeats is
// how many batches are timed.
func Publishing(readers int, mood Mood, repeats int, progress func(string)) (*Audience, error) {
	progress(fmt.Sprintf("publishing to %d subscriptions", readers))
	dir, remove, err := tempDir()
	if err != nil {
		return nil, err
	}
	defer remove()
	where := ipc.WithDomain(dir)
	info := &topic.Info{Protocol: &ipc.Protocol{Name: "bench.Audience", Fingerprint: 1}}
	p := topic.NewPublisher(info, topic.Options{MaxMessage: 64, InPlace: 5})
	defer p.Close()
	l, err := ipc.Listen("audience", where)
	if err != nil {
		return nil, err
	}
	srv := ipc.NewServer(p, ipc.WithMaxConns(2*readers+2))
	defer srv.Close()
	go srv.Serve(context.Background(), l)

	ctx, cancel := context.WithCancel(context.Background())
	subscribe := func() (*topic.Subscription, error) {
		return topic.Subscribe(ctx, topic.Channel("audience", where), info,
			topic.SubscribeOptions{InPlace: mood == InPlace})
	}
	first, err := subscribe() // takes what all have in common
	if err != nil {
		cancel()
		return nil, err
	}
	defer first.Close()
	before := peer.Memory()
	var subs []*topic.Subscription
	done := make(chan error, readers)
	reading := 0
	defer func() {
		cancel()
		for range reading {
			<-done
		}
		for _, s := range subs {
			s.Close()
		}
	}()
	for range readers {
		s, err := subscribe()
		if err != nil {
			return nil, err
		}
		subs = append(subs, s)
	}
	for p.Subscribers() != readers+1 {
		time.Sleep(time.Millisecond)
	}
	a := &Audience{Readers: readers, Mood: mood,
		Memory: max(0, peer.Memory()-before) / int64(readers)}
	active := min(readers, max(1, runtime.GOMAXPROCS(0)-1))
	if mood == Asleep {
		active = readers
	}
	var got atomic.Int64
	for _, s := range subs[:active] {
		reading++
		go func() {
			for {
				err := s.Read(ctx, func([]byte, topic.Arrival) error { return nil })
				if err != nil {
					done <- err
					return
				}
				got.Add(1)
			}
		}()
	}
	m := make([]byte, 64)
	const batch = 100
	if mood == Asleep {
		a.Publish, err = toSleepers(p, m, repeats, func() bool {
			return got.Load()%int64(readers) == 0
		})
		return a, err
	}
	a.Publish, err = Typical(repeats, batch, func(int) error { return p.Publish(ctx, m) })
	return a, errors.Join(err, ctx.Err())
}

// toSleepers measures publishing to readers that have all read the message before, and sleep again.
func toSleepers(p *topic.Publisher, m []byte, repeats int, all func() bool) (time.Duration, error) {
	times := make([]time.Duration, repeats)
	for i := range times {
		for !all() {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(2 * time.Millisecond) // they poll for a while
		start := time.Now()
		if err := p.Publish(context.Background(), m); err != nil {
			return 0, err
		}
		times[i] = time.Since(start)
		time.Sleep(time.Millisecond) // until the first has read it
	}
	return Median(times), nil
}
