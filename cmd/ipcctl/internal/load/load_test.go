package load

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func code(err error) string { return err.Error() }

// TestRunCounts checks the number of calls, and what is counted as what.
func TestRunCounts(t *testing.T) {
	var calls atomic.Int64
	var m Meter
	r := Run(t.Context(), Plan{Calls: 1000, Callers: 7, Timeout: time.Minute, Code: code}, &m,
		func(context.Context, int) error {
			if n := calls.Add(1); n%10 == 0 {
				return errors.New("tenth")
			}
			return nil
		})
	if calls.Load() != 1000 || r.Calls != 1000 || r.Errors["tenth"] != 100 ||
		r.Times.TotalCount() != 900 || r.First == nil {
		t.Errorf("%d calls: %+v", calls.Load(), r)
	}
	if all, failed := m.Calls(); all != 1000 || failed != 100 {
		t.Errorf("the meter shows %d and %d", all, failed)
	}
}

// TestRunDue checks, in the time of a bubble, that a server which stops makes those calls late that
// were due meanwhile.
func TestRunDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n atomic.Int64
		r := Run(t.Context(), Plan{Duration: 2 * time.Second, Rate: 100, Callers: 1,
			Timeout: time.Minute, Code: code}, new(Meter), func(context.Context, int) error {
			if n.Add(1) == 101 {
				time.Sleep(time.Second) // the whole second half
			}
			return nil
		})
		if r.Calls != 200 {
			t.Errorf("%d calls in 2 s at 100 a second", r.Calls)
		}
		if p75 := r.At(75); p75 < 490*time.Millisecond || p75 > 520*time.Millisecond {
			t.Errorf(
				"a quarter of the calls was due in the first half of a second's stop, and p75 "+
					"is %v",
				p75,
			)
		}
		if r.At(49) > time.Millisecond {
			t.Errorf("p49 is %v", r.At(49))
		}
	})
}

// TestRunEnds ends a run by its context: calls that were cut off are no errors.
func TestRunEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r := Run(ctx, Plan{Duration: time.Hour, Callers: 3, Timeout: time.Hour, Code: code}, new(Meter),
		func(ctx context.Context, caller int) error {
			if caller == 0 {
				cancel()
			}
			<-ctx.Done()
			return ctx.Err()
		})
	if r.Calls != 0 || len(r.Errors) != 0 {
		t.Errorf("%+v", r)
	}
}

func TestBars(t *testing.T) {
	r := &Result{Times: newHistogram()}
	if bars := r.Bars(); len(bars) != 0 {
		t.Errorf("of nothing: %v", bars)
	}
	for _, ns := range []int64{300, 350, 900, 40_000} {
		r.Times.RecordValue(ns)
	}
	bars := r.Bars()
	var total int64
	for _, b := range bars {
		total += b.Calls
	}
	if total != 4 || bars[0] != (Bar{500, 2}) || bars[len(bars)-1] != (Bar{50_000, 1}) {
		t.Errorf("%v", bars)
	}
}

func TestPicture(t *testing.T) {
	for name, times := range map[string][]int64{"none": nil, "one": {5}, "same": {7, 7, 7},
		"many": {100, 2000, 30_000, 400_000, int64(longest)}} {
		r := &Result{Times: newHistogram()}
		for _, ns := range times {
			r.Times.RecordValue(ns)
		}
		var b bytes.Buffer
		if err := r.WriteSVG(&b, "<title> & more"); err != nil ||
			!strings.Contains(b.String(), "<svg") || strings.Contains(b.String(), "NaN") ||
			!strings.HasSuffix(strings.TrimSpace(b.String()), "</svg>") {
			t.Errorf("%s: %v\n%.200s", name, err, b.String())
		}
	}
}

func TestShort(t *testing.T) {
	for ns, want := range map[float64]string{0: "0 ns", 5: "5 ns", 999: "999 ns", 999.6: "1.00 µs",
		1234: "1.23 µs", 45_678: "45.7 µs", 456_789: "457 µs", 5e9: "5 s", 1e12: "1000 s"} {
		if got := Short(ns); got != want {
			t.Errorf("%v ns is %s, want %s", ns, got, want)
		}
	}
}
