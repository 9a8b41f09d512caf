package ipc

import (
	"context"
	"iter"
	"sync"
	"sync/atomic"

	flatbuffers "github.com/google/flatbuffers/go"
)

// This file is a call of Handler.Handle: what a connection is to the calls of a server.

// A carriedContext is the context of a handler whose call Handle has brought.
type carriedContext struct {
	context.Context
	peer     *Peer
	incoming incoming
	reply    replyMetadata
	call     *carried // that streams
	draining <-chan struct{}
	scratch  leases
}

// Value implements context.Context.
func (c *carriedContext) Value(key any) any {
	switch key.(type) {
	case peerKey:
		if c.peer != nil {
			return c.peer
		}
	case incomingKey:
		return &c.incoming
	case scratchKey:
		return &c.scratch
	case flowKey:
		if c.call != nil {
			return c.call
		}
	case drainingKey:
		if c.draining != nil {
			return c.draining
		}
	case outgoingKey: // of the caller's calls
		return nil
	}
	return c.Context.Value(key)
}

// A carried is a call of Handle. It is its own carrier, and its own stream of items.
type carried struct {
	execution
	in        *Inbound
	sentReply []byte // in place
	sentEpoch uint64

	gone       atomic.Bool           // the handler has returned, or the client wants no more items
	fault      atomic.Pointer[Error] // why the runtime has ended the call
	takenItems atomic.Uint64         // of the client
	sentItems  atomic.Uint64

	mu   sync.Mutex // of one that pulls
	next func() ([]byte, error, bool)
	stop func()
	own  []byte // a copy of an item

	sending sync.Mutex // of one that sends
}

// streams reports whether the method streams in the way of the call.
func (x *carried) streams() bool {
	r := x.route
	return r != nil && r.stream != nil && r.method.Streaming.out() == (x.in.Out != nil) &&
		(x.in.In == nil || r.method.Streaming.in())
}

// beginReply implements carrier.
func (x *carried) beginReply() *Error { return nil }

// encoded implements carrier.
func (x *carried) encoded() ([]byte, *Error) { return x.builder.FinishedBytes(), nil }

// willWait implements carrier.
func (x *carried) willWait() {}

// replyInPlace keeps the reply of a call in place, which build builds. A panic of build is an
// error.
func (x *carried) replyInPlace(build func(b *flatbuffers.Builder)) error {
	epoch, err := x.stamp()
	if err != nil {
		return err
	}
	body, failed := encode(x.builder, func() error { build(x.builder); return nil })
	if failed != nil {
		return cannotEncode(failed.Err)
	}
	x.sentReply, x.sentEpoch = body, epoch
	return nil
}

// end ends the use of the items when the handler, or an interceptor without it, has returned.
func (x *carried) end() {
	x.endSending()
	if x.mu.TryLock() { // otherwise pull sees gone
		defer x.mu.Unlock()
		x.stopPulling()
	}
}

// endSending returns when in.Out is not called any more.
func (x *carried) endSending() {
	x.sending.Lock()
	defer x.sending.Unlock()
	x.gone.Store(true)
}

// stopPulling ends the source of the items. The caller holds mu.
func (x *carried) stopPulling() {
	if x.stop != nil {
		x.stop()
		x.next, x.stop = nil, nil
	}
}

// received implements itemStream. Handlers may leave their loops and go on in others, so the source
// of the items is pulled.
func (x *carried) received(yield func([]byte, error) bool) {
	for {
		item, err, ok := x.pull()
		if !ok || !yield(item, err) || err != nil {
			return
		}
	}
}

// pull returns the next item of the client.
func (x *carried) pull() (item []byte, err error, ok bool) {
	if x.in.In == nil {
		return nil, nil, false
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if why := x.fault.Load(); why != nil {
		return nil, why, true
	}
	if !x.gone.Load() {
		if x.next == nil {
			x.next, x.stop = iter.Pull2(x.in.In)
		}
		item, err, ok = x.next()
	}
	if x.gone.Load() {
		x.stopPulling()
		return nil, errCallEnded, true
	}
	if !x.route.adopts { // a handler that outlives its interceptors has the item
		x.own = append(x.own[:0], item...)
		item = x.own
	}
	return item, err, ok
}

// owned implements itemStream. An item may be used again.
func (x *carried) owned() (int, *bool) { return 0, nil }

// took implements itemStream.
func (x *carried) took(int) { x.takenItems.Add(1) }

// send implements itemStream.
func (x *carried) send(_ *flatbuffers.Builder, item *content) (more bool, err *Error) {
	if _, err := x.stamp(); err != nil {
		return false, asCallError(err)
	}
	x.sending.Lock()
	defer x.sending.Unlock()
	if x.ended() {
		return false, nil
	}
	if !x.in.Out(item.whole()) {
		x.gone.Store(true)
		return false, nil
	}
	x.sentItems.Add(1)
	return true, nil
}

// ended implements itemStream.
func (x *carried) ended() bool { return x.gone.Load() || x.fault.Load() != nil }

// fail implements itemStream.
func (x *carried) fail(why *Error) { x.fault.CompareAndSwap(nil, why) }

// malformed implements itemStream.
func (x *carried) malformed(why *Error) { x.fail(why) }

// result implements itemStream.
func (x *carried) result(err error) error {
	if why := x.fault.Load(); why != nil {
		return why
	}
	return err
}

// known implements the counting of TakenFromContext.
func (x *carried) known() uint64 {
	if x.in.Known != nil {
		return x.in.Known.Load()
	}
	return x.sentItems.Load()
}
