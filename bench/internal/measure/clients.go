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

// A Crowd is what several callers of one server get.
type Crowd struct {
	Contestant *contest.Contestant
	Callers    int
	// Err is why there is nothing else.
	Err error
	// Rates are the calls per second of all callers together, by round and
	// sorted.
	Rates []float64
	// Spreads are the calls of the caller with the most, per call of the one
	// with the fewest, by round and sorted.
	Spreads []float64
	Hist    *hdrhistogram.Histogram
}

// Rate is the median of the rounds' rates.
func (c *Crowd) Rate() float64 { return c.Rates[len(c.Rates)/2] }

// Spread is the median of the rounds' spreads.
func (c *Crowd) Spread() float64 { return c.Spreads[len(c.Spreads)/2] }

// Quantile is the time within which the given percentage of all calls ended.
func (c *Crowd) Quantile(percent float64) time.Duration {
	return time.Duration(c.Hist.ValueAtQuantile(percent))
}

// Crowds measures n callers at a time that call as fast as they can, each in a
// goroutine of its own: with connections of their own, or sharing one. The
// error is that of the crowds that failed, which are among the others.
func Crowds(cs []*contest.Contestant, n int, share bool, size int, p Plan) ([]*Crowd, error) {
	var all []*Crowd
	for _, c := range cs {
		all = append(all, &Crowd{Contestant: c, Callers: n, Hist: newHistogram()})
	}
	cost := clockCost()
	for round := range p.Rounds {
		for _, c := range all {
			if c.Err != nil {
				continue
			}
			p.Progress(fmt.Sprintf("%d callers, round %d of %d: %s", n, round+1, p.Rounds,
				c.Contestant.Name))
			c.Err = Again(func() error { return c.turn(size, share, p, cost) })
		}
	}
	var failed []error
	for _, c := range all {
		slices.Sort(c.Rates)
		slices.Sort(c.Spreads)
		failed = append(failed, failure(c.Err, "%s, %d callers", c.Contestant.Name, n))
	}
	return all, errors.Join(failed...)
}

func (c *Crowd) turn(size int, share bool, p Plan, clock time.Duration) error {
	e, err := start(c.Contestant, size)
	if err != nil {
		return err
	}
	defer e.stop()
	var sessions []contest.Session
	defer func() {
		for _, s := range slices.Compact(sessions) {
			s.Close()
		}
	}()
	for range c.Callers {
		if share && len(sessions) > 0 {
			sessions = append(sessions, sessions[0])
			continue
		}
		s, err := c.Contestant.Open(e.setup)
		if err != nil {
			return err
		}
		sessions = append(sessions, s)
	}
	if _, err := together(sessions, p.Warm, clock); err != nil {
		return err
	}
	start := time.Now()
	hists, err := together(sessions, p.Turn, clock)
	if err != nil {
		return err
	}
	took := time.Since(start).Seconds()
	var calls, fewest, most int64
	for i, h := range hists {
		n := h.TotalCount()
		if i == 0 || n < fewest {
			fewest = n
		}
		most = max(most, n)
		calls += n
		c.Hist.Merge(h)
	}
	c.Rates = append(c.Rates, float64(calls)/took)
	c.Spreads = append(c.Spreads, float64(most)/float64(max(fewest, 1)))
	return nil
}

// together calls on all sessions at once, and returns the times of each.
func together(sessions []contest.Session, d, clock time.Duration) ([]*hdrhistogram.Histogram,
	error) {
	hists := make([]*hdrhistogram.Histogram, len(sessions))
	errs := make([]error, len(sessions))
	var wg sync.WaitGroup
	for i, s := range sessions {
		hists[i] = newHistogram()
		wg.Go(func() { errs[i] = timed(s, d, clock, hists[i]) })
	}
	wg.Wait()
	return hists, errors.Join(errs...)
}
