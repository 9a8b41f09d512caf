package measure

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/ipcgen/ipcgen/bench/internal/peer"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/topic"
)

// An Audience is what it costs to publish to so many subscriptions of a topic.
type Audience struct {
	Readers int
	// Publish is the time of a call of Publish with 64 bytes. All subscriptions are awake, and as
	// many read as there are processors beside the publisher's.
	Publish time.Duration
	// Memory is what each subscription takes, on both sides together: a page that both sides have
	// mapped counts twice.
	Memory int64
}

// Publishing measures publishing to so many subscriptions, which are in this process. repeats is
// how many batches are timed.
func Publishing(readers, repeats int, progress func(string)) (*Audience, error) {
	progress(fmt.Sprintf("publishing to %d subscriptions", readers))
	dir, remove, err := tempDir()
	if err != nil {
		return nil, err
	}
	defer remove()
	where := ipc.WithDomain(dir)
	info := &topic.Info{Protocol: &ipc.Protocol{Name: "bench.Audience", Fingerprint: 1}}
	p := topic.NewPublisher(info, topic.Options{MaxMessage: 64})
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
			topic.SubscribeOptions{})
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
	a := &Audience{Readers: readers, Memory: max(0, peer.Memory()-before) / int64(readers)}
	for _, s := range subs[:min(readers, max(1, runtime.GOMAXPROCS(0)-1))] {
		reading++
		go func() {
			var buf []byte
			for {
				var err error
				if buf, _, err = s.Next(ctx, buf); err != nil {
					done <- err
					return
				}
			}
		}()
	}
	m := make([]byte, 64)
	const batch = 100
	a.Publish, err = Typical(repeats, batch, func(int) error { return p.Publish(ctx, m) })
	return a, errors.Join(err, ctx.Err())
}
