package changelog_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ipcgen/ipcgen/nats/internal/changelog"
	"github.com/ipcgen/ipcgen/nats/internal/natstest"
)

// watchdog ends a test that hangs.
const watchdog = 5 * time.Minute

func newJetStream(t *testing.T, opts ...natstest.Option) jetstream.JetStream {
	t.Helper()
	s := natstest.Start(t, append(opts, natstest.JetStream(t.TempDir()))...)
	nc, err := nats.Connect(s.ClientURL(), nats.MaxReconnects(-1), nats.Timeout(watchdog))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func config() changelog.Config {
	return changelog.Config{Stream: "LOG", Subject: "ipcgen.g.log", Replicas: 1,
		Settle:   100 * time.Millisecond,
		Metadata: map[string]string{"group": "g"}}
}

func open(t *testing.T, js jetstream.JetStream) *changelog.Log {
	t.Helper()
	l, err := changelog.Open(t.Context(), js, config())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func changes(n ...uint64) *changelog.Entry {
	e := &changelog.Entry{Epoch: 1}
	for _, n := range n {
		e.Changes = append(e.Changes, changelog.Change{Client: "c", Number: n, Method: 7,
			Body: fmt.Append(nil, "body ", n)})
	}
	return e
}

func add(t *testing.T, l *changelog.Log, at changelog.Position,
	e *changelog.Entry) changelog.Position {
	t.Helper()
	to, err := l.Append(t.Context(), at, e)
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// ignore takes entries that do not matter.
func ignore(changelog.Entry, changelog.Position) {}

// TestFence has two leaders write. The one that does not know of a message of the other adds
// nothing, now and later.
func TestFence(t *testing.T) {
	l := open(t, newJetStream(t))
	first := add(t, l, changelog.Position{}, changes(1, 2))
	reign := &changelog.Entry{Epoch: 2, Reign: &changelog.Reign{Member: "b", Fingerprint: 9}}
	second := add(t, l, first, reign)
	for range 2 {
		_, err := l.Append(t.Context(), first, changes(3))
		if !errors.Is(err, changelog.ErrBehind) {
			t.Errorf("a deposed leader: %v", err)
		}
	}
	third := add(t, l, second, changes(4))
	var got []changelog.Entry
	at, err := l.CatchUp(t.Context(), changelog.Position{}, func(e changelog.Entry,
		_ changelog.Position) {
		got = append(got, e)
	})
	if want := []changelog.Entry{*changes(1, 2), *reign, *changes(4)}; err != nil || at != third ||
		!reflect.DeepEqual(got, want) {
		t.Errorf("%+v at %v, want %+v at %v (%v)", got, at, want, third, err)
	}
}

// TestFollow follows a log that grows.
func TestFollow(t *testing.T) {
	l := open(t, newJetStream(t))
	at := add(t, l, changelog.Position{}, changes(1))
	got := make(chan uint64, 100)
	ctx, cancel := context.WithCancel(t.Context())
	followed := make(chan error, 1)
	go func() {
		followed <- l.Follow(ctx, changelog.Position{}, func(e changelog.Entry,
			_ changelog.Position) {
			for _, c := range e.Changes {
				got <- c.Number
			}
		})
	}()
	for n := uint64(2); n < 50; n += 2 {
		at = add(t, l, at, changes(n, n+1))
	}
	for n := uint64(1); n < 50; n++ {
		select {
		case m := <-got:
			if m != n {
				t.Fatalf("change %d in place of %d", m, n)
			}
		case <-time.After(watchdog):
			t.Fatalf("change %d does not come", n)
		}
	}
	cancel()
	if err := <-followed; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestReadAtEnd reads the end of a log that grows: what comes between two questions to the server
// is not taken for lost.
func TestReadAtEnd(t *testing.T) {
	l := open(t, newJetStream(t))
	const n = 3000
	go func() {
		at := changelog.Position{}
		for i := range uint64(n) {
			at, _ = l.Append(t.Context(), at, changes(i))
		}
	}()
	at := changelog.Position{}
	for end := time.Now().Add(watchdog); at.Seq < n && time.Now().Before(end); {
		var err error
		if at, err = l.CatchUp(t.Context(), at, ignore); err != nil {
			t.Fatal(err)
		}
	}
	if at.Seq < n {
		t.Errorf("the log ends at %d", at.Seq)
	}
}

// TestStrangers write into the log's subject. Members pass over it.
func TestStrangers(t *testing.T) {
	js := newJetStream(t)
	l := open(t, js)
	at := add(t, l, changelog.Position{}, changes(1))
	if _, err := js.Publish(t.Context(), "ipcgen.g.log", []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(t.Context(), at, changes(2)); !errors.Is(err, changelog.ErrBehind) {
		t.Errorf("behind a stranger: %v", err)
	}
	var e changelog.Entry
	to, err := l.CatchUp(t.Context(), at, func(read changelog.Entry, _ changelog.Position) {
		e = read
	})
	if err != nil || !e.Void {
		t.Fatalf("%+v, %v", e, err)
	}
	add(t, l, to, changes(2))
}

// TestRewritten reads a log that has lost messages, and one that has others in their place.
func TestRewritten(t *testing.T) {
	js := newJetStream(t)
	l := open(t, js)
	at := add(t, l, add(t, l, changelog.Position{}, changes(1)), changes(2))
	if err := js.DeleteStream(t.Context(), "LOG"); err != nil {
		t.Fatal(err)
	}
	l = open(t, js)
	if _, err := l.CatchUp(t.Context(), at, ignore); !errors.Is(err, changelog.ErrRewritten) {
		t.Errorf("a log without its messages: %v", err)
	}
	other := changelog.Position{}
	for n := range uint64(3) {
		other = add(t, l, other, changes(n+10))
	}
	if _, err := l.CatchUp(t.Context(), at, ignore); !errors.Is(err, changelog.ErrRewritten) {
		t.Errorf("a log with others: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), watchdog)
	defer cancel()
	if err := l.Follow(ctx, at, ignore); !errors.Is(err, changelog.ErrRewritten) {
		t.Errorf("following: %v", err)
	}
}

// TestSnapshots saves snapshots, which bound the log, and loads the last one.
func TestSnapshots(t *testing.T) {
	js := newJetStream(t)
	l := open(t, js)
	if s, err := l.LoadSnapshot(t.Context()); err != nil || s.At.Seq != 0 {
		t.Fatalf("%+v, %v", s, err)
	}
	var at, first changelog.Position
	var saved changelog.Snapshot
	for n := range uint64(5) {
		at = add(t, l, at, changes(n))
		if n == 0 {
			first = at
		}
		former := saved
		saved = changelog.Snapshot{At: at, Data: bytes.Repeat([]byte{byte(n)}, int(n)*300_000)}
		if err := l.SaveSnapshot(t.Context(), saved); err != nil {
			t.Fatal(err)
		}
		if n > 0 { // an older one changes nothing
			if err := l.SaveSnapshot(t.Context(), former); err != nil {
				t.Fatal(err)
			}
		}
		if s, err := l.LoadSnapshot(t.Context()); err != nil || s.At != saved.At ||
			!bytes.Equal(s.Data, saved.Data) {
			t.Fatalf("snapshot of %v with %d bytes (%v), want that of %v", s.At, len(s.Data), err,
				saved.At)
		}
	}
	if _, err := l.CatchUp(t.Context(), first, ignore); !errors.Is(err, changelog.ErrTrimmed) {
		t.Errorf("the log behind its first message: %v", err)
	}
	s, err := js.Stream(t.Context(), "LOG_SNAP")
	if err != nil {
		t.Fatal(err)
	}
	if info := s.CachedInfo(); info.State.Msgs != 6 { // 1.2 MB in pieces of 256 KiB, and the seal
		t.Errorf("%d messages of snapshots are left", info.State.Msgs)
	}
	add(t, l, at, changes(100))
}

// TestLayouts opens streams of another form.
func TestLayouts(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  func(*jetstream.StreamConfig)
		want string
	}{
		{"age", func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour }, "maximum age"},
		{"memory", func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage },
			"storage"},
		{"discard", func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld },
			"discard"},
		{"subjects", func(c *jetstream.StreamConfig) { c.Subjects = []string{"x"} }, "subjects"},
		{"no answers", func(c *jetstream.StreamConfig) { c.NoAck = true }, "no_ack"},
		{"answers before the disk", func(c *jetstream.StreamConfig) {
			c.PersistMode = jetstream.AsyncPersistMode
		}, "persist mode is Async, and must be Default"},
		{"no purge", func(c *jetstream.StreamConfig) { c.DenyPurge = true }, "deny_purge"},
		{"another group", func(c *jetstream.StreamConfig) {
			c.Metadata = map[string]string{"group": "other"}
		}, "metadata group is other"},
	} {
		t.Run(c.name, func(t *testing.T) {
			js := newJetStream(t)
			cfg := jetstream.StreamConfig{Name: "LOG", Subjects: []string{"ipcgen.g.log"},
				Discard: jetstream.DiscardNew, Metadata: config().Metadata}
			c.cfg(&cfg)
			if _, err := js.CreateStream(t.Context(), cfg); err != nil {
				t.Fatal(err)
			}
			_, err := changelog.Open(t.Context(), js, config())
			var layout *changelog.LayoutError
			if !errors.As(err, &layout) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

// TestQuota fills the log. The change that finds no room is refused, and the log goes on when there
// is room.
func TestQuota(t *testing.T) {
	js := newJetStream(t)
	cfg := config()
	cfg.MaxBytes = 4 << 10
	l, err := changelog.Open(t.Context(), js, cfg)
	if err != nil {
		t.Fatal(err)
	}
	at, n := changelog.Position{}, uint64(0)
	for ; ; n++ {
		to, err := l.Append(t.Context(), at, changes(n))
		var refused *changelog.RefusedError
		if errors.As(err, &refused) && refused.Full() {
			break
		}
		if err != nil || n > 1000 {
			t.Fatal(n, err)
		}
		at = to
	}
	if err := l.Trim(t.Context(), at.Seq-1); err != nil {
		t.Fatal(err)
	}
	add(t, l, at, changes(n))
}

// TestNoServer appends without a server, and with one that does not answer.
func TestNoServer(t *testing.T) {
	js := newJetStream(t)
	l := open(t, js)
	js.Conn().Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := l.Append(ctx, changelog.Position{}, changes(1)); err == nil ||
		errors.Is(err, changelog.ErrBehind) {
		t.Errorf("error %v", err)
	}
}

// TestLateAppend appends when the time for that is over, as after a standstill of the process: it
// is certain that nothing was sent.
func TestLateAppend(t *testing.T) {
	l := open(t, newJetStream(t))
	ctx, cancel := context.WithCancelCause(t.Context())
	over := errors.New("the lease is over")
	cancel(over)
	if _, err := l.Append(ctx, changelog.Position{}, changes(1)); !errors.Is(err,
		changelog.ErrUnsent) || !errors.Is(err, over) {
		t.Errorf("error %v", err)
	}
	add(t, l, changelog.Position{}, changes(1))
}

// A lossy JetStream loses the next message that is published. Then meanwhile happens.
type lossy struct {
	jetstream.JetStream
	meanwhile func()
}

func (l *lossy) PublishMsg(ctx context.Context, m *nats.Msg,
	opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	if f := l.meanwhile; f != nil {
		l.meanwhile = nil
		f()
		return nil, context.DeadlineExceeded
	}
	return l.JetStream.PublishMsg(ctx, m, opts...)
}

// TestUnconfirmed has no answer to the first attempt to store a message, and then a reason for
// which no other one can succeed. The message may be in the log, or come. A leader that has its
// lease does not wait for that.
func TestUnconfirmed(t *testing.T) {
	remove := func(t *testing.T, js jetstream.JetStream) {
		if err := js.DeleteStream(t.Context(), config().Stream); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name      string
		meanwhile func(*testing.T, jetstream.JetStream)
		is        error
		want      string
	}{
		{"full", func(*testing.T, jetstream.JetStream) {}, nil, "maximum bytes"},
		{"deleted", remove, changelog.ErrRewritten, "was deleted"},
		{"made again", func(t *testing.T, js jetstream.JetStream) {
			remove(t, js)
			open(t, js)
		}, nil, "wrong last sequence"},
	} {
		t.Run(c.name, func(t *testing.T) {
			js := &lossy{JetStream: newJetStream(t)}
			cfg := config()
			cfg.MaxBytes = changelog.LeastMaxBytes
			l, err := changelog.Open(t.Context(), js, cfg)
			if err != nil {
				t.Fatal(err)
			}
			long := changes(1) // of which one has room
			long.Changes[0].Body = make([]byte, 4000)
			at := add(t, l, changelog.Position{}, long)
			js.meanwhile = func() { c.meanwhile(t, js.JetStream) }
			ctx, cancel := context.WithTimeout(t.Context(), watchdog)
			defer cancel()
			_, err = l.Append(ctx, at, long)
			var refused *changelog.RefusedError
			if err == nil || ctx.Err() != nil || errors.As(err, &refused) ||
				errors.Is(err, changelog.ErrBehind) || errors.Is(err, changelog.ErrUnsent) ||
				c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

// A late JetStream stands still when it is asked for the state of the log, and then gives an answer
// that is true no more: that of a server that has not taken in the last messages.
type late struct {
	jetstream.JetStream
	pause  time.Duration
	answer chan *jetstream.StreamInfo // has the answer
}

func (l *late) Stream(ctx context.Context, name string) (jetstream.Stream, error) {
	s, err := l.JetStream.Stream(ctx, name)
	return lateStream{s, l}, err
}

type lateStream struct {
	jetstream.Stream
	late *late
}

func (s lateStream) Info(ctx context.Context,
	opts ...jetstream.StreamInfoOpt) (*jetstream.StreamInfo, error) {
	select {
	case old := <-s.late.answer:
		time.Sleep(s.late.pause)
		return old, nil
	default:
		return s.Stream.Info(ctx, opts...)
	}
}

// TestStandstill has the process stand still for longer than servers are given to settle, behind an
// answer that is not true any more. It asks again before it says that the log has lost messages.
func TestStandstill(t *testing.T) {
	js := newJetStream(t)
	l := open(t, js)
	s, err := js.Stream(t.Context(), config().Stream)
	if err != nil {
		t.Fatal(err)
	}
	old, at := s.CachedInfo(), add(t, l, changelog.Position{}, changes(1))
	slow := &late{JetStream: js, pause: 2 * config().Settle,
		answer: make(chan *jetstream.StreamInfo, 1)}
	l = open(t, slow)
	slow.answer <- old
	if _, err := l.CatchUp(t.Context(), at, ignore); err != nil {
		t.Errorf("error %v", err)
	}
}

// TestForeignSeal has a stranger write behind the snapshot. It cannot be restored, and the next one
// takes its place.
func TestForeignSeal(t *testing.T) {
	js := newJetStream(t)
	l := open(t, js)
	at := add(t, l, changelog.Position{}, changes(1))
	save := func(at changelog.Position) {
		t.Helper()
		if err := l.SaveSnapshot(t.Context(), changelog.Snapshot{At: at,
			Data: []byte("state")}); err != nil {
			t.Fatal(err)
		}
	}
	save(at)
	if _, err := js.Publish(t.Context(), config().Subject+".snapshot.done",
		[]byte("garbage")); err != nil {
		t.Fatal(err)
	}
	if _, err := l.LoadSnapshot(t.Context()); err == nil ||
		!strings.Contains(err.Error(), "somebody else has written over the last snapshot") {
		t.Errorf("error %v", err)
	}
	at = add(t, l, at, changes(2))
	save(at)
	if s, err := l.LoadSnapshot(t.Context()); err != nil || s.At != at ||
		string(s.Data) != "state" {
		t.Errorf("%+v, %v", s, err)
	}
}
