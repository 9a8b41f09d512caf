package ipc

import (
	"fmt"

	"github.com/ipcgen/ipcgen/internal/record"
)

// This file finishes the errors of a client's operations; design.go describes the path of an error.

// fromOldEpoch returns the error for something of the server, such as a reply, that comes from an
// epoch that is over.
func fromOldEpoch(what string, epoch uint64) *Error {
	return &Error{Code: CodeFenced, Msg: fmt.Sprintf("%s of epoch %d, which is over", what, epoch)}
}

// outcome returns the error of a completed call, or nil if it has a reply.
func (c *Conn) outcome(p *pending, f *frame) *Error {
	if p.outgoing != nil && p.outgoing.reply != nil {
		*p.outgoing.reply = Metadata{}
		if p.err == nil {
			*p.outgoing.reply = p.frame.metadata
		}
	}
	switch {
	case p.err != nil:
		return p.err
	case c.stale(&p.frame, f):
		return fromOldEpoch("reply", p.frame.epoch)
	case p.frame.kind == record.Error:
		return remoteError(p.frame.code, p.frame.outcome, string(p.body))
	}
	return nil
}

// malformedReply counts a reply that failed verification, and returns the call's error.
func (c *Conn) malformedReply(m *MethodInfo, why error) *Error {
	c.stats.malformed.Add(1)
	err := &Error{Code: CodeCorrupt, Outcome: Executed, Msg: "malformed reply", Err: why}
	return m.callFailed(err)
}

// unreachable returns the error of an operation that found no server in time.
func (a *clientCall) unreachable(err error) *Error {
	e := &Error{Code: CodeUnavailable, Outcome: a.Outcome(), Err: err}
	if a.ctx != nil && a.ctx.Err() != nil {
		e.Code = CodeOf(a.ctx.Err())
	} else if permanent(err) {
		e.Code = CodeOf(err)
	}
	return e
}

// gaveUp returns the error of a call from that of the last of n attempts.
func (r *retrier) gaveUp(n int, outcome Outcome, m *MethodInfo, why string, err error) error {
	if n == 1 && why == "" {
		return err
	}
	attempts := "1 attempt"
	if n > 1 {
		attempts = fmt.Sprintf("%d attempts", n)
	}
	e := &Error{Code: CodeOf(err), Outcome: outcome, Msg: "gave up after " + attempts + why,
		Err: cause(err)}
	if last, ok := err.(*Error); ok {
		e.Remote = last.Remote
	}
	return m.callFailed(e)
}

// cause returns err as the cause of another error of the same operation, which that one names.
func cause(err error) error {
	if e, ok := err.(*Error); ok {
		c := *e
		c.Op = ""
		return &c
	}
	return err
}

// asCallError returns err, with which a streaming call failed, as an Error.
func asCallError(err error) *Error {
	if e, ok := err.(*Error); ok {
		return e
	}
	return &Error{Code: CodeOf(err), Err: err}
}

// malformed counts an item or a reply that failed verification, and returns the call's error.
func (f *clientFlow) malformed(why error) *Error {
	f.conn.stats.malformed.Add(1)
	return malformedAnswer("item or reply", why)
}

func malformedAnswer(what string, why error) *Error {
	return &Error{Code: CodeCorrupt, Outcome: OutcomeUnknown, Msg: "malformed " + what, Err: why}
}

// withoutOutcome returns err for use as a cause: the error that wraps it states the outcome.
func withoutOutcome(err error) error {
	if e, ok := err.(*Error); ok {
		cause := *e
		cause.Outcome = OutcomeUnknown
		return &cause
	}
	return err
}

// permanent reports whether an attempt to connect failed for a reason that does not pass by itself.
func permanent(err error) bool {
	switch CodeOf(err) {
	case CodeIncompatible, CodePermissionDenied, CodeInvalidArgument, CodeUnsupported:
		return true
	}
	return false
}
