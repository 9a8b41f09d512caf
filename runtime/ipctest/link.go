package ipctest

import (
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/shm"
)

// A link is one end of a connection within this process. It implements ipc.Link.
type link struct {
	in, out    *mailbox
	own, its   *bell    // the bells of this end and of the other one
	self, peer ipc.Peer // the peers at this end and at the other one
	start      time.Time
}

// newLinks returns the two ends of a new link.
func newLinks(client, server ipc.Peer, start time.Time) (atClient, atServer *link) {
	up, down := newMailbox(), newMailbox()
	clients, servers := newBell(), newBell()
	return &link{in: down, out: up, own: clients, its: servers, self: client, peer: server,
			start: start},
		&link{in: up, out: down, own: servers, its: clients, self: server,
			peer: client, start: start}
}

// Notify implements ipc.Link.
func (l *link) Notify() { l.its.ring() }

// Expect implements ipc.Link. Notes take no room, whatever their number.
func (l *link) Expect() {}

// Wait implements ipc.Link.
func (l *link) Wait(look func() bool) error { return l.own.wait(look) }

// Poke implements ipc.Link.
func (l *link) Poke() { l.own.poke() }

// Read implements ipc.Link.
func (l *link) Read(p []byte) (int, error) {
	got, err := l.in.take(p)
	return got.n, err
}

// Write implements ipc.Link.
func (l *link) Write(p []byte) (int, error) { return len(p), l.out.put(p, nil) }

// Close implements ipc.Link.
func (l *link) Close() error {
	l.out.change(func() { l.out.ended = true })
	l.in.change(func() { l.in.shut = true })
	l.in.setDeadline(time.Time{}) // so that no timer outlives the link
	l.own.close()
	return nil
}

// Send implements ipc.Link. It never blocks, so no deadline applies.
func (l *link) Send(p []byte, m ...shm.Memory) error { return l.out.put(p, m) }

// Receive implements ipc.Link.
func (l *link) Receive(p []byte) (int, []shm.Memory, error) {
	got, err := l.in.take(p)
	for i, m := range got.memory {
		got.memory[i] = lent{m}
	}
	return got.n, got.memory, err
}

// lent is memory as its receiver gets it. Between processes, that would be another descriptor of
// the same memory, so what the receiver closes is not the sender's.
type lent struct{ shm.Memory }

// Close implements shm.Memory.
func (lent) Close() error { return nil }

// SetDeadline implements ipc.Link.
func (l *link) SetDeadline(t time.Time) error {
	l.in.setDeadline(t)
	return nil
}

// NewMemory implements ipc.Link.
func (l *link) NewMemory(size int) (shm.Memory, error) { return shm.NewHeapMemory(size), nil }

// Peer implements ipc.Link.
func (l *link) Peer() (ipc.Peer, error) { return l.peer, nil }

// Clock implements ipc.Link. Both ends read the clock of this process.
func (l *link) Clock() int64 { return int64(time.Since(l.start)) + 1 }

// SpinPays implements ipc.Link. It returns false: the goroutine of the other end may need the very
// processor that would spin, and in a bubble of testing/synctest no time passes while a goroutine
// runs.
func (l *link) SpinPays() bool { return false }
