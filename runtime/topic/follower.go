package topic

import (
	"context"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/shm"
)

// Info returns the description of the messages, or why the publisher cannot publish.
func (p *Publisher) Info() (*Info, error) {
	if p.err != nil {
		return nil, p.err
	}
	return &p.info, nil
}

// A Life is one that a publisher has: ID tells it from all other publishers of the topic, and First
// is the number of its first message.
type Life struct{ ID, First uint64 }

// Options returns the options that count, with their defaults.
func (p *Publisher) Options() Options {
	o := p.opts
	o.Depth, o.MaxMessage, o.InPlace = p.geo.Depth, p.geo.Longest, p.geo.Claims
	return o
}

// Follow calls f with the messages of the publisher, for carriers in the same process that take
// them elsewhere: to other machines, say. It begins with up to history of the messages that are
// kept. It is a lossy subscription that [Publisher.Subscribers] does not count. f gets the life
// of the publisher, and may not keep the message. Follow returns the error of f, of a
// context that is done, or one with CodeUnavailable when the publisher is closed.
func (p *Publisher) Follow(ctx context.Context, history int,
	f func(life Life, message []byte, a Arrival) error) error {
	_, _, err := p.follow(ctx, history, true, f)
	return err
}

// Recent is Follow for up to history of the messages that are kept, without those that come later.
// It returns the life of the publisher, and the number of the next message.
func (p *Publisher) Recent(ctx context.Context, history int,
	f func(life Life, message []byte, a Arrival) error) (life Life, next uint64, err error) {
	return p.follow(ctx, history, false, f)
}

func (p *Publisher) follow(ctx context.Context, history int, wait bool,
	f func(life Life, message []byte, a Arrival) error) (life Life, next uint64, err error) {
	if p.err != nil {
		return life, 0, p.err
	}
	s := &subscriber{local: make(chan struct{}, 1)}
	r, end, err := p.attachLocal(s, uint32(min(max(history, 0), everything)))
	if err != nil {
		return life, 0, err
	}
	defer end()
	life.ID = r.Life()
	var buf []byte
	for ctx.Err() == nil {
		var m shm.TopicMessage
		var ok bool
		if buf, m, ok, err = r.Next(buf, false); err != nil {
			return life, 0, p.failed(&ipc.Error{Code: ipc.CodeCorrupt, Err: err})
		}
		if ok {
			r.Release()
			life.First = r.Base()
			if err := f(life, buf, Arrival{Number: m.Number, Lost: m.Lost, Epoch: m.Epoch,
				Published: time.Unix(0, m.Published)}); err != nil {
				return life, 0, err
			}
			continue
		}
		if !wait {
			life.First = r.Base()
			return life, r.Number(), nil
		}
		if r.Sleep() && !r.Ready() {
			select {
			case <-s.local:
			case <-p.closed:
			case <-ctx.Done():
			}
		}
		r.Awake()
		select {
		case <-p.closed:
			if !r.Ready() {
				return life, 0, p.failed(refused(ipc.CodeUnavailable, "the publisher is closed"))
			}
		default:
		}
	}
	return life, 0, p.late(ctx, "and so the following of the topic")
}

// attachLocal adds a subscriber in this process, which has a mapping of its own, for the publisher
// may be closed meanwhile.
func (p *Publisher) attachLocal(s *subscriber, history uint32) (r *shm.TopicReader, end func(),
	err error) {
	page, err := shm.NewHeapMemory(shm.TopicPageSize).Map(shm.TopicPageSize)
	if err != nil {
		return nil, nil, p.noMemory(err)
	}
	if err := p.enter(s, page, history); err != nil {
		return nil, nil, p.failed(err.(*ipc.Error))
	}
	defer p.handedOver()
	mem, err := p.memory.MapReadOnly(p.size()) // open until handedOver
	if err == nil {
		r, err = shm.NewTopicReader(mem[:p.geo.Size()], page, false)
	}
	if err != nil {
		p.leave(s)
		return nil, nil, p.noMemory(err)
	}
	return r, func() {
		p.leave(s)
		_ = p.memory.Unmap(mem)
	}, nil
}
