//go:build ipcinterleave

package ipc

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"slices"
	"testing"

	"github.com/ipcgen/ipcgen/internal/interleave"
	"github.com/ipcgen/ipcgen/internal/record"
)

// A flowVariant is what goes on while one side of a streaming call sends items, and the other one
// takes them.
type flowVariant struct {
	name     string
	switches int  // of goroutines that could go on, in one execution
	upload   bool // the client sends
	items    int  // that are sent; the window holds two
	leaves   int  // the consumer ends the call after so many; 0: never
	fails    bool // the producer ends the call with an error behind its items
	cancels  bool // the context of the client's call ends
	dies     bool // the connection ends, which each side learns by itself
}

// flowVariants have as many switches as CI has time for.
var flowVariants = []flowVariant{
	{name: "a server's items", items: 3, switches: 3},
	{name: "a server's items, and an error", items: 3, switches: 3, fails: true},
	{name: "a server's items, left", items: 4, switches: 3, leaves: 1},
	{name: "a server's items, cancelled", items: 3, switches: 2, cancels: true},
	{name: "a server's items, and the connection ends", items: 3, switches: 2, dies: true},
	{name: "items that are left while the call is cancelled", items: 3, switches: 2, leaves: 2,
		cancels: true},
	{name: "items that are left while the connection ends", items: 3, switches: 2, leaves: 2,
		dies: true},

	{name: "a client's items", items: 3, switches: 3, upload: true},
	{name: "a client's items, answered early", items: 4, switches: 3, leaves: 1, upload: true},
	{name: "a client's items, cancelled", items: 3, switches: 2, cancels: true, upload: true},
	{name: "a client's items, and the connection ends", items: 3, switches: 2, dies: true,
		upload: true},
}

// TestInterleaveFlow runs both sides of a streaming call in every order of their accesses to what
// they wait by. No side waits when there is an item, credit or an end for it. Never are there more
// items under way than the window has room for. The consumer gets the items in order, none twice,
// and all of them before a clean end. What the producer knows of the items that were taken is exact
// when the consumer has ended the call, and no more than that otherwise.
func TestInterleaveFlow(t *testing.T) {
	for _, v := range flowVariants {
		v.switches = longer(v.switches)
		explore(t, v.name, func(_ *testing.T, r *interleave.Run) { v.start(r) })
	}
}

// A flowScene is one execution of a variant. The two queues stand for the rings.
type flowScene struct {
	v        *flowVariant
	run      *interleave.Run
	client   *clientFlow
	server   *serverFlow
	ctx      modelContext // of the client's call
	toServer []modelItem
	toClient []modelItem
	working  int // goroutines that may write frames
	dead     [2]bool

	sent, taken uint64
	end         error // that the consumer has seen
	left        bool  // the consumer has ended the call itself
	told        bool  // and the producer has taken that in
}

// A modelItem is a frame on its way.
type modelItem struct {
	frame frame
	body  []byte
}

const modelFlowID = 7

func (v *flowVariant) start(r *interleave.Run) {
	s := &flowScene{v: v, run: r}
	s.ctx.done = make(chan struct{})
	const window = 2 * (itemCost + 1)
	s.client = &clientFlow{conn: new(Conn), id: modelFlowID}
	s.client.flow.init(window, window, 100)
	s.client.items.init()
	s.client.room.init()
	s.client.items.id, s.client.room.id = 1<<3, 2<<3
	s.client.items.init()
	s.client.room.init()
	s.client.conn.streaming.init(1)
	s.client.conn.streaming.flows[modelFlowID] = s.client
	conn := &serverConn{srv: new(Server), streams: make(map[uint64]*serverFlow)}
	s.server = &serverFlow{conn: conn, job: new(job), items: make(chan struct{}, 1),
		room: make(chan struct{}, 1)}
	s.server.job.frame.id = modelFlowID
	s.server.job.ctx = &callContext{scope: newCallScope(context.Background(), nil, clock{}, 0)}
	s.server.flow.init(window, window, 100)
	conn.streams[modelFlowID] = s.server
	c, f := &s.client.flow, &s.server.flow
	r.Share(&c.mu, &c.closed, &c.told, &f.mu, &f.closed, &f.told, &s.client.items.state,
		&s.client.room.state)
	r.Quiet(&f.taken) // of one goroutine
	if v.cancels {
		r.Share(&c.taken)
	} else {
		r.Quiet(&c.taken) // likewise
	}
	r.Quiet(&s.client.conn.role.word, &s.client.conn.role.waiter, &conn.mu)
	if v.upload {
		s.start("client", s.upload)
		s.start("handler", s.handleUpload)
	} else {
		s.start("client", s.download)
		s.start("handler", s.handleDownload)
	}
	if v.cancels {
		r.Share(&s.ctx.ended)
		s.start("end of the context", func() {
			s.ctx.cancel()
			why := contextError(&s.ctx)
			s.client.abort(why)
			s.tellEnd(why)
		})
	}
	if v.dies {
		why := &Error{Code: CodeUnavailable, Outcome: OutcomeUnknown}
		s.start("end of the client's connection", func() {
			s.dead[0] = true
			for _, f := range s.client.conn.streaming.close(why) {
				f.abort(why)
			}
		})
		s.start("end of the server's connection", func() {
			s.dead[1] = true
			s.server.disconnect(why)
		})
	}
	r.Go("client's reader", s.readClient)
	r.Go("server's reader", s.readServer)
	r.State, r.Check = s.state, s.check
	r.Switches = v.switches
}

