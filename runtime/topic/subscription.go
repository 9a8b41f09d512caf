package topic

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/shm"
)

// SubscribeOptions say what a subscriber wants.
type SubscribeOptions struct {
	// Policy says what happens if the subscription is slower than the publisher.
	Policy Policy
	// History is how many messages from before the subscription it gets, if the publisher still
	// keeps them. A subscription that is older than its publisher gets all that is kept.
	History int
	// InPlace makes Read leave messages where they are. The publisher limits the number of such
	// subscriptions. Publishers are trusted then not to change a message while it is read.
	InPlace bool
	// Recycling decodes messages into objects that were used before, and leaves their strings and
	// vectors of bytes in the memory of the subscription, so that a message of a shape that has
	// come before costs no allocation. An object that was read is valid until the next one is: All
	// yields the same one again and again, and what is given to Next and Latest may have no parts
	// that are in use elsewhere. What is kept longer must be copied (slices.Clone,
	// strings.Clone). It concerns [TypedSubscription]: a subscription of bytes has no objects.
	Recycling bool
	// OnBreak, if it is not nil, is told why a publisher is gone, after its last message: an error
	// with CodeUnavailable, which matches io.ErrUnexpectedEOF unless the publisher has closed the
	// topic in order. The reading call that has noticed it waits for the next publisher if OnBreak
	// returns nil, and otherwise returns that error; then the next call waits. Until that call, or
	// Close, the memory of the publisher that is gone stays mapped. OnBreak must not use the
	// subscription.
	OnBreak func(why error) error
}

// A Source is where the publisher of a topic is found: the server of a [Channel], or the one that a
// client follows. An [ipc.Client] and a client of a group are sources.
type Source interface {
	LinkSource() (*ipc.LinkSource, error)
}

type channel struct {
	name string
	opts []ipc.DialOption
}

func (c channel) LinkSource() (*ipc.LinkSource, error) {
	return ipc.NewLinkSource(c.name, c.opts...)
}

// Channel is the source of topics that the server of a channel publishes.
func Channel(name string, opts ...ipc.DialOption) Source { return channel{name, opts} }

// A Subscription receives the messages of a topic. One goroutine at a time may read, and any may
// call Close.
type Subscription struct {
	info   Info
	opts   SubscribeOptions
	source *ipc.LinkSource // nil with a feed
	feed   Feed            // nil for shared memory
	op     string

	over   context.Context // done when Close is called
	close  context.CancelFunc
	active atomic.Pointer[attachment] // for Close

	mu      sync.Mutex // held by the call that reads
	cur     *attachment
	left    *attachment // whose memory is to be given back
	err     error       // why the subscription has ended
	trouble error       // of the last attempt to find a publisher
	buf     []byte
	since   bool // there was no publisher when the subscription was made

	life    uint64 // of the last publisher, if met
	next    uint64 // its next message, as it counts
	gaps    uint64 // the numbers left out before that
	met     bool   // there has been a publisher
	broken  bool   // the next message is the first one of another publisher
	arrival Arrival
}

// An attachment is the memory of one publisher, and the connection to it.
type attachment struct {
	r    *shm.TopicReader
	text string // describes the messages
	end  *ipc.LinkEnd
	free []func() error
	gone bool // the publisher is, and only what it has left is read
}

// look finds out whether the publisher is gone. It may be that only the connection is, and that the
// publisher goes on: that is not read, or a slow reader would never come to the next publisher.
func (a *attachment) look() {
	select {
	case <-a.end.Down():
		if !a.gone {
			a.gone = true
			a.r.Finish()
		}
	default:
	}
}

func (a *attachment) release() error {
	var errs []error
	for _, f := range a.free {
		errs = append(errs, f())
	}
	a.free = nil
	return errors.Join(errs...)
}

