package group

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipcgen/ipcgen/internal/sys"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/registry"
)

// A primary is the primary's side of replication during one reign.
//
// A change is executed here first, so that a request that kills its process
// kills one replica, not all; then it goes to the standbys, and its reply waits
// for those in sync. Whoever waits does the sending: an idle standby's queue
// is sent by the first call that finds it so, together with what others have
// queued meanwhile. One caller at a time thus pays no hand-over between
// goroutines, and many share their round trips.
//
// The set of standbys in sync is published, in the primary's page, by one store
// before anything relies on it: a standby joins it when it has all that was
// ever answered, and is out of it before a call is answered without it. The
// supervisor promotes only replicas of the last published set.
type primary struct {
	r     *replicator
	epoch uint64
	ctx   context.Context
	stop  context.CancelFunc
	tasks sync.WaitGroup

	assigned atomic.Uint64 // the last index given to a change, which may not be executed yet
	// the last one that every standby in sync has executed; written under mu
	committed atomic.Uint64

	mu       sync.Mutex
	changed  *sync.Cond // something below, or committed
	executed uint64
	standbys map[string]*standby // the registered ones, by name
	joined   int                 // how many are in sync
	mask     uint64              // the set to publish, by place
	open     bool                // it is published; false until the reign has begun
	ended    error
}

// beginReign begins a reign. It needs r.takeover.
func (r *replicator) beginReign(now reign) (*primary, error) {
	r.order.Lock()
	if r.word(offSynced).Load() == broken {
		r.order.Unlock()
		return nil, errors.New("the state could not be restored")
	}
	r.session, r.incoming = 0, nil
	p := &primary{r: r, epoch: now.epoch, standbys: make(map[string]*standby),
		mask: 1 << r.replica.index, executed: r.at.index}
	r.order.Unlock()
	p.ctx, p.stop = context.WithCancel(context.Background())
	p.changed = sync.NewCond(&p.mu)
	// What the state contains was answered by the primary before, or is about
	// to be known to every standby in sync: no change is open.
	p.assigned.Store(p.executed)
	p.committed.Store(p.executed)
	recs, err := r.replica.reg.List(r.replica.service)
	if err != nil {
		p.stop()
		return nil, err
	}
	var first []*standby
	for _, rec := range recs {
		if s := p.appeared(rec); s != nil {
			first = append(first, s)
		}
	}
	p.tasks.Go(p.watchStandbys) // before the wait: it ends for a standby that dies
	ctx, cancel := r.within(p.ctx, 0)
	defer cancel()
	for _, s := range first {
		select {
		case <-s.heard:
		case <-ctx.Done():
		}
	}
	r.word(offSynced).Store(p.epoch) // before the supervisor is told to look
	sys.CrashPoint("group reign begun")
	p.mu.Lock()
	p.open = true
	p.publish()
	p.mu.Unlock()
	return p, nil
}

// watchStandbys learns which standbys are registered, until the reign ends.
func (p *primary) watchStandbys() {
	for p.ctx.Err() == nil {
		p.watchStandbysOnce()
		select {
		case <-time.After(sys.CheckPeriod):
		case <-p.ctx.Done():
		}
	}
}

func (p *primary) watchStandbysOnce() {
	for ev, err := range p.r.replica.reg.Watch(p.ctx, p.r.replica.service) {
		switch {
		case p.ctx.Err() != nil:
			return
		case err != nil:
			p.r.log.Error("cannot see new standbys, and tries again", "err", err)
			return
		case ev.Kind == registry.Appeared:
			p.appeared(ev.Record)
		case ev.Kind == registry.Disappeared:
			p.disappeared(ev.Record)
		}
	}
}

