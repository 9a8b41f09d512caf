package changelog_test

import (
	"bytes"
	"context"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/nats/internal/changelog"
	"github.com/ipcgen/ipcgen/nats/internal/natstest"
)

// smallMessages makes servers take little, so that changes of 20,000 bytes have seven parts.
var smallMessages = natstest.MaxPayload(4096)

// long is an entry of a change that has parts.
func long(n uint64) *changelog.Entry {
	e := changes(n)
	e.Changes[0].Body = bytes.Repeat([]byte{byte(n)}, 20_000)
	return e
}

// entries returns what a member reads that has executed the log up to at, and the log's end.
func entries(t *testing.T, l *changelog.Log,
	at changelog.Position) (all []changelog.Entry, end changelog.Position) {
	t.Helper()
	end, err := l.CatchUp(t.Context(), at, func(e changelog.Entry, to changelog.Position) {
		all = append(all, e)
	})
	if err != nil {
		t.Fatal(err)
	}
	return all, end
}

// TestParts stores changes that do not fit into a message, among others. They are read whole, by
// those who follow and those who come later, behind any entry.
func TestParts(t *testing.T) {
	l := open(t, newJetStream(t, smallMessages))
	want := []changelog.Entry{*changes(1), *long(2), *changes(3, 4), *long(5)}
	var at []changelog.Position
	followed := make(chan changelog.Entry, len(want))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		_ = l.Follow(ctx, changelog.Position{}, func(e changelog.Entry, _ changelog.Position) {
			followed <- e
		})
	}()
	last := changelog.Position{}
	for i := range want {
		at = append(at, last)
		last = add(t, l, last, &want[i])
		select {
		case e := <-followed:
			if !reflect.DeepEqual(e, want[i]) {
				t.Errorf("entry %d: %.100v", i, e)
			}
		case <-time.After(watchdog):
			t.Fatalf("entry %d does not come", i)
		}
	}
	if last.Seq != 16 {
		t.Errorf("the log has %d messages, want 2 and twice 7", last.Seq)
	}
	for i := range want {
		got, end := entries(t, l, at[i])
		if !reflect.DeepEqual(got, want[i:]) || end != last {
			t.Errorf("behind %v: %d entries up to %v", at[i], len(got), end)
		}
	}
}

// TestUnfinishedParts has a leader that cannot store the last part of a change. The change is not
// in the log, whoever writes behind the parts: the leader itself, with the same change again, or
// the next one, which takes their end from it.
func TestUnfinishedParts(t *testing.T) {
	js := newJetStream(t, smallMessages)
	cfg := config()
	cfg.MaxBytes = 80_000 // room for three changes, and parts of a fourth one
	l, err := changelog.Open(t.Context(), js, cfg)
	if err != nil {
		t.Fatal(err)
	}
	at := changelog.Position{}
	for n := range uint64(3) {
		at = add(t, l, at, long(n))
	}
	small := add(t, l, at, changes(3))
	var refused *changelog.RefusedError
	stopped, err := l.Append(t.Context(), small, long(4))
	if stopped == small || !errors.As(err, &refused) || !refused.Full() {
		t.Fatalf("at %v: %v", stopped, err)
	}
	got, end := entries(t, l, at)
	if want := []changelog.Entry{*changes(3)}; !reflect.DeepEqual(got, want) || end != stopped {
		t.Errorf("%.100v up to %v, want %v up to %v", got, end, want, stopped)
	}
	if err := l.Trim(t.Context(), at.Seq); err != nil {
		t.Fatal(err)
	}
	again := add(t, l, stopped, long(4)) // by the same leader
	got, _ = entries(t, l, small)
	if want := []changelog.Entry{*long(4)}; !reflect.DeepEqual(got, want) {
		t.Errorf("%.100v, want the change once", got)
	}
	if err := l.Trim(t.Context(), stopped.Seq); err != nil { // as for a snapshot behind them
		t.Fatal(err)
	}
	want := []changelog.Entry{}
	whole := again
	for n := uint64(5); ; n++ {
		stopped, err = l.Append(t.Context(), whole, long(n))
		if err != nil {
			break
		}
		want, whole = append(want, *long(n)), stopped
	}
	if stopped == whole || !errors.As(err, &refused) || !refused.Full() {
		t.Fatalf("at %v: %v", stopped, err)
	}
	if err := l.Trim(t.Context(), again.Seq); err != nil {
		t.Fatal(err)
	}
	_, end = entries(t, l, again)
	reign := &changelog.Entry{Epoch: 2, Reign: &changelog.Reign{Member: "b", Fingerprint: 9}}
	add(t, l, end, reign)
	if _, err := l.Append(t.Context(), stopped, long(1)); !errors.Is(err, changelog.ErrBehind) {
		t.Errorf("a deposed leader: %v", err)
	}
	got, _ = entries(t, l, again)
	if want = append(want, *reign); !reflect.DeepEqual(got, want) {
		t.Errorf("%.100v, want the changes before, and the reign", got)
	}
}

// TestTooLong refuses changes behind whose parts no reign could begin, and stores nothing, until
// the limit is raised.
func TestTooLong(t *testing.T) {
	cfg := config()
	cfg.MaxBytes = 30_000
	js := newJetStream(t, smallMessages)
	l, err := changelog.Open(t.Context(), js, cfg)
	if err != nil {
		t.Fatal(err)
	}
	at, err := l.Append(t.Context(), changelog.Position{}, long(1))
	if at.Seq != 0 || !errors.Is(err, changelog.ErrTooLong) {
		t.Errorf("at %v: %v", at, err)
	}
	unlimited := open(t, newJetStream(t))
	most := changes(1)
	most.Changes[0].Body = make([]byte, changelog.LongestEntry)
	at, err = unlimited.Append(t.Context(), changelog.Position{}, most)
	if at.Seq != 0 || !errors.Is(err, changelog.ErrTooLong) {
		t.Errorf("at %v: %v", at, err)
	}
	at = add(t, l, at, changes(2))
	s, err := js.Stream(t.Context(), cfg.Stream)
	if err != nil {
		t.Fatal(err)
	}
	raised := s.CachedInfo().Config
	raised.MaxBytes = 1 << 20
	if _, err := js.UpdateStream(t.Context(), raised); err != nil {
		t.Fatal(err)
	}
	add(t, l, at, long(1))
}