// Subscribe subscribes to a topic. If there is no publisher at the moment, the reading calls wait
// for one. An error says that the subscription cannot succeed: the publisher has refused it, for
// example. ctx bounds Subscribe alone.
func Subscribe(ctx context.Context, from Source, info *Info,
	o SubscribeOptions) (*Subscription, error) {
	if info == nil || info.Protocol == nil || from == nil {
		return nil, refused(ipc.CodeInvalidArgument, "Subscribe was given no Source or no Info")
	}
	s := &Subscription{info: *info, opts: o, op: "subscription to " + info.Protocol.Name}
	if o.Policy > Latest || o.History < 0 {
		return nil, s.failed(refused(ipc.CodeInvalidArgument, "policy %d, history %d", o.Policy,
			o.History))
	}
	var err error
	if feeds, ok := from.(FeedSource); ok {
		s.feed, err = feeds.Feed(ctx, &s.info, o)
	} else {
		s.source, err = from.LinkSource()
	}
	if err != nil {
		return nil, s.failed(err)
	}
	s.over, s.close = context.WithCancel(context.Background())
	if s.feed != nil {
		return s, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.attach(ctx); err != nil {
		if !passes(err) || ctx.Err() != nil {
			s.close()
			return nil, s.failed(err)
		}
		s.since = true
	}
	return s, nil
}

// passes reports whether an attempt to subscribe has failed for a reason that time may change.
func passes(err error) bool {
	switch ipc.CodeOf(err) {
	case ipc.CodeUnavailable, ipc.CodeResourceExhausted, ipc.CodeDeadlineExceeded:
		return true
	}
	return false
}

// failed returns err with the operation that has failed.
func (s *Subscription) failed(err error) error {
	if e, ok := err.(*ipc.Error); ok {
		c := *e
		c.Op = s.op
		return &c
	}
	return err
}

func (s *Subscription) corrupt(err error) error {
	return s.failed(&ipc.Error{Code: ipc.CodeCorrupt, Msg: "the publisher broke the protocol",
		Err: err})
}

// also returns err, with a further error if there is one.
func also(err, further error) error {
	if further == nil {
		return err
	}
	return errors.Join(err, further)
}

// attach connects to the publisher, if there is one. It needs mu.
func (s *Subscription) attach(ctx context.Context) error {
	if err := s.giveBack(); err != nil {
		return err
	}
	a := &attachment{}
	policy := uint32(s.opts.Policy)
	if s.opts.InPlace {
		policy |= inPlaceFlag
	}
	history := uint32(min(s.opts.History, everything))
	if s.met || s.since {
		history = everything
	} else if s.opts.Policy == Latest {
		history = max(history, 1)
	}
	end, err := s.source.Open(ctx, s.info.Protocol, [4]uint32{1, history, 0, policy}, a.take(s))
	if err != nil {
		return also(err, a.release())
	}
	a.end = end
	if err := s.resume(a); err != nil {
		end.Leave(nil)
		return also(s.corrupt(err), a.release())
	}
	s.cur = a
	s.active.Store(a)
	if s.over.Err() != nil {
		end.Leave(nil)
	}
	return nil
}

// take maps the memory that the publisher hands over, and returns its segment.
func (a *attachment) take(s *Subscription) func([]shm.Memory, [3]int) ([]byte, error) {
	return func(memory []shm.Memory, sizes [3]int) ([]byte, error) {
		segment, err := a.keep(memory[0], sizes[0], memory[0].MapReadOnly)
		if err != nil {
			return nil, err
		}
		page, err := a.keep(memory[1], sizes[1], memory[1].Map)
		if err != nil {
			return nil, err
		}
		// The description of the messages is behind those.
		a.text = string(segment[max(0, len(segment)-sizes[2]):])
		a.r, err = shm.NewTopicReader(segment[:max(0, len(segment)-sizes[2])], page,
			s.opts.Policy == Lossless)
		return segment, err
	}
}

// keep maps a memory, and seals it against what could make an access fault.
func (a *attachment) keep(m shm.Memory, size int, mapping func(int) ([]byte, error)) ([]byte,
	error) {
	mem, err := mapping(size)
	if err != nil {
		return nil, err
	}
	a.free = append(a.free, func() error { return m.Unmap(mem) })
	return mem, m.Seal(size)
}

// resume decides at which message an attachment begins.
func (s *Subscription) resume(a *attachment) error {
	life := a.r.Life()
	switch {
	case s.met && life == s.life:
		return a.r.Resume(s.next, s.gaps)
	case s.met || s.since:
		s.broken = s.met
		s.life, s.met = life, true
		return a.r.Resume(0, 0) // all that is missing was published since the subscription was made
	}
	s.life, s.met = life, true
	return nil
}

// detach ends the use of a publisher's memory. It needs mu.
func (s *Subscription) detach() error {
	if s.feed != nil {
		return s.feed.Close()
	}
	s.leave()
	return s.giveBack()
}

// leave ends the connection to the publisher. giveBack has to follow. It needs mu.
func (s *Subscription) leave() {
	a := s.cur
	if a == nil {
		return
	}
	s.cur, s.left = nil, a
	s.active.Store(nil)
	s.next, s.gaps = a.r.Position(), a.r.Gaps()
	a.end.Leave(nil)
}

// giveBack unmaps the memory of a publisher that was left. It needs mu.
func (s *Subscription) giveBack() error {
	a := s.left
	if a == nil {
		return nil
	}
	s.left = nil
	return a.release()
}

// end ends the subscription because of err. It needs mu.
func (s *Subscription) end(err error) error {
	s.err = also(s.failed(err), s.detach())
	return s.err
}

// Close ends the subscription. A call that reads fails; Close waits for its callback, and so must
// not be called by that, nor by OnBreak. Further calls do nothing.
func (s *Subscription) Close() error {
	s.close()
	if a := s.active.Load(); a != nil {
		a.end.Leave(nil)
	}
	if s.feed != nil {
		_ = s.feed.Close() // and a call that reads; detach has the error
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.detach()
}

// ended returns why nothing can be read. It needs mu.
func (s *Subscription) ended(ctx context.Context) error {
	switch {
	case s.over.Err() != nil:
		return s.failed(refused(ipc.CodeUnavailable, "the subscription is closed"))
	case s.err != nil:
		return s.err
	case ctx.Err() != nil:
		return s.late(ctx)
	}
	return nil
}

func (s *Subscription) late(ctx context.Context) error {
	code := ipc.CodeCanceled
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		code = ipc.CodeDeadlineExceeded
	}
	if s.cur == nil && s.feed == nil {
		return s.failed(&ipc.Error{Code: code, Msg: "there is no publisher", Err: s.trouble})
	}
	return s.failed(&ipc.Error{Code: code, Msg: "no message"})
}

// Next waits for the next message, and copies it to buf, or to a longer slice if buf is too short.
func (s *Subscription) Next(ctx context.Context, buf []byte) (message []byte, a Arrival,
	err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.copyNext(ctx, buf)
}

func (s *Subscription) copyNext(ctx context.Context, buf []byte) (message []byte, a Arrival,
	err error) {
	if s.feed != nil {
		return s.nextOfFeed(ctx, buf)
	}
	message = buf
	err = s.receive(ctx, func(r *shm.TopicReader) (ok bool, err error) {
		var m shm.TopicMessage
		message, m, ok, err = r.Next(message, s.opts.Policy == Latest)
		if !ok || err != nil {
			return false, err
		}
		a, err = s.accept(message, m)
		return true, err
	})
	return message, a, err
}

// Read waits for the next message and passes it to f, which may not keep or change it. It returns
// f's error. With SubscribeOptions.InPlace, the message lies where the publisher wrote it;
// otherwise, it is a copy.
func (s *Subscription) Read(ctx context.Context, f func(message []byte, a Arrival) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.opts.InPlace || s.feed != nil {
		message, a, err := s.copyNext(ctx, s.buf)
		if err != nil {
			return err
		}
		s.buf = message
		return f(message, a)
	}
	var message []byte
	var own error
	if err := s.receive(ctx, func(r *shm.TopicReader) (ok bool, err error) {
		var m shm.TopicMessage
		message, m, ok, err = r.Claim(s.opts.Policy == Latest)
		if !ok || err != nil {
			return false, err
		}
		a, err := s.accept(message, m)
		if err == nil {
			own = f(message, a)
		}
		return true, err
	}); err != nil {
		return err
	}
	return own
}

// All waits for message after message, as Read does, until ctx is done or the subscription ends:
// then it yields the error as the last element. A message belongs to the body of the loop.
// [Subscription.Arrival] has the rest. Unless it reads in place, the body may use the subscription:
// Latest, a further Next, Close.
func (s *Subscription) All(ctx context.Context) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		if s.opts.InPlace && s.feed == nil {
			s.allInPlace(ctx, yield)
			return
		}
		var message []byte
		for {
			var err error
			if message, _, err = s.Next(ctx, message[:0]); err != nil {
				yield(nil, err)
				return
			}
			if !yield(message, nil) {
				return
			}
		}
	}
}

