package ipc

import (
	"errors"

	"github.com/ipcgen/ipcgen/runtime/shm"
)

// This file finishes the errors that a server answers; design.go describes the path of an error.

// malformedRequest returns the error for a request that failed verification.
func malformedRequest(why error) *Error {
	return &Error{Code: CodeInvalidArgument, Outcome: NotExecuted,
		Msg: "malformed request: " + why.Error()}
}

// cannotEncode returns the error for a reply that its codec refuses.
func cannotEncode(why error) *Error {
	return &Error{Code: CodeInternal, Outcome: Executed, Msg: "cannot encode the reply", Err: why}
}

// errorFrame makes the message that answers a call with an error.
func (c *serverConn) errorFrame(kind uint32, id uint64, err error) (frame, []byte) {
	e := answered(err)
	f := frame{kind: kind, id: id, code: e.Code, outcome: e.Outcome}
	if c.srv.cfg.fence != nil {
		f.epoch = c.srv.cfg.fence.Epoch()
	}
	return f, []byte(shorten(e.Msg, c.tx.limit))
}

// answered returns the error that says to a client what err does.
func answered(err error) *Error {
	told := &Error{Code: CodeOf(err), Outcome: answeredOutcome(err), Remote: true}
	if e, ok := err.(*Error); ok {
		told.Msg = e.text()
	} else {
		told.Msg = err.Error()
	}
	return told
}

// answeredOutcome returns the outcome of a call that its handler ended with err. An error of
// another operation, such as a call that the handler made, describes that operation only.
func answeredOutcome(err error) Outcome {
	var e *Error
	if !errors.As(err, &e) || e.Op != "" || e.Remote {
		return Executed
	}
	if e.Outcome == NotSent { // the server has the request, so its client has sent it
		return NotExecuted
	}
	return e.Outcome
}

// refusalOf returns the hello of a server that refuses a client.
func refusalOf(err error) *serverHello {
	e := asError(err, "")
	return &serverHello{version: helloVersion, layout: shm.Version, code: e.Code,
		msg: shorten(e.text(), longestText)}
}
