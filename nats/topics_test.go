package natsipc_test

import (
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/gen/audio"
	"github.com/ipcgen/ipcgen/internal/echo"
	"github.com/ipcgen/ipcgen/nats"
	"github.com/ipcgen/ipcgen/nats/internal/natstest"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/topic"
)

// TestTopics publishes and subscribes with generated code. Subscribers begin before and after, with
// and without a history.
func TestTopics(t *testing.T) {
	echo.ExpectNothingLeft(t)
	broker := natstest.Start(t)
	from := natsipc.Topics(broker.ConnectInProcess(t), "echo")
	subscribe := func(o topic.SubscribeOptions) *audio.LevelsSubscription {
		t.Helper()
		s, err := audio.SubscribeLevels(t.Context(), from, o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	early := subscribe(topic.SubscribeOptions{})
	p := audio.NewLevelsPublisher(topic.Options{Depth: 256})
	defer p.Close()
	serve(t, broker.ConnectInProcess(t), echo.Service(), p)
	next := uint64(0)
	publish := func(n int) {
		t.Helper()
		for range n {
			if err := p.Publish(t.Context(), &audio.LevelsT{Position: next}); err != nil {
				t.Fatal(err)
			}
			next++
		}
	}
	expect := func(s *audio.LevelsSubscription, position uint64) {
		t.Helper()
		var m audio.LevelsT
		a, err := s.Next(t.Context(), &m)
		if err != nil || m.Position != position || a.Number != position || a.Lost != 0 || a.Break ||
			time.Since(a.Published) > time.Hour {
			t.Fatalf("message %d, %+v, %v; want %d", m.Position, a, err, position)
		}
	}
	publish(10)
	for i := range uint64(10) {
		expect(early, i)
	}
	late := subscribe(topic.SubscribeOptions{History: 3, Recycling: true})
	newest := subscribe(topic.SubscribeOptions{Policy: topic.Latest, Recycling: true})
	plain := subscribe(topic.SubscribeOptions{})
	for i := uint64(7); i < 10; i++ {
		expect(late, i)
	}
	expect(newest, 9)
	var m audio.LevelsT
	if _, ok, err := plain.Latest(t.Context(), &m); err != nil || !ok || m.Position != 9 {
		t.Errorf("the latest message is %d, %v, %v", m.Position, ok, err)
	}
	publish(5)
	for i := uint64(10); i < 15; i++ {
		expect(early, i)
		expect(late, i)
		expect(plain, i)
	}
	_, err := audio.SubscribeLevels(t.Context(), from, topic.SubscribeOptions{
		Policy: topic.Lossless})
	echo.Want(t, err, ipc.CodeFailedPrecondition, ipc.NotSent, "without Lossless")
	if err := early.Close(); err != nil {
		t.Error(err)
	}
	_, err = early.Next(t.Context(), &m)
	echo.Want(t, err, ipc.CodeUnavailable, ipc.NotSent, "closed")
}

// TestTopicsTellLosses reads more slowly than a publisher publishes: what was lost and what came is
// all that was published.
func TestTopicsTellLosses(t *testing.T) {
	echo.ExpectNothingLeft(t)
	broker := natstest.Start(t)
	p := audio.NewLevelsPublisher(topic.Options{})
	defer p.Close()
	serve(t, broker.ConnectInProcess(t), p)
	s, err := audio.SubscribeLevels(t.Context(), natsipc.Topics(broker.ConnectInProcess(t), "echo"),
		topic.SubscribeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const n = 20_000
	for i := range uint64(n) {
		if err := p.Publish(t.Context(), &audio.LevelsT{Position: i}); err != nil {
			t.Fatal(err)
		}
	}
	var m audio.LevelsT
	seen, lost := uint64(0), uint64(0)
	for seen+lost < n {
		a, err := s.Next(t.Context(), &m)
		if err != nil {
			t.Fatal(err)
		}
		if m.Position != a.Number || a.Number != seen+lost+a.Lost {
			t.Fatalf("message %d, %+v, behind %d and %d lost ones", m.Position, a, seen, lost)
		}
		seen, lost = seen+1, lost+a.Lost
	}
	if lost == 0 {
		t.Error("nothing was lost, so nothing was tried")
	}
}

// TestTopicsHistoryIsBounded asks a publisher for all of a long history. A subscription keeps no
// more of it than of what it has not read.
func TestTopicsHistoryIsBounded(t *testing.T) {
	echo.ExpectNothingLeft(t)
	broker := natstest.Start(t)
	const n, most = 10_000, 4096
	p := audio.NewLevelsPublisher(topic.Options{Depth: n, MaxMessage: 128})
	defer p.Close()
	for i := range uint64(n) {
		if err := p.Publish(t.Context(), &audio.LevelsT{Position: i}); err != nil {
			t.Fatal(err)
		}
	}
	serve(t, broker.ConnectInProcess(t), p)
	s, err := audio.SubscribeLevels(t.Context(), natsipc.Topics(broker.ConnectInProcess(t), "echo"),
		topic.SubscribeOptions{History: n})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var m audio.LevelsT
	a, err := s.Next(t.Context(), &m)
	if err != nil || a.Number != m.Position || a.Number < n-most {
		t.Errorf("%+v, %+v, %v", m, a, err)
	}
}

// TestTopicsOfAnotherPublisher goes on with the next publisher of a topic.
func TestTopicsOfAnotherPublisher(t *testing.T) {
	echo.ExpectNothingLeft(t)
	broker := natstest.Start(t)
	s, err := audio.SubscribeLevels(t.Context(), natsipc.Topics(broker.ConnectInProcess(t), "echo"),
		topic.SubscribeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for round := range 2 {
		p := audio.NewLevelsPublisher(topic.Options{})
		srv := serve(t, broker.ConnectInProcess(t), p)
		if err := p.Publish(t.Context(), &audio.LevelsT{Position: 7}); err != nil {
			t.Fatal(err)
		}
		var m audio.LevelsT
		a, err := s.Next(t.Context(), &m)
		if err != nil || m.Position != 7 || a.Break != (round > 0) || a.Number != 0 {
			t.Errorf("round %d: %+v, %+v, %v", round, m, a, err)
		}
		srv.Close()
		p.Close()
	}
}
