// Package load makes calls at a rate, or as fast as they are answered, and measures how long they
// take.
package load

import (
	"context"
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// A Plan says which calls are made.
type Plan struct {
	// Calls is the number of calls, and Duration the time in which new ones are begun; 0 for no
	// limit. One of them is set.
	Calls    int64
	Duration time.Duration
	// Callers is the number of calls that are made at the same time.
	Callers int
	// Rate is the number of calls that are begun in a second, or 0 for as many as are answered.
	// The time of a call then counts from the moment at which it was due, so that a server that
	// stops makes the calls late that would have come meanwhile.
	Rate float64
	// Timeout is the deadline of each call.
	Timeout time.Duration
	// Code returns the name under which an error is counted.
	Code func(error) string
	// Ends, unless nil, reports whether all calls after an error would fail as well, which ends the
	// run.
	Ends func(error) bool
}

// A Result is what was measured.
type Result struct {
	Calls   int64            // that ended, with an error or without
	Errors  map[string]int64 // by code
	Elapsed time.Duration
	// Times has the times of the calls without an error, in nanoseconds.
	Times *hdrhistogram.Histogram
	// First is the first error, and Last one that has ended the run.
	First, Last error
}

// longest is the longest time that a histogram holds; longer ones count as this.
const longest = 10 * time.Minute

func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, int64(longest), 3) }

// A Meter shows the calls so far, while Run goes on.
type Meter struct{ calls, failed atomic.Int64 }

// Calls returns the number of calls that have ended, and of those that failed.
func (m *Meter) Calls() (all, failed int64) { return m.calls.Load(), m.failed.Load() }

// Run makes calls until the plan is done, or ctx is. The callers are numbered from 0.
func Run(
	ctx context.Context,
	p Plan,
	m *Meter,
	call func(ctx context.Context, caller int) error,
) *Result {
	ctx, over := context.WithCancel(ctx)
	defer over()
	began := time.Now()
	var begun atomic.Int64
	parts := make([]*Result, p.Callers)
	var callers sync.WaitGroup
	for i := range parts {
		parts[i] = &Result{Errors: make(map[string]int64), Times: newHistogram()}
		callers.Go(func() {
			mine := func(ctx context.Context) error { return call(ctx, i) }
			for p.next(ctx, &begun, began, func(due time.Time) {
				parts[i].one(ctx, p, m, due, mine)
			}) {
				if parts[i].Last != nil {
					over()
				}
			}
		})
	}
	callers.Wait()
	total := &Result{
		Errors:  make(map[string]int64),
		Times:   newHistogram(),
		Elapsed: time.Since(began),
	}
	for _, r := range parts {
		total.Calls += r.Calls
		total.Times.Merge(r.Times)
		for code, n := range r.Errors {
			total.Errors[code] += n
		}
		if total.First == nil {
			total.First = r.First
		}
		if total.Last == nil {
			total.Last = r.Last
		}
	}
	return total
}

// next makes the next call of the plan when it is due. It returns false if there is none.
func (p *Plan) next(ctx context.Context, begun *atomic.Int64, began time.Time,
	call func(due time.Time)) bool {
	n := begun.Add(1)
	if p.Calls > 0 && n > p.Calls || ctx.Err() != nil {
		return false
	}
	due := time.Now()
	if p.Rate > 0 {
		due = began.Add(time.Duration(float64(n-1) / p.Rate * float64(time.Second)))
		wait := time.NewTimer(time.Until(due))
		defer wait.Stop()
		select {
		case <-ctx.Done():
			return false
		case <-wait.C:
		}
	}
	if p.Duration > 0 && due.Sub(began) >= p.Duration {
		return false
	}
	call(due)
	return true
}

// one makes a call, and counts it.
func (r *Result) one(ctx context.Context, p Plan, m *Meter, due time.Time,
	call func(context.Context) error) {
	limited, cancel := context.WithTimeout(ctx, p.Timeout)
	err := call(limited)
	cancel()
	took := time.Since(due)
	if err != nil && ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return // the end of the run is no error of the server
	}
	r.Calls++
	m.calls.Add(1)
	if err != nil {
		m.failed.Add(1)
		r.Errors[p.Code(err)]++
		if r.First == nil {
			r.First = err
		}
		if p.Ends != nil && p.Ends(err) {
			r.Last = err
		}
		return
	}
	_ = r.Times.RecordValue(int64(min(max(took, 1), longest)))
}

// Percentiles are those that a report shows.
var Percentiles = []float64{50, 90, 95, 99, 99.9, 99.99, 100}

// Rate returns the calls without an error, per second.
func (r *Result) Rate() float64 {
	if r.Elapsed <= 0 {
		return math.NaN()
	}
	return float64(r.Times.TotalCount()) / r.Elapsed.Seconds()
}

// At returns the time within which the given percentage of the calls ended.
func (r *Result) At(percent float64) time.Duration {
	return time.Duration(r.Times.ValueAtQuantile(percent))
}

// A Bar counts the calls that took less than Below and not less than the bar before allows.
type Bar struct {
	Below time.Duration `json:"below_ns"`
	Calls int64         `json:"calls"`
}

// Bars returns the histogram of the times, in steps of 1, 2, 5, 10, 20, 50 and so on, without the
// empty ones at both ends.
func (r *Result) Bars() (bars []Bar) {
	step, below := 0, time.Duration(1)
	grow := func() {
		below = time.Duration([]float64{1, 2, 5}[step%3] * math.Pow(10, float64(step/3)))
		step++
	}
	grow()
	var n int64
	for _, b := range r.Times.Distribution() {
		for time.Duration(b.From) >= below {
			if n > 0 || len(bars) > 0 {
				bars = append(bars, Bar{below, n})
			}
			n = 0
			grow()
		}
		n += b.Count
	}
	if n > 0 {
		bars = append(bars, Bar{below, n})
	}
	for len(bars) > 0 && bars[len(bars)-1].Calls == 0 {
		bars = bars[:len(bars)-1]
	}
	return bars
}
