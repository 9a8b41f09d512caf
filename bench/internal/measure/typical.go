package measure

import (
	"slices"
	"time"
)

// Typical is the median time of one of do's runs, which are timed in batches.
func Typical(repeats, batch int, do func(i int) error) (time.Duration, error) {
	times := make([]time.Duration, repeats)
	for i := range times {
		start := time.Now()
		for j := range batch {
			if err := do(i*batch + j); err != nil {
				return 0, err
			}
		}
		times[i] = time.Since(start) / time.Duration(batch)
	}
	return Median(times), nil
}

// Median sorts the times and returns the middle one, or 0 if there are none.
func Median(times []time.Duration) time.Duration {
	if len(times) == 0 {
		return 0
	}
	slices.Sort(times)
	return times[len(times)/2]
}
