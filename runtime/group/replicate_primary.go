package group

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipcgen/ipcgen/internal/sys"
	"github.com/ipcgen/ipcgen/internal/userlog"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/registry"
)

// A primary is the primary's side of replication during one reign.
//
// A change is first executed on the primary, so that a request that kills its process kills one
// replica and not all. The change then goes to the standbys, and its reply waits for those in sync.
// The changes of one connection that have come together are executed one after the other, and
// then wait together (see ipc.ServerCall.AnswerAfter). The goroutine that waits also sends: the
// first one that finds the queue of a standby idle sends it, together with the changes that others
// have queued meanwhile. So a change needs no hand-over between goroutines, and many callers share
// round trips.
//
// The set of standbys in sync is published in the primary's page, by one store, before anything
// relies on it. A standby is added when it has all changes that were ever answered, and is removed
// before a call is answered without it. The supervisor promotes only replicas of the last published
// set.
type primary struct {
	r     *replicator
	epoch uint64
	ctx   context.Context
	stop  context.CancelFunc
	tasks sync.WaitGroup

	inherited  time.Duration // lastWork and lastEnd of this process as a standby
	executedAt time.Time

	// arriving is the number of changes between their arrival and their place in the order.
	arriving atomic.Int32
	assigned atomic.Uint64 // the last index given to a change, which may not be executed yet
	// the last change that every standby in sync has executed; written under mu
	committed atomic.Uint64

	mu       sync.Mutex
	changed  *sync.Cond // committed or a field below has changed
	executed uint64
	standbys map[string]*standby // the registered ones, by name
	joined   int                 // number of standbys in sync
	mask     uint64              // the set to publish, by place
	open     bool                // mask is published; false until the reign has begun
	stamps   uint64              // counts the stamps for the supervisor, see outofsync.go
	ended    error
}

// beginReign begins a reign. The caller must hold r.takeover.
func (r *replicator) beginReign(now reign) (*primary, error) {
	r.order.Lock()
	if r.isSynced(broken) {
		r.order.Unlock()
		return nil, errors.New("the state could not be restored")
	}
	r.session, r.incoming = 0, transfer{}
	p := &primary{r: r, epoch: now.epoch, standbys: make(map[string]*standby),
		mask: 1 << r.replica.index, executed: r.at.index}
	p.inherited, p.executedAt = r.lastWork, r.lastEnd
	r.order.Unlock()
	p.ctx, p.stop = context.WithCancel(context.Background())
	p.changed = sync.NewCond(&p.mu)
	// Every change in the state was answered by the previous primary, or is about to be known to
	// every standby in sync; so no change is pending.
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
	p.tasks.Go(p.watchStandbys) // before the wait, which watchStandbys ends for a standby that dies
	ctx, cancel := r.within(p.ctx, p.inheritedWork())
	defer cancel()
	for _, s := range first {
		select {
		case <-s.heard:
		case <-ctx.Done():
		}
	}
	r.setSynced(synced) // before the supervisor is woken
	sys.CrashPoint("group reign begun")
	p.mu.Lock()
	p.open = true
	p.publish()
	p.mu.Unlock()
	return p, nil
}

// inheritedWork returns the work for which a standby is not late at the beginning of a reign: it
// may still execute the changes that the last primary sent to both of them.
func (p *primary) inheritedWork() time.Duration {
	return max(0, p.inherited-time.Since(p.executedAt)/slowness)
}

// watchStandbys follows the registrations of standbys until the reign ends.
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
	compared := false
	for ev, err := range p.r.replica.reg.Watch(p.ctx, p.r.replica.service) {
		// The watch has looked: it yields the record of this process at least. It will report the
		// end of every standby that it has seen, and of those only.
		if !compared && err == nil {
			compared = true
			err = p.forgetGone()
		}
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

// forgetGone ends the sessions with standbys that are not registered any more. Those that vanished
// before the watch of the registry began are in no event.
func (p *primary) forgetGone() error {
	recs, err := p.r.replica.reg.List(p.r.replica.service)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.standbys {
		if !slices.ContainsFunc(recs, func(rec registry.Record) bool {
			return rec.Name == s.rec.Name && rec.Incarnation == s.rec.Incarnation
		}) {
			p.forget(s)
		}
	}
	return nil
}

// appeared starts to keep a registered standby in sync, and returns the standby if it is new.
func (p *primary) appeared(rec registry.Record) *standby {
	r := p.r.replica
	place, ok := indexOf(r.service, rec.Name)
	if !ok || rec.Service != r.service || rec.Incarnation == 0 || place == r.index ||
		place >= min(r.terms.replicas, maxStateful) {
		return nil // a stranger, for which no change may wait
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

// disappeared ends the session with a standby. After it returns, nothing depends on the standby's
// process.
func (p *primary) disappeared(rec registry.Record) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.standbys[rec.Name]; s != nil && s.rec.Incarnation == rec.Incarnation {
		p.forget(s)
	}
}

// forget removes a standby. The caller must hold p.mu.
func (p *primary) forget(s *standby) {
	if s.session != nil {
		p.drop(s.session, errGone)
	}
	s.stop() // seen by a session that is about to begin, or to join
	delete(p.standbys, s.rec.Name)
}

// end ends the reign: no more calls are answered.
func (p *primary) end(why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended == nil {
		p.ended = why
		p.stop()
		p.changed.Broadcast()
	}
}

// change executes a call that changes the state, on this replica and on the standbys.
func (p *primary) change(ctx context.Context, call *ipc.ServerCall,
	next func(context.Context) error) error {
	guard := p.r.replica.guard
	e := &entry{method: call.Method.ID, body: bytes.Clone(call.Body), word: guard.word(call.Sum)}
	returned := false
	p.arriving.Add(1)
	defer func() {
		// the handler has ended this goroutine, and is answered like any other
		if !returned && e.index != 0 {
			_ = p.settle(e.index)
		}
	}()
	err := p.execute(ctx, e, call, next)
	returned = true
	var lost error
	switch {
	case e.word&onTrial != 0: // until the standbys have survived it
		if e.index != 0 {
			lost = p.settle(e.index)
		}
		survived := e.acknowledged.Load() && !e.lost.Load() // everywhere
		if e.index == 0 || guard.replicates() && !survived {
			guard.doubt(e.word)
		}
	case e.index != 0:
		lost = p.answerAfter(call, e.index)
	}
	if lost != nil {
		return lost
	}
	return err
}

// answerAfter makes the answer of a call wait until the change with the given index, and all before
// it, may be answered. The calls that a client makes at the same time wait together.
func (p *primary) answerAfter(call *ipc.ServerCall, index uint64) error {
	if p.committed.Load() >= index {
		return nil
	}
	return call.AnswerAfter(func() error { return p.settle(index) })
}

// execute runs the handler as the next change in the order. If e has no index afterwards, the
// handler did not run.
func (p *primary) execute(ctx context.Context, e *entry, call *ipc.ServerCall,
	next func(context.Context) error) error {
	r := p.r
	r.order.Lock()
	defer r.order.Unlock()
	defer p.arriving.Add(-1)
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
			e.exits = true
			p.conclude(e, call, err)
		}
	}()
	began := time.Now()
	// A handler that gave up when its caller did, or that looked at metadata, which standbys do not
	// get, would make replicas differ.
	alike := ipc.WithIncomingMetadata(context.WithoutCancel(ctx), ipc.Metadata{})
	err = r.guarded(func() error { return next(alike) })
	e.took = time.Since(began)
	returned = true
	p.conclude(e, call, err)
	return err
}

