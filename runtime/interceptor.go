package ipc

import (
	"context"
	"iter"
)

// A ClientInterceptor is called for every call of a connection. It makes the call with next.Invoke,
// or does not, and returns the error of the call. It must be safe for concurrent use.
type ClientInterceptor func(ctx context.Context, call Call, next Caller) error

// A ServerCall describes what a client has started: a call, a streaming call, a one-way message, or
// a stream.
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
	// A streaming call has Request and Reply as far as its method has one of them.
	Request, Reply any
	// In and Out are the items of a streaming call: those of the client, and what takes those of
	// the handler. An interceptor may put others around them before it calls next. Out returns
	// false once the call has ended.
	In  iter.Seq2[any, error]
	Out func(item any) bool
	// Body is the encoded request or message as it arrived. It must not be changed or kept. With
	// [WithTrustedClients], the client can change the body of a call in place at any time.
	Body []byte
	// Sum is what the server's Guard was told of a call, and 0 without a Guard. Equal requests of
	// a method have equal sums.
	Sum uint64

	codec   *codec
	passage *passage // nil of what is not a call
	refSeq  uint64   // the request's number as its message has it
}

// A ServerInterceptor is called for everything that a client can start. It runs the handler by
// calling next. To refuse, it returns an error without calling next. It should refuse a [Kind] that
// it does not know. It must be safe for concurrent use.
//
// For a call and a streaming call, next returns the handler's error, and the interceptor's error is
// sent to the client. A one-way message that is refused is dropped, counted ([Stats.Dropped]) and
// logged, because it has no answer. For a stream, next opens the stream, runs the handler
// and returns when the stream has ended; if the interceptor returns an error without calling next,
// the client's attempt to open the stream fails with it.
//
// It may return before next has. Then the handler goes on; a one-way message and a call in place
// wait for it, and [Handler.Handle] for an item that it sends just then, as long as the carrier
// takes for that. next fails if it is called after the interceptor has returned.
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