func (s *Subscription) allInPlace(ctx context.Context, yield func([]byte, error) bool) {
	for more := true; more; {
		if err := s.Read(ctx, func(message []byte, _ Arrival) error {
			more = yield(message, nil)
			return nil
		}); err != nil {
			yield(nil, err)
			return
		}
	}
}

// Origin returns what the publisher says of the topic: the description of its messages, and of the
// options Depth and MaxMessage. It is for those that publish the messages elsewhere, as a [Relay],
// and know but name and fingerprint. ok is false if there is no publisher, or no shared memory.
func (s *Subscription) Origin() (p *ipc.Protocol, o Options, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cur == nil {
		return nil, o, false
	}
	known := *s.info.Protocol
	known.Schema = s.cur.text
	g := s.cur.r.Geometry()
	return &known, Options{Depth: g.Depth, MaxMessage: g.Longest}, true
}

// Arrival describes the message that was read last. It must be called by the
// goroutine that reads.
func (s *Subscription) Arrival() Arrival { return s.arrival }

// accept decides on a message, and says of it what the subscriber learns.
func (s *Subscription) accept(message []byte, m shm.TopicMessage) (Arrival, error) {
	if err := s.verify(message, m.Number); err != nil {
		return Arrival{}, err
	}
	s.arrival = Arrival{Number: m.Number, Lost: m.Lost, Epoch: m.Epoch, Break: s.broken,
		Published: time.Unix(0, m.Published)}
	s.broken = false
	return s.arrival, nil
}

