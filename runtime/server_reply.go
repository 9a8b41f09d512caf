package ipc

import flatbuffers "github.com/google/flatbuffers/go"

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

// beginReply implements carrier.
func (j *job) beginReply() *Error { return j.conn.beginReply(j) }

// encoded implements carrier.
func (j *job) encoded() *Error {
	err := j.conn.chargeReply(j, cap(j.builder.Bytes))
	if err != nil {
		j.builder = flatbuffers.NewBuilder(256) // the answer may have to wait
	}
	return err
}

// beginReply waits until a detached call may encode its reply. It returns an error if other replies
// of the connection wait for room, and there is no memory for this one. endReply must be called
// when the reply is sent, unless the call ends then.
func (c *serverConn) beginReply(j *job) *Error {
	if c.detachedCount.Load() == 0 && j.streaming == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !j.detached {
		return nil // it is the reader's one, which counts once it waits
	}
	for (c.encoders >= mostEncoders || c.waiting > c.budget) && c.down.Load() == nil {
		c.replies.Wait()
	}
	// The length of a reply is known when it has been encoded. Until then it is taken to be as long
	// as the last one of the method: otherwise many would take memory before they are refused.
	switch long := int(j.route.longReply.Load()); {
	case long > 0:
		if why := c.account.charge(long); why != nil {
			why.Outcome = Executed
			return why
		}
		j.replyCharged += long
	case c.tx.hasWaiters():
		if why := c.account.check(1); why != nil {
			why.Outcome = Executed
			return why
		}
	}
	c.encoders++
	j.encodes = true
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
	if j.encodes {
		j.encodes = false
		c.encoders--
		c.replies.Signal()
	}
}
