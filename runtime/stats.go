package ipc

import "sync/atomic"

// Stats are the counters of one side of a connection, since it was made. While messages arrive,
// Received, ReceivedBytes and Spins may lag behind by up to 64 messages.
type Stats struct {
	Sent, Received uint64 // messages, of all kinds
	SentBytes      uint64 // bytes of their bodies
	ReceivedBytes  uint64
	WakeupsSent    uint64 // times that the peer slept and had to be woken
	Wakeups        uint64 // times that this side was woken
	Sleeps         uint64 // times that this side went to sleep
	Spins          uint64 // waits that ended while this side was looking, and so without a wake-up
	WaitsForRoom   uint64 // times that a writer parked because the ring was full
	Dropped        uint64 // replies and messages without a receiver, or whose caller has left
	Malformed      uint64 // messages that failed verification
	Corruptions    uint64 // breaches of the protocol by the peer; the first ends the connection
	Retries        uint64 // attempts of calls beyond the first ones, see WithRetry
	CallsInFlight  int    // streaming calls included; at a server, no calls of its own methods
}

// connStats are the counters that the rings do not keep themselves.
type connStats struct {
	dropped, malformed, corruptions atomic.Uint64
}

// A tally counts what comes in. Its fields belong to the holder of the reader role, as
// the receiver does, and are copied now and then to where others may read them:
// several atomic additions per message would take as long as verifying it.
type tally struct {
	messages, bytes, spins uint64
	published              struct{ messages, bytes, spins atomic.Uint64 }
}

// tallyLag is how many messages are counted before the count is published.
const tallyLag = 64

// message counts a message with a body of n bytes.
func (t *tally) message(n int) {
	t.messages++
	t.bytes += uint64(n)
	if t.messages%tallyLag == 0 {
		t.publish()
	}
}

// publish shows the count to others.
func (t *tally) publish() {
	if t.messages == t.published.messages.Load() {
		return
	}
	t.published.messages.Store(t.messages)
	t.published.bytes.Store(t.bytes)
	t.published.spins.Store(t.spins)
}

// ends counts why the connection ends.
func (s *connStats) ends(why *Error) {
	if why.Code == CodeCorrupt {
		s.corruptions.Add(1)
	}
}

// counters are the endpoint's.
func (e *endpoint) counters() Stats {
	t, r, in := &e.tx, &e.rx, &e.rx.tally.published
	t.lock()
	defer t.unlock()
	return Stats{
		Sent: t.messages, SentBytes: t.bytes, WakeupsSent: t.woken(), WaitsForRoom: t.waited(),
		Received: in.messages.Load(), ReceivedBytes: in.bytes.Load(), Spins: in.spins.Load(),
		Wakeups: r.wakeups.Load(), Sleeps: r.sleeps.Load(),
		Dropped: e.stats.dropped.Load(), Malformed: e.stats.malformed.Load(),
		Corruptions: e.stats.corruptions.Load(),
	}
}

// Stats returns the counters of the client's side of the connection. They remain readable after its
// end.
func (c *Conn) Stats() Stats {
	if c.role.takeFree() {
		c.rx.tally.publish()
		c.leaveRole()
	}
	s := c.counters()
	s.CallsInFlight = c.calls.inFlight() + len(c.streaming.slots)
	s.Retries = c.retry.retried()
	return s
}

// ClientStats are the counters of a [Client], over all of its connections.
type ClientStats struct {
	Resent  uint64 // calls and messages that were sent again as a server was lost or ended
	Retries uint64 // attempts of calls beyond the first ones, see WithRetry
}

// Stats returns the client's counters. They remain readable after Close.
func (c *Client) Stats() ClientStats {
	return ClientStats{Resent: c.resent.Load(), Retries: c.retry.retried()}
}

// Stats returns the counters of this side of the connection to the peer. They remain readable after
// its end.
func (p *Peer) Stats() Stats {
	if p.stats == nil {
		return Stats{}
	}
	return p.stats()
}

func (c *serverConn) readStats() Stats {
	s := c.counters()
	if c.inline.Load()&inlineMask == inlineCall {
		s.CallsInFlight = 1
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s.CallsInFlight += int(c.postponed.count.Load())
	s.CallsInFlight += len(c.streams)
	for _, j := range c.detached {
		if j.route == nil || !j.route.introspects {
			s.CallsInFlight++
		}
	}
	return s
}

// Corrupted returns the number of connections that ended because the client broke the protocol or
// corrupted the shared memory.
func (s *Server) Corrupted() uint64 { return s.corrupted.Load() }

// Refused returns the number of clients that the server has refused, for any reason.
func (s *Server) Refused() uint64 { return s.refused.Load() }
