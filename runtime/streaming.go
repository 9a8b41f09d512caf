package ipc

import (
	"context"
	"fmt"
	"iter"
	"sync/atomic"
)

// This file is the border between generated code and the runtime for methods that stream.

// A Streaming says which sides of a method send items in place of one message: the attribute
// "streaming" of the schema.
type Streaming uint8

// The kinds of methods.
const (
	Unary           Streaming = iota // one request, one reply
	ClientStreaming                  // items as requests, one reply
	ServerStreaming                  // one request, items as replies
	BidiStreaming                    // items both ways
)

func (s Streaming) String() string {
	switch s {
	case Unary:
		return "none"
	case ClientStreaming:
		return "client"
	case ServerStreaming:
		return "server"
	case BidiStreaming:
		return "bidi"
	}
	return fmt.Sprintf("streaming %d", uint8(s))
}

// in reports whether the client sends items, out whether the server does.
func (s Streaming) in() bool  { return s == ClientStreaming || s == BidiStreaming }
func (s Streaming) out() bool { return s == ServerStreaming || s == BidiStreaming }

// InvokeServerStream makes a streaming call through c: one request, items as replies. The call
// begins when the result is ranged over, and costs nothing before. Leaving the loop ends the call:
// the handler's context is cancelled at once, or as soon as the ring has room.
//
// The result serves one range; another one yields an error with [CodeFailedPrecondition] and
// outcome [NotSent]. An error is the last that it yields, and is an [*Error]. Items belong to the
// loop body, which may keep them, unless c is a [Recycler]. The loop body runs on its own goroutine
// alone.
func InvokeServerStream[Req, Rep any](ctx context.Context, c Caller, m *Method[Req, Rep],
	req *Req) iter.Seq2[*Rep, error] {
	return results[Rep](ctx, c, Call{Method: &m.info, Request: req})
}

// InvokeBidiStream makes a streaming call with items both ways, under the rules of
// [InvokeServerStream]. in is ranged over on a goroutine of its own, which begins when the call
// does. If in yields an error, the call ends with it. Leaving the loop over the result does not
// wait for in: one that blocks keeps its goroutine until it comes back.
func InvokeBidiStream[Req, Rep any](ctx context.Context, c Caller, m *Method[Req, Rep],
	in iter.Seq2[*Req, error]) iter.Seq2[*Rep, error] {
	return results[Rep](ctx, c, Call{Method: &m.info, In: anyItems(in)})
}

// InvokeClientStream makes a streaming call through c: items as requests, one reply. It begins at
// once, ranges over in on the caller's goroutine, and blocks until the reply arrives. If in yields
// an error, the call is cancelled and fails with it. in is left early if the server answers before
// its end.
func InvokeClientStream[Req, Rep any](ctx context.Context, c Caller, m *Method[Req, Rep],
	in iter.Seq2[*Req, error]) (*Rep, error) {
	if c == nil {
		c = nilCaller{}
	}
	call := Call{Method: &m.info, In: anyItems(in)}
	if r, ok := c.(*Recycler); ok {
		return recycledReply[Rep](ctx, r, call)
	}
	rep := new(Rep)
	call.Reply = rep
	if err := c.Invoke(ctx, call); err != nil {
		return nil, err
	}
	return rep, nil
}

// anyItems returns in with another type. A nil in has no items.
func anyItems[T any](in iter.Seq2[*T, error]) iter.Seq2[any, error] {
	return func(yield func(any, error) bool) {
		if in == nil {
			return
		}
		more := true // a source that ignores the end must not come back
		in(func(item *T, err error) bool {
			if !more {
				return false
			}
			if item == nil && err == nil {
				err = invalid("the source of items yielded neither an item nor an error")
			}
			more = yield(item, err) && err == nil
			return more
		})
	}
}

// results returns the items of a call, which begins when they are ranged over.
func results[Rep any](ctx context.Context, c Caller, call Call) iter.Seq2[*Rep, error] {
	if c == nil {
		c = nilCaller{}
	}
	var begun atomic.Bool
	return func(yield func(*Rep, error) bool) {
		if begun.Swap(true) {
			yield(nil, call.Method.callFailed(&Error{Code: CodeFailedPrecondition, Outcome: NotSent,
				Msg: "the result of a streaming call serves one range; make another call"}))
			return
		}
		left := false
		call.Out = func(item any) bool {
			left = left || !yield(item.(*Rep), nil)
			return !left
		}
		invoke := c.Invoke
		if r, ok := c.(*Recycler); ok && ctx.Value(stepsKey{}) == nil {
			invoke = r.invokeForItems
		}
		if err := invoke(ctx, call); err != nil && !left {
			yield(nil, err)
		}
	}
}

