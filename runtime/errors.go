package ipc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"strings"

	"github.com/ipcgen/ipcgen/internal/domain"
	"github.com/ipcgen/ipcgen/internal/sys"
	"github.com/ipcgen/ipcgen/runtime/shm"
)

// A Code classifies an error for programs; the message explains the error to people. Codes travel
// between processes, so their numbers are part of the protocol.
type Code uint16

// The codes.
const (
	// CodeOK is no error.
	CodeOK Code = iota
	// CodeCanceled: the caller's context was cancelled.
	CodeCanceled
	// CodeDeadlineExceeded: the caller's deadline passed.
	CodeDeadlineExceeded
	// CodeUnavailable: there is no server, or it died or closed the connection.
	CodeUnavailable
	// CodeUnimplemented: the server knows no such method.
	CodeUnimplemented
	// CodeInvalidArgument: a request or an option is wrong in itself, whatever the state.
	CodeInvalidArgument
	// CodeResourceExhausted: a limit was reached; the message states which.
	CodeResourceExhausted
	// CodeInternal: a bug; a handler that panicked, for example.
	CodeInternal
	// CodeIncompatible: the two sides do not speak the same protocol.
	CodeIncompatible
	// CodeCorrupt: the peer broke the rules of the shared memory, or sent a message
	// that fails verification.
	CodeCorrupt
	// CodeFenced: the request or the reply belongs to an epoch that is over.
	CodeFenced
	// CodePermissionDenied: the peer may not do this.
	CodePermissionDenied
	// CodeTooLarge: a message exceeds the limit that the text states.
	CodeTooLarge
	// CodeAlreadyExists: the name is taken by a live process.
	CodeAlreadyExists
	// CodeNotFound: what the request refers to does not exist.
	CodeNotFound
	// CodeFailedPrecondition: the state does not allow the request.
	CodeFailedPrecondition
	// CodeUnsupported: this platform, or what carries the calls, lacks what the operation needs.
	CodeUnsupported
	// CodeUnknown: a handler returned an error without a code.
	CodeUnknown
)

var codeNames = [...]string{
	"ok", "canceled", "deadline exceeded", "unavailable", "unimplemented", "invalid argument",
	"resource exhausted", "internal error", "incompatible", "corrupt", "fenced",
	"permission denied",
	"too large", "already exists", "not found", "failed precondition", "unsupported",
	"unknown error",
}

func (c Code) String() string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return fmt.Sprintf("code %d", uint16(c))
}

// codeOf returns the code with a number that a peer has sent, or CodeUnknown if there is none.
func codeOf[N uint16 | uint32](number N) Code {
	if uint64(number) >= uint64(len(codeNames)) {
		return CodeUnknown
	}
	return Code(number)
}

// An Outcome says whether a call that failed was executed. [OutcomeOf] returns it.
type Outcome uint8

// The outcomes. What each rests on is in docs/outcomes.md.
const (
	// OutcomeUnknown: the call may have been executed, in part or in full, or not at
	// all. Only an idempotent call may be sent again safely.
	OutcomeUnknown Outcome = iota
	// NotSent: the request has not left this process, and will not leave it.
	NotSent
	// NotExecuted: the request was sent, but no handler has seen it, and none will.
	NotExecuted
	// Executed: the call was answered with this error, by its handler or by an
	// interceptor in front of it.
	Executed
)

// known returns o, or OutcomeUnknown where o, from a peer, is not defined here.
func (o Outcome) known() Outcome {
	if o > Executed {
		return OutcomeUnknown
	}
	return o
}

func (o Outcome) String() string {
	switch o {
	case NotSent:
		return "not sent"
	case NotExecuted:
		return "not executed"
	case Executed:
		return "executed"
	default:
		return "outcome unknown"
	}
}