// conclude queues the change of a handler, whatever way the handler ended. The caller must hold
// r.order.
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

// guarded converts a panic of a handler to an error, as the server does, because its change is
// replicated like any other. The stack goes to the log of this process, not to the caller.
func (r *replicator) guarded(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			userlog.Traced(r.log).Error("handler panicked", "panic", p, "stack",
				string(debug.Stack()))
			err = ipc.Errorf(ipc.CodeInternal, "the handler panicked: %v", p)
		}
	}()
	return f()
}

// mayChange refuses changes after the end of the reign and with too few standbys. Such changes have
// not been executed.
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

// settle returns nil when the change with the given index, and all before it, may be answered:
// every standby in sync has executed them.
func (p *primary) settle(index uint64) error {
	if p.committed.Load() >= index {
		return nil
	}
	if p.arriving.Load() > 0 {
		runtime.Gosched() // others can join the round trip
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

// awaitStandby blocks until a standby is in sync, for patience at most.
func (p *primary) awaitStandby(patience time.Duration) error {
	late := time.Now().Add(patience)
	stop := time.AfterFunc(patience, func() {
		p.mu.Lock() // so that no goroutine is between its check and its wait
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

// read executes a call that changes nothing. The changes that it has seen may not be answered yet,
// and must not be lost either.
func (p *primary) read(ctx context.Context, call *ipc.ServerCall,
	next func(context.Context) error) error {
	err := next(ctx)
	if lost := p.answerAfter(call, p.assigned.Load()); lost != nil {
		return lost
	}
	return err
}

// stream runs a streaming call, which changes nothing. What one of its items says may come from
// changes that are not kept by enough replicas yet, so each waits as the answer of a call does.
func (p *primary) stream(ctx context.Context, call *ipc.ServerCall,
	next func(context.Context) error) error {
	send := call.Out
	var lost error
	call.Out = func(item any) bool {
		if lost = p.await(p.assigned.Load()); lost != nil {
			return false
		}
		return send(item)
	}
	err := p.read(ctx, call, next)
	if lost != nil {
		return lost
	}
	return err
}

// advance determines which changes may be answered. The caller must hold p.mu.
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

// join adds the standby of a session that has all answered changes to the set. The caller must hold
// p.mu.
func (p *primary) join(ses *session) {
	ses.joined = true
	p.joined++
	p.mask |= 1 << ses.standby.place
	p.stamp(stampOfJoin, ses.standby, nil)
	p.publish()
	p.advance()
	p.changed.Broadcast()
}

// drop removes the standby of a session from the set, and ends the session. The caller must hold
// p.mu.
func (p *primary) drop(ses *session, why error) {
	if !ses.active {
		return
	}
	ses.active, ses.counted, ses.pending, ses.bytes = false, false, nil, 0
	ses.standby.session = nil
	for _, e := range ses.sent {
		e.lost.Store(true)
	}
	ses.lost <- why
	if ses.joined {
		ses.joined = false
		p.joined--
		p.mask &^= 1 << ses.standby.place
		p.stamp(stampOfLoss, ses.standby, why)
		p.publish()
	}
	p.advance()
	p.changed.Broadcast()
}

// publish stores the set. The caller must hold p.mu.
func (p *primary) publish() {
	if !p.open || p.ended != nil {
		return
	}
	sys.CrashPoint("group set decided")
	p.r.word(offSet).Store(packSet(p.epoch, p.mask))
	sys.CrashPoint("group set stored")
	p.r.tell()
}

// republish stores the set again if another process has overwritten it.
func (p *primary) republish() (overwritten bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.open || p.ended != nil || p.r.word(offSet).Load() == packSet(p.epoch, p.mask) {
		return false
	}
	p.publish()
	return true
}
