package shm

import "encoding/binary"

// A Producer writes records into a ring. It is not safe for concurrent use,
// and a ring has one producer among all processes.
type Producer struct {
	w ringWords

	// What follows is private, so that the peer cannot lie about it.
	pos      uint64 // the tail
	headSeen uint64 // the head when it was last read
	start    uint64 // of the record that is reserved
	room     int    // payload bytes that are reserved, -1 when none are
	woken    uint64 // the last sleep of the consumer that was seen
	waits    uint64 // how often this side has starved
	err      error
}

// NewProducer makes the producer of a fresh ring in mem, which must be
// RingSize(capacity) zero bytes that start at a multiple of 8.
func NewProducer(mem []byte, capacity int) (*Producer, error) {
	w, err := wordsOf(mem, capacity)
	if err != nil {
		return nil, err
	}
	return &Producer{w: w, room: -1}, nil
}

// Reserve makes room for a record with a payload of n bytes and returns the
// memory of the payload, which the caller fills before it calls Commit. The
// memory is shared: the consumer can see and change it already. ok is false
// while the ring is too full; a negative n or one above MaxPayload never
// fits. A second Reserve forgets the first.
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

// readHead refreshes headSeen.
func (p *Producer) readHead() error {
	head := p.w.head.Load()
	if head < p.headSeen || head > p.pos || head&7 != 0 {
		p.err = ErrCorrupt
		return p.err
	}
	p.headSeen = head
	return nil
}

// Commit publishes the reserved record under tag, with the first n bytes of its
// payload. It panics unless that many are reserved, or if the tag is 1<<32-1.
// wake is true when the consumer sleeps and must be woken; it is so once for
// each time that it fell asleep.
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

// Starve declares that this side is about to wait for room for n bytes of
// payload. It returns false, and declares nothing, if there is room now or
// the ring is corrupt. Otherwise the consumer will say wake when it has given
// back enough; Reserve may then still fail, as the declaration is for one
// wake only.
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

// Fed takes back what Starve declared.
func (p *Producer) Fed() { p.w.starve.Store(0) }

// Position is where the next record will start. It only grows, and serves
// Taken.
func (p *Producer) Position() uint64 { return p.pos }

// Taken reports whether the consumer has looked at the record that started at
// pos, by its own account; a liar harms only itself. A record that is not taken
// may be taken at any moment while the consumer lives, unless Revoke was called
// before.
func (p *Producer) Taken(pos uint64) bool {
	return p.w.taken.Load() > pos || p.w.head.Load() > pos
}

// Revoke takes back the records that the consumer has not taken: a consumer that
// takes one later finds Revoked true, and must not act on it. So what Taken says
// after Revoke holds for ever.
func (p *Producer) Revoke() {
	hook("revoke")
	announce(p.w.revoke, 1)
	hook("revoked")
}

// Used is the number of bytes that the consumer has not given back.
func (p *Producer) Used() int {
	if p.readHead() != nil {
		return 0
	}
	return int(p.pos - p.headSeen)
}