// appeared begins to keep a registered standby in sync, and returns it if it is
// new.
func (p *primary) appeared(rec registry.Record) *standby {
	r := p.r.replica
	place, ok := indexOf(r.service, rec.Name)
	if !ok || rec.Service != r.service || rec.Incarnation == 0 || place == r.index ||
		place >= maxStateful {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if old := p.standbys[rec.Name]; old != nil {
		if old.rec.Incarnation == rec.Incarnation {
			return nil
		}
		p.forget(old)
	}
	s := &standby{primary: p, rec: rec, place: place, heard: make(chan struct{})}
	s.ctx, s.stop = context.WithCancel(p.ctx)
	p.standbys[rec.Name] = s
	p.tasks.Go(s.keepInSync)
	return s
}

// disappeared ends what was kept of a standby. When it returns nothing counts
// on its process any more.
func (p *primary) disappeared(rec registry.Record) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.standbys[rec.Name]; s != nil && s.rec.Incarnation == rec.Incarnation {
		p.forget(s)
	}
}

// forget needs p.mu.
func (p *primary) forget(s *standby) {
	if s.session != nil {
		p.drop(s.session, errGone)
	}
	s.stop() // a session that is about to begin, or to join, sees it
	delete(p.standbys, s.rec.Name)
}

// end ends the reign: nothing more is answered.
func (p *primary) end(why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended == nil {
		p.ended = why
		p.stop()
		p.changed.Broadcast()
	}
}

// change executes a call that changes the state, here and on the standbys.
func (p *primary) change(ctx context.Context, call *ipc.ServerCall,
	next func(context.Context) error) error {
	e := &entry{method: call.Method.ID, body: bytes.Clone(call.Body)}
	returned := false
	defer func() {
		// the handler ends this goroutine, and is answered like any other
		if !returned && e.index != 0 {
			_ = p.settle(e.index)
		}
	}()
	err := p.execute(ctx, e, call, next)
	returned = true
	if e.index == 0 {
		return err
	}
	if lost := p.settle(e.index); lost != nil {
		return lost
	}
	return err
}

// execute runs the handler, as the next change in the order. Without an index in e it did
// not run.
func (p *primary) execute(ctx context.Context, e *entry, call *ipc.ServerCall,
	next func(context.Context) error) error {
	r := p.r
	r.order.Lock()
	defer r.order.Unlock()
	if err := p.mayChange(); err != nil {
		return err
	}
	if err := p.adapt(e, call); err != nil {
		return err
	}
	e.index = r.at.index + 1
	p.assigned.Store(e.index)
	sys.CrashPoint("group change begun")
	err, returned := errExited, false
	defer func() {
		if !returned {
			p.conclude(e, call, err)
		}
	}()
	began := time.Now()
	// A handler that gave up when its caller did would leave replicas different.
	err = r.guarded(func() error { return next(context.WithoutCancel(ctx)) })
	e.took = time.Since(began)
	returned = true
	p.conclude(e, call, err)
	return err
}

// conclude queues the change that a handler has made, whatever way it ended. It needs r.order.
func (p *primary) conclude(e *entry, call *ipc.ServerCall, err error) {
	r := p.r
	r.at = position{p.epoch, e.index}
	p.mu.Lock()
	hasStandbys := len(p.standbys) > 0
	p.mu.Unlock()
	if hasStandbys {
		var reply []byte
		answer := err
		if answer == nil {
			reply, answer = call.EncodeReply(r.builder)
		}
		e.digest = digestOf(reply, answer)
	}
	sys.CrashPoint("group change executed")
	p.append(e)
}

// guarded makes an error of a handler's panic, as the server would, for its
// change is replicated like any other. The stack is for this process's log, not
// for the caller.
func (r *replicator) guarded(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			traced(r.log).Error("handler panicked", "panic", p, "stack", string(debug.Stack()))
			err = ipc.Errorf(ipc.CodeInternal, "the handler panicked: %v", p)
		}
	}()
	return f()
}

// mayChange refuses changes, none of which were begun, after the reign and with
// too few standbys.
func (p *primary) mayChange() error {
	now := p.r.replica.page.reign()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended != nil || now.epoch != p.epoch || now.primary != p.r.replica.index {
		return &ipc.Error{Code: ipc.CodeFenced, Outcome: ipc.NotExecuted,
			Err: p.r.replica.notPrimary(now)}
	}
	if p.joined < p.r.limits.MinSync {
		return p.tooFew(ipc.NotExecuted)
	}
	return nil
}