// A streamHandler handles the streaming calls of a method. req is nil if the client sends items,
// and rep if the handler does.
type streamHandler func(ctx context.Context, req any, in iter.Seq2[any, error],
	out func(any) bool) (rep any, err error)

// HandleServerStream returns a [Route] that handles the streaming calls of m with f. f is called
// concurrently, each call on a goroutine of its own. Its context ends with the call's deadline,
// when the client ends the call, and when the connection ends. What f returns is called with a
// yield function that sends the item, and that blocks while the client has not taken enough of
// those before. It returns false once the call has ended; what is yielded after that is ignored.
// The call ends without an error when the sequence does, and with the first error that is yielded.
// An item must not be changed while it is yielded.
func HandleServerStream[Req, Rep any](m *Method[Req, Rep],
	f func(context.Context, *Req) iter.Seq2[*Rep, error]) Route {
	return streamRouteOf(m, func(ctx context.Context, req any, _ iter.Seq2[any, error],
		out func(any) bool) (any, error) {
		return nil, sendItems(f(ctx, req.(*Req)), out)
	})
}

// HandleBidiStream returns a [Route] for streaming calls with items both ways, as
// [HandleServerStream] does. in yields the items of the client, and blocks while there are none. It
// ends at the client's half-close; an error is the last that it yields. It belongs to the
// goroutine of f and serves several ranges: leaving a loop over it pauses it, and the next range
// goes on behind it. After the call, it yields an error.
func HandleBidiStream[Req, Rep any](m *Method[Req, Rep],
	f func(context.Context, iter.Seq2[*Req, error]) iter.Seq2[*Rep, error]) Route {
	return streamRouteOf(m, func(ctx context.Context, _ any, in iter.Seq2[any, error],
		out func(any) bool) (any, error) {
		return nil, sendItems(f(ctx, typedItems[Req](in)), out)
	})
}

// HandleClientStream returns a [Route] for streaming calls with items of the client, as
// [HandleBidiStream] does, and one reply, as [Handle] does. f may answer before the client has sent
// all of its items.
func HandleClientStream[Req, Rep any](m *Method[Req, Rep],
	f func(context.Context, iter.Seq2[*Req, error]) (*Rep, error)) Route {
	return streamRouteOf(m, func(ctx context.Context, _ any, in iter.Seq2[any, error],
		_ func(any) bool) (any, error) {
		return replied(f(ctx, typedItems[Req](in)))
	})
}

func streamRouteOf[Req, Rep any](m *Method[Req, Rep], f streamHandler) Route {
	return Route{codec: codecOf(m), stream: f}
}

// sendItems calls out with what a handler yields.
func sendItems[T any](items iter.Seq2[*T, error], out func(any) bool) (failed error) {
	if items == nil {
		return Errorf(CodeInternal, "the handler returned no sequence")
	}
	more := true
	items(func(item *T, err error) bool {
		switch {
		case !more:
			return false
		case err != nil:
			failed, more = err, false
		case item == nil:
			failed = Errorf(CodeInternal, "the handler yielded neither an item nor an error")
			more = false
		default:
			more = out(item)
		}
		return more
	})
	return failed
}

func typedItems[T any](in iter.Seq2[any, error]) iter.Seq2[*T, error] {
	return func(yield func(*T, error) bool) {
		in(func(item any, err error) bool {
			typed, _ := item.(*T)
			return yield(typed, err)
		})
	}
}

type drainingKey struct{}

// DrainingFromContext returns a channel that is closed when the server that handles a call begins
// to shut down ([Server.Shutdown], [Server.Run]). A streaming call that does not end by itself
// should end then: the server waits for it. The channel is nil if ctx does not come from a handler.
func DrainingFromContext(ctx context.Context) <-chan struct{} {
	draining, _ := ctx.Value(drainingKey{}).(<-chan struct{})
	return draining
}

type flowKey struct{}

// TakenFromContext returns how many of the items that the handler of a streaming call has yielded
// the client's code is known to have taken: all of them or fewer while the call goes on and when
// the connection has ended, and exactly so many once the client has ended the call. ok is false if
// ctx does not come from the handler of a streaming call.
func TakenFromContext(ctx context.Context) (items uint64, ok bool) {
	f, ok := ctx.Value(flowKey{}).(interface{ known() uint64 })
	if !ok {
		return 0, false
	}
	return f.known(), true
}
