package shm

import "encoding/binary"

// A Producer writes records into a ring. It is not safe for concurrent use. A ring has one producer
// among all processes.
type Producer struct {
	w ringWords

	// The fields below are private, so the peer cannot change them.
	pos      uint64 // the tail
	headSeen uint64 // the head when it was last loaded
	start    uint64 // position of the reserved record
	room     int    // length of the reserved payload; -1 for none
	woken    uint64 // the last sleep of the consumer that was seen
	waits    uint64 // how often this side has starved
	err      error
}

// NewProducer returns the producer of a new ring in mem, the memory of a ring of a new [Segment].
// The error reports a capacity that no ring can have, or memory of another size or alignment.
func NewProducer(mem []byte, capacity int) (*Producer, error) {
	w, err := wordsOf(mem, capacity)
	if err != nil {
		return nil, err
	}
	return &Producer{w: w, room: -1}, nil
}

// Reserve reserves room for a record with a payload of n bytes, and returns the memory of the
// payload, which the caller fills before it calls [Producer.Commit]. The memory is shared: the
// consumer can see and change it already. ok is false while the ring is too full, and always for a
// negative n or one above [MaxPayload]. A further Reserve replaces the reservation. The error is
// [ErrCorrupt], and permanent, if the consumer broke the rules of the ring. Reserve does not block.
func (p *Producer) Reserve(n int) (payload []byte, ok bool, err error) {
	p.room = -1
	if p.err != nil {
		return nil, false, p.err
	}
	size := uint64(len(p.w.data))
	if n < 0 || n > MaxPayload(len(p.w.data)) {
		return nil, false, nil
	}
	need := recordLen(n)
	at := p.pos & (size - 1)
	pad := uint64(0)
	if size-at < need {
		pad = size - at
	}
	if p.pos+pad+need-p.headSeen > size {
		if err := p.readHead(); err != nil {
			return nil, false, err
		}
		if p.pos+pad+need-p.headSeen > size {
			return nil, false, nil
		}
	}
	if pad > 0 {
		hook("pad")
		binary.NativeEndian.PutUint64(p.w.data[at:], tagPad<<tagShift|(pad-headerLen))
		at = 0
	}
	p.start = p.pos + pad
	p.room = n
	return p.w.data[at+headerLen : at+headerLen+uint64(n) : at+headerLen+uint64(n)], true, nil
}

// readHead loads the head into headSeen.
func (p *Producer) readHead() error {
	head := p.w.head.Load()
	if head < p.headSeen || head > p.pos || head&7 != 0 {
		p.err = ErrCorrupt
		return p.err
	}
	p.headSeen = head
	return nil
}

// Commit publishes the reserved record under tag, with the first n bytes of its payload. It panics
// if fewer than n bytes are reserved, or if tag is 1<<32-1. wake is true if the consumer sleeps and
// the caller must wake it. That happens once for each sleep of the consumer.
func (p *Producer) Commit(tag uint32, n int) (wake bool) {
	if n < 0 || n > p.room || tag == tagPad {
		panic("shm: Commit of a record that is not reserved")
	}
	size := uint64(len(p.w.data))
	hook("header")
	binary.NativeEndian.PutUint64(p.w.data[p.start&(size-1):], uint64(tag)<<tagShift|uint64(n))
	p.pos = p.start + recordLen(n)
	p.room = -1
	hook("publish")
	announce(p.w.tail, p.pos)
	hook("published")
	s := p.w.sleep.Load()
	if s == 0 || s == p.woken {
		return false
	}
	p.woken = s
	return true
}

const (
	// ownLines is how many cache lines behind the last record, or of the next block, are fetched
	// ahead at least.
	ownLines = 2
	// mostLines is how many are fetched behind a record that had as many, since the next one is
	// probably as long.
	mostLines = 64
)

// Prefetch fetches the lines of the next record from the processor of the consumer, which has read
// older records there, and waits for nothing. A producer that has other work between two records
// calls it after Commit: otherwise the store that publishes the next record would wait for the
// lines, as it takes effect after the stores before it. A producer that does nothing but copy is
// faster without. Lines that the consumer may still read are left to it.
func (p *Producer) Prefetch() {
	size := uint64(len(p.w.data))
	lines := min(max(ownLines, (p.pos-p.start)/cacheLine), mostLines)
	if p.pos+(lines+1)*cacheLine-p.headSeen > size {
		return
	}
	for ahead := uint64(1); ahead <= lines; ahead++ {
		ownLine(&p.w.data[(p.pos+ahead*cacheLine)&(size-1)])
	}
}

// Starve declares that the producer is about to wait for room for n bytes of payload, and reports
// whether it must wait. It returns false, and declares nothing, if there is room now or the ring is
// corrupt. Otherwise [Consumer.Release] returns wake once enough space is free. The declaration is
// for one wake only: Reserve may fail again after it.
func (p *Producer) Starve(n int) bool {
	p.waits++
	hook("starve")
	announce(p.w.starve, p.waits)
	hook("starved")
	if _, ok, err := p.Reserve(n); ok || err != nil {
		p.room = -1
		p.Fed()
		return false
	}
	return true
}

// Fed withdraws the declaration of Starve.
func (p *Producer) Fed() { p.w.starve.Store(0) }

// Position returns the position of the next record, for [Producer.Taken]. Positions only grow.
func (p *Producer) Position() uint64 { return p.pos }

// Taken reports whether the consumer has taken the record that started at pos, as the consumer
// says. A consumer that lies harms only itself. While the consumer lives it may take a record at
// any moment, unless [Producer.Revoke] was called before.
func (p *Producer) Taken(pos uint64) bool {
	return p.w.taken.Load() > pos || p.w.head.Load() > pos
}

// Revoke revokes the records that the consumer has not taken. A consumer that takes such a record
// later finds that [Consumer.Revoked] is true, and must not act on the record. Therefore the result
// of Taken does not change after Revoke.
func (p *Producer) Revoke() {
	hook("revoke")
	announce(p.w.revoke, 1)
	hook("revoked")
}

// Used returns the number of bytes that the consumer has not given back.
func (p *Producer) Used() int {
	if p.readHead() != nil {
		return 0
	}
	return int(p.pos - p.headSeen)
}
