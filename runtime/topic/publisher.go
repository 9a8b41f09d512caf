package topic

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/introspect"
	"github.com/ipcgen/ipcgen/runtime/shm"
)

// A Slow says what a publisher does about lossless subscribers for which it would have to wait.
type Slow uint8

// What a publisher does.
const (
	// SlowWait waits until the context of the publishing call is done.
	SlowWait Slow = iota
	// SlowFail fails at once with CodeResourceExhausted.
	SlowFail
	// SlowRefuse refuses lossless subscriptions.
	SlowRefuse
)

// Options say how large a topic is and what subscribers may ask for.
type Options struct {
	// Depth is the number of messages that are kept, at least 2; 0: 64. While a message is written,
	// it is one fewer. It is the history that there is for late subscribers, and how far a
	// subscriber may fall back before it loses messages, or the publisher waits.
	Depth int
	// MaxMessage is the length of the longest message, in bytes; 0: 4 KiB. Memory for Depth such
	// messages is taken when the publisher is made.
	MaxMessage int
	// InPlace is the number of subscribers that may read in place at a time; 0: 4, and -1: none.
	// Each costs one load when a message is given up, and memory for one message.
	InPlace int
	// Slow says what happens if a lossless subscriber is slow.
	Slow Slow
	// LetGo, if it is not 0, ends a lossless subscription that has not moved for that long although
	// the publisher needed room, with CodeResourceExhausted for the subscriber. If this process
	// stands still while it waits, an eighth of LetGo at most counts for that.
	LetGo time.Duration
}

const (
	defaultDepth   = 64
	defaultMessage = 4 << 10
	defaultInPlace = 4
)

func (o Options) geometry() shm.TopicGeometry {
	return shm.TopicGeometry{Depth: cmp.Or(o.Depth, defaultDepth),
		Longest: cmp.Or(o.MaxMessage, defaultMessage),
		Claims:  max(cmp.Or(o.InPlace, defaultInPlace), 0)}
}

// Memory returns how many bytes of shared memory a publisher with these options takes.
func (o Options) Memory() int { return o.geometry().Size() }

// A Publisher publishes the messages of a topic. It is an option of the server at whose channel the
// topic is found, and can be that of several servers. It publishes, and keeps the newest messages,
// from the beginning, also while no server runs. It is safe for concurrent use.
//
// If a server has a fence, as that of a replica in a group ([ipc.WithFence]), the fence admits what
// is published from then on, and is the source of Arrival.Epoch: on a standby, publishing fails
// with CodeFenced.
type Publisher struct {
	ipc.ServerOption

	info Info
	opts Options
	geo  shm.TopicGeometry
	err  error // why it cannot publish

	turn   chan struct{} // holds a value while a message is written
	room   chan struct{} // receives a value when a lossless subscriber may have moved
	closed chan struct{}

	mu        sync.Mutex
	memory    shm.Memory
	mem       []byte
	w         *shm.TopicWriter
	lossless  []*subscriber
	claimants []*shm.TopicPage
	floor     uint64 // no lossless subscriber is before this message
	over      bool   // Close was called
	// handshakes is how many hand over the memory at the moment. A file that one of them sends must
	// not be closed meanwhile: another file might get its descriptor.
	handshakes int

	fences atomic.Pointer[[]ipc.Fence] // of the servers; replaced, never changed

	// subs is replaced, never changed. scan is held while the pages are in use without mu.
	subs   atomic.Pointer[[]*subscriber]
	scan   sync.Mutex
	waking atomic.Uint32
}

// The values of Publisher.waking.
const (
	wakerIdle = iota
	wakerRuns
	wakerOnceMore
)

// inlineWakes is the number of subscribers that the publishing call looks after itself. To wake one
// takes a system call, of one or two microseconds.
const inlineWakes = 4

// NewPublisher makes the publisher of a topic. If the options are wrong or there is no memory, all
// methods, and the server, fail with the reason.
func NewPublisher(info *Info, o Options) *Publisher { return newPublisher(info, o, newMemory) }

func newPublisher(info *Info, o Options, memory func(int) (shm.Memory, error)) *Publisher {
	p := &Publisher{opts: o, geo: o.geometry(), turn: make(chan struct{}, 1),
		room: make(chan struct{}, 1), closed: make(chan struct{}), floor: math.MaxUint64}
	p.subs.Store(new([]*subscriber))
	p.fences.Store(new([]ipc.Fence))
	kind := &ipc.LinkKind{Protocol: &ipc.Protocol{}, Open: p.open, Fenced: p.fence,
		Describe: p.describe}
	if info == nil || info.Protocol == nil {
		p.err = refused(ipc.CodeInvalidArgument, "NewPublisher was given no Info")
	} else {
		p.info, kind.Protocol = *info, info.Protocol
		p.err = p.makeMemory(memory)
	}
	kind.Invalid = p.err
	p.ServerOption = ipc.ServeLinks(kind)
	return p
}

