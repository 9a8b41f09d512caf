package natsipc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	flatbuffers "github.com/google/flatbuffers/go"
	"github.com/nats-io/nats.go"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// A served is a call, or a one-way message, at its server.
type served struct {
	link
	server   *Server
	request  request
	protocol *ipc.Protocol // this side's version; nil: none
	metadata ipc.Metadata
	body     []byte
	reply    string // the client's subject
	number   uint64 // 0 until it is needed; guarded by the server's mu

	ctx   callContext
	code  atomic.Uint32 // with which the client has ended the call
	fault atomic.Pointer[ipc.Error]

	builder  *flatbuffers.Builder // of the reply; from builders, or nil
	accepted bool                 // the client knows the server's subject; of the call's goroutine
	begun    time.Time
}

// builders are for replies. One that begins anew for each reply leaves four times as much garbage.
var builders = sync.Pool{New: func() any { return flatbuffers.NewBuilder(256) }}

// bound makes the context of the call.
func (x *served) bound(ctx context.Context) {
	x.ctx.Context, x.begun = ctx, time.Now()
	if x.request.budget >= 0 {
		x.ctx.deadline = x.begun.Add(x.request.budget)
	}
}

// release ends what the call has in this process.
func (x *served) release() {
	x.finish()
	x.ctx.release()
}

// stop ends the call because its client has.
func (x *served) stop(code ipc.Code, taken uint64, why error) {
	x.code.CompareAndSwap(0, uint32(code))
	x.mu.Lock()
	x.known.Store(max(x.known.Load(), taken))
	x.mu.Unlock()
	x.ctx.cancel(why)
}

// abort ends the call because the server is closed.
func (x *served) abort() {
	_ = x.tell(answer{outcome: ipc.OutcomeUnknown, code: ipc.CodeUnavailable}, ipc.Metadata{},
		[]byte("the server was closed"))
	x.finish()
	x.ctx.cancel(ErrServerClosed)
}

// beat tells the client that the server still has the call, unless the call has just begun. NATS
// answers if the client is gone.
func (x *served) beat(every time.Duration) {
	if time.Since(x.begun) < every/2 {
		return
	}
	if !x.sending.TryLock() {
		return // what is being sent says as much, and is the last message perhaps
	}
	defer x.sending.Unlock()
	x.mu.Lock()
	over := x.over
	x.mu.Unlock()
	if over {
		return
	}
	f := frame{kind: frameBeat}
	_ = x.nc.PublishRequest(x.reply+".f", x.subject(), f.appendHead(nil))
}

// subject is where the server takes frames of the call. Its number is one that other clients do not
// guess.
func (x *served) subject() string {
	s := x.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if x.number == 0 && s.calls[x.reply] == x {
		for x.number == 0 || s.numbered[x.number] != nil {
			x.number = rand.Uint64()
		}
		s.numbered[x.number] = x
	}
	return s.place.instance(s.name, x.number)
}

// accept tells the client the server's subject.
func (x *served) accept() error {
	if x.accepted {
		return nil
	}
	x.accepted = true
	x.open(x.reply+".f", "", uint64(x.request.window))
	b := binary.LittleEndian.AppendUint32(nil, uint32(x.window))
	return x.send(frameAccept, false, append(b, x.subject()...))
}

// run executes the call, and answers it.
func (x *served) run() {
	a := answer{code: ipc.CodeInternal, outcome: ipc.Executed}
	var body []byte
	var metadata ipc.Metadata
	returned := false
	defer func() { // also if the handler ends the goroutine
		if !returned {
			body = []byte("the handler ended its goroutine (runtime.Goexit)")
		}
		if x.request.kind <= kindNote {
			x.server.counts.count(a.code, time.Since(x.begun))
		}
		x.conclude(a, metadata, body)
		if returned && x.builder != nil {
			builders.Put(x.builder) // NATS has copied the reply
		}
		x.server.leave(x)
		x.release()
		x.body, x.builder = nil, nil // a handler may keep the context, which lies in x
	}()
	out, err := x.execute()
	returned = true
	a = answer{epoch: out.Epoch, taken: out.Taken}
	metadata, body = out.Metadata, out.Body
	if err != nil {
		var e *ipc.Error
		if !errors.As(err, &e) {
			e = &ipc.Error{Code: ipc.CodeUnknown, Outcome: ipc.Executed, Err: err}
		}
		a.code, a.outcome, body = e.Code, e.Outcome, []byte(text(e))
	}
}

// execute executes the call.
func (x *served) execute() (out ipc.Outbound, err error) {
	if err := x.whole(); err != nil {
		return out, err
	}
	s := x.server
	switch x.request.kind {
	case kindHello:
		h := greeting{longest: s.limits.MaxMessage, server: s.name, protocols: s.served,
			topics: s.greetedTopics()}
		out.Body = h.encode()
		return out, nil
	case kindSchema, kindDefine:
		p := s.protocols[string(x.body)]
		if p == nil {
			return out, &ipc.Error{Code: ipc.CodeNotFound, Outcome: ipc.Executed,
				Msg: fmt.Sprintf("the server does not serve protocol %.200q", x.body)}
		}
		if out.Body = []byte(p.Schema); x.request.kind == kindDefine {
			out.Body = []byte(p.Definition)
		}
		return out, nil
	case kindHealth:
		h, err := s.health(&x.ctx, string(x.body))
		s.mu.Lock()
		defer s.mu.Unlock()
		if err == nil && s.draining {
			h = ipc.HealthDraining
		}
		out.Body = []byte{byte(h)}
		return out, err
	}
	if x.request.kind == kindRecent {
		return out, x.recent()
	}
	in := x.inbound()
	if in.In != nil {
		if err := x.accept(); err != nil {
			return out, sendFailed(err)
		}
	}
	out, err = s.carrier.Handle(&x.ctx, in)
	if fault := x.fault.Load(); fault != nil {
		err = fault
	}
	return out, err
}

