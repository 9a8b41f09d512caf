package ipc

import (
	"fmt"
	"strings"
	"sync/atomic"
	"time"
)

// Attempts is what was tried so far of a call or a one-way message. It has the rules by which a
// [Client] sends again, for clients of other carriers that follow a server as well, such as those
// of package natsipc:
//
//   - A call is sent again if an attempt failed with [CodeUnavailable] or [CodeFenced], and was
//     certainly not executed (outcome [NotSent] or [NotExecuted]), or if its method is idempotent
//     or read-only.
//   - A streaming call is sent again only while none of its items was handed out, and its source of
//     items has not begun. It never begins twice.
//   - A call that two servers were lost to is not sent a third time, because it may have ended
//     them.
//   - The outcome covers all attempts: it is unknown as soon as that of one was, unless the last
//     one was answered.
//
// The zero Attempts is that of a call that was not tried yet. It is not safe for concurrent use.
type Attempts struct {
	failed bool    // one has
	joint  Outcome // of all together, if one has failed
	begun  *begin  // of the last one, if the call streams
	lost   []string
	last   error // with which one has failed
}

// mostLost is how many servers may be lost to one call before it ends: the call itself may be what
// ends them. The quarantine of a group is for those that send the request once more.
const mostLost = 2

// Next returns call for the next attempt, which must be made with what Next returns.
func (a *Attempts) Next(call Call) Call {
	a.begun = nil
	if call.Method.Streaming != Unary {
		a.begun = watchBegin(&call)
	}
	return call
}

// Failed records that the last attempt has failed with err, and reports whether the call of m may
// be sent again. server names the one that was asked to execute it, in errors.
func (a *Attempts) Failed(err error, m *MethodInfo, server string) (again bool) {
	code, outcome := CodeOf(err), OutcomeOf(err)
	a.joint, a.failed, a.last = a.Outcome().then(outcome), true, err
	if code == CodeUnavailable && outcome == OutcomeUnknown {
		a.lost = append(a.lost, server)
	}
	switch {
	case code != CodeUnavailable && code != CodeFenced, a.exhausted():
		return false
	case outcome == OutcomeUnknown:
		again = m.Idempotent || m.ReadOnly
	default:
		again = outcome == NotSent || outcome == NotExecuted
	}
	return again && a.begun.prevent()
}

// Outcome returns the outcome of all attempts together: [NotSent] before the first.
func (a *Attempts) Outcome() Outcome {
	if !a.failed {
		return NotSent
	}
	return a.joint
}

// Tried returns why a call that was to be sent again for a time d has failed in the end: the error
// of the last attempt, or nil if there was none. It has no outcome, for the error that wraps it
// states that of all attempts.
func (a *Attempts) Tried(d time.Duration) error {
	if a.last == nil {
		return nil
	}
	return fmt.Errorf("tried for %v: %w", d, withoutOutcome(a.last))
}

// exhausted reports whether the call has lost too many servers.
func (a *Attempts) exhausted() bool { return len(a.lost) >= mostLost }

// Err returns the error of the call of m, made from err, that of its last attempt.
func (a *Attempts) Err(err error, m *MethodInfo) error {
	last, ok := err.(*Error)
	switch {
	case a.exhausted():
		return m.callFailed(&Error{Code: CodeOf(err), Outcome: a.Outcome(), Err: err,
			Msg: fmt.Sprintf("%d servers were lost while they had this call, which may be what "+
				"ends them: %s", len(a.lost), strings.Join(a.lost, ", "))})
	case !ok:
		return m.callFailed(&Error{Code: CodeOf(err), Outcome: a.Outcome(), Err: err})
	case last.Outcome == a.Outcome():
		return err
	}
	told := *last
	told.Outcome = a.Outcome()
	return &told
}

// MessageFailed is Failed for a one-way message, which is sent again only if it was certainly not
// sent.
func (a *Attempts) MessageFailed(err error) (again bool) {
	a.joint, a.failed, a.last = a.Outcome().then(OutcomeOf(err)), true, err
	return CodeOf(err) == CodeUnavailable && OutcomeOf(err) == NotSent
}

// then returns the outcome of a call after an attempt with outcome next that failed, and attempts
// before it with outcome o.
func (o Outcome) then(next Outcome) Outcome {
	switch {
	case next == Executed: // the error is the answer
		return Executed
	case o == Executed, o == OutcomeUnknown, next == OutcomeUnknown:
		return OutcomeUnknown // the call may have been executed, and the error does not tell
	}
	return max(o, next) // NotExecuted rather than NotSent
}

// A begin says whether the code of the user has seen something of an attempt to make a streaming
// call: its source of items has begun, or an item was handed out. After that the call must not be
// made again.
type begin struct{ state atomic.Uint32 }

const (
	notBegun  = iota
	hasBegun  // by the attempt
	prevented // the attempt has failed, and another one may be made
)

// watchBegin makes an attempt tell when it begins.
func watchBegin(attempt *Call) *begin {
	b := new(begin)
	if in := attempt.In; in != nil {
		attempt.In = func(yield func(any, error) bool) {
			if b.state.CompareAndSwap(notBegun, hasBegun) {
				in(yield)
			}
		}
	}
	if out := attempt.Out; out != nil {
		attempt.Out = func(item any) bool {
			b.state.Store(hasBegun)
			return out(item)
		}
	}
	return b
}

// prevent reports whether the attempt, which has failed, has not begun and never will.
func (b *begin) prevent() bool { return b == nil || b.state.CompareAndSwap(notBegun, prevented) }
