package ipc

import "sync/atomic"

// Spinners decide how many readers of a server may poll for requests at a time, without sleeping.
//
// Half as many may as there are processors, because a reader that polls is of use only while its
// client runs beside it. But of two processors, two readers may: where clients take turns on the
// other processor, the reader whose client has lost it polls on for a while, and the next client
// would have to wake its own reader for each call meanwhile. Other goroutines have no processor
// then, so these readers yield to them.
type spinners struct {
	n    atomic.Int32 // readers that poll, and what counts as such
	most int32
	half int32 // more of them are a crowd
	// away is what a connection counts while its calls wait for other processes, as one of their
	// handlers may poll for what it waits for: as many as leave half of the processors.
	away int32
}

func (s *spinners) init(processors int) {
	s.half = int32(max(1, processors/2))
	s.most = max(s.half, int32(min(2, processors)))
	s.away = 1 + s.most - s.half
}

// take takes a place for a reader, if there is one.
func (s *spinners) take() bool {
	if s.n.Add(1) > s.most {
		s.n.Add(-1)
		return false
	}
	return true
}

// count adds n places that are taken.
func (s *spinners) count(n int32) { s.n.Add(n) }

// full reports whether more places are taken than there are.
func (s *spinners) full() bool { return s.n.Load() > s.most }

// crowd reports whether the readers must yield to other goroutines.
func (s *spinners) crowd() bool { return s.n.Load() > s.half }

// maySpin reports whether this reader may poll for requests without sleeping.
func (c *serverConn) maySpin() bool {
	if c.spinning {
		if c.away.Load() == 0 || !c.srv.spinners.full() {
			return true
		}
		c.stopSpinning()
		return false
	}
	c.spinning = c.srv.spinners.take()
	return c.spinning
}

func (c *serverConn) stopSpinning() {
	if c.spinning {
		c.spinning = false
		c.srv.spinners.count(-1)
	}
}
