package ipc

import "context"

// A ClientInterceptor sees every call of a connection. It makes the call, or
// does not, by next.
type ClientInterceptor func(ctx context.Context, call Call, next Caller) error

// A ServerCall is a call that is being handled. Interceptors see it.
type ServerCall struct {
	Method *MethodInfo
	Seq    uint64 // the request's number
	Epoch  uint64 // the caller's, or 0
	Peer   *Peer
	// Request is the *Req. Reply is the *Rep, once next has returned
	// without an error. Both are nil for a call that is handled in place.
	Request, Reply any
	// Body is the request as it arrived. It may not be kept.
	Body []byte

	route  *Route
	refSeq uint64 // the request's number as its message has it
}

// A ServerInterceptor sees every call that a server handles. It runs the
// handler, or does not, by next.
type ServerInterceptor func(ctx context.Context, call *ServerCall, next func(context.Context) error) error

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

// chainServer runs interceptors around last.
func chainServer(ctx context.Context, call *ServerCall, interceptors []ServerInterceptor, last func(context.Context) error) error {
	if len(interceptors) == 0 {
		return last(ctx)
	}
	return interceptors[0](ctx, call, func(ctx context.Context) error {
		return chainServer(ctx, call, interceptors[1:], last)
	})
}