// verify checks the bytes of a message. Its error ends the subscription. It needs mu.
func (s *Subscription) verify(message []byte, number uint64) error {
	if s.info.Verify == nil {
		return nil
	}
	if err := s.info.Verify(message); err != nil {
		return s.end(&ipc.Error{Code: ipc.CodeCorrupt, Err: err,
			Msg: fmt.Sprintf("message %d of the publisher is malformed", number)})
	}
	return nil
}

// receive calls try until it returns true or an error, and waits in between. It needs mu.
func (s *Subscription) receive(ctx context.Context,
	try func(*shm.TopicReader) (ok bool, err error)) error {
	for {
		if err := s.ended(ctx); err != nil {
			return err
		}
		if s.cur == nil {
			if err := s.await(ctx); err != nil {
				return err
			}
		}
		a := s.cur
		a.look()
		ok, err := s.once(a, try)
		if ok || err != nil {
			return err
		}
		if a.gone {
			if a.r.Ready() { // the reader has skipped messages, and there are more
				continue
			}
			if err := s.lost(a); err != nil {
				return err
			}
			continue
		}
		_ = a.end.Await(ctx, a.r.Ready, a.r.Sleep)
		a.r.Awake()
	}
}

// once calls try, and gives the message back that it has read.
func (s *Subscription) once(a *attachment,
	try func(*shm.TopicReader) (ok bool, err error)) (ok bool, err error) {
	taken := false
	defer func() {
		if taken && s.cur == a && a.r.Release() { // also if a callback panics
			a.end.Notify()
		}
	}()
	ok, err = try(a.r)
	taken = ok
	switch {
	case errors.Is(err, shm.ErrLapped):
		return false, s.letGo(a)
	case errors.Is(err, shm.ErrCorrupt):
		return false, s.end(s.corrupt(err))
	}
	return ok, err
}

// patience is how long a lossless subscriber waits to hear why the publisher has not waited for it.
const patience = time.Second

