package ipc

import "context"

// A ClientInterceptor sees every call of a connection. It makes the call, or
// does not, by next.
type ClientInterceptor func(ctx context.Context, call Call, next Caller) error

// A ServerCall is what a client has started: a call, a one-way message, or a stream.
// Interceptors see it.
type ServerCall struct {
	Kind     Kind
	Protocol *Protocol // of the method or message; of a stream, that of its struct
	Name     string    // of the method or message, unqualified; of a stream, its name
	// Method describes whatever was started, and is never nil. Of a message it has the protocol,
	// the name and the id, of a stream the protocol and the name; neither is idempotent or
	// read-only.
	Method *MethodInfo

	InPlace bool   // the call is handled in place
	Seq     uint64 // the number of the request or message; a stream has none
	Epoch   uint64 // the client's, or 0
	Peer    *Peer
	// Request is the *Req of a call, or the *M of a message. Reply is the *Rep of a call, once
	// next has returned without an error. Both are nil for a call that is handled in
	// place, and for a stream.
	Request, Reply any
	// Body is the request or message as it arrived. It may not be kept. With
	// WithTrustedClients, the client can change that of a call in place meanwhile.
	Body []byte

	codec  *codec
	refSeq uint64 // the request's number as its message has it
}

// A ServerInterceptor sees everything that a client can start, of whatever kind, so that
// what it refuses is refused: it runs the handler, or does not, by next. It should
// refuse a kind that it does not know.
//
// For a call, next returns the handler's error, and the interceptor's error is the
// client's. A one-way message that is refused is dropped, counted and logged, since nobody
// waits for an answer. For a stream, next opens it, runs the handler and returns at the
// stream's end; an error without next is what the client's attempt to open it fails with.
type ServerInterceptor func(ctx context.Context, call *ServerCall,
	next func(context.Context) error) error

type callerFunc func(context.Context, Call) error

func (f callerFunc) Invoke(ctx context.Context, call Call) error { return f(ctx, call) }

// chainClient puts interceptors in front of last.
func chainClient(last Caller, interceptors []ClientInterceptor) Caller {
	for i := len(interceptors) - 1; i >= 0; i-- {
		next, f := last, interceptors[i]
		last = callerFunc(func(ctx context.Context, call Call) error { return f(ctx, call, next) })
	}
	return last
}
