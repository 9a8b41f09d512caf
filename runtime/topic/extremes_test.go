package topic_test

import (
	"bytes"
	"testing"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/topic"
)

// plain are messages of any bytes.
var plain = &topic.Info{Protocol: &ipc.Protocol{Name: "test.Plain", Fingerprint: 3}}

// TestExtremeMessages publishes messages of no bytes and of the most bytes, to every policy, copied
// and in place, with histories of every length.
func TestExtremeMessages(t *testing.T) {
	overEach(t, func(t *testing.T, where ipc.RendezvousOption) {
		const longest, depth = 1 << 20, 3
		p := topic.NewPublisher(plain, topic.Options{Depth: depth, MaxMessage: longest})
		defer p.Close()
		serveLife(t, where, p)
		body := func(n int) []byte {
			return bytes.Repeat([]byte{byte(n + 1)}, []int{0, longest, 1, longest - 1, 0}[n%5])
		}
		for n := range 10 {
			if err := p.Publish(within(t), body(n)); err != nil {
				t.Fatal(err)
			}
		}
		for _, o := range []topic.SubscribeOptions{
			{History: 1}, {History: depth}, {History: 1 << 40},
			{Policy: topic.Lossless, History: 50}, {InPlace: true, History: depth},
			{Policy: topic.Lossless, InPlace: true, History: 2},
		} {
			s, err := topic.Subscribe(within(t), topic.Channel(channelName, where), plain, o)
			if err != nil {
				t.Fatal(err)
			}
			for n := 10 - min(o.History, depth); n < 10; n++ {
				if err := s.Read(within(t), func(m []byte, a topic.Arrival) error {
					if int(a.Number) != n || a.Lost != 0 || !bytes.Equal(m, body(n)) {
						t.Errorf("%+v: message %d of %d bytes came in place of %d", o, a.Number,
							len(m), n)
					}
					return nil
				}); err != nil {
					t.Error(err)
				}
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

// serveLife serves a publisher until the function that it returns is called, or the test ends.
func serveLife(t *testing.T, where ipc.RendezvousOption, p *topic.Publisher) (end func()) {
	t.Helper()
	l, err := ipc.Listen(channelName, where)
	if err != nil {
		t.Fatal(err)
	}
	srv := ipc.NewServer(p)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(t.Context(), l)
	}()
	end = func() {
		srv.Close()
		<-done
	}
	t.Cleanup(end)
	return end
}

// TestSecondPublisher publishes under a name that is taken: its server is refused, and subscribers
// stay with the first.
func TestSecondPublisher(t *testing.T) {
	overEach(t, func(t *testing.T, where ipc.RendezvousOption) {
		p := publisher(t, where, topic.Options{})
		s := subscribe(t, where, topic.SubscribeOptions{})
		if _, err := ipc.Listen(channelName, where); ipc.CodeOf(err) != ipc.CodeAlreadyExists {
			t.Errorf("a second server of the channel: %v", err)
		}
		publish(t, p, 0, 1)
		expect(t, s, 0)
	})
}

// TestThousandLives lets one subscription follow a thousand publishers under one name, without a
// loss that it is not told of, and with nothing left behind.
func TestThousandLives(t *testing.T) {
	overEach(t, func(t *testing.T, where ipc.RendezvousOption) {
		lives := 1000
		if testing.Short() {
			lives = 50
		}
		s := subscribe(t, where, topic.SubscribeOptions{Policy: topic.Lossless})
		for life := range lives {
			p := topic.NewPublisher(meter, topic.Options{Depth: 4})
			end := serveLife(t, where, p)
			publish(t, p, 0, 3)
			for n := range uint64(3) {
				if a := expect(t, s, n); a.Lost != 0 || a.Break != (life > 0 && n == 0) {
					t.Fatalf("life %d: %+v", life, a)
				}
			}
			end()
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestOptionsMemory compares what options say with what publishers take.
func TestOptionsMemory(t *testing.T) {
	for _, o := range []topic.Options{{}, {Depth: 2, MaxMessage: 1, InPlace: -1},
		{Depth: 1000, MaxMessage: 12345, InPlace: 1}} {
		p := topic.NewHeapPublisher(meter, o)
		if got := p.Mapped(); got == 0 || got != o.Memory() {
			t.Errorf("%+v: %d bytes, and Memory says %d", o, got, o.Memory())
		}
		p.Close()
	}
}
