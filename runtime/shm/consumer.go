package shm

// A Consumer reads the records of a ring. It is not safe for concurrent use,
// and a ring has one consumer among all processes.
type Consumer struct {
	w ringWords

	// What follows is private, so that the peer cannot lie about it.
	pos      uint64 // of the next record to read
	given    uint64 // the head
	tailSeen uint64 // the tail when it was last read
	fed      uint64 // the last wait of the producer that was answered
	sleeps   uint64 // how often this side has slept
	final    bool   // nothing that is published from now on counts
	err      error
}

// NewConsumer makes the consumer of a fresh ring in mem; see NewProducer.
func NewConsumer(mem []byte, capacity int) (*Consumer, error) {
	w, err := wordsOf(mem, capacity)
	if err != nil {
		return nil, err
	}
	return &Consumer{w: w}, nil
}

// Next returns the next record. ok is false when there is none. The payload
// is in shared memory: the peer may change it at any time, so copy what you
// check, before you check it. It stays in place until Release.
func (c *Consumer) Next() (tag uint32, payload []byte, ok bool, err error) {
	if c.err != nil {
		return 0, nil, false, c.err
	}
	if c.pos == c.tailSeen {
		if ok, err := c.readTail(); !ok || err != nil {
			return 0, nil, false, err
		}
		c.fetch()
	}
	size := uint64(len(c.w.data))
	for {
		at := c.pos & (size - 1)
		h := word(c.w.data, at).Load()
		n, tag := h&(1<<tagShift-1), h>>tagShift
		need := recordLen(int(n))
		if need > c.tailSeen-c.pos || need > size-at {
			return 0, nil, false, c.corrupt()
		}
		c.pos += need
		if tag != tagPad {
			return uint32(tag), c.w.data[at+headerLen : at+headerLen+n : at+headerLen+n], true, nil
		}
		if need != size-at {
			return 0, nil, false, c.corrupt()
		}
		if c.pos == c.tailSeen {
			// A producer publishes a pad together with the record behind it.
			return 0, nil, false, c.corrupt()
		}
	}
}

// readTail refreshes tailSeen. ok is false when nothing new has come.
func (c *Consumer) readTail() (ok bool, err error) {
	if c.final {
		return false, nil
	}
	tail := c.w.tail.Load()
	if tail == c.tailSeen {
		return false, nil
	}
	if tail-c.given > uint64(len(c.w.data)) || tail < c.tailSeen || tail&7 != 0 {
		return false, c.corrupt()
	}
	c.tailSeen = tail
	return true, nil
}

// fetch touches the first cache lines of what has just been published, beyond the one
// with the record's header. They are in the producer's cache, and are under way from
// there at the same time; otherwise the processor would ask for most of them only when the
// header has come and says how long the record is, and wait twice.
func (c *Consumer) fetch() {
	at := c.pos & uint64(len(c.w.data)-1)
	end := min(at+c.tailSeen-c.pos, at+fetchLen, uint64(len(c.w.data)))
	for at += cacheLine; at < end; at += cacheLine {
		word(c.w.data, at).Load()
	}
}

// Finish makes Next return what has been published until now, and no more: the
// producer is dead, or shall not keep us busy any longer.
func (c *Consumer) Finish() {
	if _, err := c.readTail(); err == nil {
		c.final = true
	}
}

func (c *Consumer) corrupt() error {
	c.err = ErrCorrupt
	return c.err
}

// Take tells the producer that the records returned by Next so far have been
// looked at, without giving them back: a call that is handled in place is no
// longer certain not to be executed.
func (c *Consumer) Take() {
	hook("take")
	announce(c.w.taken, c.pos)
	hook("taken")
}

// Revoked reports whether the producer has taken back what was not taken. It
// decides on a record only after Take or Release of that record: each side stores
// its word first and loads the other's afterwards, so that either the producer
// sees the record taken, or this side sees it revoked.
func (c *Consumer) Revoked() bool { return c.w.revoke.Load() != 0 }

// Release gives the records that Next has returned back to the producer. wake
// is true when the producer waits for space and must be woken: once per wait, when
// the ring is half empty, so that a producer that is faster than its consumer does not
// ask to be woken for each record.
func (c *Consumer) Release() (wake bool) {
	c.given = c.pos
	hook("release")
	announce(c.w.head, c.pos)
	hook("released")
	s := c.w.starve.Load()
	if s == 0 || s == c.fed || c.tailSeen-c.pos > uint64(len(c.w.data))/2 {
		return false
	}
	c.fed = s
	return true
}

// Held is the number of bytes that Next has returned and Release not given back.
func (c *Consumer) Held() int { return int(c.pos - c.given) }

// Batch reports whether Next returns another record of those that were published when it
// last looked. A caller that reads no further than that is done in bounded time,
// whatever the producer does meanwhile.
func (c *Consumer) Batch() bool { return c.pos != c.tailSeen }

// Ready reports whether Next has something to say: a record or an error.
func (c *Consumer) Ready() bool {
	return c.pos != c.tailSeen || !c.final && c.w.tail.Load() != c.pos || c.err != nil
}

// Sleep declares that this side is about to sleep. It returns false, and
// declares nothing, if Next has something to say now. Otherwise the producer
// wakes this side after the next Commit.
func (c *Consumer) Sleep() bool {
	c.sleeps++
	hook("sleep")
	announce(c.w.sleep, c.sleeps)
	hook("slept")
	if c.Ready() {
		c.Awake()
		return false
	}
	return true
}

// Awake takes back what Sleep declared.
func (c *Consumer) Awake() {
	hook("awake")
	announce(c.w.sleep, 0)
}
