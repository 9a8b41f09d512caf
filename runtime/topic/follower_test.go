package topic_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/ipcgen/ipcgen/internal/echo"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/topic"
)

// TestFollow follows a publisher in its own process, from what it has kept to its end.
func TestFollow(t *testing.T) {
	echo.ExpectNothingLeft(t)
	p := topic.NewPublisher(&topic.Info{Protocol: &ipc.Protocol{Name: "test.Follow"}},
		topic.Options{Depth: 16})
	publish := func(from, to int) {
		t.Helper()
		for i := from; i < to; i++ {
			if err := p.Publish(t.Context(), fmt.Append(nil, i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	publish(0, 10)
	enough := errors.New("enough")
	var lives []topic.Life
	check := func(next *uint64, last uint64) func(topic.Life, []byte, topic.Arrival) error {
		return func(life topic.Life, message []byte, a topic.Arrival) error {
			lives = append(lives, life)
			if a.Number != *next || string(message) != fmt.Sprint(*next) || a.Lost != 0 {
				t.Errorf("message %q, %+v; want %d", message, a, *next)
			}
			if *next++; a.Number == last {
				return enough
			}
			return nil
		}
	}
	at := uint64(7)
	life, next, err := p.Recent(t.Context(), 3, check(&at, 100))
	if err != nil || next != 10 || at != 10 || life != lives[0] {
		t.Errorf("recent: %d, %d, %v, up to %d", life, next, err, at)
	}
	followed := make(chan error, 1)
	seen := make(chan struct{}, 100)
	at = 5
	go func() {
		followed <- p.Follow(t.Context(), 5, func(life topic.Life, m []byte,
			a topic.Arrival) error {
			defer func() { seen <- struct{}{} }()
			return check(&at, 100)(life, m, a)
		})
	}()
	for range 5 { // what was kept shows that it follows
		<-seen
	}
	publish(10, 20)
	for range 10 {
		<-seen
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if err := <-followed; ipc.CodeOf(err) != ipc.CodeUnavailable {
		t.Errorf("the end of the publisher: %v", err)
	}
	if err := p.Follow(t.Context(), 0, nil); ipc.CodeOf(err) != ipc.CodeUnavailable {
		t.Errorf("a publisher that is closed: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	q := topic.NewPublisher(&topic.Info{Protocol: &ipc.Protocol{Name: "test.Follow"}},
		topic.Options{})
	defer q.Close()
	if err := q.Follow(ctx, 0, nil); ipc.CodeOf(err) != ipc.CodeCanceled {
		t.Errorf("a context that is done: %v", err)
	}
}
