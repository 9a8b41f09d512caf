package shm

// A Consumer reads the records of a ring. It is not safe for concurrent use. A ring has one
// consumer among all processes.
type Consumer struct {
	w ringWords

	// The fields below are private, so the peer cannot change them.
	pos      uint64 // of the next record to read
	last     uint64 // of the one that Next has returned last
	given    uint64 // the head
	tailSeen uint64 // the tail when it was last loaded
	fed      uint64 // the last wait of the producer that was answered
	sleeps   uint64 // how often this side has slept
	final    bool   // records published from now on are ignored
	err      error
}

// NewConsumer returns the consumer of a new ring in mem; see [NewProducer].
func NewConsumer(mem []byte, capacity int) (*Consumer, error) {
	w, err := wordsOf(mem, capacity)
	if err != nil {
		return nil, err
	}
	return &Consumer{w: w}, nil
}

// Next returns the next record. ok is false if there is none. The payload lies in shared memory and
// stays in place until [Consumer.Release]. The peer can change it at any time: a caller must copy a
// value before it checks the value. The error is [ErrCorrupt], and permanent, if the peer broke the
// rules of the ring. Next does not block.
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
		h := load(c.w.data, at)
		n, tag := h&(1<<tagShift-1), h>>tagShift
		need := recordLen(int(n))
		if need > c.tailSeen-c.pos || need > size-at {
			return 0, nil, false, c.corrupt()
		}
		c.pos += need
		if tag != tagPad {
			c.last = c.pos - need
			return uint32(tag), c.w.data[at+headerLen : at+headerLen+n : at+headerLen+n], true, nil
		}
		if need != size-at {
			return 0, nil, false, c.corrupt()
		}
		if c.pos == c.tailSeen {
			// A producer publishes padding together with the record behind it.
			return 0, nil, false, c.corrupt()
		}
	}
}

// readTail loads the tail into tailSeen. ok is false if nothing new was published.
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

// fetch loads the first cache lines of the records just published, except the line of the first
// header. The lines are in the cache of the producer's processor, and are transferred at the same
// time as the header. Otherwise the processor would request most of them only after the header has
// arrived with the length of the record, and would wait twice.
func (c *Consumer) fetch() {
	at := c.pos & uint64(len(c.w.data)-1)
	end := min(at+c.tailSeen-c.pos, at+fetchLen, uint64(len(c.w.data)))
	for at += cacheLine; at < end; at += cacheLine {
		load(c.w.data, at)
	}
}

// Finish limits Next to the records published so far. It is for a producer that is dead, or must
// not keep the caller busy any longer.
func (c *Consumer) Finish() {
	if _, err := c.readTail(); err == nil {
		c.final = true
	}
}

func (c *Consumer) corrupt() error {
	c.err = ErrCorrupt
	return c.err
}

// Take tells the producer that the records returned by Next so far are taken, without giving their
// memory back. It serves calls that are handled in place: from Take on, the producer can no longer
// be certain that they are not executed.
func (c *Consumer) Take() {
	hook("take")
	announce(c.w.taken, c.pos)
	hook("taken")
}

// Revoked reports whether the producer has revoked the records that were not taken. The answer
// decides about a record only after [Consumer.Take] or [Consumer.Release] of that record. Each side
// stores its own word first and loads the other side's word afterwards; so either the producer sees
// the record taken, or the consumer sees it revoked.
func (c *Consumer) Revoked() bool { return c.w.revoke.Load() != 0 }

// Release gives the memory of the records that Next has returned back to the producer. wake is true
// if the producer waits for space and the caller must wake it. That happens once per wait, when the
// ring is half empty; so a producer that is faster than its consumer is not woken for each record.
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

// Held returns the number of bytes that Next has returned and Release has not given back.
func (c *Consumer) Held() int { return int(c.pos - c.given) }

// Published returns the position behind the last record that the producer has published. The word
// is the producer's, and may be wrong.
func (c *Consumer) Published() uint64 { return c.w.tail.Load() }

// Unread leaves the record that Next has returned last to the following Next. It must not have been
// released, nor left before.
func (c *Consumer) Unread() { c.pos = c.last }

// Position returns the position of the next record that Next returns.
func (c *Consumer) Position() uint64 { return c.pos }

// Batch reports whether Next returns another one of the records that were published when Next last
// loaded the tail. A caller that stops at the end of the batch finishes in bounded time, whatever
// the producer does meanwhile.
func (c *Consumer) Batch() bool { return c.pos != c.tailSeen }

// Ready reports whether Next would return a record or an error.
func (c *Consumer) Ready() bool {
	return c.pos != c.tailSeen || !c.final && c.w.tail.Load() != c.pos || c.err != nil
}

// Poll is Ready, asked n times, or until it is true.
func (c *Consumer) Poll(n int) bool {
	if c.pos != c.tailSeen || c.err != nil {
		return true
	}
	if c.final {
		return false
	}
	for ; n > 0; n-- {
		if c.w.tail.Load() != c.pos {
			return true
		}
	}
	return false
}

// Sleep declares that the consumer is about to sleep, and reports whether it may. It returns false,
// and declares nothing, if Next would return a record or an error. Otherwise the producer wakes the
// consumer after the next Commit.
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

// Awake withdraws the declaration of Sleep.
func (c *Consumer) Awake() {
	hook("awake")
	announce(c.w.sleep, 0)
}
