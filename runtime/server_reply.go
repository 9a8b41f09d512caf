package ipc

import (
	"slices"

	flatbuffers "github.com/google/flatbuffers/go"
)

// This file bounds the replies that wait for room in the ring: a client that asks for long ones and
// does not read them would make its server keep one for each call in flight.
//
// A detached call takes one of the places of mostEncoders before it encodes its reply, and
// waits for it without the reply's bytes. If the reply then has to wait for room in the ring, its
// bytes count instead, however many they are: a message of which some pieces are in the ring must
// not wait for anything but room. While the waiting replies of a connection take more than its
// budget, no further reply is encoded, and the connection is congested.

// mostEncoders is how many detached calls of a connection encode replies at a time.
const mostEncoders = budgetMessages

// beginReply implements carrier. The length of a reply is known when it has been encoded. Until
// then it is taken to be as long as the last one of the method: otherwise many would take memory
// before they are refused. A reply that would be refused for this estimate alone is encoded to be
// measured, one at a time of a method.
func (j *job) beginReply() *Error {
	c := j.conn
	if !c.beginEncoding(j) {
		return nil
	}
	long := int(j.route.longReply.Load())
	why := c.expectReply(j, long)
	if why != nil && long > 0 {
		select {
		case j.route.measuring <- struct{}{}:
			j.measures = true
			why = c.expectReply(j, 0)
		case <-j.ctx.Done():
		}
	}
	if why != nil {
		c.endReply(j)
	}
	return why
}

// encoded implements carrier.
func (j *job) encoded() (body []byte, why *Error) {
	body = j.builder.FinishedBytes()
	if long := j.builder; cap(long.Bytes) > keepShort && len(body) <= keepShort {
		// The memory is that of a long message before this one, and is not needed for it.
		body = slices.Clone(body)
		j.builder = &flatbuffers.Builder{Bytes: body}
		giveBuilder(long)
	}
	n := cap(j.builder.Bytes)
	if n > keepShort {
		j.route.longReply.Store(int64(n))
	} else if j.route.longReply.Load() != 0 {
		j.route.longReply.Store(0)
	}
	why = j.conn.chargeReply(j, n)
	j.endMeasuring()
	if why != nil {
		j.builder = flatbuffers.NewBuilder(256) // the answer may have to wait
		return nil, why
	}
	return body, nil
}

// endMeasuring lets the next reply of the method be measured.
func (j *job) endMeasuring() {
	if j.measures {
		j.measures = false
		<-j.route.measuring
	}
}

// beginEncoding waits until a detached call may encode its reply. It reports false for other calls:
// their replies count once they wait. endReply must be called when the reply is sent, unless the
// call ends then.
func (c *serverConn) beginEncoding(j *job) bool {
	if c.detachedCount.Load() == 0 && j.streaming == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !j.detached {
		return false // the reader runs it
	}
	for (c.encoders >= mostEncoders || c.waiting > c.budget) && c.down.Load() == nil {
		c.replies.Wait()
	}
	c.encoders++
	j.encodes = true
	return true
}

// expectReply charges n bytes for a reply that is to be encoded. It returns an error if there is no
// memory for them, or if other replies of the connection wait for room and there is no memory at
// all.
func (c *serverConn) expectReply(j *job, n int) (why *Error) {
	switch {
	case n > 0:
		why = c.account.charge(n)
	case c.tx.hasWaiters():
		why = c.account.check(1)
	}
	if why != nil {
		why.Outcome = Executed
		return why
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	j.replyCharged += n
	return nil
}

// replyWaits counts the bytes of a reply that waits for room in the ring.
func (c *serverConn) replyWaits(j *job) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if j.route == nil || j.route.inPlace == nil { // the handler has returned
		c.held -= j.held
		j.held, j.body = 0, nil
		c.discharge(&j.frame)
		c.account.release(max(0, j.charged-callCost))
		j.charged = min(j.charged, callCost)
	}
	n := cap(j.builder.Bytes)
	if n > j.replyCharged {
		c.account.mustCharge(n - j.replyCharged)
		j.replyCharged = n
	}
	c.waiting += n - j.waits
	j.waits = n
	c.full.Store(c.waiting > c.budget)
	c.stopEncoding(j)
}

// endReply gives back what a call took for its reply.
func (c *serverConn) endReply(j *job) {
	if !j.encodes && j.waits == 0 && j.replyCharged == 0 {
		return
	}
	if j.waits > 0 {
		j.builder = flatbuffers.NewBuilder(256)
	}
	c.mu.Lock()
	freed := c.forgetReply(j)
	c.mu.Unlock()
	if freed {
		c.wire.Poke()
	}
}

// forgetReply is endReply under c.mu. If it returns true, the caller must poke the reader.
func (c *serverConn) forgetReply(j *job) (freed bool) {
	c.stopEncoding(j)
	c.dischargeReply(j)
	if j.waits == 0 {
		return false
	}
	c.waiting -= j.waits
	j.waits = 0
	if c.waiting <= c.budget {
		c.replies.Broadcast()
		freed = c.full.Swap(false)
	}
	return freed
}

// stopEncoding gives the place among the encoders back. The caller must hold c.mu.
func (c *serverConn) stopEncoding(j *job) {
	j.endMeasuring()
	if j.encodes {
		j.encodes = false
		c.encoders--
		c.replies.Signal()
	}
}
