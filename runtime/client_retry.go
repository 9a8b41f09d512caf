package ipc

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"
)

// This file tries calls again that failed for a reason that passes. A Conn and a Client have the
// same loop around what they do once.

// A RetryPolicy says which calls that failed are tried again, when, and how often. A field that is
// zero has its default.
//
// A call is tried again only if that cannot execute it twice, unless the schema marks its method as
// idempotent or read_only:
//
//   - Its outcome is [NotSent] or [NotExecuted], and the reason passes: the code is
//     [CodeUnavailable], [CodeResourceExhausted] or one of Codes, or the attempt timed out.
//   - Its outcome is unknown, the reason passes, and the method is idempotent or read_only.
//   - The handler answered with one of Codes, and the method is idempotent or read_only.
//
// So a server that refuses a call before anything has happened should return an [Error] with
// outcome NotExecuted.
//
// Nothing is tried again after the call's deadline, nor if the pause before would end after it,
// nor if the connection has ended.
type RetryPolicy struct {
	// Attempts is how often a call is tried at most, the first time included; 3 by default.
	Attempts int
	// Backoff is the longest pause before the second attempt; 5 ms by default. Multiplier, 2 by
	// default, times the longest pause before an attempt is the longest pause before the next,
	// up to MaxBackoff, 1 s by default. A pause is a random part of the longest one (full jitter).
	Backoff, MaxBackoff time.Duration
	Multiplier          float64
	// AttemptTimeout limits each attempt. By default only the deadline of the call does.
	AttemptTimeout time.Duration
	// Codes are further codes with which a call is tried again. Only those say that the answer of
	// a handler is no reason to give up.
	Codes []Code
	// MaxTokens and TokenRatio keep many callers from burying a server that is overloaded under
	// further attempts, as retry throttling of gRPC does (gRFC A6). A connection, or a Client, has
	// up to MaxTokens tokens, 10 by default. An attempt that fails for a reason above takes one,
	// and a call that succeeds adds TokenRatio, 0.1 by default. Calls are tried again as long as
	// more than half of the tokens are there.
	MaxTokens, TokenRatio float64
}

const (
	defaultAttempts   = 3
	defaultBackoff    = 5 * time.Millisecond
	defaultMaxBackoff = time.Second
	defaultMultiplier = 2
	defaultMaxTokens  = 10
	defaultTokenRatio = 0.1
	// mostTokens keeps the count of thousandths of tokens within 32 bits.
	mostTokens = 1e6
)

// WithRetry has calls tried again under p. A [Client] sends calls again after the loss of a
// connection without a policy, too; these attempts are not counted by the policy, and an error
// with which they ended is final: a call to which two servers were lost is not tried again.
//
// The error of a call that was tried in vain says how often it was tried and wraps the error of the
// last attempt. Its outcome is that of all attempts together: unknown as soon as one of them was,
// unless the last one was answered.
//
// Interceptors of the client see each attempt, under the same Seq. Calls in place, whose build
// function would run again, one-way messages and streams are not tried again.
func WithRetry(p RetryPolicy) DialOption {
	return dialOption(func(c *dialConfig) {
		if err := p.complete(); err != nil {
			c.refuse(err)
			return
		}
		c.retry = &p
		c.timeouts.attempt = p.AttemptTimeout
	})
}

// complete sets the defaults, and returns an error if a field makes no sense.
func (p *RetryPolicy) complete() *Error {
	p.Codes = slices.Clone(p.Codes)
	set(&p.Attempts, defaultAttempts)
	set(&p.Backoff, defaultBackoff)
	set(&p.MaxBackoff, max(defaultMaxBackoff, p.Backoff))
	set(&p.Multiplier, defaultMultiplier)
	set(&p.MaxTokens, defaultMaxTokens)
	set(&p.TokenRatio, defaultTokenRatio)
	switch {
	case p.Attempts < 2:
		return invalid("RetryPolicy.Attempts is %d; give 2 or more, or leave WithRetry out",
			p.Attempts)
	case p.Backoff < 0 || p.MaxBackoff < p.Backoff:
		return invalid("RetryPolicy.Backoff is %v and MaxBackoff %v; give positive durations, the "+
			"second not less than the first", p.Backoff, p.MaxBackoff)
	case !(p.Multiplier >= 1) || math.IsInf(p.Multiplier, 0): // NaN too
		return invalid("RetryPolicy.Multiplier is %v; give 1 or more", p.Multiplier)
	case p.AttemptTimeout < 0:
		return invalid("RetryPolicy.AttemptTimeout is %v; give a positive duration",
			p.AttemptTimeout)
	case !(p.MaxTokens >= 3 && p.MaxTokens <= mostTokens):
		return invalid("RetryPolicy.MaxTokens is %v; give 3 to %v: with fewer, nothing is "+
			"tried again", p.MaxTokens, mostTokens)
	case !(p.TokenRatio > 0 && p.TokenRatio <= mostTokens):
		return invalid("RetryPolicy.TokenRatio is %v; give more than 0", p.TokenRatio)
	case slices.Contains(p.Codes, CodeOK):
		return invalid("RetryPolicy.Codes has CodeOK, which is no error")
	}
	return nil
}

