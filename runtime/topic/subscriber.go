package topic

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/shm"
)

// A subscriber is a subscription as its publisher sees it.
type subscriber struct {
	page     *shm.TopicPage
	lossless bool
	inPlace  bool
	local    chan struct{} // of one in this process: receives a value when it must wake

	// Guarded by the publisher's mu.
	gone    bool // it has left, or must
	stuck   bool // it holds the publisher up, with message stuckAt
	stuckAt uint64
	since   time.Time

	mu  sync.Mutex
	end *ipc.LinkEnd // nil until the subscriber has the memory
	why error        // why it must leave
}

// enter connects the subscriber, which may have begun to sleep meanwhile.
func (s *subscriber) enter(end *ipc.LinkEnd) (why error) {
	s.mu.Lock()
	s.end, why = end, s.why
	s.mu.Unlock()
	if why == nil {
		s.wake()
	}
	return why
}

// connected reports whether the subscriber has confirmed that it has the memory.
func (s *subscriber) connected() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end != nil
}

// wake wakes the subscriber, if it sleeps and has not been woken. For one that is awake, it costs
// one load.
func (s *subscriber) wake() {
	if !s.page.Sleeps() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.local != nil:
		if s.page.Asleep() {
			select {
			case s.local <- struct{}{}:
			default: // it will wake
			}
		}
	case s.end != nil && s.page.Asleep():
		s.end.Notify()
	}
}

// expect prepares for one notification of the subscriber.
func (s *subscriber) expect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.end != nil {
		s.end.Expect()
	}
}

// leave tells the subscriber why its subscription ends.
func (s *subscriber) leave(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.why = why; s.end != nil {
		s.end.Leave(why)
	}
}

// open makes a subscriber of a client.
func (p *Publisher) open(r ipc.LinkRequest) (*ipc.LinkOffer, error) {
	policy := Policy(r.Words[3])
	s := &subscriber{lossless: policy == Lossless, inPlace: r.Words[3]&inPlaceFlag != 0}
	if r.Words[3]&^(inPlaceFlag|0xff) != 0 || policy > Latest {
		return nil, refused(ipc.CodeUnimplemented, "the publisher does not know this kind of "+
			"subscription; build both with the same version of ipcgen's runtime")
	}
	if s.lossless && p.opts.Slow == SlowRefuse {
		return nil, refused(ipc.CodeFailedPrecondition,
			"the publisher waits for no subscriber; subscribe without Lossless")
	}
	m, err := r.NewMemory(shm.TopicPageSize)
	if err != nil {
		return nil, p.noMemory(err)
	}
	mem, err := m.Map(shm.TopicPageSize)
	if err != nil {
		m.Close()
		return nil, p.noMemory(err)
	}
	drop := sync.OnceFunc(func() {
		p.leave(s)
		p.scan.Lock() // a waker may be looking at the page
		defer p.scan.Unlock()
		_ = m.Unmap(mem)
		m.Close()
	})
	if err := p.enter(s, mem, r.Words[1]); err != nil {
		drop()
		return nil, err
	}
	handedOver := sync.OnceFunc(p.handedOver)
	return &ipc.LinkOffer{
		Memory: []shm.Memory{p.memory, m},
		Sizes:  [2]uint32{uint32(p.size()), shm.TopicPageSize},
		Run: func(ctx context.Context, end *ipc.LinkEnd) error {
			handedOver()
			return p.serve(ctx, s, end)
		},
		Close: func() {
			handedOver()
			drop()
		},
	}, nil
}

// handedOver ends a handshake that hands over the memory of the topic.
func (p *Publisher) handedOver() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.handshakes--; p.handshakes == 0 && p.mem == nil { // Close has left it to this one
		_ = p.memory.Close()
	}
}

// enter adds a subscriber, which begins with up to history of the messages that are kept.
func (p *Publisher) enter(s *subscriber, page []byte, history uint32) (err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return refused(ipc.CodeUnavailable, "the publisher has closed the topic")
	}
	if s.inPlace && len(p.claimants) >= p.geo.Claims {
		return refused(ipc.CodeResourceExhausted, "%d subscribers read in place, which is the "+
			"publisher's limit; raise Options.InPlace, or read copies", p.geo.Claims)
	}
	start := p.w.Next() - min(uint64(history), p.w.Next()-p.w.First())
	if s.page, err = shm.NewTopicPage(page, start, p.w.Gaps(start)); err != nil {
		return p.noMemory(err)
	}
	subs := append(slices.Clone(*p.subs.Load()), s)
	p.subs.Store(&subs)
	if s.lossless {
		p.lossless = append(p.lossless, s)
		p.floor = min(p.floor, start)
	}
	if s.inPlace {
		p.claimants = append(p.claimants, s.page)
	}
	p.handshakes++
	return nil
}

// leave removes a subscriber, which may have left before.
func (p *Publisher) leave(s *subscriber) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.remove(s)
}

// expel removes a subscriber and tells it why. It needs mu.
func (p *Publisher) expel(s *subscriber, why *ipc.Error) {
	p.remove(s)
	s.leave(why)
}

// remove removes a subscriber. It needs mu.
func (p *Publisher) remove(s *subscriber) {
	if s.gone || s.page == nil {
		return
	}
	s.gone = true
	other := func(o *subscriber) bool { return o == s }
	subs := slices.DeleteFunc(slices.Clone(*p.subs.Load()), other)
	p.subs.Store(&subs)
	p.lossless = slices.DeleteFunc(p.lossless, other)
	p.claimants = slices.DeleteFunc(p.claimants, func(o *shm.TopicPage) bool { return o == s.page })
	if s.lossless {
		p.floor = 0 // look again, when there is no room
		p.stir()
	}
}

// stir makes a publishing call that waits look again.
func (p *Publisher) stir() {
	select {
	case p.room <- struct{}{}:
	default: // it will
	}
}

// serve is the life of a subscription.
func (p *Publisher) serve(ctx context.Context, s *subscriber, end *ipc.LinkEnd) error {
	if why := s.enter(end); why != nil {
		end.Leave(why)
		return why
	}
	var notes <-chan struct{}
	if s.lossless {
		notes = end.Notified() // others never send any
	}
	for {
		select {
		case <-notes:
			p.stir()
		case <-end.Down():
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.why
		case <-ctx.Done():
			p.leave(s)
			s.leave(refused(ipc.CodeUnavailable, "the server is shutting down"))
			return nil
		}
	}
}

// everything is a history without limit.
const everything = math.MaxUint32