func refused(code ipc.Code, format string, args ...any) *ipc.Error {
	return &ipc.Error{Code: code, Outcome: ipc.NotSent, Msg: fmt.Sprintf(format, args...)}
}

// makeMemory makes the segment. It is a memory file where the platform has those, because a
// publisher does not know by which transports its subscribers will come.
func (p *Publisher) makeMemory(memory func(int) (shm.Memory, error)) error {
	if err := p.geo.Check(); err != nil {
		return &ipc.Error{Code: ipc.CodeInvalidArgument, Op: p.op(), Outcome: ipc.NotSent, Err: err}
	}
	schema := p.info.Protocol.Schema
	m, err := memory(p.size())
	if err != nil {
		return p.noMemory(err)
	}
	mem, err := m.Map(p.size())
	if err == nil {
		err = m.SealWriters()
	}
	if err == nil {
		copy(mem[p.geo.Size():], schema)
		p.w, err = shm.NewTopicWriter(mem[:p.geo.Size()], p.geo, rand.Uint64())
	}
	if err != nil {
		if mem != nil {
			err = errors.Join(err, m.Unmap(mem))
		}
		return p.noMemory(errors.Join(err, m.Close()))
	}
	p.memory, p.mem = m, mem
	return nil
}

// size is that of the segment, with the description of the messages behind them.
func (p *Publisher) size() int { return p.geo.Size() + len(p.info.Protocol.Schema) }

// newMemory makes the memory of a segment.
func newMemory(size int) (shm.Memory, error) {
	f, err := shm.NewFileMemory(size)
	if errors.Is(err, errors.ErrUnsupported) {
		return shm.NewHeapMemory(size), nil // which a transport within the process can hand over
	}
	return f, err
}

func (p *Publisher) op() string { return "topic " + p.info.Protocol.Name }

func (p *Publisher) noMemory(err error) error {
	code := ipc.CodeResourceExhausted
	if errors.Is(err, errors.ErrUnsupported) {
		code = ipc.CodeUnsupported
	}
	return &ipc.Error{Code: code, Op: p.op(), Outcome: ipc.NotSent, Msg: "the memory of the topic",
		Err: err}
}

// Publish publishes a copy of message. While a lossless subscriber lacks room for it, Publish does
// what the options say; the error says that the message was not published.
func (p *Publisher) Publish(ctx context.Context, message []byte) error {
	return p.publish(ctx, len(message), nil, func() error {
		p.w.Set(message)
		return nil
	})
}

// Write lets fill write a message of n bytes where the subscribers will read it. fill may not keep
// the slice, and must set all of it: it holds an older message. If it returns an error, no message
// is published, and Write returns that error. fill may not publish to the same topic. Write waits
// as [Publisher.Publish] does.
func (p *Publisher) Write(ctx context.Context, n int, fill func(message []byte) error) error {
	return p.publish(ctx, n, nil, func() error { return p.w.Fill(n, fill) })
}

// fence adds the fence of a server.
func (p *Publisher) fence(f ipc.Fence) {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := append(slices.Clone(*p.fences.Load()), f)
	p.fences.Store(&all)
}

// epoch returns the epoch in which messages are published; 0 for none.
func (p *Publisher) epoch() uint64 {
	for _, f := range *p.fences.Load() {
		if epoch := f.Epoch(); epoch != 0 {
			return epoch
		}
	}
	return 0
}

// admit asks the fences whether a message may be published in an epoch.
func (p *Publisher) admit(epoch uint64) error {
	for _, f := range *p.fences.Load() {
		if err := f.Admit(epoch); err != nil {
			return p.failed(&ipc.Error{Code: ipc.CodeFenced, Outcome: ipc.NotSent, Err: err})
		}
	}
	return nil
}

