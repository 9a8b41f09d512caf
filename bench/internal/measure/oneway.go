package measure

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ipcgen/ipcgen/bench/internal/contest"
)

// A Throughput is how many messages a second went one way.
type Throughput struct {
	Key  string // of the contestant; "" for the plain copy
	Name string
	Size int
	// Err is why there is nothing else.
	Err error
	// Rates are those of the rounds, sorted.
	Rates []float64
}

// Median is the median of the rounds' rates.
func (t *Throughput) Median() float64 {
	if len(t.Rates) == 0 {
		return 0
	}
	return t.Rates[len(t.Rates)/2]
}

// copyName is the row of the plain copy. It needs no other process.
const copyName = "one copy in memory"

// OneWay measures messages of size bytes without answers, beside a plain
// copy of as many bytes. The error is that of the contestants that failed,
// which are among the others.
func OneWay(cs []*contest.Contestant, size int, p Plan) ([]*Throughput, error) {
	all := []*Throughput{{Name: copyName, Size: size}}
	var with []*contest.Contestant
	for _, c := range cs {
		if (c.OpenStream != nil || c.OpenFlow != nil) && c.Carries(size) {
			with = append(with, c)
			all = append(all,
				&Throughput{Key: c.Key, Name: cmp.Or(c.StreamName, c.Name), Size: size})
		}
	}
	for round := range p.Rounds {
		all[0].Rates = append(all[0].Rates, copyRate(size, p.Turn))
		for i, c := range with {
			t := all[i+1]
			if t.Err != nil {
				continue
			}
			p.Progress(fmt.Sprintf("one way, %d bytes, round %d of %d: %s", size, round+1,
				p.Rounds, c.Name))
			t.Err = Again(func() error {
				rate, err := oneWayTurn(c, size, p)
				if err == nil {
					t.Rates = append(t.Rates, rate)
				}
				return err
			})
		}
	}
	var failed []error
	for _, t := range all {
		slices.Sort(t.Rates)
		failed = append(failed, failure(t.Err, "%s one way, %d bytes", t.Name, size))
	}
	return all, errors.Join(failed...)
}

func oneWayTurn(c *contest.Contestant, size int, p Plan) (rate float64, err error) {
	e, err := start(c, size)
	if err != nil {
		return 0, err
	}
	defer e.stop()
	var pass func(time.Duration) (float64, error)
	if c.OpenFlow != nil {
		f, err := c.OpenFlow(e.setup)
		if err != nil {
			return 0, err
		}
		defer f.Close()
		pass = func(d time.Duration) (float64, error) { return takeFor(f, d) }
	} else {
		s, err := c.OpenStream(e.setup)
		if err != nil {
			return 0, err
		}
		defer s.Close()
		pass = func(d time.Duration) (float64, error) { return sendFor(s, d) }
	}
	if _, err := pass(p.Warm); err != nil {
		return 0, err
	}
	if rate, err = pass(p.Turn); err != nil {
		return 0, err
	}
	return rate, e.stop()
}

// takeFor takes messages for some time and returns how many came a second.
func takeFor(f contest.Flow, d time.Duration) (rate float64, err error) {
	start := time.Now()
	n := 0
	if err := f.Take(func() bool {
		n++
		return n%16 != 0 || time.Since(start) < d
	}); err != nil {
		return 0, err
	}
	return float64(n) / time.Since(start).Seconds(), nil
}

// sendFor sends for some time and returns the messages per second, counted
// until the last one has arrived.
func sendFor(s contest.Stream, d time.Duration) (rate float64, err error) {
	start := time.Now()
	n := 0
	for batch := 1; time.Since(start) < d; batch = min(2*batch, 256) {
		for range batch {
			if err := s.Send(); err != nil {
				return 0, err
			}
		}
		n += batch
	}
	if err := s.Drain(); err != nil {
		return 0, err
	}
	return float64(n) / time.Since(start).Seconds(), nil
}

// copySpan is the memory that copies go through, as they would in a ring of the
// default capacity.
const copySpan = 64 << 10

// copyRate is how often a second size bytes can be copied from one place that
// stays the same to the next of a row of places, as into a ring.
func copyRate(size int, d time.Duration) float64 {
	src := make([]byte, size)
	span := make([]byte, max(copySpan, size))
	start := time.Now()
	n := 0
	for time.Since(start) < d {
		for at := 0; at+size <= len(span); at += size {
			copy(span[at:], src)
			n++
		}
	}
	return float64(n) / time.Since(start).Seconds()
}
