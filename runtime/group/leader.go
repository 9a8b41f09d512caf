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

// A leader is the primary's side of replication during one reign.
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
// supervisor promotes only members of the last published set.
type leader struct {
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

// ascend begins a reign. It needs r.takeover.
func (r *replicator) ascend(now reign) (*leader, error) {
	r.order.Lock()
	if r.word(offSynced).Load() == broken {
		r.order.Unlock()
		return nil, errors.New("the state could not be restored")
	}
	r.session, r.incoming = 0, nil
	l := &leader{r: r, epoch: now.epoch, standbys: make(map[string]*standby), mask: 1 << r.m.index,
		executed: r.at.index}
	r.order.Unlock()
	l.ctx, l.stop = context.WithCancel(context.Background())
	l.changed = sync.NewCond(&l.mu)
	// What the state contains was answered by the primary before, or is about
	// to be known to every standby in sync: no change is open.
	l.assigned.Store(l.executed)
	l.committed.Store(l.executed)
	recs, err := r.m.reg.List(r.m.service)
	if err != nil {
		l.stop()
		return nil, err
	}
	var first []*standby
	for _, rec := range recs {
		if s := l.appeared(rec); s != nil {
			first = append(first, s)
		}
	}
	l.tasks.Go(l.watch) // before the wait: it ends for a standby that dies
	ctx, cancel := r.within(l.ctx, 0)
	defer cancel()
	for _, s := range first {
		select {
		case <-s.heard:
		case <-ctx.Done():
		}
	}
	r.word(offSynced).Store(l.epoch) // before the supervisor is told to look
	sys.CrashPoint("group reign begun")
	l.mu.Lock()
	l.open = true
	l.publish()
	l.mu.Unlock()
	return l, nil
}

// watch learns which standbys are registered, until the reign ends.
func (l *leader) watch() {
	for l.ctx.Err() == nil {
		l.watchOnce()
		select {
		case <-time.After(sys.CheckPeriod):
		case <-l.ctx.Done():
		}
	}
}

func (l *leader) watchOnce() {
	for ev, err := range l.r.m.reg.Watch(l.ctx, l.r.m.service) {
		switch {
		case l.ctx.Err() != nil:
			return
		case err != nil:
			l.r.log.Error("cannot see new standbys, and tries again", "err", err)
			return
		case ev.Kind == registry.Appeared:
			l.appeared(ev.Record)
		case ev.Kind == registry.Disappeared:
			l.disappeared(ev.Record)
		}
	}
}

// appeared begins to keep a registered standby in sync, and returns it if it is
// new.
func (l *leader) appeared(rec registry.Record) *standby {
	m := l.r.m
	place, ok := indexOf(m.service, rec.Name)
	if !ok || rec.Service != m.service || rec.Incarnation == 0 || place == m.index ||
		place >= maxStateful {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if old := l.standbys[rec.Name]; old != nil {
		if old.rec.Incarnation == rec.Incarnation {
			return nil
		}
		l.forget(old)
	}
	s := &standby{l: l, rec: rec, place: place, heard: make(chan struct{})}
	s.ctx, s.stop = context.WithCancel(l.ctx)
	l.standbys[rec.Name] = s
	l.tasks.Go(s.keep)
	return s
}

// disappeared ends what was kept of a standby. When it returns nothing counts
// on its process any more.
func (l *leader) disappeared(rec registry.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.standbys[rec.Name]; s != nil && s.rec.Incarnation == rec.Incarnation {
		l.forget(s)
	}
}

// forget needs l.mu.
func (l *leader) forget(s *standby) {
	if s.now != nil {
		l.drop(s.now, errGone)
	}
	s.stop() // a session that is about to begin, or to join, sees it
	delete(l.standbys, s.rec.Name)
}

// end ends the reign: nothing more is answered.
func (l *leader) end(why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended == nil {
		l.ended = why
		l.stop()
		l.changed.Broadcast()
	}
}

// change executes a call that changes the state, here and on the standbys.
func (l *leader) change(ctx context.Context, call *ipc.ServerCall,
	next func(context.Context) error) error {
	e := &entry{method: call.Method.ID, body: bytes.Clone(call.Body)}
	returned := false
	defer func() {
		// the handler ends this goroutine, and is answered like any other
		if !returned && e.index != 0 {
			_ = l.settle(e.index)
		}
	}()
	err := l.execute(ctx, e, call, next)
	returned = true
	if e.index == 0 {
		return err
	}
	if lost := l.settle(e.index); lost != nil {
		return lost
	}
	return err
}

// execute runs the handler, as the next change in the order. Without an index in e it did
// not run.
func (l *leader) execute(ctx context.Context, e *entry, call *ipc.ServerCall,
	next func(context.Context) error) error {
	r := l.r
	r.order.Lock()
	defer r.order.Unlock()
	if err := l.mayChange(); err != nil {
		return err
	}
	if err := l.adapt(e, call); err != nil {
		return err
	}
	e.index = r.at.index + 1
	l.assigned.Store(e.index)
	sys.CrashPoint("group change begun")
	err, returned := errExited, false
	defer func() {
		if !returned {
			l.conclude(e, call, err)
		}
	}()
	began := time.Now()
	// A handler that gave up when its caller did would leave replicas different.
	err = r.guarded(func() error { return next(context.WithoutCancel(ctx)) })
	e.took = time.Since(began)
	returned = true
	l.conclude(e, call, err)
	return err
}

// conclude queues the change that a handler has made, whatever way it ended. It needs r.order.
func (l *leader) conclude(e *entry, call *ipc.ServerCall, err error) {
	r := l.r
	r.at = position{l.epoch, e.index}
	l.mu.Lock()
	watched := len(l.standbys) > 0
	l.mu.Unlock()
	if watched {
		var reply []byte
		answer := err
		if answer == nil {
			reply, answer = call.EncodeReply(r.builder)
		}
		e.digest = digestOf(reply, answer)
	}
	sys.CrashPoint("group change executed")
	l.append(e)
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
func (l *leader) mayChange() error {
	now := l.r.m.page.reign()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended != nil || now.epoch != l.epoch || now.primary != l.r.m.index {
		return &ipc.Error{Code: ipc.CodeFenced, Outcome: ipc.NotExecuted,
			Err: l.r.m.notPrimary(now)}
	}
	if l.joined < l.r.limits.MinSync {
		return l.tooFew(ipc.NotExecuted)
	}
	return nil
}

func (l *leader) tooFew(o ipc.Outcome) error {
	return &ipc.Error{Code: ipc.CodeFailedPrecondition, Outcome: o, Msg: fmt.Sprintf(
		"%d standbys are in sync, and changes need %d (Replication.MinSync); try again later",
		l.joined, l.r.limits.MinSync)}
}

// append queues a change for the followers.
func (l *leader) append(e *entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.executed = e.index
	for _, s := range l.standbys {
		if s.now != nil {
			s.now.queue(e)
		}
	}
	l.advance()
}

// settle returns nil when the change of an index, and all before it, may be
// answered: every standby in sync has executed it.
func (l *leader) settle(index uint64) error {
	if l.committed.Load() >= index {
		return nil
	}
	l.mu.Lock()
	var idle []*follower
	for _, s := range l.standbys {
		if f := s.now; f != nil && f.counted && !f.sending && len(f.pending) > 0 {
			f.sending = true
			idle = append(idle, f)
		}
	}
	l.mu.Unlock()
	for i, f := range idle {
		if i < len(idle)-1 {
			l.tasks.Go(func() { f.send(0) })
		} else {
			f.send(index)
		}
	}
	return l.await(index)
}

func (l *leader) await(index uint64) error {
	if l.committed.Load() >= index {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.committed.Load() < index {
		if l.ended != nil {
			return &ipc.Error{Code: ipc.CodeFenced, Err: l.ended}
		}
		if l.joined < l.r.limits.MinSync {
			return l.tooFew(ipc.OutcomeUnknown)
		}
		l.changed.Wait()
	}
	return nil
}

// awaitStandby blocks until a standby is in sync, for no longer than patience.
func (l *leader) awaitStandby(patience time.Duration) error {
	late := time.Now().Add(patience)
	stop := time.AfterFunc(patience, func() {
		l.mu.Lock() // so that nobody is about to wait
		defer l.mu.Unlock()
		l.changed.Broadcast()
	})
	defer stop.Stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.joined == 0 {
		if l.ended != nil {
			return l.ended
		}
		if !time.Now().Before(late) {
			return fmt.Errorf("no standby was in sync within %v", patience)
		}
		l.changed.Wait()
	}
	return nil
}

// read executes a call that changes nothing. What it has seen, perhaps of a
// change that is not answered yet, must not be lost either.
func (l *leader) read(ctx context.Context, next func(context.Context) error) error {
	err := next(ctx)
	if lost := l.await(l.assigned.Load()); lost != nil {
		return lost
	}
	return err
}

// advance finds out which changes may be answered. It needs l.mu.
func (l *leader) advance() {
	if l.ended != nil || l.joined < l.r.limits.MinSync {
		return
	}
	c := l.executed
	for _, s := range l.standbys {
		if f := s.now; f != nil && f.counted {
			c = min(c, f.acked)
		}
	}
	if c > l.committed.Load() {
		l.committed.Store(c)
		l.changed.Broadcast()
	}
}

// join adds a follower that has all that was answered to the set. It needs l.mu.
func (l *leader) join(f *follower) {
	f.joined = true
	l.joined++
	l.mask |= 1 << f.s.place
	l.publish()
	l.advance()
	l.changed.Broadcast()
}

// drop takes a follower out of the set, and its session ends. It needs l.mu.
func (l *leader) drop(f *follower, why error) {
	if !f.active {
		return
	}
	f.active, f.counted, f.pending, f.bytes = false, false, nil, 0
	f.s.now = nil
	f.lost <- why
	if f.joined {
		f.joined = false
		l.joined--
		l.mask &^= 1 << f.s.place
		l.publish()
	}
	l.advance()
	l.changed.Broadcast()
}

// publish stores the set. It needs l.mu.
func (l *leader) publish() {
	if !l.open || l.ended != nil {
		return
	}
	sys.CrashPoint("group set decided")
	l.r.word(offSet).Store(packSet(l.epoch, l.mask))
	sys.CrashPoint("group set stored")
	l.r.tell()
}