func (p *primary) tooFew(o ipc.Outcome) error {
	return &ipc.Error{Code: ipc.CodeFailedPrecondition, Outcome: o, Msg: fmt.Sprintf(
		"%d standbys are in sync, and changes need %d (Replication.MinSync); try again later",
		p.joined, p.r.limits.MinSync)}
}

// append queues a change for the sessions with the standbys.
func (p *primary) append(e *entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.executed = e.index
	for _, s := range p.standbys {
		if s.session != nil {
			s.session.queue(e)
		}
	}
	p.advance()
}

// settle returns nil when the change of an index, and all before it, may be
// answered: every standby in sync has executed it.
func (p *primary) settle(index uint64) error {
	if p.committed.Load() >= index {
		return nil
	}
	p.mu.Lock()
	var idle []*session
	for _, s := range p.standbys {
		if ses := s.session; ses != nil && ses.counted && !ses.sending && len(ses.pending) > 0 {
			ses.sending = true
			idle = append(idle, ses)
		}
	}
	p.mu.Unlock()
	for i, ses := range idle {
		if i < len(idle)-1 {
			p.tasks.Go(func() { ses.send(0) })
		} else {
			ses.send(index)
		}
	}
	return p.await(index)
}

func (p *primary) await(index uint64) error {
	if p.committed.Load() >= index {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.committed.Load() < index {
		if p.ended != nil {
			return &ipc.Error{Code: ipc.CodeFenced, Err: p.ended}
		}
		if p.joined < p.r.limits.MinSync {
			return p.tooFew(ipc.OutcomeUnknown)
		}
		p.changed.Wait()
	}
	return nil
}

// awaitStandby blocks until a standby is in sync, for no longer than patience.
func (p *primary) awaitStandby(patience time.Duration) error {
	late := time.Now().Add(patience)
	stop := time.AfterFunc(patience, func() {
		p.mu.Lock() // so that nobody is about to wait
		defer p.mu.Unlock()
		p.changed.Broadcast()
	})
	defer stop.Stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.joined == 0 {
		if p.ended != nil {
			return p.ended
		}
		if !time.Now().Before(late) {
			return fmt.Errorf("no standby was in sync within %v", patience)
		}
		p.changed.Wait()
	}
	return nil
}

// read executes a call that changes nothing. What it has seen, perhaps of a
// change that is not answered yet, must not be lost either.
func (p *primary) read(ctx context.Context, next func(context.Context) error) error {
	err := next(ctx)
	if lost := p.await(p.assigned.Load()); lost != nil {
		return lost
	}
	return err
}

// advance finds out which changes may be answered. It needs p.mu.
func (p *primary) advance() {
	if p.ended != nil || p.joined < p.r.limits.MinSync {
		return
	}
	c := p.executed
	for _, s := range p.standbys {
		if ses := s.session; ses != nil && ses.counted {
			c = min(c, ses.acked)
		}
	}
	if c > p.committed.Load() {
		p.committed.Store(c)
		p.changed.Broadcast()
	}
}

// join adds the standby of a session that has all that was answered to the set. It needs p.mu.
func (p *primary) join(ses *session) {
	ses.joined = true
	p.joined++
	p.mask |= 1 << ses.standby.place
	p.publish()
	p.advance()
	p.changed.Broadcast()
}

// drop takes the standby of a session out of the set, and its session ends. It needs p.mu.
func (p *primary) drop(ses *session, why error) {
	if !ses.active {
		return
	}
	ses.active, ses.counted, ses.pending, ses.bytes = false, false, nil, 0
	ses.standby.session = nil
	ses.lost <- why
	if ses.joined {
		ses.joined = false
		p.joined--
		p.mask &^= 1 << ses.standby.place
		p.publish()
	}
	p.advance()
	p.changed.Broadcast()
}

// publish stores the set. It needs p.mu.
func (p *primary) publish() {
	if !p.open || p.ended != nil {
		return
	}
	sys.CrashPoint("group set decided")
	p.r.word(offSet).Store(packSet(p.epoch, p.mask))
	sys.CrashPoint("group set stored")
	p.r.tell()
}
