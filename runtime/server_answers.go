package ipc

import (
	"sync/atomic"
	"time"
)

// This file answers calls whose answers wait for another process, see ServerCall.AnswerAfter. The
// reader runs what lies in the ring, one call after the other, and then waits once for all of them.
// So neither a goroutine nor a wake-up is needed for each call, and the other process gets them
// together.

// postponed is the calls that the reader has run and not answered. It belongs to the owner of the
// reader role.
type postponed struct {
	jobs  []*job
	bytes int          // of their requests and answers
	since time.Time    // when the second one was put off
	count atomic.Int32 // len(jobs), for others
}

// A run of calls is answered when it has mostPostponed calls, or postponedBytes in them, even if
// more has come: answers must not wait for it. A run that takes longer than postponedTime shows
// that the calls take more time than the wait costs.
const (
	mostPostponed  = 64
	postponedBytes = 64 << 10
	postponedTime  = 50 * time.Microsecond
)

// enough reports whether the calls are to be answered before more are read.
func (p *postponed) enough(maxCalls int) bool {
	n := len(p.jobs)
	return n > 0 && (n >= min(mostPostponed, maxCalls) || p.bytes >= postponedBytes ||
		n > 1 && time.Since(p.since) > postponedTime)
}

// leave returns the calls, which are put off no more. room is for the next ones.
func (p *postponed) leave(room []*job) []*job {
	jobs := p.jobs
	p.jobs, p.bytes = room, 0
	p.count.Store(0)
	return jobs
}

// postpone puts the answer of a call off.
func (c *serverConn) postpone(j *job) {
	p := &c.postponed
	p.jobs = append(p.jobs, j)
	p.bytes += len(j.body) + len(j.answer)
	if len(p.jobs) == 2 {
		p.since = time.Now()
	}
	p.count.Store(int32(len(p.jobs)))
}

// answerPostponed answers the calls that are put off. The reader waits with them, unless that takes
// long. It reports false if the reader role went to another goroutine.
func (c *serverConn) answerPostponed() (reader bool) {
	if len(c.postponed.jobs) == 0 {
		return true
	}
	return c.answer(c.beginAnswers())
}

// answerBeside is answerPostponed while another goroutine reads.
func (c *serverConn) answerBeside() (reader bool) {
	a := c.beginAnswers()
	c.handOff(a.run)
	return c.answer(a)
}

func (c *serverConn) beginAnswers() *answers {
	a := &answers{jobs: c.postponed.jobs, inline: true}
	a.jobs[0].countAway()
	a.run = c.beginInline(inlineAnswers) // from now on the watchdog may take what is put off
	return a
}

// answers is calls that are being answered: each is waited for, the last one first, and then
// answered, the first one first.
type answers struct {
	jobs   []*job
	step   int // of two for each call
	inline bool
	run    uint64 // the inline run, if it is one
}

// answer answers calls. It reports false if this goroutine does not have the reader role, or not
// any more.
func (c *serverConn) answer(a *answers) (reader bool) {
	returned := false
	defer func() {
		if !returned { // the callback of an interceptor has ended this goroutine
			go func() {
				if c.answer(a) {
					c.serve()
				}
			}()
		}
	}()
	for n := len(a.jobs); a.step < 2*n; {
		i := a.step
		if i == n {
			c.tx.gather()
		}
		a.step++
		if i < n {
			c.answerStep(a.jobs[n-1-i], (*serverConn).awaitAnswer)
		} else if j := a.jobs[i-n]; j.after != nil {
			c.answerStep(j, (*serverConn).answerNow)
		}
	}
	returned = true
	c.tx.notify()
	for _, j := range a.jobs {
		j.answer, j.failed = nil, nil
	}
	if !a.inline || !c.endInline(a.run) {
		for _, j := range a.jobs {
			c.endDetached(j)
		}
		return false
	}
	c.postponed.leave(a.jobs[:0])
	for _, j := range a.jobs {
		c.finishJob(j)
		if c.spare == nil {
			c.spare = j
		} else {
			c.jobs.Put(j)
		}
	}
	return true
}

// answerDetached answers a detached call, unless it is answered already, and ends it.
func (c *serverConn) answerDetached(j *job) {
	if j.after == nil {
		c.endDetached(j)
		return
	}
	j.countAway()
	c.answer(&answers{jobs: []*job{j}})
}

// answerStep takes a step of answering a call.
func (c *serverConn) answerStep(j *job, step func(*serverConn, *job) error) {
	returned := false
	defer func() { c.stepped(j, recover(), returned) }()
	if err := step(c, j); err != nil {
		c.answerError(j, err)
	}
	returned = true
}

// awaitAnswer waits until a call may be answered.
func (c *serverConn) awaitAnswer(j *job) error { return j.after() }

// answerNow answers a call that was put off.
func (c *serverConn) answerNow(j *job) error {
	j.after = nil
	return c.reply(j, j.answer, j.failed)
}
