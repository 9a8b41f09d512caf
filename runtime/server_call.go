package ipc

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"

	flatbuffers "github.com/google/flatbuffers/go"
	"github.com/ipcgen/ipcgen/internal/record"
)

// This file handles the calls that arrive over a connection: they are executed by the server's
// Handler, and answered.

// A job is a call in execution, with its buffers.
type job struct {
	execution
	conn          *serverConn
	frame         frame
	ctx           *callContext // its context
	inRing        bool         // its request is, and the reader keeps its role meanwhile
	stopListening func()       // ends listenWhileBlocked; nil if that does not run
	detached      bool         // a goroutine of its own runs it; under mu
	detachment    uint64       // the value of serverConn.detachments for it; under mu
	givenUp       bool         // and the client has cancelled it; under mu
	held          int          // bytes of its request that the budget counts; under mu
	sent          sent         // its answer is in the ring; under tx.mu
	away          bool         // it waits for another process; see willWait
	encodes       bool         // it has a place among the encoders
	measures      bool         // its route's replies are encoded one at a time meanwhile
	waits         int          // bytes of its reply, which waits for room
	charged       int          // for what a detached call takes beside frame.charged; under mu
	replyCharged  int          // likewise, for the reply
	observed      observation
	streaming     *serverFlow // of a streaming call
}

// newJob returns a job for the next call. The caller must be the reader.
func (c *serverConn) newJob() *job {
	j := c.spare
	c.spare = nil
	if j == nil {
		j, _ = c.jobs.Get().(*job)
	}
	if j == nil {
		j = &job{conn: c}
		j.builder = flatbuffers.NewBuilder(256)
		j.handler, j.carrier, j.log, j.peer = &c.srv.handler, j, c.log, &c.peer
		j.adoptFrom = leastAdopted
	}
	j.prepare()
	return j
}

// begin makes a job that of a call with that context. f must not change meanwhile.
func (j *job) begin(f *frame, r *boundRoute, ctx *callContext) {
	j.frame, j.route = *f, r
	j.method, j.seq, j.epoch = f.method, f.seq, f.epoch
	j.ctx = ctx
	j.ctx.deadline = f.deadline
	if f.metadata != (Metadata{}) {
		j.ctx.metadata().metadata = f.metadata
	}
	j.context, j.leases = j.ctx, &j.ctx.scratch
}

// finish prepares a job for another call.
func (j *job) finish() {
	j.ctx.cancel()
	j.ctx, j.context, j.leases = nil, nil, nil
	j.strip()
	j.detached, j.givenUp, j.reply, j.sent, j.wrong = false, false, ReplyBuilder{}, sent{}, 0
	j.mayPostpone = false
}

// request handles a call, on this goroutine or on another one. It reports false if the reader role
// went to another goroutine.
func (c *serverConn) request(f *frame, body []byte, private bool) (reader bool) {
	if c.down.Load() != nil {
		c.discharge(f)
		return true // too late; as it is not released, the client knows that it was not executed
	}
	if c.detachedCount.Load() != 0 && !c.mayBegin(f, len(body)) {
		c.discharge(f)
		return true
	}
	r := c.srv.handler.routes.find(f.method)
	if r == nil {
		r = c.srv.own.find(f.method)
	}
	if r != nil && r.inPlace != nil && c.srv.cfg.trusted && !private {
		c.requestInRing(f, r, body)
		return true
	}
	j := c.newJob()
	j.begin(f, r, c.contexts.next())
	j.body = c.rx.keep(j.body, body, private)
	c.rx.release()
	if c.rx.ring.Revoked() {
		c.finishJob(j)
		c.spare = j
		return true // the client has told its caller that it is not executed
	}
	j.mayPostpone = r != nil && r.inPlace == nil
	if r != nil && r.pace.slow() {
		if cap(j.body) > 2*len(j.body)+4096 { // that of a long request before this one
			j.body = slices.Clone(j.body)
		}
		c.startDetached(j)
		go c.runDetached(j)
		return true
	}
	c.current = j
	kind := uint64(inlineCall)
	if r != nil && r.introspects {
		kind = inlineOwn
	}
	run := c.beginInline(kind)
	returned := false
	defer func() {
		if !returned { // the handler ends this goroutine
			go func() {
				if c.handled(j, run) {
					c.serve()
				}
			}()
		}
	}()
	c.handle(j)
	returned = true
	return c.handled(j, run)
}

// handled ends the inline run of a call. It reports false if the reader role went to another
// goroutine.
func (c *serverConn) handled(j *job, run uint64) (reader bool) {
	if c.endInline(run) {
		if j.after != nil {
			c.postpone(j)
			return true
		}
		c.finishJob(j)
		c.spare = j
		return true
	}
	c.answerDetached(j)
	return false
}

