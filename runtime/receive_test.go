package ipc

import (
	"context"
	"encoding/binary"
	"math"
	"sync/atomic"
	"testing"

	"github.com/ipcgen/ipcgen/internal/record"
)

// TestMemoryOfAnnouncedMessages begins messages in pieces. Each gets all of its memory at once if
// one as long has come, and otherwise a part, however long it is said to be. What it gets is what
// the peer's process is charged.
func TestMemoryOfAnnouncedMessages(t *testing.T) {
	const first = 32 << 10 // bytes that come with an announcement: so many have eagerLen
	var charged atomic.Int64
	r := receiver{limit: 32 << 20, account: &account{limit: math.MaxInt64, all: &charged}}
	begin := func(n int) {
		t.Helper()
		rec := make([]byte, record.RequestHeaderLen, record.RequestHeaderLen+record.TotalLen+first)
		rec = binary.NativeEndian.AppendUint64(rec, uint64(n))
		for takeBody(n) != nil { // of other tests
		}
		if err := r.begin(record.Request|record.More, rec[:cap(rec)]); err != nil {
			t.Fatal(err)
		}
	}
	end := func() {
		t.Helper()
		if done, err := r.more(record.Piece, make([]byte, r.total-r.got)); err != nil || !done {
			t.Fatal(done, err)
		}
		if len(r.body) != r.total || r.refused != nil {
			t.Fatalf("%d bytes of %d have come: %v", len(r.body), r.total, r.refused)
		}
		r.drop()
	}
	expect := func(what string, want int) {
		t.Helper()
		if n := cap(r.body); n != want || charged.Load() != int64(want) {
			t.Errorf("%s gets %d bytes, and %d are charged; want %d", what, n, charged.Load(), want)
		}
	}
	begin(12 << 20)
	expect("the first long message", eagerLen)
	r.drop() // it was aborted
	begin(12 << 20)
	expect("one after another that did not come", eagerLen)
	end()
	begin(12 << 20)
	expect("one after another that came", 12<<20)
	end()
	begin(6 << 20)
	expect("a shorter one", 6<<20)
	end()
	begin(30 << 20)
	expect("a longer one", 12<<20)
	r.drop()
}

// TestTakenWithRelease checks that a message counts as not taken until its receiver releases it,
// also one in pieces, of which the earlier ones are released before.
func TestTakenWithRelease(t *testing.T) {
	for name, n := range map[string]int{"in one record": 10, "in pieces": 1000} {
		tx, w, c := sleepingPeer(t)
		tx.piece = 400
		var rx receiver
		rx.init(c, w, 4096, 4096)
		var at sent
		if err := tx.write(context.Background(), &frame{kind: record.Request, id: 1},
			make([]byte, n), &at, nil); err != nil {
			t.Fatal(err)
		}
		var f frame
		body, _, ok, err := rx.next(&f)
		if err != nil || !ok || len(body) != n {
			t.Fatalf("%s: %d bytes, %v, %v", name, len(body), ok, err)
		}
		if tx.taken(&at) {
			t.Errorf("%s: taken before its receiver has released it", name)
		}
		rx.release()
		if !tx.taken(&at) {
			t.Errorf("%s: not taken although it is released", name)
		}
		if used := tx.ring.Used(); used != 0 {
			t.Errorf("%s: %d bytes of the ring are used", name, used)
		}
	}
}
