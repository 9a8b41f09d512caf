package ipctest

import (
	"bytes"
	"encoding/binary"
	"sync/atomic"
	"time"

	"github.com/ipcgen/ipcgen/internal/record"
	"github.com/ipcgen/ipcgen/runtime/shm"
)

// tagBroken is the tag of a record that no peer may send: its kind does not exist.
const tagBroken = record.KindMask

// A pump moves the records of one direction from the ring that one side fills to the ring that the
// other side reads.
type pump struct {
	relay    *relay
	dir      Direction
	in       *shm.Consumer
	out      *shm.Producer
	from, to *link
	limit    int // limit of queued

	queue  []entry
	queued int // bytes

	inside bool    // a message has begun and not ended
	action Action  // for the rest of it
	copies []entry // of it, for Duplicate
	call   *call   // what it is; nil for another message, and for one that is not passed on

	calls []*call       // that were taken, and that the receiver may not have taken
	ended chan struct{} // closed when the pump has ended

	signal   chan struct{} // receives a value when the pump must check again
	finished atomic.Bool   // the sender is gone; its messages are still delivered
	stopped  atomic.Bool
}

// An entry is a record on its way.
type entry struct {
	tag     uint32
	payload []byte
	due     time.Time
	ends    *call // of which it is the last record; may be nil
}

// newPumps returns the pumps of both directions.
func newPumps(r *relay, geo shm.Geometry, client, server shm.Memory) (pumps [2]*pump, err error) {
	c, err := shm.MapSegment(client, geo)
	if err != nil {
		return pumps, err
	}
	s, err := shm.MapSegment(server, geo)
	if err != nil {
		return pumps, err
	}
	up := &pump{relay: r, dir: ToServer, from: r.client, to: r.server, limit: geo.ToServer,
		signal: make(chan struct{}, 1), ended: make(chan struct{})}
	down := &pump{relay: r, dir: ToClient, from: r.server, to: r.client, limit: geo.ToClient,
		signal: make(chan struct{}, 1), ended: make(chan struct{})}
	if err := up.connect(c.ToServer(), s.ToServer()); err != nil {
		return pumps, err
	}
	return [2]*pump{up, down}, down.connect(s.ToClient(), c.ToClient())
}

func (p *pump) connect(from, to []byte) (err error) {
	if p.in, err = shm.NewConsumer(from, p.limit); err != nil {
		return err
	}
	p.out, err = shm.NewProducer(to, p.limit)
	return err
}

func (p *pump) wake() {
	select {
	case p.signal <- struct{}{}:
	default: // the pump will check anyway
	}
}

// finish makes the pump end, and close its receiver's link, when all messages are delivered.
func (p *pump) finish() {
	p.finished.Store(true)
	p.wake()
}

// stop makes the pump end.
func (p *pump) stop() {
	p.stopped.Store(true)
	p.wake()
}

func (p *pump) run() {
	defer close(p.ended)
	answered := false
	for !p.stopped.Load() {
		last := p.finished.Load() // loaded before the ring is read
		if last {
			p.in.Finish()
		}
		wanted := p.fetch()
		full := p.queued >= p.limit
		wait := p.deliver()
		if full && p.queued < p.limit {
			continue // there is room for more
		}
		if last && len(p.queue) == 0 && !p.in.Ready() {
			if p.dir == ToClient && !answered {
				<-p.relay.up.ended
				p.queue, answered = p.relay.up.untaken(), true
				continue
			}
			p.relay.end()
			p.to.Close()
			return
		}
		p.sleep(wanted, wait)
	}
}

// sleep waits for a signal, or until it is time to deliver. wanted is true if the arrival of a
// record must wake the pump.
func (p *pump) sleep(wanted bool, wait <-chan time.Time) {
	if wanted {
		if !p.finished.Load() && !p.in.Sleep() {
			return
		}
		defer p.in.Awake()
	}
	select {
	case <-p.signal:
	case <-wait:
	}
}

