package ipc

import (
	"context"
	"testing"

	"github.com/ipcgen/ipcgen/internal/record"
	"github.com/ipcgen/ipcgen/runtime/shm"
)

// A countingWire counts the notifications of the peer.
type countingWire struct {
	wire
	notified int
}

func (w *countingWire) Notify() { w.notified++ }
func (w *countingWire) Expect() {}

// sleepingPeer makes a transmitter to a peer that sleeps.
func sleepingPeer(t *testing.T) (*transmitter, *countingWire, *shm.Consumer) {
	t.Helper()
	geo := shm.Geometry{ToServer: shm.MinCapacity, ToClient: shm.MinCapacity}
	seg, err := shm.NewSegment(shm.NewHeapMemory(geo.Size()), geo)
	if err != nil {
		t.Fatal(err)
	}
	p, err := shm.NewProducer(seg.ToClient(), geo.ToClient)
	if err != nil {
		t.Fatal(err)
	}
	c, err := shm.NewConsumer(seg.ToClient(), geo.ToClient)
	if err != nil {
		t.Fatal(err)
	}
	if !c.Sleep() {
		t.Fatal("the peer does not sleep although its ring is empty")
	}
	w := new(countingWire)
	tx := new(transmitter)
	tx.init(p, w, geo.ToClient, geo.ToClient, false)
	return tx, w, c
}

// TestGather checks that the peer is notified once, after the last of several records.
func TestGather(t *testing.T) {
	tx, w, _ := sleepingPeer(t)
	tx.gather()
	tx.gather() // another goroutine, which is ready first
	for id := range uint64(3) {
		if err := tx.write(context.Background(), &frame{kind: record.Reply, id: id},
			[]byte("reply"), nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	if w.notified != 0 {
		t.Errorf("%d notifications while records are gathered", w.notified)
	}
	tx.notify()
	if w.notified != 1 {
		t.Errorf("%d notifications after the records, want 1", w.notified)
	}
	tx.notify()
	if w.notified != 1 {
		t.Errorf("%d notifications, although nothing has been written since the first", w.notified)
	}
	if tx.tryWrite(&frame{kind: record.Reply, id: 3}, nil); w.notified != 1 {
		t.Errorf("%d notifications of a peer that is awake", w.notified)
	}
}

// TestGatherFillsTheRing has a writer that gathers find no room. It notifies the peer before it
// waits, for only the peer makes room.
func TestGatherFillsTheRing(t *testing.T) {
	tx, w, c := sleepingPeer(t)
	tx.gather()
	defer tx.notify()
	body := make([]byte, shm.MinCapacity/4)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for waited := false; !waited; {
		err := tx.write(ctx, &frame{kind: record.Reply}, body, nil, func() {
			waited = true
			if w.notified != 1 {
				t.Errorf("%d notifications before the wait for room, want 1", w.notified)
			}
			cancel()
		})
		if (err != nil) != waited {
			t.Fatalf("write: %v", err)
		}
	}
	if _, _, ok, err := c.Next(); !ok || err != nil {
		t.Errorf("the peer finds nothing: %v", err)
	}
}
