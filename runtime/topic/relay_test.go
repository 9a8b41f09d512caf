package topic_test

import (
	"context"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/internal/echo"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/ipctest"
	"github.com/ipcgen/ipcgen/runtime/topic"
)

// TestRelay publishes again what was lost in part, and then what another publisher has published.
// Subscribers are told what the relay was told.
func TestRelay(t *testing.T) {
	echo.ExpectNothingLeft(t)
	r := topic.NewRelay(meter, topic.Options{Depth: 8})
	network := ipctest.NewNetwork()
	ipctest.Serve(t, network, channelName, r)
	defer func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		err := r.Publish(t.Context(), message(0), topic.Arrival{Number: 1 << 20})
		echo.Want(t, err, ipc.CodeUnavailable, ipc.NotSent, "closed")
	}()
	relay := func(a topic.Arrival) {
		t.Helper()
		if err := r.Publish(within(t), message(a.Number), a); err != nil {
			t.Fatal(err)
		}
	}
	wanted := func(s *topic.Subscription, number, lost uint64, broken bool) topic.Arrival {
		t.Helper()
		a := expect(t, s, number)
		if a.Lost != lost || a.Break != broken {
			t.Errorf("%+v; want %d lost, break %v", a, lost, broken)
		}
		return a
	}
	early := subscribe(t, network, topic.SubscribeOptions{})
	at := time.Unix(0, 12345)
	relay(topic.Arrival{Number: 1000, Lost: 10, Epoch: 3, Published: at})
	if a := wanted(early, 1000, 10, false); a.Epoch != 3 || !a.Published.Equal(at) {
		t.Errorf("%+v", a)
	}
	relay(topic.Arrival{Number: 1001})
	relay(topic.Arrival{Number: 1005, Lost: 3})
	late := subscribe(t, network, topic.SubscribeOptions{History: 1})
	next := subscribe(t, network, topic.SubscribeOptions{})
	relay(topic.Arrival{Number: 1007, Lost: 1})
	wanted(early, 1001, 0, false)
	wanted(early, 1005, 3, false)
	wanted(early, 1007, 1, false)
	wanted(late, 1005, 3, false)
	wanted(late, 1007, 1, false)
	wanted(next, 1007, 1, false)
	err := r.Publish(t.Context(), message(7), topic.Arrival{Number: 1007})
	echo.Want(t, err, ipc.CodeInvalidArgument, ipc.NotSent, "message 1007 behind message 1007")
	err = r.Publish(t.Context(), message(7), topic.Arrival{Number: 1, Lost: 2})
	echo.Want(t, err, ipc.CodeInvalidArgument, ipc.NotSent, "with 2 lost")

	// Who follows in the process goes from one publisher to the next, too.
	ctx, stop := context.WithCancel(t.Context())
	type heard struct {
		life topic.Life
		a    topic.Arrival
	}
	told, ended := make(chan heard, 10), make(chan error, 1)
	go func() {
		ended <- r.Follow(ctx, 1, func(life topic.Life, _ []byte, a topic.Arrival) error {
			told <- heard{life, a}
			return nil
		})
	}()
	first := <-told
	if first.life.First != 990 || first.a.Number != 1007 {
		t.Errorf("%+v", first)
	}
	relay(topic.Arrival{Number: 5, Lost: 2, Break: true})
	relay(topic.Arrival{Number: 6})
	second := <-told
	if second.life.ID == first.life.ID || second.life.First != 3 || second.a.Number != 5 {
		t.Errorf("%+v behind %+v", second, first)
	}
	wanted(early, 5, 2, true)
	wanted(early, 6, 0, false)
	wanted(late, 5, 2, true)
	if life, next, err := r.Recent(t.Context(), 1, func(topic.Life, []byte, topic.Arrival) error {
		return nil
	}); err != nil || next != 7 || life != second.life {
		t.Errorf("recent: %+v, next %d, %v", life, next, err)
	}
	p, o, ok := early.Origin()
	if !ok || p.Name != meter.Protocol.Name || o.Depth != 8 || o.MaxMessage != 4096 {
		t.Errorf("origin: %+v, %+v, %v", p, o, ok)
	}
	if r.Options().Depth != 8 {
		t.Errorf("%+v", r.Options())
	}
	stop()
	<-ended
}
