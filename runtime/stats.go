package ipc

import "sync/atomic"

// Stats are the counters of one side of a connection.
type Stats struct {
	Sent, Received uint64 // messages, of all kinds
	SentBytes      uint64 // bytes of their bodies
	ReceivedBytes  uint64
	WakeupsSent    uint64 // times that the peer slept and had to be woken
	Wakeups        uint64 // times that this side was woken
	Sleeps         uint64 // times that this side went to sleep
	Spins          uint64 // waits that ended while this side was looking, and so without a wake-up
	WaitsForRoom   uint64 // times that a writer parked because the ring was full
	Dropped        uint64 // replies and messages that nobody waits for (any more)
	Malformed      uint64 // messages that failed verification
	Corruptions    uint64 // breaches of the protocol by the peer; the first ends the connection
	CallsInFlight  int
}

// connStats are the counters that the rings do not keep themselves.
type connStats struct {
	dropped, malformed, corruptions atomic.Uint64
}

// ends counts why the connection ends.
func (s *connStats) ends(why *Error) {
	if why.Code == CodeCorrupt {
		s.corruptions.Add(1)
	}
}

func (s *connStats) read(t *transmitter, r *receiver, p *spinPolicy) Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	return Stats{
		Sent: t.messages, SentBytes: t.bytes, ReceivedBytes: r.bytes.Load(), WakeupsSent: t.wakeups, WaitsForRoom: t.waits,
		Received: r.messages.Load(), Wakeups: r.wakeups.Load(), Sleeps: r.sleeps.Load(), Spins: p.spins.Load(),
		Dropped: s.dropped.Load(), Malformed: s.malformed.Load(), Corruptions: s.corruptions.Load(),
	}
}

// Stats returns the connection's counters. They stay readable after its end.
func (c *Conn) Stats() Stats {
	s := c.stats.read(&c.tx, &c.rx, &c.spin)
	s.CallsInFlight = c.calls.inFlight()
	return s
}

// Stats returns the counters of this side of the connection to the peer. They
// stay readable after its end.
func (p *Peer) Stats() Stats {
	if p.stats == nil {
		return Stats{}
	}
	return p.stats()
}

func (c *serverConn) readStats() Stats {
	s := c.stats.read(&c.tx, &c.rx, &c.spin)
	s.CallsInFlight = int(c.turn.Load() & 1)
	c.mu.Lock()
	defer c.mu.Unlock()
	s.CallsInFlight += len(c.apart)
	return s
}

// Corrupted is the number of connections that ended because the client broke the
// protocol, or the memory that it shares with the server.
func (s *Server) Corrupted() uint64 { return s.corrupted.Load() }

// Refused is the number of clients that were not let in, for whatever reason.
func (s *Server) Refused() uint64 { return s.refused.Load() }
