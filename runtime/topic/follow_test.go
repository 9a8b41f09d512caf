package topic_test

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/ipctest"
	"github.com/ipcgen/ipcgen/runtime/topic"
)

// A switchboard is a resolver whose server the test chooses.
type switchboard struct {
	mu      sync.Mutex
	target  ipc.Target
	changed func()
}

func (s *switchboard) Resolve() ipc.Target {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.target
}

func (s *switchboard) Watch(ctx context.Context, changed func()) error {
	s.mu.Lock()
	s.changed = changed
	s.mu.Unlock()
	changed()
	<-ctx.Done()
	return ctx.Err()
}

// to makes the server of a channel the one.
func (s *switchboard) to(channel string) {
	s.mu.Lock()
	s.target = ipc.Target{Endpoint: ipc.Endpoint{Channel: channel}}
	changed := s.changed
	s.mu.Unlock()
	if changed != nil {
		changed()
	}
}

// TestSubscriptionFollowsTheClient has a client find another server while the former one lives. The
// subscription gets what the former one has published, and then leaves it.
func TestSubscriptionFollowsTheClient(t *testing.T) {
	network := ipctest.NewNetwork()
	var publishers []*topic.Publisher
	for _, channel := range []string{"first", "second"} {
		p := topic.NewHeapPublisher(meter, topic.Options{})
		defer p.Close()
		ipctest.Serve(t, network, channel, p)
		publishers = append(publishers, p)
	}
	board := new(switchboard)
	c, err := ipc.NewClient(board, network)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	breaks := make(chan error, 1)
	s, err := topic.Subscribe(within(t), c, meter, topic.SubscribeOptions{
		OnBreak: func(why error) error {
			breaks <- why
			return nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	board.to("first")
	publish(t, publishers[0], 0, 2)
	expect(t, s, 0)
	publish(t, publishers[1], 0, 1)
	board.to("second")
	expect(t, s, 1)
	if a := expect(t, s, 0); !a.Break {
		t.Errorf("%+v", a)
	}
	if why := <-breaks; !errors.Is(why, io.ErrUnexpectedEOF) {
		t.Error(why)
	}
	for publishers[0].Subscribers() != 0 {
		if within(t).Err() != nil {
			t.Fatal("the former publisher still has the subscription")
		}
	}
	var none *ipc.Client
	_, err = topic.Subscribe(within(t), none, meter, topic.SubscribeOptions{})
	if ipc.CodeOf(err) != ipc.CodeInvalidArgument {
		t.Errorf("a nil client: %v", err)
	}
}