// start runs f while s.working counts it.
func (s *flowScene) start(name string, f func()) {
	s.working++
	s.run.Go(name, func() {
		f()
		s.working--
	})
}

// await is Conn.await where another goroutine reads the connection.
func (s *flowScene) await(p *pending) {
	if p.done() {
		return
	}
	if p.park() {
		interleave.Until(func() bool { return len(p.ready) > 0 })
		<-p.ready
	}
}

// tellEnd is clientFlow.tellEnd.
func (s *flowScene) tellEnd(why *Error) {
	if end, ok := s.client.endFrame(why); ok {
		s.left = s.left || !s.v.upload
		s.toServer = append(s.toServer, modelItem{frame: end})
	}
}

// leave is clientFlow.leave.
func (s *flowScene) leave() {
	s.tellEnd(&Error{Code: CodeCanceled})
	s.client.flow.close()
	s.client.wake(&s.client.room, nil)
}

// took counts an item of the consumer. It reports false if that must not have it.
func (s *flowScene) took(f *flow, body []byte) bool {
	if !f.took(len(body)) {
		return false
	}
	if uint64(body[0]) != s.taken {
		s.run.Fail(fmt.Sprintf("item %d comes after %d", body[0], s.taken))
	}
	s.taken++
	return true
}

// due tells the producer what was taken, if it is time for that.
func (s *flowScene) due(f *flow, to *[]modelItem) {
	if f.due() {
		*to = append(*to, modelItem{frame: f.credit(modelFlowID)})
	}
}

func (s *flowScene) item(number uint32) modelItem {
	s.sent++
	return modelItem{frame{kind: record.Item, id: modelFlowID, method: number},
		[]byte{byte(number)}}
}

// download is the client's call whose items the server sends, as clientFlow.receive has it.
func (s *flowScene) download() {
	defer s.leave()
	f := s.client
	for {
		s.due(&f.flow, &s.toServer)
		interleave.Settled()
		body, _, ok, end := f.take(f.items.arm)
		switch {
		case ok:
			if !s.took(&f.flow, body) {
				s.end = f.cancelled
				return
			}
			if int(s.taken) == s.v.leaves {
				return
			}
		case end != nil:
			s.end = end
			return
		default:
			s.await(&f.items)
		}
	}
}

// handleDownload is the handler of that call.
func (s *flowScene) handleDownload() {
	code := CodeOK
	if s.v.fails {
		code = CodeNotFound
	}
	defer s.answer(code)
	for i := range s.v.items {
		interleave.SettledAt(i)
		number, ok, err := s.server.pay(1, func() *Error { return nil })
		if !ok || err != nil {
			return
		}
		s.toClient = append(s.toClient, s.item(number))
	}
}

// answer ends a call at the server, as serverConn.endStreaming does.
func (s *flowScene) answer(code Code) {
	end := frame{kind: record.End, id: modelFlowID, code: code}
	if s.server.conn.endsFlow(s.server, &end) {
		s.left = s.left || s.v.upload
		s.toClient = append(s.toClient, modelItem{frame: end})
	}
	s.server.close()
	s.server.job.ctx.cancel()
}

// upload is the client's call with items of its own, as clientFlow.sendAll and receive have it.
func (s *flowScene) upload() {
	defer s.leave()
	f := s.client
	for sent := 0; sent < s.v.items; {
		interleave.SettledAt(sent)
		number, ok, stop := f.reserve(1, f.room.arm)
		if stop != nil {
			break
		}
		if !ok {
			s.await(&f.room)
			continue
		}
		sent++
		s.toServer = append(s.toServer, s.item(number))
		if sent == s.v.items {
			s.toServer = append(s.toServer, modelItem{frame: frame{kind: record.End,
				id: modelFlowID, seq: f.count()}})
		}
	}
	for {
		interleave.Settled()
		_, _, ok, end := f.take(f.items.arm)
		switch {
		case ok:
			s.run.Fail("the client has an item")
			return
		case end != nil:
			return
		default:
			s.await(&f.items)
		}
	}
}