// set gives a field that is zero its default.
func set[T comparable](field *T, to T) {
	var zero T
	if *field == zero {
		*field = to
	}
}

// A retrier carries a policy out for the calls of a Conn or a Client.
type retrier struct {
	policy  RetryPolicy
	tokens  atomic.Int64 // in thousandths
	retries atomic.Uint64
}

func newRetrier(p *RetryPolicy) *retrier {
	if p == nil {
		return nil
	}
	r := &retrier{policy: *p}
	r.tokens.Store(thousandths(p.MaxTokens))
	return r
}

func thousandths(tokens float64) int64 { return int64(math.Ceil(tokens * 1000)) }

// retried is the number of attempts beyond the first ones.
func (r *retrier) retried() uint64 {
	if r == nil {
		return 0
	}
	return r.retries.Load()
}

// do makes a call that b ends. once makes one attempt, and reports whether its error is final.
// ended is closed when further attempts are in vain.
func (r *retrier) do(ctx context.Context, b bound, m *MethodInfo, ended <-chan struct{},
	once func(context.Context) (err error, final bool)) error {
	longest, outcome := r.policy.Backoff, NotSent
	for n := 1; ; n++ {
		began := time.Now()
		err, final := once(ctx)
		if err == nil {
			r.succeeded()
			return nil
		}
		outcome = outcome.then(OutcomeOf(err))
		if final || ctx == nil || !r.passes(err, m, time.Since(began)) {
			return r.gaveUp(n, outcome, m, "", err)
		}
		if n == 1 {
			var stop func()
			ctx, stop = b.context(ctx)
			defer stop()
		}
		pause := rand.N(max(longest, 1))
		longest = r.longer(longest)
		deadline, limited := ctx.Deadline()
		allowed := r.failed()
		switch {
		case ctx.Err() != nil, n == r.policy.Attempts:
			return r.gaveUp(n, outcome, m, "", err)
		case !allowed:
			return r.gaveUp(n, outcome, m, ", as too many calls fail", err)
		case limited && time.Until(deadline) <= pause:
			return r.gaveUp(n, outcome, m, ", as no time is left for another", err)
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ended:
		case <-ctx.Done():
			e := contextError(ctx)
			e.Msg, e.Outcome = fmt.Sprintf("waiting for attempt %d of the call", n+1), outcome
			e.Err = fmt.Errorf("%w; the last one failed: %w", context.Cause(ctx), cause(err))
			timer.Stop()
			return m.callFailed(e)
		}
		timer.Stop()
		r.retries.Add(1)
	}
}

// passes reports whether a call of m may be tried again that took so long and failed with err.
func (r *retrier) passes(err error, m *MethodInfo, took time.Duration) bool {
	code := CodeOf(err)
	late := code == CodeDeadlineExceeded && r.policy.AttemptTimeout > 0 &&
		took >= r.policy.AttemptTimeout
	passing := late || slices.Contains(r.policy.Codes, code)
	outcome := OutcomeOf(err)
	if outcome != Executed {
		passing = passing || code == CodeUnavailable || code == CodeResourceExhausted
	}
	return passing && (outcome == NotSent || outcome == NotExecuted || m.Idempotent || m.ReadOnly)
}

// longer returns the longest pause after one of at most d.
func (r *retrier) longer(d time.Duration) time.Duration {
	if next := float64(d) * r.policy.Multiplier; next < float64(r.policy.MaxBackoff) {
		return time.Duration(next)
	}
	return r.policy.MaxBackoff
}

// succeeded adds to the tokens.
func (r *retrier) succeeded() {
	most := thousandths(r.policy.MaxTokens)
	for {
		old := r.tokens.Load()
		if old == most || r.tokens.CompareAndSwap(old,
			min(old+thousandths(r.policy.TokenRatio), most)) {
			return
		}
	}
}

// failed takes a token, and reports whether enough are left to try again.
func (r *retrier) failed() bool {
	for {
		old := r.tokens.Load()
		now := max(old-1000, 0)
		if old == now || r.tokens.CompareAndSwap(old, now) {
			return 2*now > thousandths(r.policy.MaxTokens)
		}
	}
}
