package ipc

import (
	"sync"

	flatbuffers "github.com/google/flatbuffers/go"
	"github.com/ipcgen/ipcgen/internal/longvec"
)

// This file spares the long vectors of plain messages a copy on each side. The sender packs an
// object without them, and copies them from the object into the ring. The receiver gives the memory
// in which a message was assembled to the object.

// A content is the body of a message on its way into records. Its long vectors are those of the
// object from which it was packed, which must not change meanwhile.
type content struct {
	body     []byte
	gathered *longvec.Gathering // what is missing in body; nil: nothing
	parts    int                // of what is missing, which are still to come
	at       int                // how much was taken
}

// gatherFrom is the size of a builder from which on long vectors are left out of it: one that has
// had a long message. It must be as large as the message in any case.
const gatherFrom = 2 * longvec.Least

// gatherings has those of messages that were sent.
var gatherings sync.Pool // of *longvec.Gathering

// encodeContent is encode, for a message that is written at once. done must be called when it is
// written, or when it is not.
func encodeContent(b *flatbuffers.Builder, build func() error) (c content, err *Error) {
	if cap(b.Bytes) < gatherFrom {
		c.body, err = encode(b, build)
		return c, err
	}
	g, _ := gatherings.Get().(*longvec.Gathering)
	if g == nil {
		g = new(longvec.Gathering)
	}
	g.Begin(b)
	c.body, err = encode(b, build)
	g.End(b)
	c.gathered, c.parts = g, len(g.Parts)
	return c, err
}

// done lets go of the object.
func (c *content) done() {
	if g := c.gathered; g != nil {
		c.gathered, c.parts = nil, 0
		g.Clear()
		gatherings.Put(g)
	}
}

// whole returns the body with its long vectors where they belong, for others than take.
func (c *content) whole() []byte {
	if c.parts > 0 {
		for _, p := range c.gathered.Parts {
			copy(c.body[len(c.body)-p.FromEnd:], p.Bytes)
		}
		c.parts = 0
	}
	return c.body
}

// left returns how many bytes are still to be taken.
func (c *content) left() int { return len(c.body) - c.at }

// take copies the next bytes to dst, and returns how many.
func (c *content) take(dst []byte) (n int) {
	for n < len(dst) && c.at < len(c.body) {
		src, isPart := c.body[c.at:], false
		if c.parts > 0 {
			part := &c.gathered.Parts[c.parts-1]
			start := len(c.body) - part.FromEnd
			if isPart = c.at >= start; isPart {
				src = part.Bytes[c.at-start:]
			} else {
				src = c.body[c.at:start]
			}
		}
		some := copy(dst[n:], src)
		n += some
		c.at += some
		if isPart && some == len(src) {
			c.parts--
		}
	}
	return n
}

// leastAdopted is the length of a message from which on its object may keep its memory, which would
// be used for the next message. Memory that was made for one message is kept from longvec.Least on.
const leastAdopted = 2 * longvec.Least

// adoptFrom returns the length of a message from which on its object may keep its memory, if that
// is owned: made for the message, and nothing else refers to it. It returns 0 otherwise.
func adoptFrom(owned bool) int {
	if owned {
		return longvec.Least
	}
	return 0
}

// adopt runs decode, which decodes body to an object. The object may keep the memory of body, to
// which nothing else may refer then, if body has from bytes or more, and from is not 0. adopt sets
// kept if the object has the memory now, even if decode panics.
func adopt(body []byte, from int, kept *bool, decode func() error) error {
	if from == 0 || len(body) < from {
		return decode()
	}
	a := new(longvec.Adoption)
	a.Begin(body)
	defer func() { *kept = a.End() }()
	return decode()
}