// handleUpload is the handler of that call.
func (s *flowScene) handleUpload() {
	defer s.answer(CodeOK)
	for {
		s.due(&s.server.flow, &s.toClient)
		interleave.Settled()
		body, err := s.server.next()
		if err != nil {
			s.end = err
			return
		}
		s.took(&s.server.flow, body)
		if int(s.taken) == s.v.leaves {
			return
		}
	}
}

// next returns the next frame of a queue, if one comes and this side is not dead.
func (s *flowScene) next(queue *[]modelItem, dead *bool) (m modelItem, ok bool) {
	interleave.Settled()
	interleave.Until(func() bool { return len(*queue) > 0 || s.working == 0 || *dead })
	if *dead || len(*queue) == 0 {
		return m, false
	}
	m, *queue = (*queue)[0], slices.Clone((*queue)[1:])
	return m, true
}

// readClient is the goroutine that reads the client's ring, as Conn.handleFlow does.
func (s *flowScene) readClient() {
	for {
		m, ok := s.next(&s.toClient, &s.dead[0])
		if !ok {
			return
		}
		f := s.client.conn.streaming.find(modelFlowID)
		if f == nil {
			continue
		}
		wakes, err := f.handle(&m.frame, m.body, true)
		if err != nil {
			s.run.Fail("the client believes that " + err.Error())
			return
		}
		for _, w := range wakes {
			f.wake(w, nil)
		}
		if m.frame.kind == record.End {
			s.told = s.told || s.v.upload
		}
	}
}

// readServer is the goroutine that reads the server's ring, as serverConn.handleFlow does.
func (s *flowScene) readServer() {
	for {
		m, ok := s.next(&s.toServer, &s.dead[1])
		if !ok {
			return
		}
		f := s.server.conn.streams[modelFlowID]
		if f == nil {
			continue
		}
		if err := f.handle(&m.frame, m.body, true); err != nil {
			s.run.Fail("the server believes that " + err.Error())
			return
		}
		if m.frame.kind == record.End && m.frame.code != CodeOK {
			s.told = s.told || !s.v.upload
		}
	}
}

// state stands for what the goroutines share beside the words.
func (s *flowScene) state() uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	for _, f := range []*flow{&s.client.flow, &s.server.flow} {
		maphash.WriteComparable(&h, [...]uint64{f.cost, f.came, uint64(f.items), f.sent,
			f.sentItems, f.paid, f.paidItems, uint64(f.at), uint64(len(f.now.messages)),
			uint64(len(f.next.messages))})
		maphash.WriteComparable(&h, [...]bool{f.end == nil, f.end == io.EOF, f.stop == nil})
	}
	for _, q := range [][]modelItem{s.toServer, s.toClient} {
		maphash.WriteComparable(&h, len(q))
		for _, m := range q {
			maphash.WriteComparable(&h, [...]uint64{uint64(m.frame.kind), m.frame.seq,
				uint64(m.frame.deadline), uint64(m.frame.method), uint64(m.frame.code)})
		}
	}
	_, open := s.server.conn.streams[modelFlowID]
	maphash.WriteComparable(&h, [...]bool{s.left, s.told, s.dead[0], s.dead[1], s.end == nil,
		open, s.client.conn.streaming.flows[modelFlowID] == nil, s.server.job.ctx.Err() == nil})
	maphash.WriteComparable(&h, [...]int{len(s.server.items), len(s.server.room),
		len(s.client.items.ready), len(s.client.room.ready), s.working, int(s.taken), int(s.sent)})
	return h.Sum64()
}

// check is called when no goroutine can go on.
func (s *flowScene) check(waiting []string) error {
	if len(waiting) > 0 {
		return fmt.Errorf("%s wait, and nothing will wake them", waiting)
	}
	producer := &s.server.flow
	if s.v.upload {
		producer = &s.client.flow
	}
	known := producer.known()
	switch {
	case known > s.taken, s.taken > s.sent:
		return fmt.Errorf("%d items were sent, %d taken, and %d are known to be", s.sent, s.taken,
			known)
	case s.left && s.told && known != s.taken:
		return fmt.Errorf("the consumer has ended the call with %d items, of which %d are known",
			s.taken, known)
	case s.end == io.EOF && int(s.taken) != s.v.items:
		return fmt.Errorf("a clean end after %d items", s.taken)
	case s.v.leaves == 0 && !s.v.cancels && !s.v.dies:
		if int(s.taken) != s.v.items {
			return fmt.Errorf("%d items were taken", s.taken)
		}
		if s.v.fails && CodeOf(s.end) != CodeNotFound || !s.v.fails && s.end != io.EOF {
			return fmt.Errorf("the end is %v", s.end)
		}
	case s.end == nil && s.v.leaves == 0:
		return errors.New("the consumer has seen no end")
	}
	return nil
}
