package topic

import (
	"context"
	"sync"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/introspect"
)

// A Relay publishes again what a [Subscription] has got, for those who take a topic from one place
// to another: from another machine, say. Its subscribers are told what the relay was told: the
// numbers, epochs and times of the messages, how many were lost on the way, and that there is
// another publisher. It is an option of a server as a [Publisher] is, and safe for concurrent use.
type Relay struct {
	ipc.ServerOption

	info Info
	opts Options
	err  error // why it cannot publish

	mu     sync.Mutex
	cur    *Publisher // one for each publisher of the messages
	begun  bool       // cur has been given a message
	due    *uint64    // the first number of the next publisher, which could not be made yet
	closed bool
}

// NewRelay makes a relay. Options are as for [NewPublisher]. If they are wrong or there is no
// memory, all methods, and the server, fail with the reason.
func NewRelay(info *Info, o Options) *Relay {
	r := &Relay{opts: o, cur: NewPublisher(info, o)}
	kind := &ipc.LinkKind{Protocol: &ipc.Protocol{}, Open: func(q ipc.LinkRequest) (*ipc.LinkOffer,
		error) {
		return r.current().open(q)
	}, Describe: func() *introspect.TopicT { return r.current().describe() }}
	if r.err = r.cur.err; r.err == nil {
		r.info, kind.Protocol = *info, info.Protocol
	}
	kind.Invalid = r.err
	r.ServerOption = ipc.ServeLinks(kind)
	return r
}

func (r *Relay) current() *Publisher {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cur
}

// Publish publishes a copy of message, of which a is what the relay was told. The number must be
// beyond that of the message before, unless a has a Break. Then subscribers of the relay get what
// they have not read, and go on with the next publisher. Publish waits as [Publisher.Publish] does.
// A message that is not published counts as lost when the next one is. If there are no means for
// the next publisher at a Break, Publish fails with CodeResourceExhausted, and the break comes with
// the first message for which there are.
func (r *Relay) Publish(ctx context.Context, message []byte, a Arrival) error {
	p, err := r.publisher(a)
	if err != nil {
		return err
	}
	return p.publish(ctx, len(message), &a, func() error {
		p.w.Set(message)
		return nil
	})
}

// publisher returns the one of a message.
func (r *Relay) publisher(a Arrival) (p *Publisher, err error) {
	if r.err != nil {
		return nil, r.err
	}
	if a.Lost > a.Number {
		return nil, r.current().failed(refused(ipc.CodeInvalidArgument,
			"message %d, with %d lost before it", a.Number, a.Lost))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, r.cur.failed(refused(ipc.CodeUnavailable, "the relay is closed"))
	}
	first := a.Number - a.Lost
	if a.Break && r.begun {
		r.due = &first
	}
	if r.due != nil {
		if err := r.replace(*r.due); err != nil {
			return nil, err
		}
	}
	if !r.begun {
		if err := r.cur.begin(first); err != nil {
			return nil, err
		}
		r.begun = true
	}
	return r.cur, nil
}

// replace goes on with the next publisher, whose first message has a number. It needs mu.
func (r *Relay) replace(first uint64) error {
	next := NewPublisher(&r.info, r.opts)
	if next.err != nil {
		return next.err
	}
	if err := next.begin(first); err != nil {
		return also(err, next.Close())
	}
	old := r.cur
	r.cur, r.due = next, nil
	return old.Close()
}

// begin sets the number of the first message.
func (p *Publisher) begin(number uint64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.w.Begin(number); err != nil {
		return p.failed(&ipc.Error{Code: ipc.CodeInvalidArgument, Outcome: ipc.NotSent, Err: err})
	}
	return nil
}

// Info is that of [Publisher.Info].
func (r *Relay) Info() (*Info, error) { return r.current().Info() }

// Options is that of [Publisher.Options].
func (r *Relay) Options() Options { return r.current().Options() }

// Follow is that of [Publisher.Follow], and goes on with the next publisher.
func (r *Relay) Follow(ctx context.Context, history int,
	f func(life Life, message []byte, a Arrival) error) error {
	for {
		p := r.current()
		err := p.Follow(ctx, history, f)
		if ctx.Err() != nil || ipc.CodeOf(err) != ipc.CodeUnavailable || r.current() == p {
			return err
		}
		history = everything
	}
}

// Recent is that of [Publisher.Recent].
func (r *Relay) Recent(ctx context.Context, history int,
	f func(life Life, message []byte, a Arrival) error) (life Life, next uint64, err error) {
	return r.current().Recent(ctx, history, f)
}

// Close ends all subscriptions, as [Publisher.Close] does.
func (r *Relay) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	return r.cur.Close()
}
