package natsipc_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/ipcgen/ipcgen/gen/audio"
	"github.com/ipcgen/ipcgen/internal/echo"
	"github.com/ipcgen/ipcgen/nats"
	"github.com/ipcgen/ipcgen/nats/internal/natstest"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/topic"
)

// TestTopicsAskThePublisher subscribes to a topic of one of several servers of a channel. The
// messages from before come from that one, whose numbers go on, also while it shuts down.
func TestTopicsAskThePublisher(t *testing.T) {
	echo.ExpectNothingLeft(t)
	broker := natstest.Start(t)
	var others []*natsipc.Server
	for range 3 {
		others = append(others, serve(t, broker.ConnectInProcess(t), echo.Service()))
	}
	p := audio.NewLevelsPublisher(topic.Options{})
	defer p.Close()
	next := uint64(0)
	publish := func() {
		t.Helper()
		if err := p.Publish(t.Context(), &audio.LevelsT{Position: next}); err != nil {
			t.Fatal(err)
		}
		next++
	}
	for range 10 {
		publish()
	}
	svc, began, left := echo.Blocking()
	bulk := broker.ConnectInProcess(t)
	srv := serve(t, broker.ConnectInProcess(t), p, svc, natsipc.WithTopicConn(bulk))
	nc := broker.ConnectInProcess(t)
	subscribed := func() {
		t.Helper()
		s, err := audio.SubscribeLevels(t.Context(), natsipc.Topics(nc, "echo"),
			topic.SubscribeOptions{History: 3})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		first := next - 3
		publish()
		for want := first; want < next; want++ {
			var m audio.LevelsT
			a, err := s.Next(t.Context(), &m)
			if err != nil || a.Number != want || m.Position != want || a.Lost != 0 || a.Break {
				t.Fatalf("message %d, %+v, %v; want %d", m.Position, a, err, want)
			}
		}
	}
	for range 20 {
		subscribed()
	}
	for _, s := range others {
		s.Close()
	}
	c := dial(t, nc)
	ctx, cancel := context.WithCancel(t.Context())
	blocked := echo.Invoke(ctx, c, echo.Block, "")
	entered(t, began, blocked)
	down := make(chan error, 1)
	go func() { down <- srv.Shutdown(context.Background()) }()
	soon(t, "the server shuts down", func() error {
		h, err := c.Health(t.Context(), "")
		if err == nil && h != ipc.HealthDraining {
			err = fmt.Errorf("%v", h)
		}
		return err
	})
	subscribed()
	cancel()
	<-blocked
	<-left
	if err := <-down; err != nil {
		t.Error(err)
	}
	if sent := bulk.Stats().OutMsgs; sent < next {
		t.Errorf("%d messages of %d went over the connection of topics", sent, next)
	}
	bulk.Close()
	_, err := natsipc.Serve(t.Context(), nc, "echo", p, natsipc.WithTopicConn(bulk))
	echo.Want(t, err, ipc.CodeUnavailable, ipc.NotSent, "the connection of topics")
}

// TestTopicsOfTwoPublishers has one server take the place of another, while both publish a topic.
// Each change is a break, and nothing that has come counts as lost, or comes twice.
func TestTopicsOfTwoPublishers(t *testing.T) {
	echo.ExpectNothingLeft(t)
	broker := natstest.Start(t)
	var publishers [2]*audio.LevelsPublisher
	var next [2]uint64
	begin := func(i int) {
		t.Helper()
		publishers[i] = audio.NewLevelsPublisher(topic.Options{})
		t.Cleanup(func() { publishers[i].Close() })
		serve(t, broker.ConnectInProcess(t), publishers[i])
	}
	publish := func(i int) {
		t.Helper()
		if err := publishers[i].Publish(t.Context(), &audio.LevelsT{Position: next[i],
			SampleRate: uint32(i)}); err != nil {
			t.Fatal(err)
		}
		next[i]++
	}
	begin(0)
	for range 10 {
		publish(0)
	}
	s, err := audio.SubscribeLevels(t.Context(), natsipc.Topics(broker.ConnectInProcess(t), "echo"),
		topic.SubscribeOptions{History: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	expect := func(i int, number uint64, broken bool) {
		t.Helper()
		var m audio.LevelsT
		a, err := s.Next(t.Context(), &m)
		if err != nil || m.SampleRate != uint32(i) || m.Position != number || a.Number != number ||
			a.Lost != 0 || a.Break != broken {
			t.Fatalf("message %d of %d, %+v, %v; want %d of %d", m.Position, m.SampleRate, a, err,
				number, i)
		}
	}
	expect(0, 8, false)
	expect(0, 9, false)
	begin(1)
	for round := range uint64(3) {
		publish(1)
		expect(1, round, true)
		publish(0)
		expect(0, 10+round, true)
	}
}
