package natsipc_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/gen/audio"
	"github.com/ipcgen/ipcgen/internal/echo"
	"github.com/ipcgen/ipcgen/nats"
	"github.com/ipcgen/ipcgen/nats/internal/natstest"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/ipctest"
	"github.com/ipcgen/ipcgen/runtime/topic"
)

// levelsThrough publishes position after position until one arrives that check accepts.
func levelsThrough(t *testing.T, p *audio.LevelsPublisher, s *audio.LevelsSubscription,
	next *uint64, check func(topic.Arrival, *audio.LevelsT) error) {
	t.Helper()
	soon(t, "a message", func() error {
		if err := p.Publish(t.Context(), &audio.LevelsT{Position: *next}); err != nil {
			return err
		}
		*next++
		ctx, stop := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer stop()
		for {
			var m audio.LevelsT
			a, err := s.Next(ctx, &m)
			if err != nil {
				return err
			}
			if a.Number != m.Position {
				t.Fatalf("message %d has number %d", m.Position, a.Number)
			}
			if err = check(a, &m); err == nil {
				return nil
			}
		}
	})
}

// logged keeps what is logged.
type logged struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (l *logged) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// Write implements io.Writer.
func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(b)
}

// String implements fmt.Stringer.
func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

// TestGatewayTopicMemory has a publisher that keeps more than a gateway may take, on either side:
// its topic does not pass, which is logged, and the calls of its server do.
func TestGatewayTopicMemory(t *testing.T) {
	echo.ExpectNothingLeft(t)
	for _, small := range []string{"exported", "imported"} {
		broker := natstest.Start(t)
		there, here := domain(t), domain(t)
		p := audio.NewLevelsPublisher(topic.Options{Depth: 1000, MaxMessage: 1 << 10})
		ipctest.Serve(t, ipc.WithDomain(there), "audio", p, ipc.NewService(relayed,
			ipc.Handle(relayedEcho, func(_ context.Context, m *echo.Blob) (*echo.Blob, error) {
				return m, nil
			})))
		var out, in logged
		options := []ipc.Option{natsipc.WithBeat(beat)}
		far := natsipc.Gateway{Channel: "audio", NATS: options, Domain: there, Log: out.logger()}
		near := natsipc.Gateway{Channel: "audio", NATS: options, Domain: here, Log: in.logger()}
		log := &in
		if small == "exported" {
			log, far.TopicMemory = &out, 1<<20
		} else {
			near.TopicMemory = 1 << 20
		}
		outside, inside := broker.Connect(t), broker.Connect(t)
		stopExport := run(t, func(ctx context.Context) error { return far.Export(ctx, outside) })
		stopImport := run(t, func(ctx context.Context) error { return near.Import(ctx, inside) })
		soon(t, "a call", func() error {
			c, err := ipc.Dial(t.Context(), "audio", ipc.WithDomain(here))
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = ipc.Invoke(t.Context(), c, relayedEcho, &echo.Blob{})
			return err
		})
		if said := log.String(); !strings.Contains(said, "a topic is not "+small) ||
			!strings.Contains(said, "topic=audio.Levels") ||
			!strings.Contains(said, "1048576 left; see Gateway.TopicMemory") {
			t.Errorf("%s: the log has %q", small, said)
		}
		stopImport()
		stopExport()
		p.Close()
	}
}

// TestGatewayTakesTopics subscribes with generated code on one machine to a publisher on another
// one. Numbers, losses, times and the history are those of the publisher; another one, and another
// gateway, are a break.
func TestGatewayTakesTopics(t *testing.T) {
	echo.ExpectNothingLeft(t)
	broker := natstest.Start(t)
	there, here := domain(t), domain(t)
	p := audio.NewLevelsPublisher(topic.Options{Depth: 16})
	for i := range uint64(100) { // before the gateway is there
		if err := p.Publish(t.Context(), &audio.LevelsT{Position: i}); err != nil {
			t.Fatal(err)
		}
	}
	origin := ipctest.Serve(t, ipc.WithDomain(there), "audio", p)
	options := []ipc.Option{natsipc.WithBeat(beat)}
	out := natsipc.Gateway{Channel: "audio", NATS: options, Domain: there}
	in := natsipc.Gateway{Channel: "audio", NATS: options, Domain: here}
	outside, inside := broker.Connect(t), broker.Connect(t)
	stopExport := run(t, func(ctx context.Context) error { return out.Export(ctx, outside) })
	stopImport := run(t, func(ctx context.Context) error { return in.Import(ctx, inside) })

	from := topic.Channel("audio", ipc.WithDomain(here))
	subscribe := func(o topic.SubscribeOptions) *audio.LevelsSubscription {
		t.Helper()
		s, err := audio.SubscribeLevels(t.Context(), from, o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	early := subscribe(topic.SubscribeOptions{}) // there may be no import yet
	at := uint64(0)
	published := uint64(100)
	levelsThrough(t, p, early, &published, func(a topic.Arrival, m *audio.LevelsT) error {
		if time.Since(a.Published) > time.Hour || a.Break {
			t.Errorf("%+v", a)
		}
		if at != 0 && a.Number != at+1+a.Lost {
			t.Errorf("%+v behind %d", a, at)
		}
		if at = a.Number; at < 100 {
			return fmt.Errorf("message %d", at)
		}
		return nil
	})
	var m audio.LevelsT
	old := subscribe(topic.SubscribeOptions{History: 5})
	a, err := old.Next(t.Context(), &m)
	if err != nil || m.Position < at-4 || a.Lost != 0 { // more were published meanwhile
		t.Errorf("history: %+v, %+v, %v, at %d", m, a, err, at)
	}
	newest := subscribe(topic.SubscribeOptions{Policy: topic.Latest})
	if a, err := newest.Next(t.Context(), &m); err != nil || m.Position < at {
		t.Errorf("latest: %+v, %+v, %v", m, a, err)
	}
	_, err = audio.SubscribeLevels(t.Context(), from, topic.SubscribeOptions{
		Policy: topic.Lossless})
	echo.Want(t, err, ipc.CodeFailedPrecondition, ipc.NotSent, "without Lossless")

	// What breaks the way is told as a break.
	next := uint64(0) // of the second publisher
	broken := func(p *audio.LevelsPublisher) {
		t.Helper()
		levelsThrough(t, p, early, &next, func(a topic.Arrival, m *audio.LevelsT) error {
			if !a.Break {
				return fmt.Errorf("%+v", a)
			}
			return nil
		})
	}
	origin.Close()
	p.Close()
	p = audio.NewLevelsPublisher(topic.Options{Depth: 16})
	defer p.Close()
	ipctest.Serve(t, ipc.WithDomain(there), "audio", p)
	broken(p)
	stopExport()
	run(t, func(ctx context.Context) error { return out.Export(ctx, outside) })
	broken(p)
	stopImport()
	run(t, func(ctx context.Context) error { return in.Import(ctx, inside) })
	broken(p)
}