// publish waits for its turn and for room, has fill write the message, publishes it, and wakes
// subscribers. as, if it is not nil, has the number, the epoch and the time of the message.
func (p *Publisher) publish(ctx context.Context, n int, as *Arrival, fill func() error) error {
	if p.err != nil {
		return p.err
	}
	if n < 0 || n > p.geo.Longest {
		return p.failed(refused(ipc.CodeTooLarge, "message of %d bytes; this topic's limit is %d; "+
			"raise Options.MaxMessage", n, p.geo.Longest))
	}
	if ctx.Err() != nil {
		return p.late(ctx, "before the message was published")
	}
	epoch := p.epoch()
	if err := p.admit(epoch); err != nil {
		return err
	}
	select {
	case p.turn <- struct{}{}:
	default:
		select {
		case p.turn <- struct{}{}:
		case <-ctx.Done():
			return p.late(ctx, "while another message was being published")
		}
	}
	defer func() { <-p.turn }()
	if err := p.reserve(ctx); err != nil {
		return err
	}
	// No subscriber reads there yet, and no other goroutine writes.
	if err := fill(); err != nil {
		return err
	}
	if err := p.admit(epoch); err != nil { // the reign may have ended meanwhile
		return err
	}
	if err := p.commit(n, epoch, as); err != nil {
		return err
	}
	p.wake()
	return nil
}

// commit publishes a message that is written.
func (p *Publisher) commit(n int, epoch uint64, as *Arrival) error {
	published := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if as != nil {
		epoch, published = as.Epoch, as.Published
		if err := p.w.Skip(as.Number); err != nil {
			return p.failed(&ipc.Error{Code: ipc.CodeInvalidArgument, Outcome: ipc.NotSent,
				Err: err})
		}
	}
	p.w.Commit(n, epoch, published.UnixNano())
	return nil
}

func (p *Publisher) failed(e *ipc.Error) error {
	e.Op = p.op()
	return e
}

// late is the error of a message that was not published before ctx was done.
func (p *Publisher) late(ctx context.Context, when string) error {
	code := ipc.CodeCanceled
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		code = ipc.CodeDeadlineExceeded
	}
	return p.failed(refused(code, "the context ended %s", when))
}

// reserve waits for room for a message.
func (p *Publisher) reserve(ctx context.Context) error {
	for {
		ok, wait, err := p.tryReserve(false)
		if !ok && err == nil && p.opts.Slow == SlowWait {
			ok, wait, err = p.tryReserve(true)
		}
		if ok || err != nil {
			return err
		}
		if p.opts.Slow == SlowFail {
			return p.failed(refused(ipc.CodeResourceExhausted,
				"a lossless subscriber has not read the oldest of %d messages", p.geo.Depth))
		}
		began := time.Now()
		patience, stop := after(wait)
		over := false
		select {
		case <-p.room:
		case <-patience:
		case <-p.closed:
		case <-ctx.Done():
			over = true
		}
		stop()
		if late := time.Since(began) - wait; wait > 0 && late > 0 {
			p.excuse(late)
		}
		if over {
			return p.late(ctx, "while a lossless subscriber had no room")
		}
	}
}

// excuse gives lossless subscribers the time for which this process stood still: they could not
// show that they move, and may have stood still with it.
func (p *Publisher) excuse(late time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.lossless {
		if s.stuck {
			s.since = s.since.Add(late)
		}
	}
}

// after returns a channel that receives a value after d; for 0, never.
func after(d time.Duration) (<-chan time.Time, func()) {
	if d == 0 {
		return nil, func() {}
	}
	t := time.NewTimer(d)
	return t.C, func() { t.Stop() }
}

// tryReserve takes memory for the next message. If there is no room, it declares, if declare is
// set, that the publisher waits, and returns after what time it is to look at the subscribers
// again, if one of them is to be let go.
func (p *Publisher) tryReserve(declare bool) (ok bool, wait time.Duration, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return false, 0, p.failed(refused(ipc.CodeUnavailable, "the publisher is closed"))
	}
	if p.w.Full() && p.w.First() >= p.floor {
		if declare {
			for _, s := range p.lossless {
				s.expect()
			}
			p.w.Starve()
		}
		if wait = p.measure(time.Now()); p.w.First() >= p.floor {
			return false, wait, nil
		}
		if declare {
			p.w.Fed()
		}
	}
	if err = p.w.Reserve(p.claimants); err != nil {
		return false, 0, p.failed(&ipc.Error{Code: ipc.CodeResourceExhausted,
			Outcome: ipc.NotSent, Err: err})
	}
	return true, 0, nil
}

// looks is how often the publisher looks at least at a subscriber before it lets go of it. Between
// two looks, time in which the publisher stood still is noticed (see excuse).
const looks = 8

