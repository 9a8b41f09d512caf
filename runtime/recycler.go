package ipc

import (
	"context"
	"sync"
	"sync/atomic"
)

// A Recycler is a [Caller] for callers that do not keep their replies. A generated client that is
// made with it decodes each reply of a method into the object of the one before, and leaves strings
// and vectors of bytes in the received message, whose memory is the Recycler's. So a reply of a
// shape that has come before costs no allocation.
//
// A reply is valid until the next call of the same method through the Recycler begins. An item of a
// streaming call is valid until the loop body asks for the next one, or, after the loop was left,
// until that next call. What is kept longer must be copied (slices.Clone, strings.Clone). Neither
// the caller nor the interceptors of its connection may put objects of their own into a reply: the
// next one is decoded into them. A call that fails leaves no reply, and what it may have begun to
// decode is not used again.
//
// A Recycler belongs to one goroutine at a time: each goroutine that calls makes its own, over the
// same connection. A call of a method while another one goes on, also in the loop body of a
// streaming call, fails with [CodeFailedPrecondition] and outcome [NotSent]. Goroutines that call
// in turn, and look at their replies meanwhile, read each other's; the race detector says so.
//
// Its memory is that of the last reply of each method. After a much longer reply than those that
// follow, the parts of the object are let go, too.
type Recycler struct {
	caller Caller
	shows  bool     // code of the user sees replies before they are decoded
	slots  sync.Map // *MethodInfo to *replySlot
}

// NewRecycler returns a [Recycler] that calls through c: a [*Conn], a [*Client], the client of a
// group, or any other. Replies that c does not decode itself, such as those of a fake, and of
// carriers the items, are new objects.
func NewRecycler(c Caller) *Recycler {
	if c == nil {
		c = nilCaller{}
	}
	return &Recycler{caller: c, shows: showsReplies(c)}
}

// showsReplies reports whether code of the user gets the calls of c before their replies are
// decoded: interceptors, or c itself.
func showsReplies(c Caller) bool {
	conn, ok := c.(*Conn)
	return !ok || conn != nil && conn.chain != nil
}

// Invoke implements [Caller], for code that has its own object for the reply: it passes the call on
// as it is. Generated clients reuse what they are given by the Recycler.
func (r *Recycler) Invoke(ctx context.Context, call Call) error {
	if r == nil {
		return nilCaller{}.Invoke(ctx, call)
	}
	return r.caller.Invoke(ctx, call)
}

// A replySlot has the memory of the replies of a method.
type replySlot struct {
	busy   atomic.Bool  // a call goes on
	memory *replyMemory // nil: none that may be used
}

// begin takes the slot of a method for a call. end must be called.
func (r *Recycler) begin(m *MethodInfo) (*replySlot, error) {
	if r == nil {
		return nil, m.callFailed(errNilCaller)
	}
	v, ok := r.slots.Load(m)
	if !ok {
		v, _ = r.slots.LoadOrStore(m, new(replySlot))
	}
	s := v.(*replySlot)
	if s.busy.Swap(true) {
		return nil, m.callFailed(&Error{Code: CodeFailedPrecondition, Outcome: NotSent,
			Msg: "a call of this method goes on through the same Recycler, and its reply is in " +
				"use; make another Recycler: each goroutine needs its own"})
	}
	if s.memory == nil {
		s.memory = new(replyMemory)
	}
	return s, nil
}

// end gives a slot back. After a call that failed, or panicked, its memory is not used again: an
// object may be half decoded, and an interceptor may go on to decode.
func (s *replySlot) end(ok bool) {
	if !ok {
		s.memory = nil
	}
	s.busy.Store(false)
}

// recycledReply is Invoke through a Recycler.
func recycledReply[Rep any](ctx context.Context, r *Recycler, call Call) (*Rep, error) {
	s, err := r.begin(call.Method)
	if err != nil {
		return nil, err
	}
	ok := false
	defer func() { s.end(ok) }()
	m := s.memory
	rep, _ := m.object(call.Method).(*Rep)
	if r.shows {
		hide(m, rep)
	}
	m.decoded = false
	call.Reply, call.memory = rep, m
	if err := r.caller.Invoke(ctx, call); err != nil {
		return nil, err
	}
	ok = m.decoded // otherwise it may share parts with an object of the one who set it
	return rep, nil
}

// A replyMemory is an object that replies, or items, of a method are decoded into, one after the
// other.
type replyMemory struct {
	method  *MethodInfo // of the object
	reply   any         // nil, or a *Rep
	parts   any         // nil, or a *Rep that has the parts of the reply while they are hidden
	hidden  bool        // until the reply is decoded
	body    []byte      // in which parts of it lie
	decoded bool        // reply is what body says

	longest int // message since the object was new
	shorter int // messages in a row that were much shorter
}

// mostShorter is how many messages, each shorter than a quarter of the longest, an object of long
// ones is used for.
const mostShorter = 64

// object returns the object for the next message. One that has the parts of a long message, which
// shorter ones do not need, is replaced.
func (m *replyMemory) object(info *MethodInfo) any {
	if m.reply == nil || m.method != info || m.shorter >= mostShorter {
		*m = replyMemory{method: info, reply: info.newReply(), body: m.body}
	}
	return m.reply
}

// hide empties the object of m until a reply is decoded: interceptors, and fakes, that set some
// fields of a reply expect a new one.
func hide[Rep any](m *replyMemory, rep *Rep) {
	parts, _ := m.parts.(*Rep)
	if parts == nil {
		parts = new(Rep)
		m.parts = parts
	}
	var empty Rep
	*parts, *rep = *rep, empty
	m.hidden = true
}

// decode decodes body into the object. The object has parts in body until the next decode.
func (m *replyMemory) decode(info *MethodInfo, body []byte) error {
	m.decoded = false
	if m.hidden {
		m.hidden = false
		info.restoreReply(m.reply, m.parts)
	}
	switch n := len(body); {
	case n > m.longest:
		m.longest, m.shorter = n, 0
	case m.longest > keepShort && n < m.longest/4:
		m.shorter++
	default:
		m.shorter = 0
	}
	_, err := info.recycleReply(body, m.reply)
	m.decoded = err == nil
	return err
}

// takes reports whether the reply of a call is decoded into m: an interceptor may have set another
// object, or another method.
func (m *replyMemory) takes(call *Call) bool {
	return m != nil && m.method == call.Method && m.reply == call.Reply
}

// copy makes body that of m, and returns it. The memory is that of the body before, unless it is
// much longer.
func (m *replyMemory) copy(body []byte) []byte {
	if cap(m.body) > keepShort && len(body) < cap(m.body)/4 {
		m.body = nil
	}
	m.body = append(m.body[:0], body...)
	return m.body
}

// invokeForItems makes a call whose items are decoded into the memory of its method.
func (r *Recycler) invokeForItems(ctx context.Context, call Call) error {
	s, err := r.begin(call.Method)
	if err != nil {
		return err
	}
	ok := false
	defer func() { s.end(ok) }()
	call.memory = s.memory
	err = r.caller.Invoke(ctx, call)
	ok = err == nil
	return err
}