// An Error is the error of every operation of this package. [CodeOf] and [OutcomeOf] find it in the
// tree of an error.
//
// An Error matches, with [errors.Is], the errors that it wraps. Those with [CodeDeadlineExceeded]
// and [CodeCanceled] also match the errors of package context, and those with [CodeCorrupt] match
// [ErrCorrupt]. An Error that this package returned must not be changed.
type Error struct {
	Code    Code
	Op      string // "call audio.AudioControl/SetParam", "dial audio_ctrl_0", ...; may be empty
	Msg     string
	Outcome Outcome // of a call; meaningless for other operations
	Remote  bool    // the peer sent this error
	Err     error   // the cause in this process, or nil
	// Taken is of a streaming call: how many of the items that this side sent the code of the other
	// side has taken. It is exact if Remote is true, and otherwise what is known: at least so many.
	Taken uint64

	told error // a cause whose text is part of Msg
}

// ErrCorrupt is matched by every error whose code is CodeCorrupt.
var ErrCorrupt = errors.New("peer broke the protocol")

func (e *Error) Error() string {
	s := e.Code.String()
	if e.Op != "" {
		s = e.Op + ": " + s
	}
	if t := e.text(); t != "" {
		s += ": " + t
	}
	if e.Outcome == NotExecuted || e.Outcome == NotSent && !e.meets() {
		s += " (" + e.Outcome.String() + ")"
	}
	return s
}

// meets reports whether the error is of an operation that makes a connection, or of none. Such an
// error has no outcome.
func (e *Error) meets() bool {
	for _, op := range []string{"listen ", "serve ", "dial ", "connect ", "make a client",
		"wait for a connection"} {
		if strings.HasPrefix(e.Op, op) {
			return true
		}
	}
	return e.Op == ""
}

// text returns the message and the cause, which travel to the peer, without code, operation and
// outcome.
func (e *Error) text() string {
	switch {
	case e.Err == nil:
		return e.Msg
	case e.Msg == "":
		return e.Err.Error()
	}
	return e.Msg + ": " + e.Err.Error()
}

// longestText is how much of an error's text travels.
const longestText = 4 << 10

// shorten cuts a text that is too long to travel, and appends its original length.
func shorten(s string, limit int) string {
	if limit = min(limit, longestText); len(s) <= limit {
		return s
	}
	suffix := fmt.Sprintf("... (%d bytes in all)", len(s))
	return s[:max(0, limit-len(suffix))] + suffix[:min(limit, len(suffix))]
}

// remoteError returns the error that the peer has sent. The peer chose the numbers and the text, so
// they are sanitized: the code is never CodeOK, and the text is no longer than a correct peer
// sends.
func remoteError(code Code, outcome Outcome, text string) *Error {
	if code = codeOf(uint16(code)); code == CodeOK {
		code = CodeUnknown
	}
	return &Error{Code: code, Outcome: outcome.known(), Remote: true,
		Msg: strings.ToValidUTF8(shorten(text, longestText), "\uFFFD")}
}

// verdictOf returns how err, or nil, is told to the peer at the end of a handshake or of a link.
func verdictOf(err error) verdict {
	if err == nil {
		return verdict{}
	}
	return verdict{CodeOf(err), shorten(err.Error(), longestText)}
}

// endOf returns the end of a stream for a reason. nil and io.EOF, which handlers pass on from what
// they read, stand for a complete stream.
func endOf(why error) shm.End {
	if why == nil || why == io.EOF {
		return shm.End{}
	}
	code, msg := CodeOf(why), why.Error()
	if e, ok := why.(*Error); ok {
		msg = e.text()
	}
	if code == CodeOK {
		code = CodeUnknown
	}
	return shm.End{Failed: true, Code: uint16(code), Text: shorten(msg, shm.MaxEndText)}
}

// Unwrap returns the cause of the error in this process, or nil.
func (e *Error) Unwrap() error {
	if e.Err != nil {
		return e.Err
	}
	return e.told
}

// Is reports whether target is the sentinel that stands for the error's code:
// [context.DeadlineExceeded], [context.Canceled], [ErrCorrupt] or [errors.ErrUnsupported].
func (e *Error) Is(target error) bool {
	switch target {
	case context.DeadlineExceeded:
		return e.Code == CodeDeadlineExceeded
	case context.Canceled:
		return e.Code == CodeCanceled
	case ErrCorrupt:
		return e.Code == CodeCorrupt
	case errors.ErrUnsupported:
		return e.Code == CodeUnsupported
	}
	return false
}

