package sys

import (
	"math/rand/v2"
	"time"
)

// PatienceShares is the number of shares of a patience: a standstill of this process costs one of
// them at most.
const PatienceShares = 8

// A Patience limits how long this process waits for another. It counts the time that passes in
// shares. Each counts once however long it took: a process that was stopped, or got no processor,
// could not see what the other did, and the other may have stood still with it.
type Patience struct {
	limit, spent, share time.Duration
	seen                time.Time
}

// NewPatience returns a patience of duration d.
func NewPatience(d time.Duration) Patience {
	return Patience{limit: d, share: max(d/PatienceShares, 1), seen: time.Now()}
}

// Next returns how long to wait before the next look, after which Next is to be called again. It
// returns 0 when the patience is at an end. The caller must look once more then: what it waits for
// may have come while this process stood still.
func (p *Patience) Next() time.Duration {
	now := time.Now()
	p.spent += min(now.Sub(p.seen), p.share)
	p.seen = now
	return max(0, min(p.limit-p.spent, p.share))
}

// Spent returns the time that was counted until the last Next.
func (p *Patience) Spent() time.Duration { return p.spent }

// Within blocks until done is closed, or a patience of duration d is at an end. It reports whether
// done is closed.
func Within(d time.Duration, done <-chan struct{}) bool {
	p := NewPatience(d)
	for wait := p.Next(); wait > 0; wait = p.Next() {
		select {
		case <-done:
			return true
		case <-time.After(wait):
		}
	}
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// Jitter returns a random duration between d/2 and d, so that processes that lose another at the
// same moment do not all come back at the same moment.
func Jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }
