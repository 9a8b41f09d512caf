package web

import (
	"context"
	"sync"
	"time"

	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/survey"
	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/vitals"
)

// patience is how long a supervisor may take to answer, and lookPeriod the time between two looks
// at what servers do.
const (
	patience   = time.Second
	lookPeriod = time.Second
)

// News is what a page is told: the state of the domain, and what has changed.
type News struct {
	View   *vitals.View `json:"view,omitempty"`
	Groups []Group      `json:"groups"`
	Events []Event      `json:"events,omitempty"`
}

// A hub looks at a domain for all pages, once and not for each page, and only while there is one:
// servers count for as long as a tool asks.
type hub struct {
	domain string
	ctx    context.Context // of the server
	period time.Duration   // between two looks at which channels live

	mu        sync.Mutex
	followers map[*follower]bool
	stop      context.CancelFunc // of the goroutines that look; nil if there are none
	looking   sync.WaitGroup
	view      *vitals.View // the last one; nil before the first
	groups    []Group
	chronicle chronicle
}

func newHub(ctx context.Context, domain string) *hub {
	return &hub{domain: domain, ctx: ctx, period: survey.LookPeriod,
		followers: make(map[*follower]bool)}
}

// A follower gets the news. One that reads slowly misses views, and no events.
type follower struct {
	hub  *hub
	wake chan bool
	view *vitals.View // that it has
	last uint64       // the number of the last event that it has
}

// follow adds a follower, which must leave.
func (h *hub) follow() *follower {
	f := &follower{hub: h, wake: make(chan bool, 1)}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.followers) == 0 {
		ctx, stop := context.WithCancel(h.ctx)
		h.stop = stop
		now := make(chan bool, 1)
		h.looking.Go(func() { h.look(ctx, now) })
		h.looking.Go(func() { h.survey(ctx, now) })
	}
	h.followers[f] = true
	f.wake <- true
	return f
}

// leave removes the follower. The last one stops the looking.
func (f *follower) leave() {
	f.hub.mu.Lock()
	defer f.hub.mu.Unlock()
	delete(f.hub.followers, f)
	if len(f.hub.followers) == 0 {
		f.hub.stop()
		f.hub.view = nil // the next follower shall not see an old one
	}
}

// next waits for news.
func (f *follower) next(ctx context.Context) (News, error) {
	for {
		select {
		case <-ctx.Done():
			return News{}, ctx.Err()
		case <-f.wake:
		}
		if n, some := f.news(); some {
			return n, nil
		}
	}
}

func (f *follower) news() (n News, some bool) {
	h := f.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	n.Events = h.chronicle.since(f.last)
	f.last = h.chronicle.count
	if h.view != nil && h.view != f.view {
		n.View, n.Groups = h.view, h.groups
		f.view = h.view
	}
	return n, n.View != nil || len(n.Events) > 0
}

// tell wakes all followers. The hub is locked.
func (h *hub) tell() {
	for f := range h.followers {
		ring(f.wake)
	}
}

// ring tells who waits for a bell that there is something, once if it was told already.
func ring(bell chan<- bool) {
	select {
	case bell <- true:
	default:
	}
}

// look asks the servers and supervisors, from time to time and when something has changed.
func (h *hub) look(ctx context.Context, now <-chan bool) {
	w := vitals.New(h.domain)
	defer w.Close()
	s := make(supervisors)
	defer s.close()
	tick := time.NewTicker(lookPeriod)
	defer tick.Stop()
	for {
		var groups []Group
		var asked sync.WaitGroup
		sv, err := survey.Of(h.domain)
		if err == nil {
			asked.Go(func() { groups = s.ask(ctx, sv) })
		}
		v := w.LookAt(ctx, sv, err)
		asked.Wait()
		if ctx.Err() != nil {
			return
		}
		h.mu.Lock()
		h.view, h.groups = &v, groups
		h.tell()
		h.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-now:
		}
	}
}

// survey notes who comes and goes, and then lets the servers be asked.
func (h *hub) survey(ctx context.Context, now chan<- bool) {
	for s, err := range survey.Follow(ctx, h.domain, h.period) {
		if err != nil || s.RegistryErr != nil {
			continue
		}
		h.mu.Lock()
		some := h.chronicle.note(s, time.Now())
		if some {
			h.tell()
		}
		h.mu.Unlock()
		if some {
			ring(now)
		}
	}
}
