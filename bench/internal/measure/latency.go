package measure

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/ipcgen/ipcgen/bench/internal/contest"
)

// A Plan says how long to measure.
type Plan struct {
	Rounds int           // how often each contestant has a turn
	Turn   time.Duration // how long a turn is, once it is warm
	Warm   time.Duration // how long it takes to get warm
	// Progress is told what is done at the moment.
	Progress func(string)
}

// A Latency is the distribution of one contestant's round trips.
type Latency struct {
	Contestant *contest.Contestant
	Size       int
	// Err is why there is nothing else.
	Err error
	// Hist holds the calls of all rounds, in nanoseconds.
	Hist *hdrhistogram.Histogram
	// Medians are those of the rounds, in their order.
	Medians []time.Duration
	// Allocations per call, at the client and at the server.
	ClientAllocs, ServerAllocs float64
}

// P50 is the median of the rounds' medians.
func (l *Latency) P50() time.Duration { return Median(slices.Clone(l.Medians)) }

// Times is how many times as long l's calls take as those of base, which was
// measured in the same rounds: the median of the rounds' ratios, since what the
// machine does to one turn it mostly does to the next one too.
func (l *Latency) Times(base *Latency) float64 {
	ratios := make([]float64, len(l.Medians))
	for i, m := range l.Medians {
		ratios[i] = float64(m) / float64(max(base.Medians[i], 1))
	}
	slices.Sort(ratios)
	return ratios[len(ratios)/2]
}

// Quantile is the time within which the given percentage of all calls ended.
func (l *Latency) Quantile(percent float64) time.Duration {
	return time.Duration(l.Hist.ValueAtQuantile(percent))
}

// longest is the longest time that histograms can hold.
const longest = 10 * time.Second

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, int64(longest), 3)
}

// Latencies measures the round trips of the contestants that can carry requests
// of size bytes. The error is that of the contestants that failed, which are
// among the others.
func Latencies(cs []*contest.Contestant, size int, p Plan) ([]*Latency, error) {
	var all []*Latency
	for _, c := range cs {
		if c.Carries(size) {
			all = append(all, &Latency{Contestant: c, Size: size, Hist: newHistogram()})
		}
	}
	cost := clockCost()
	for round := range p.Rounds {
		for _, l := range all {
			if l.Err != nil {
				continue
			}
			p.Progress(fmt.Sprintf("round trips of %d bytes, round %d of %d: %s", size, round+1,
				p.Rounds, l.Contestant.Name))
			l.Err = Again(func() error { return l.turn(p, cost) })
		}
	}
	var failed []error
	for _, l := range all {
		l.ClientAllocs /= float64(p.Rounds)
		l.ServerAllocs /= float64(p.Rounds)
		failed = append(failed, failure(l.Err, "%s, %d bytes", l.Contestant.Name, size))
	}
	return all, errors.Join(failed...)
}

// turn measures one round of one contestant.
func (l *Latency) turn(p Plan, clock time.Duration) error {
	e, err := start(l.Contestant, l.Size)
	if err != nil {
		return err
	}
	defer e.stop()
	s, err := l.Contestant.Open(e.setup)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := timed(s, p.Warm, clock, nil); err != nil {
		return err
	}
	h := newHistogram()
	before, beforeServer, err := e.usage()
	if err != nil {
		return err
	}
	if err := timed(s, p.Turn, clock, h); err != nil {
		return err
	}
	after, afterServer, err := e.usage()
	if err != nil {
		return err
	}
	if err := e.stop(); err != nil {
		return err
	}
	calls := float64(h.TotalCount())
	l.ClientAllocs += float64(after.Sub(before).Mallocs) / calls
	l.ServerAllocs += float64(afterServer.Sub(beforeServer).Mallocs) / calls
	l.Medians = append(l.Medians, time.Duration(h.ValueAtQuantile(50)))
	l.Hist.Merge(h)
	return nil
}

// timed calls for some time and records how long each call took, without the
// reading of the clock. One call at least is made.
func timed(s contest.Session, d, clock time.Duration, h *hdrhistogram.Histogram) error {
	// Recording costs as much as a fast call, so it is done between batches.
	var batch [1024]time.Duration
	base := time.Now()
	for time.Since(base) < d || h != nil && h.TotalCount() == 0 {
		n := 0
		prev := time.Since(base)
		for n < len(batch) && (prev < d || n == 0) {
			if err := s.Call(); err != nil {
				return err
			}
			now := time.Since(base)
			batch[n], prev = now-prev, now
			n++
		}
		if h == nil {
			continue
		}
		for _, t := range batch[:n] {
			if err := h.RecordValue(int64(min(max(t-clock, 1), longest))); err != nil {
				return err
			}
		}
	}
	return nil
}
