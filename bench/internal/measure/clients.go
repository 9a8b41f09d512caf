package measure

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/ipcgen/ipcgen/bench/internal/contest"
)

// A Crowd is what several clients of one server get.
type Crowd struct {
	Contestant *contest.Contestant
	Clients    int
	// Rates are the calls per second of all clients together, by round and
	// sorted.
	Rates []float64
	Hist  *hdrhistogram.Histogram
}

// Rate is the median of the rounds' rates.
func (c *Crowd) Rate() float64 { return c.Rates[len(c.Rates)/2] }

// Crowds measures n clients at a time, each with a connection and a goroutine
// of its own, that call as fast as they can.
func Crowds(cs []*contest.Contestant, n, size int, p Plan) ([]*Crowd, error) {
	var all []*Crowd
	for _, c := range cs {
		if c.Many {
			all = append(all, &Crowd{Contestant: c, Clients: n, Hist: newHistogram()})
		}
	}
	cost := clockCost()
	for round := range p.Rounds {
		for _, c := range all {
			p.Progress(fmt.Sprintf("%d clients, round %d of %d: %s", n, round+1, p.Rounds, c.Contestant.Name))
			if err := c.turn(size, p, cost); err != nil {
				return nil, fmt.Errorf("%s, %d clients: %w", c.Contestant.Name, n, err)
			}
		}
	}
	for _, c := range all {
		slices.Sort(c.Rates)
	}
	return all, nil
}

func (c *Crowd) turn(size int, p Plan, clock time.Duration) error {
	e, err := start(c.Contestant, size)
	if err != nil {
		return err
	}
	defer e.stop()
	var sessions []contest.Session
	defer func() {
		for _, s := range sessions {
			s.Close()
		}
	}()
	for range c.Clients {
		s, err := c.Contestant.Open(e.setup)
		if err != nil {
			return err
		}
		sessions = append(sessions, s)
	}
	if _, err := together(sessions, p.Warm, clock); err != nil {
		return err
	}
	h, err := together(sessions, p.Turn, clock)
	if err != nil {
		return err
	}
	c.Rates = append(c.Rates, float64(h.TotalCount())/p.Turn.Seconds())
	c.Hist.Merge(h)
	return nil
}

// together calls on all sessions at once.
func together(sessions []contest.Session, d, clock time.Duration) (*hdrhistogram.Histogram, error) {
	hists := make([]*hdrhistogram.Histogram, len(sessions))
	errs := make([]error, len(sessions))
	var wg sync.WaitGroup
	for i, s := range sessions {
		hists[i] = newHistogram()
		wg.Go(func() { errs[i] = timed(s, d, clock, hists[i]) })
	}
	wg.Wait()
	for _, h := range hists[1:] {
		hists[0].Merge(h)
	}
	return hists[0], errors.Join(errs...)
}