// letGo decides about a lossless subscription that has missed messages. It ends, unless its
// connection was lost: no publisher waits for a subscriber without one, so it counts the losses.
func (s *Subscription) letGo(a *attachment) error {
	if !a.end.DownWithin(patience) {
		return s.end(s.corrupt(shm.ErrLapped))
	}
	if why := a.end.DisconnectReason(); ipc.CodeOf(why) != ipc.CodeUnavailable {
		return s.end(why)
	}
	a.r.Unawaited()
	return nil
}

// lost leaves a publisher that is gone. It returns an error if the subscription ends with it, or
// OnBreak says so.
func (s *Subscription) lost(a *attachment) error {
	if s.over.Err() != nil {
		return nil // the caller looks
	}
	why := a.end.DisconnectReason()
	if ipc.CodeOf(why) != ipc.CodeUnavailable {
		return s.end(why)
	}
	s.leave()
	if s.opts.OnBreak != nil {
		// Of many readers in a process, each learns of the death before the memory of any is
		// unmapped, which takes as long as all the rest. The next call, or Close, does it.
		if err := s.opts.OnBreak(s.failed(why)); err != nil {
			return err
		}
	}
	return s.giveBack()
}

const (
	shortestPause = time.Millisecond
	longestPause  = time.Second
)

// await waits for a publisher. It needs mu.
func (s *Subscription) await(ctx context.Context) error {
	err := s.attach(ctx)
	if err == nil {
		return nil
	}
	outer := ctx
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.over, cancel)()
	changed := make(chan struct{}, 1)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		// Without a watch, the pauses below have to do.
		_ = s.source.Watch(ctx, func() {
			select {
			case changed <- struct{}{}:
			default:
			}
		})
	}()
	defer func() { cancel(); <-watched }()
	for pause := shortestPause; ; pause = min(2*pause, longestPause) {
		if ended := s.ended(outer); ended != nil {
			return ended
		}
		if !passes(err) {
			return s.end(err)
		}
		s.trouble = err
		timer := time.NewTimer(pause)
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		if err = s.attach(ctx); err == nil {
			return nil
		}
	}
}

// Latest copies the newest message of the publisher to buf, or to a longer slice if buf is too
// short, without waiting for anything and whatever the policy. It does not move the subscription:
// Next returns the message once more, if it has not done so before. While there is no publisher,
// Latest looks for one, and otherwise returns the newest message of the last one. ok is false if
// there is none. Lost and Break are not set.
func (s *Subscription) Latest(ctx context.Context, buf []byte) (message []byte, a Arrival, ok bool,
	err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.ended(ctx); err != nil {
		return buf, a, false, err
	}
	if s.feed != nil {
		return s.latestOfFeed(ctx, buf)
	}
	if err := s.refresh(ctx); err != nil {
		return buf, a, false, err
	}
	if s.cur == nil {
		return buf, a, false, s.ended(ctx)
	}
	message, m, ok, err := s.cur.r.Latest(buf)
	if err != nil {
		return buf, a, false, s.end(s.corrupt(err))
	}
	if !ok {
		return buf, a, false, nil
	}
	broken, last := s.broken, s.arrival
	a, err = s.accept(message, m)
	s.broken, s.arrival = broken, last
	a.Lost, a.Break = 0, false
	return message, a, err == nil, err
}

// refresh looks for a publisher if there is none, or if the last one is gone and all that matters
// of its messages has been read. That one stays if there is no other.
func (s *Subscription) refresh(ctx context.Context) error {
	old := s.cur
	if old != nil {
		if old.look(); !old.gone {
			return nil
		}
		why := old.end.DisconnectReason()
		if ipc.CodeOf(why) != ipc.CodeUnavailable {
			return s.end(why)
		}
		if s.opts.Policy != Latest && old.r.Ready() {
			return nil
		}
		s.next, s.gaps = old.r.Position(), old.r.Gaps()
	}
	if err := s.attach(ctx); err != nil {
		s.trouble = err
		if passes(err) {
			return nil
		}
		return s.end(err)
	}
	if old == nil {
		return nil
	}
	why := old.end.DisconnectReason()
	old.end.Leave(nil)
	if err := old.release(); err != nil {
		return err
	}
	if s.opts.OnBreak != nil {
		return s.opts.OnBreak(s.failed(why))
	}
	return nil
}