// measure looks where the lossless subscribers are. It lets go of those that have been in the way
// for too long, or broke the rules, and returns after what time it is to look again, if one of the
// others is to be let go. It needs mu.
func (p *Publisher) measure(now time.Time) (wait time.Duration) {
	p.floor = math.MaxUint64
	for _, s := range slices.Clone(p.lossless) {
		at, err := s.page.Position(p.w.Next())
		if err != nil {
			p.expel(s, refused(ipc.CodeCorrupt, "the subscriber broke the protocol"))
			continue
		}
		if at > p.w.First() {
			s.stuck = false
		} else if !s.stuck || s.stuckAt != at {
			s.stuck, s.stuckAt, s.since = true, at, now
		}
		if limit := p.limit(s); s.stuck && limit > 0 {
			left := limit - now.Sub(s.since)
			if left <= 0 {
				p.expel(s, p.tooSlow(s, at))
				continue
			}
			if left = min(left, max(limit/looks, 1)); wait == 0 || left < wait {
				wait = left
			}
		}
		p.floor = min(p.floor, at)
	}
	return wait
}

// consentPatience is how long a publisher waits for a lossless subscriber that has been sent the
// memory of the topic, and has not said that it has it. It is beyond what the answer takes, and
// below what a publishing call can do without: a subscriber that never answers would hold that up
// until the handshake times out.
const consentPatience = 100 * time.Millisecond

// limit returns how long a lossless subscriber may be in the way; 0 for ever.
func (p *Publisher) limit(s *subscriber) time.Duration {
	if !s.connected() && (p.opts.LetGo == 0 || p.opts.LetGo > consentPatience) {
		return consentPatience
	}
	return p.opts.LetGo
}

// tooSlow is what a subscriber is told that was in the way, with a message, for too long. One that
// was not connected yet goes on, as it does after the loss of its connection.
func (p *Publisher) tooSlow(s *subscriber, at uint64) *ipc.Error {
	if !s.connected() {
		return refused(ipc.CodeUnavailable, "the subscriber did not take the memory of the topic "+
			"within %v, while the publisher needed room", p.limit(s))
	}
	return refused(ipc.CodeResourceExhausted, "the subscriber has not read message %d for %v, "+
		"while the publisher needed its room; read faster, or subscribe without Lossless", at,
		p.opts.LetGo)
}

// wake wakes the subscribers that sleep; if they are many, on another goroutine.
func (p *Publisher) wake() {
	if len(*p.subs.Load()) <= inlineWakes {
		p.wakeAll()
		return
	}
	if p.waking.Swap(wakerOnceMore) == wakerIdle {
		go func() {
			for {
				p.waking.Store(wakerRuns)
				p.wakeAll()
				if p.waking.CompareAndSwap(wakerRuns, wakerIdle) {
					return
				}
			}
		}()
	}
}

func (p *Publisher) wakeAll() {
	p.scan.Lock()
	defer p.scan.Unlock()
	for _, s := range *p.subs.Load() {
		s.wake()
	}
}

// Subscribers returns the number of subscriptions. One counts when its subscriber has confirmed
// that it has the memory of the topic.
func (p *Publisher) Subscribers() (n int) {
	for _, s := range *p.subs.Load() {
		if s.connected() {
			n++
		}
	}
	return n
}

// describe is what servers tell tools of the topic.
func (p *Publisher) describe() *introspect.TopicT {
	p.mu.Lock()
	published := p.w.Next()
	p.mu.Unlock()
	return &introspect.TopicT{Depth: uint64(p.geo.Depth), MaxMessage: uint64(p.geo.Longest),
		InPlace: uint32(p.geo.Claims), Subscribers: uint32(p.Subscribers()), Published: published}
}

// Close ends all subscriptions, and releases the memory. Subscribers get what was published before,
// and then wait for the next publisher of the name. Later calls of all methods fail. Close waits
// for a message that is being written, and not for one that waits for room.
func (p *Publisher) Close() error {
	if p.err != nil {
		return p.err
	}
	p.mu.Lock()
	if p.over {
		p.mu.Unlock()
		return nil
	}
	p.over = true
	close(p.closed)
	for _, s := range *p.subs.Load() {
		p.expel(s, refused(ipc.CodeUnavailable, "the publisher has closed the topic"))
	}
	p.mu.Unlock()
	p.turn <- struct{}{}
	defer func() { <-p.turn }()
	p.mu.Lock()
	defer p.mu.Unlock()
	mem := p.mem
	p.mem = nil
	err := p.memory.Unmap(mem)
	if p.handshakes == 0 {
		err = errors.Join(err, p.memory.Close())
	}
	return err
}
