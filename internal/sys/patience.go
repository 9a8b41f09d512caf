package sys

import "time"

// patienceSteps is how many steps a Patience has: a standstill costs an eighth of it at most.
const patienceSteps = 8

// A Patience limits how long this process waits for another. It counts the time that passes in
// steps, which package group calls shares. Each counts once however long it took: a process that
// was stopped, or got no processor, could not see what the other did, and the other may have stood
// still with it.
type Patience struct {
	limit, spent, step time.Duration
	seen               time.Time
}

// NewPatience returns a patience of duration d.
func NewPatience(d time.Duration) Patience {
	return Patience{limit: d, step: max(d/patienceSteps, 1), seen: time.Now()}
}

// Next returns how long to wait before the next look, after which Next is to be called again. It
// returns 0 when the patience is at an end. The caller must look once more then: what it waits for
// may have come while this process stood still.
func (p *Patience) Next() time.Duration {
	now := time.Now()
	p.spent += min(now.Sub(p.seen), p.step)
	p.seen = now
	return max(0, min(p.limit-p.spent, p.step))
}

// Spent returns the time that was counted until the last Next.
func (p *Patience) Spent() time.Duration { return p.spent }
