package topic_test

import (
	"context"
	"errors"
	"testing"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/topic"
)

// A life is a publisher with its server.
type life struct {
	p      *topic.Publisher
	srv    *ipc.Server
	served chan error
}

func begin(t *testing.T, where ipc.RendezvousOption) *life {
	t.Helper()
	l, err := ipc.Listen(channelName, where)
	if err != nil {
		t.Fatal(err)
	}
	p := newPublisher(where, topic.Options{})
	v := &life{p, ipc.NewServer(p), make(chan error, 1)}
	go func() { v.served <- v.srv.Serve(context.Background(), l) }()
	return v
}

func (v *life) end(t *testing.T) {
	t.Helper()
	if err := errors.Join(v.srv.Shutdown(within(t)), v.p.Close()); err != nil {
		t.Error(err)
	}
	<-v.served
}

// TestLatestAcrossPublishers asks for the newest value while publishers come and go, without ever
// waiting for a message. The value of the last publisher stays until there is another one, unread
// messages of a lossy subscription come first, and OnBreak is told once for each end.
func TestLatestAcrossPublishers(t *testing.T) {
	for _, policy := range []topic.Policy{topic.Lossy, topic.Latest} {
		overEach(t, func(t *testing.T, where ipc.RendezvousOption) {
			latestAcrossPublishers(t, where, policy)
		})
	}
}

func latestAcrossPublishers(t *testing.T, where ipc.RendezvousOption, policy topic.Policy) {
	var breaks []error
	stop := errors.New("stop")
	var answer error
	s := subscribe(t, where, topic.SubscribeOptions{Policy: policy, OnBreak: func(why error) error {
		breaks = append(breaks, why)
		return answer
	}})
	latest := func(want uint64, wantOK bool) {
		t.Helper()
		b, a, ok, err := s.Latest(within(t), nil)
		if err == nil && ok {
			err = checkMessage(b, want)
		}
		if err != nil || ok != wantOK || a.Lost != 0 || a.Break {
			t.Fatalf("%d, %+v, %v, %v", want, a, ok, err)
		}
	}
	gone := func(v *life) { // the subscription must have noticed that the connection is
		t.Helper()
		v.end(t)
		for s.Connected() {
			if within(t).Err() != nil {
				t.Fatal("the subscription stays connected")
			}
		}
	}
	latest(0, false)
	first := begin(t, where)
	publish(t, first.p, 0, 1)
	latest(0, true)
	publish(t, first.p, 1, 3)
	latest(2, true)
	gone(first)
	latest(2, true) // nothing else is there
	second := begin(t, where)
	publish(t, second.p, 0, 5)
	if policy == topic.Lossy {
		latest(2, true) // the subscriber has not read all that it is to get
		for n := range uint64(3) {
			expect(t, s, n)
		}
	}
	if len(breaks) != 0 {
		t.Fatalf("OnBreak was told of %v before another publisher was found", breaks)
	}
	latest(4, true)
	if len(breaks) != 1 || ipc.CodeOf(breaks[0]) != ipc.CodeUnavailable {
		t.Fatalf("OnBreak was told %v", breaks)
	}

	// The next end makes the call fail, as OnBreak says, and the one after it goes on.
	for n := range uint64(5) {
		if policy == topic.Latest {
			n = 4
		}
		if a := expect(t, s, n); a.Break != (n == 0 || policy == topic.Latest) {
			t.Errorf("%+v", a)
		}
		if policy == topic.Latest {
			break
		}
	}
	gone(second)
	third := begin(t, where)
	defer third.end(t)
	publish(t, third.p, 0, 2)
	answer = stop
	if _, _, _, err := s.Latest(within(t), nil); !errors.Is(err, stop) || len(breaks) != 2 {
		t.Errorf("%v, %v", err, breaks)
	}
	latest(1, true)
	if len(breaks) != 2 {
		t.Errorf("OnBreak was told %v", breaks)
	}
}
