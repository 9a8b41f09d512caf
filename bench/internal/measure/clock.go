// Package measure runs contestants against each other.
//
// They take turns, in rounds, because the speed of the machine changes: a virtual processor moves,
// or another virtual machine wakes up, and measurements from then cannot be compared with those
// from before. Each turn starts a fresh server.
package measure

import (
	"slices"
	"time"
)

// clockCost is the median time that one reading of the clock takes, which
// every timed call includes.
func clockCost() time.Duration {
	base := time.Now()
	d := make([]time.Duration, 10_000)
	prev := time.Since(base)
	for i := range d {
		now := time.Since(base)
		d[i], prev = now-prev, now
	}
	slices.Sort(d)
	return d[len(d)/2]
}