// fetch takes the records that may pass from the sender's ring. It returns false if more records
// could arrive but may not pass.
func (p *pump) fetch() (wanted bool) {
	for p.queued < p.limit {
		if p.stopped.Load() || p.relay.faults.holds(p.dir, p.inside) {
			return false
		}
		tag, payload, ok, err := p.in.Next()
		if err != nil {
			p.relay.cut()
			return false
		}
		if !ok {
			return true
		}
		if p.take(tag, payload) == Cut {
			p.relay.cut()
			return false // so the sender knows that this record was not read
		}
		if p.in.Release() {
			p.from.Notify()
		}
		if p.in.Revoked() {
			p.out.Revoke() // before the record is delivered
		}
	}
	return false
}

// take queues a record according to the rules, and returns the action for its message.
func (p *pump) take(tag uint32, payload []byte) Action {
	kind := tag & record.KindMask
	if kind == record.Cancel || kind == record.Credit {
		p.push(entry{tag: tag, payload: bytes.Clone(payload)})
		return Deliver
	}
	first := kind != record.Piece && kind != record.Abort
	if first {
		p.action, p.copies = p.relay.faults.decide(p.dir), nil
		p.call = p.callOf(tag, payload)
	}
	p.inside = tag&record.More != 0
	rec := entry{tag: tag, payload: bytes.Clone(payload)}
	switch p.action {
	case Drop, Cut:
		return p.action
	case Corrupt:
		invert(body(rec))
	case Break:
		rec = entry{tag: tagBroken, payload: rec.payload[:0]}
	case Duplicate:
		p.copies = append(p.copies, rec)
	}
	if p.call != nil && !p.inside && kind != record.Abort {
		rec.ends = p.call
		p.note(p.call)
	}
	p.push(rec)
	if p.action == Duplicate && !p.inside {
		for _, c := range p.copies {
			p.push(c)
		}
	}
	return p.action
}

// callOf returns the call that begins with a record, if the receiver gets it.
func (p *pump) callOf(tag uint32, payload []byte) *call {
	kind := tag & record.KindMask
	if kind != record.Request && kind != record.Open || len(payload) < record.HeaderLen ||
		p.action == Drop || p.action == Break {
		return nil
	}
	return &call{tag: tag, header: bytes.Clone(payload[:record.HeaderLen])}
}

// body returns the part of a record that belongs to the message's body.
func body(r entry) []byte {
	b := r.payload
	skip := func(n int) { b = b[min(n, len(b)):] }
	switch kind := r.tag & record.KindMask; kind {
	case record.Piece, record.Abort:
		return b
	default:
		skip(record.HeaderOf(kind))
	}
	if r.tag&record.Metadata != 0 && len(b) >= record.MetadataLen {
		skip(record.MetadataBlockLen(int(binary.NativeEndian.Uint32(b))))
	}
	switch {
	case r.tag&record.More != 0:
		skip(record.TotalLen)
	case r.tag&record.Gap != 0 && len(b) >= record.GapLen:
		gap := binary.NativeEndian.Uint64(b)
		skip(record.GapLen)
		skip(int(min(gap, uint64(len(b)))))
	}
	return b
}

func invert(b []byte) {
	for i := range b {
		b[i] ^= 0xff
	}
}

func (p *pump) push(r entry) {
	r.due = time.Now().Add(p.relay.faults.delay(p.dir))
	p.queue = append(p.queue, r)
	p.queued += len(r.payload)
}

// deliver puts the records that are due into the receiver's ring, if there is room. wait reports
// when the next record is due, if the pump must wait for that.
func (p *pump) deliver() (wait <-chan time.Time) {
	for len(p.queue) > 0 {
		r := p.queue[0]
		if d := time.Until(r.due); d > 0 {
			return time.After(d)
		}
		dst, ok, err := p.out.Reserve(len(r.payload))
		if err != nil {
			p.relay.cut()
			return nil
		}
		if !ok {
			if p.out.Starve(len(r.payload)) {
				return nil // the receiver will notify this side
			}
			continue
		}
		copy(dst, r.payload)
		if r.ends != nil {
			r.ends.at, r.ends.passed = p.out.Position(), true
		}
		if p.out.Commit(r.tag, len(r.payload)) {
			p.to.Notify()
		}
		p.queue = p.queue[1:]
		p.queued -= len(r.payload)
	}
	return nil
}
