package ipc

import (
	"github.com/ipcgen/ipcgen/internal/interleave"
	"github.com/ipcgen/ipcgen/runtime/shm"
)

// An endpoint is what the two sides of a connection have in common: one ring to write,
// one to read, and the wire beside them.
type endpoint struct {
	peer  Peer
	wire  wire
	seg   *shm.Segment
	tx    transmitter
	rx    receiver
	clock clock
	now   func() int64 // reads the clock that both sides share
	spin  spinPolicy
	stats connStats

	down interleave.Pointer[Error] // why the connection ends
	done chan struct{}             // closed when nothing of the connection is left
}

// open lays the endpoint over a link and memory that the handshake has agreed on.
// limit is the longest body of a message.
func (e *endpoint) open(cfg *common, l Link, peer Peer, seg *shm.Segment, limit int,
	server bool) error {
	geo := seg.Geometry()
	out, outCap, in, inCap := seg.ToServer(), geo.ToServer, seg.ToClient(), geo.ToClient
	if server {
		out, outCap, in, inCap = in, inCap, out, outCap
	}
	producer, err := shm.NewProducer(out, outCap)
	if err != nil {
		return err
	}
	consumer, err := shm.NewConsumer(in, inCap)
	if err != nil {
		return err
	}
	e.peer, e.wire, e.seg, e.clock, e.done = peer, l, seg, clockOf(l, server), make(chan struct{})
	e.now = l.Clock
	e.tx.init(producer, l, outCap, limit, cfg.failFast)
	e.rx.init(consumer, l, inCap, limit)
	e.spin.init(cfg.spin, cfg.yield, l, peer)
	e.tx.spinLike(&e.spin)
	return nil
}