// whole waits for the rest of a request that comes in pieces.
func (x *served) whole() error {
	if x.request.size == 0 {
		return nil
	}
	if err := x.accept(); err != nil {
		return sendFailed(err)
	}
	for {
		a, state := x.take()
		switch state {
		case item:
			if uint64(len(a.body)) != uint64(x.request.size) {
				return &ipc.Error{Code: ipc.CodeCorrupt, Outcome: ipc.NotExecuted, Msg: fmt.Sprintf(
					"a request of %d bytes has come, not of %d", len(a.body), x.request.size)}
			}
			x.body = a.body
			x.took(a)
			return nil
		case broken, noMore:
			why := corrupt("the request has not come")
			if e := x.why(); e != nil {
				*why = *e
			}
			why.Outcome = ipc.NotExecuted
			return why
		case nothing:
			select {
			case <-x.stirring():
			case <-x.ctx.Done():
				return x.ended(ipc.NotExecuted)
			}
		}
	}
}

// inbound returns the call as a Handler takes it.
func (x *served) inbound() *ipc.Inbound {
	r := &x.request
	if r.kind != kindNote {
		x.builder = builders.Get().(*flatbuffers.Builder)
	}
	in := &ipc.Inbound{Method: r.method, OneWay: r.kind == kindNote, Seq: r.seq, Epoch: r.epoch,
		Metadata: x.metadata, Body: x.body, Owned: true, Draining: x.server.drains, Known: &x.known,
		Protocol: x.protocol, Builder: x.builder}
	takes, gives := r.kind.streams()
	if takes {
		in.In = x.received
	}
	if gives {
		in.Out = x.give
	}
	return in
}

// received yields the items of the client.
func (x *served) received(yield func([]byte, error) bool) {
	for {
		if x.ctx.Err() != nil {
			yield(nil, x.ended(ipc.OutcomeUnknown))
			return
		}
		a, state := x.take()
		switch state {
		case item:
			if !yield(a.body, nil) {
				return
			}
			x.took(a)
		case noMore:
			return
		case broken:
			yield(nil, x.why())
			return
		case nothing:
			select {
			case <-x.stirring():
			case <-x.ctx.Done():
			}
		}
	}
}

// give sends an item of the handler.
func (x *served) give(item []byte) bool { return x.giveItem(item, false) }

// giveBody sends an item of any length.
func (x *served) giveBody(item []byte) bool { return x.giveItem(item, true) }

func (x *served) giveItem(item []byte, pieces bool) bool {
	if x.ctx.Err() != nil { // there may be credit left
		x.fault.CompareAndSwap(nil, x.ended(ipc.Executed))
		return false
	}
	if err := x.accept(); err != nil {
		return false
	}
	err := x.sendBody(&x.ctx, item, pieces)
	var e *ipc.Error
	if errors.As(err, &e) {
		told := *e
		if x.why() == nil { // otherwise items of the client are missing
			told.Outcome = ipc.Executed
		}
		x.fault.CompareAndSwap(nil, &told)
	}
	return err == nil
}

// ended returns the error of a call whose context has ended.
func (x *served) ended(o ipc.Outcome) *ipc.Error {
	e := &ipc.Error{Code: ipc.Code(x.code.Load()), Outcome: o}
	if e.Code == ipc.CodeOK {
		e.Code = ipc.CodeOf(x.ctx.Err())
	}
	if cause := context.Cause(&x.ctx); cause != x.ctx.Err() {
		e.Err = cause
	}
	return e
}

// conclude answers the call.
func (x *served) conclude(a answer, m ipc.Metadata, body []byte) {
	if x.code.Load() != 0 {
		return // its client has ended it
	}
	if most := min(uint64(x.longest), uint64(x.request.longest)); a.code == ipc.CodeOK &&
		uint64(len(body)) > most {
		a.code, a.outcome = ipc.CodeTooLarge, ipc.Executed
		body = fmt.Appendf(nil, "a reply of %d bytes; the limit is %d; see ipc.WithMaxMessage",
			len(body), most)
	}
	if x.request.kind == kindNote {
		a.server = x.server.name
	}
	err := x.answer(a, m, body)
	var e *ipc.Error
	if errors.Is(err, nats.ErrMaxPayload) {
		e = sendFailed(err)
	}
	if e != nil || errors.As(err, &e) {
		_ = x.answer(answer{code: e.Code, outcome: ipc.Executed, taken: a.taken}, ipc.Metadata{},
			[]byte(e.Msg))
	}
}

// answer sends the last message, behind pieces of the body if they do not fit into it.
func (x *served) answer(a answer, m ipc.Metadata, body []byte) error {
	err := x.tell(a, m, body)
	if !errors.Is(err, nats.ErrMaxPayload) || len(body) == 0 {
		return err
	}
	if a.code != ipc.CodeOK {
		return x.tell(a, m, body[:min(len(body), 64)])
	}
	if err := x.accept(); err != nil {
		return err
	}
	if err := x.sendBody(&x.ctx, body, true); err != nil {
		return err
	}
	return x.tell(a, m, nil)
}

// tell sends the last message of the call, unless it was sent.
func (x *served) tell(a answer, m ipc.Metadata, body []byte) error {
	return x.sendLast(func(frames uint64) error {
		if a.frames = frames; a == (answer{}) && m.Len() == 0 {
			return x.nc.Publish(x.reply, body)
		}
		return publish(x.nc, x.reply, "", a.header(), m, body)
	})
}
