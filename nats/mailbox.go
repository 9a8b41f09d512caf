package natsipc

import (
	"errors"
	"strings"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// A mailbox has the one-way messages of a client that wait for their handlers, which run one after
// the other. A message is acknowledged to its sender when it lies among the first ones of the
// mailbox. Until then the sender waits, and may withdraw it.
type mailbox struct {
	client  string
	waiting []*posted // in the order of their arrival
	acked   int       // of waiting, from the first one on
	bytes   int       // of those
}

// A posted is a message in a mailbox.
type posted struct {
	*served
	acked bool
}

// mailboxSize is how many bytes of acknowledged messages a mailbox has, beside the first one.
const mailboxSize = 256 << 10

// post puts a message into the mailbox of its client.
func (s *Server) post(x *served) {
	client := x.reply[:strings.LastIndexByte(x.reply, '.')+1]
	s.mu.Lock()
	b := s.boxes[client]
	begins := b == nil
	if begins {
		b = &mailbox{client: client}
		s.boxes[client] = b
	}
	b.waiting = append(b.waiting, &posted{served: x})
	accepted := b.accept()
	s.mu.Unlock()
	for _, p := range accepted {
		p.acknowledge()
	}
	if begins {
		go s.deliver(b)
	}
}

// accept returns the messages for which there is room, which must be acknowledged. A message that
// comes in pieces waits until it is the first. The caller must hold the server's mu.
func (b *mailbox) accept() (accepted []*posted) {
	for b.acked < len(b.waiting) {
		p := b.waiting[b.acked]
		if p.request.size != 0 || b.acked > 0 && b.bytes+len(p.body) > mailboxSize {
			break
		}
		b.acked++
		if b.bytes += len(p.body) + frameCost; !p.acked && p.ctx.Err() == nil {
			p.acked = true
			accepted = append(accepted, p)
		}
	}
	return accepted
}

// acknowledge tells the sender that the server has the message, or why it has not.
func (p *posted) acknowledge(err ...*ipc.Error) {
	a, body := answer{}, []byte(nil)
	for _, e := range err {
		a, body = answer{code: e.Code, outcome: e.Outcome}, []byte(text(e))
	}
	p.conclude(a, ipc.Metadata{}, body)
	p.server.leave(p.served)
	p.release()
}

// deliver handles the messages of a mailbox until it is empty.
func (s *Server) deliver(b *mailbox) {
	goes := true
	defer func() {
		if goes { // the handler has ended the goroutine
			s.deliverNext(b)
			go s.deliver(b)
		}
	}()
	for {
		s.mu.Lock()
		if len(b.waiting) == 0 || s.closed {
			delete(s.boxes, b.client)
			s.whenEmpty()
			s.mu.Unlock()
			goes = false
			return
		}
		p := b.waiting[0]
		acked := p.acked
		p.acked = true // or handle does it
		s.mu.Unlock()
		s.handle(p, acked)
		s.deliverNext(b)
	}
}

// deliverNext removes the first message of a mailbox.
func (s *Server) deliverNext(b *mailbox) {
	s.mu.Lock()
	p := b.waiting[0]
	b.waiting[0] = nil
	if b.waiting = b.waiting[1:]; b.acked > 0 { // otherwise it was not counted
		b.acked--
		b.bytes -= len(p.body) + frameCost
	}
	accepted := b.accept()
	s.mu.Unlock()
	for _, p := range accepted {
		p.acknowledge()
	}
}

// handle handles a message, which nobody has withdrawn.
func (s *Server) handle(p *posted, acked bool) {
	if !acked {
		if err := p.whole(); err != nil {
			var e *ipc.Error
			errors.As(err, &e)
			p.acknowledge(e)
			return
		}
		if p.ctx.Err() != nil {
			p.acknowledge(p.ended(ipc.NotExecuted))
			return
		}
		p.acknowledge()
	}
	in := p.inbound()
	begun := time.Now()
	_, err := s.carrier.Handle(s.ctx, in)
	s.counts.count(ipc.CodeOf(err), time.Since(begun))
}
