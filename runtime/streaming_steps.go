package ipc

import (
	"context"
	"io"
	"iter"
	"sync"
)

// This file turns the sequences of streaming calls into steps, for code that does not want to be
// called. It lies over the interfaces that are generated, so it serves clients, fakes and proxies
// alike.

// A stepSource is a sequence of items that Send provides.
type stepSource[In any] struct {
	ctx    context.Context
	cancel context.CancelFunc
	items  chan *In
	taken  chan struct{} // one value for each item that was sent
	ended  chan struct{} // closed when the call has ended
	// stalled takes a value from a call that waits for Receive, while Send waits for the call.
	stalled chan struct{}

	closeOnce sync.Once
	closed    chan struct{} // by CloseSend
}

// stepsKey is the key of a value in the context of a call whose items are received step by step:
// the caller has an item while the call goes on, so a Recycler must not use it again.
type stepsKey struct{}

func newStepSource[In any](ctx context.Context) *stepSource[In] {
	s := &stepSource[In]{items: make(chan *In), taken: make(chan struct{}),
		ended: make(chan struct{}), stalled: make(chan struct{}), closed: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(context.WithValue(ctx, stepsKey{}, true))
	return s
}

// all is the sequence that the call ranges over.
func (s *stepSource[In]) all(yield func(*In, error) bool) {
	for {
		select {
		case item := <-s.items:
			more := yield(item, nil)
			select {
			case s.taken <- struct{}{}:
			case <-s.ended:
			}
			if !more {
				return
			}
		case <-s.closed:
			return
		case <-s.ctx.Done():
			yield(nil, context.Cause(s.ctx))
			return
		}
	}
}

// Send sends an item. It blocks while the other side has not taken enough of those before. The item
// may be changed afterwards. It returns io.EOF if the call has ended; what receives tells why. One
// goroutine at a time may call Send and CloseSend.
func (s *stepSource[In]) Send(item *In) error {
	if item == nil {
		return invalid("Send was given nil")
	}
	select {
	case <-s.closed:
		return &Error{Code: CodeFailedPrecondition, Outcome: NotSent,
			Msg: "Send after CloseSend"}
	default:
	}
	for items := s.items; ; {
		select {
		case items <- item:
			items = nil // wait until the call has taken it
		case <-s.taken:
			return nil
		case <-s.stalled:
		case <-s.ended:
			return io.EOF
		}
	}
}

// CloseSend tells the other side that no more items follow. It may be called again.
func (s *stepSource[In]) CloseSend() error {
	s.closeOnce.Do(func() { close(s.closed) })
	return nil
}

// Close ends the call, if it has not ended, and waits until its goroutines have. It must be called,
// and may be called again.
func (s *stepSource[In]) Close() error {
	s.cancel()
	<-s.ended
	return nil
}

// A BidiStream is a streaming call with items both ways, step by step. Send and Receive may be
// called concurrently, or in turn by one goroutine: while Send waits, the call does not wait for
// Receive, and up to 1,024 of its results are kept, which count as taken.
type BidiStream[In, Out any] struct {
	*stepSource[In]
	err error // why there are no more items; before ended is closed

	mu       sync.Mutex
	kept     []*Out        // results that Receive has not returned
	came     chan struct{} // receives a value when there may be some
	received chan struct{} // receives a value when there are none
}

// mostKept is how many results are kept for Receive while Send waits.
const mostKept = 1024

// OpenBidiStream begins a call of a method with items both ways: call is the method of a client, or
// of any value with the generated interface. The call has a goroutine of its own until it ends or
// Close is called.
func OpenBidiStream[In, Out any](ctx context.Context, call func(context.Context,
	iter.Seq2[*In, error]) iter.Seq2[*Out, error]) *BidiStream[In, Out] {
	s := &BidiStream[In, Out]{stepSource: newStepSource[In](ctx), came: make(chan struct{}, 1),
		received: make(chan struct{}, 1)}
	go s.run(call)
	return s
}

func (s *BidiStream[In, Out]) run(call func(context.Context,
	iter.Seq2[*In, error]) iter.Seq2[*Out, error]) {
	s.err = io.EOF
	defer close(s.ended)
	for item, err := range call(s.ctx, s.all) {
		if item == nil && err == nil {
			err = Errorf(CodeInternal, "the call yielded neither an item nor an error")
		}
		if err != nil {
			s.err = err
			return
		}
		if !s.hand(item) {
			s.err = contextError(s.ctx)
			return
		}
	}
}

// hand waits until Receive has returned the item, and those before it. It keeps them, and does not
// wait, while Send waits for the call: a fake ranges over the items of Send and yields results on
// the same goroutine. It reports false if the context has ended.
func (s *BidiStream[In, Out]) hand(item *Out) bool {
	s.mu.Lock()
	s.kept = append(s.kept, item)
	stalled := s.stalled
	if len(s.kept) > mostKept {
		stalled = nil
	}
	select {
	case <-s.received: // is old
	default:
	}
	s.mu.Unlock()
	signal(s.came)
	select {
	case <-s.received:
	case stalled <- struct{}{}:
	case <-s.ctx.Done():
		return false
	}
	return true
}

// Receive returns the next item. It returns io.EOF at the end of a call that succeeded, and
// otherwise the error of the call, and so does every later Receive.
func (s *BidiStream[In, Out]) Receive() (*Out, error) {
	for {
		if item := s.pop(); item != nil {
			return item, nil
		}
		select {
		case <-s.came:
		case <-s.ended:
			if item := s.pop(); item != nil { // the last one
				return item, nil
			}
			return nil, s.err
		}
	}
}

// pop returns the oldest result that is kept, or nil.
func (s *BidiStream[In, Out]) pop() *Out {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.kept) == 0 {
		return nil
	}
	item := s.kept[0]
	s.kept[0] = nil
	if s.kept = s.kept[1:]; len(s.kept) > 0 {
		signal(s.came) // for another goroutine that receives
	} else {
		s.kept = nil
		signal(s.received)
	}
	return item
}

// A ClientStream is a streaming call with items of the client and one reply, step by step.
type ClientStream[In, Rep any] struct {
	*stepSource[In]
	reply *Rep
	err   error
}

// OpenClientStream begins a call of a method with items of the client, as [OpenBidiStream] does.
func OpenClientStream[In, Rep any](ctx context.Context, call func(context.Context,
	iter.Seq2[*In, error]) (*Rep, error)) *ClientStream[In, Rep] {
	s := &ClientStream[In, Rep]{stepSource: newStepSource[In](ctx)}
	go func() {
		defer close(s.ended)
		s.reply, s.err = call(s.ctx, s.all)
	}()
	return s
}

// CloseAndReceive tells the server that no more items follow, and returns its reply.
func (s *ClientStream[In, Rep]) CloseAndReceive() (*Rep, error) {
	_ = s.CloseSend()
	<-s.ended
	return s.reply, s.err
}