// CodeOf returns the code of the first [*Error] in the tree of err. It returns [CodeOK] for nil,
// the corresponding code for the errors of package context, and otherwise [CodeUnknown].
func CodeOf(err error) Code {
	if err == nil {
		return CodeOK
	}
	var e *Error // which is allocated
	switch {
	case errors.As(err, &e):
		return e.Code
	case errors.Is(err, context.DeadlineExceeded):
		return CodeDeadlineExceeded
	case errors.Is(err, context.Canceled):
		return CodeCanceled
	}
	return CodeUnknown
}

// OutcomeOf returns the outcome of the call that ended with err: [Executed] for nil, that of the
// first [*Error] in the tree of err, and otherwise [OutcomeUnknown].
func OutcomeOf(err error) Outcome {
	var e *Error
	switch {
	case err == nil:
		return Executed
	case errors.As(err, &e):
		return e.Outcome
	}
	return OutcomeUnknown
}

// Errorf returns an error for a handler to return. The code and the text are sent to the caller.
// The verb %w wraps an error for use within this process.
func Errorf(code Code, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: code, Msg: err.Error(), Outcome: Executed, told: errors.Unwrap(err)}
}

// Unimplemented returns the error for a method that a service lacks, named "<protocol>/<method>".
// Generated Unimplemented types return it.
func Unimplemented(method string) error {
	return &Error{Code: CodeUnimplemented, Msg: "the server does not implement " + method,
		Outcome: NotExecuted}
}

// UnimplementedStream returns the items of a streaming method that a service lacks: the error of
// [Unimplemented]. Generated Unimplemented types return it.
func UnimplementedStream[T any](method string) iter.Seq2[*T, error] {
	return func(yield func(*T, error) bool) { yield(nil, Unimplemented(method)) }
}

// The functions below finish errors; design.go describes the path of an error.

// callFailed returns a copy of err with the call of m as its operation.
func (m *MethodInfo) callFailed(err *Error) *Error {
	return err.at("call " + m.Protocol.Name + "/" + m.Name)
}

// sendFailed returns a copy of err with the sending of m as its operation.
func (m *MessageInfo) sendFailed(err *Error) *Error {
	return err.at("send " + m.Protocol.Name + "/" + m.Name)
}

// at returns a copy of e with the operation that failed.
func (e *Error) at(op string) *Error {
	c := *e
	c.Op = op
	return &c
}

// asError returns the *Error of an operation that failed with err, which may come from the system
// or from a [Transport]. An *Error in err's tree keeps its code.
func asError(err error, op string) *Error {
	var e *Error
	if errors.As(err, &e) {
		c := *e
		c.Op, c.Err = op, sys.ExplainOf(e.Err)
		return &c
	}
	code := CodeUnavailable
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		code = CodeUnsupported
	case errors.Is(err, domain.ErrName):
		code = CodeInvalidArgument
	case errors.Is(err, domain.ErrUnsafe), errors.Is(err, fs.ErrPermission):
		code = CodePermissionDenied
	case errors.Is(err, fs.ErrNotExist):
		code = CodeNotFound
	case sys.Exhausted(err):
		code = CodeResourceExhausted
	}
	return &Error{Code: code, Op: op, Err: sys.ExplainOf(err), Outcome: NotSent}
}

// invalid returns the error of an operation that was given an invalid argument.
func invalid(format string, args ...any) *Error {
	return &Error{Code: CodeInvalidArgument, Outcome: NotSent, Msg: fmt.Sprintf(format, args...)}
}

// contextError returns the error for a context that is done. A cause that differs from the
// context's error becomes the cause of the result.
func contextError(ctx context.Context) *Error {
	e := &Error{Code: CodeCanceled}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		e.Code = CodeDeadlineExceeded
	}
	if cause := context.Cause(ctx); cause != ctx.Err() {
		e.Err = cause
	}
	return e
}

// ended returns the error of an operation that cannot begin because ctx is done or nil, or nil.
func ended(ctx context.Context) *Error {
	if ctx == nil {
		return invalid("the context is nil; give context.Background()")
	}
	if ctx.Err() == nil {
		return nil
	}
	e := contextError(ctx)
	e.Outcome = NotSent
	return e
}