// requestInRing handles a call whose request stays in the ring. The reader keeps its role, because
// nothing can be read before the request is released. So its handler learns of the end of the
// connection, and not of a cancellation.
func (c *serverConn) requestInRing(f *frame, r *boundRoute, body []byte) {
	c.rx.ring.Take()
	j := c.newJob()
	own := j.body
	j.begin(f, r, c.ringContexts.next())
	j.body, j.inRing = body, true
	returned := false
	defer func() {
		if j.stopListening != nil {
			j.stopListening()
		}
		c.rx.release()
		j.body, j.inRing, j.stopListening = own, false, nil
		c.finishJob(j)
		c.spare = j
		if !returned { // the handler ends this goroutine
			go c.serve()
		}
	}()
	if !c.rx.ring.Revoked() {
		c.handle(j)
	}
	returned = true
}

// listenWhileBlocked waits for the doorbell in place of the reader, which waits for room for a
// reply while the request of j lies in the ring. It resumes the reader when there is room, or ends
// the connection when the client is gone.
func (c *serverConn) listenWhileBlocked(j *job) {
	if j.stopListening != nil {
		return // since an earlier wait
	}
	var stop atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		recheck := func() bool {
			c.tx.recheckSpace()
			return stop.Load() || c.gone.Load()
		}
		for !stop.Load() {
			if c.wire.Wait(recheck) != nil || c.gone.Load() {
				why := c.disconnectReason()
				c.fail(why)
				c.tx.close(why) // no other goroutine ends the wait
				return
			}
		}
	}()
	j.stopListening = func() {
		stop.Store(true)
		c.wire.Poke()
		<-done
	}
}

// cancel cancels the context of a detached call. A call that the reader runs has ended before the
// reader reads its cancellation.
func (c *serverConn) cancel(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if j := c.detached[id]; j != nil && !j.givenUp {
		j.givenUp = true
		j.ctx.cancel()
	}
}

// handle runs a call and answers it, even if the handler panics or ends its goroutine.
func (c *serverConn) handle(j *job) {
	if o := c.srv.lookout.observer.Load(); o != nil {
		j.observed = c.observe(o, j.route, j.frame.seq, j.frame.epoch, j.body)
		if j.streaming != nil {
			j.streaming.number.Store(j.observed.record.call)
		}
	}
	returned := false
	defer func() { c.stepped(j, recover(), returned) }()
	if err := c.run(j); err != nil {
		c.answerError(j, err)
	}
	returned = true
}

// stepped answers a call of which a step has panicked with r, or has ended its goroutine. A step
// that has returned has answered the call, unless the answer is put off.
func (c *serverConn) stepped(j *job, r any, returned bool) {
	var err error
	if r != nil {
		err = panicked(c.log, r)
	} else if !returned {
		exited(c.log, j.route.name)
		err = errExited
	}
	if err != nil && !j.reply.sent {
		c.answerError(j, err)
	}
	if j.after == nil {
		j.observed.end(CodeOf(err), OutcomeUnknown, nil)
	}
}

// run runs a call and sends its reply, unless the answer is put off. The caller must send the error
// that it returns.
func (c *serverConn) run(j *job) error {
	body, err := j.handler.perform(&j.execution)
	switch j.wrong {
	case wrongMethod:
		c.stats.dropped.Add(1)
	case wrongBody:
		c.stats.malformed.Add(1)
	}
	if j.after != nil {
		j.answer, j.failed = body, err
		return nil
	}
	return c.reply(j, body, err)
}

// reply sends the reply of a call that has been run. The caller must send the error that it
// returns.
func (c *serverConn) reply(j *job, body []byte, err error) error {
	body, epoch, err := j.release(body, err)
	if err != nil || j.route.inPlace != nil {
		return err
	}
	reply := frame{kind: record.Reply, id: j.frame.id, metadata: j.ctx.replyMetadata(),
		epoch: epoch}
	if j.streaming != nil {
		reply.kind = record.End
	}
	if len(body) > c.tx.limit {
		return &Error{Code: CodeTooLarge, Outcome: Executed,
			Msg: fmt.Sprintf("the reply has %d bytes; this connection's limit is %d",
				len(body), c.tx.limit)}
	}
	j.observed.end(CodeOK, Executed, body)
	c.send(j, &reply, body)
	return nil
}

// answerError sends the error of a call.
func (c *serverConn) answerError(j *job, err error) {
	j.after = nil
	kind := record.Error
	if j.streaming != nil {
		kind = record.End
	}
	f, text := c.errorFrame(kind, j.frame.id, err)
	f.metadata = j.ctx.replyMetadata()
	j.observed.end(f.code, f.outcome, text)
	c.send(j, &f, text)
}

// send writes the answer to a call. A client that does not read delays the answers of its own calls
// only. Once the connection ends, send drops answers: clients decide on the outcome of such calls
// by the end of the connection, and handlers whose contexts it has cancelled would answer
// otherwise.
func (c *serverConn) send(j *job, f *frame, body []byte) {
	if j.streaming != nil && !c.endsFlow(j.streaming, f) {
		return // the client has ended it
	}
	if c.down.Load() != nil {
		return
	}
	if err := c.tx.write(context.Background(), f, body, &j.sent, func() {
		c.handOffBeforeWait(j)
	}); err != nil && c.down.Load() == nil {
		c.log.Warn("reply lost", "err", err)
	}
}
