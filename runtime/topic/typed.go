package topic

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"sync"

	flatbuffers "github.com/google/flatbuffers/go"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// A Type describes the messages of a topic, which are values of T in Go. Generated code declares
// it.
type Type[T any] struct {
	// Protocol identifies the topic to the peer.
	Protocol *ipc.Protocol
	// Size is the length of each message if the messages are structs, and otherwise 0. With
	// Payload, it is that of the struct alone.
	Size int
	// Verify checks the bytes of a message, unless the messages are structs.
	Verify func(message []byte) error
	// Encode builds a message in an empty builder; with Payload, the struct alone.
	Encode func(b *flatbuffers.Builder, m *T) error
	// Decode copies a verified message to m.
	Decode func(message []byte, m *T)
	// Recycle is Decode for an m that holds an older message, or none, and that is not used longer
	// than message: it may use the parts that m has, and keep parts of message in m. It is nil if
	// Decode is as good. See [SubscribeOptions].
	Recycle func(message []byte, m *T)
	// Payload, if it is not nil, returns the raw bytes that follow the struct of a message.
	Payload func(m *T) []byte
}

// A Block is a message of a struct with raw bytes behind it, for which the schema says
// (topic: "payload").
type Block[H any] struct {
	Header  H
	Payload []byte
}

// NegativePayload returns the error of a message whose payload has less than no bytes. Generated
// code calls it.
func NegativePayload(name string, n int) error {
	return &ipc.Error{Code: ipc.CodeInvalidArgument, Op: "topic " + name, Outcome: ipc.NotSent,
		Msg: fmt.Sprintf("a payload of %d bytes", n)}
}

// Info returns the description for publishers and subscriptions of bytes.
func (t *Type[T]) Info() *Info {
	verify := t.Verify
	if t.Size > 0 {
		verify = func(message []byte) error {
			if t.Payload == nil && len(message) != t.Size {
				return fmt.Errorf("a struct of %d bytes, not %d", len(message), t.Size)
			}
			if len(message) < t.Size {
				return fmt.Errorf("%d bytes for a struct of %d and its payload", len(message),
					t.Size)
			}
			return nil
		}
	}
	return &Info{Protocol: t.Protocol, Verify: verify}
}

// A TypedPublisher is a [Publisher] of values of T. Generated publishers embed it.
type TypedPublisher[T any] struct {
	ipc.ServerOption

	typ      *Type[T]
	bytes    *Publisher
	builders sync.Pool
}

// NewTypedPublisher makes the publisher of a topic, as [NewPublisher] does. For structs,
// Options.MaxMessage defaults to their size, and leaves 4 KiB for the payload of those that have
// one.
func NewTypedPublisher[T any](t *Type[T], o Options) *TypedPublisher[T] {
	size := t.Size
	if t.Payload != nil {
		size += defaultMessage
	}
	o.MaxMessage = cmp.Or(o.MaxMessage, size)
	p := &TypedPublisher[T]{typ: t, bytes: NewPublisher(t.Info(), o)}
	p.ServerOption = p.bytes.ServerOption
	return p
}

// Publish publishes a copy of m, as [Publisher.Publish] does.
func (p *TypedPublisher[T]) Publish(ctx context.Context, m *T) error {
	b := p.builder()
	if err := p.typ.Encode(b, m); err != nil {
		return err
	}
	defer p.giveBack(b)
	head := b.Bytes[b.Head():]
	if p.typ.Payload == nil {
		return p.bytes.Publish(ctx, head)
	}
	payload := p.typ.Payload(m)
	return p.bytes.Write(ctx, len(head)+len(payload), func(message []byte) error {
		copy(message[copy(message, head):], payload)
		return nil
	})
}

// Build publishes the message that finish has finished in a builder, which is empty and must not be
// kept. If finish returns an error, no message is published, and Build returns that error. The
// message is not verified before subscribers do so. Build waits as [Publisher.Publish] does.
func (p *TypedPublisher[T]) Build(ctx context.Context,
	finish func(b *flatbuffers.Builder) error) error {
	b := p.builder()
	if err := finish(b); err != nil {
		return err
	}
	defer p.giveBack(b)
	return p.bytes.Publish(ctx, b.Bytes[b.Head():])
}

// builder returns an empty builder.
func (p *TypedPublisher[T]) builder() *flatbuffers.Builder {
	b, _ := p.builders.Get().(*flatbuffers.Builder)
	if b == nil {
		b = flatbuffers.NewBuilder(0)
	}
	b.Reset()
	return b
}

// giveBack keeps a builder for the next message, unless it has grown too far.
func (p *TypedPublisher[T]) giveBack(b *flatbuffers.Builder) {
	if len(b.Bytes) <= 2*p.bytes.geo.Longest+initialBuilder {
		p.builders.Put(b)
	}
}

// initialBuilder is the length that a builder grows to at once.
const initialBuilder = 1 << 10

// Bytes returns the publisher of the encoded messages.
func (p *TypedPublisher[T]) Bytes() *Publisher { return p.bytes }

// Subscribers returns the number of subscriptions, as [Publisher.Subscribers] does.
func (p *TypedPublisher[T]) Subscribers() int { return p.bytes.Subscribers() }

// Close ends all subscriptions, and releases the memory, as [Publisher.Close] does.
func (p *TypedPublisher[T]) Close() error { return p.bytes.Close() }

// A TypedSubscription is a [Subscription] to values of T. Generated subscriptions embed it. One
// goroutine at a time may read, and any may call Close.
type TypedSubscription[T any] struct {
	typ      *Type[T]
	bytes    *Subscription
	recycles bool

	// reading is held by the calls that use what follows.
	reading sync.Mutex
	item    *T     // that All yields, if it is recycled
	next    []byte // in which parts of the last message lie, if it is recycled
	newest  []byte // likewise, for Latest
}

// SubscribeTyped subscribes to a topic, as [Subscribe] does.
func SubscribeTyped[T any](ctx context.Context, from Source, t *Type[T],
	o SubscribeOptions) (*TypedSubscription[T], error) {
	s, err := Subscribe(ctx, from, t.Info(), o)
	if err != nil {
		return nil, err
	}
	return &TypedSubscription[T]{typ: t, bytes: s, recycles: o.Recycling}, nil
}

// Next waits for the next message, and copies it to m. All that m held is replaced. With
// SubscribeOptions.Recycling, m is valid until the next message is read.
func (s *TypedSubscription[T]) Next(ctx context.Context, m *T) (Arrival, error) {
	if s.recycles {
		if err := s.begin(); err != nil {
			return Arrival{}, err
		}
		defer s.reading.Unlock()
		return s.recycle(ctx, m)
	}
	var a Arrival
	err := s.bytes.Read(ctx, func(message []byte, arrived Arrival) error {
		s.typ.Decode(message, m)
		a = arrived
		return nil
	})
	return a, err
}

// recycle is Next for messages that are recycled. The message is copied also if the subscription
// reads in place, as m is used for longer than the message may stay there. It needs reading.
func (s *TypedSubscription[T]) recycle(ctx context.Context, m *T) (a Arrival, err error) {
	s.next, a, err = s.bytes.Next(ctx, s.next)
	if err != nil {
		return Arrival{}, err
	}
	s.decode(s.next, m)
	return a, nil
}

// begin takes reading. Two goroutines that read recycled messages would read each other's.
func (s *TypedSubscription[T]) begin() error {
	if !s.recycles {
		s.reading.Lock()
		return nil
	}
	if !s.reading.TryLock() {
		return s.bytes.failed(refused(ipc.CodeFailedPrecondition, "another goroutine reads from "+
			"this subscription, which recycles its messages; make a subscription for each"))
	}
	return nil
}

// decode decodes a message whose memory is that of s.
func (s *TypedSubscription[T]) decode(message []byte, m *T) {
	if s.recycles && s.typ.Recycle != nil {
		s.typ.Recycle(message, m)
		return
	}
	s.typ.Decode(message, m)
}

// All waits for message after message, until ctx is done or the subscription ends: then it yields
// the error as the last element. The body of the loop may keep the messages. With
// SubscribeOptions.Recycling, each is valid until the next one is read.
// [TypedSubscription.Arrival] has the rest.
func (s *TypedSubscription[T]) All(ctx context.Context) iter.Seq2[*T, error] {
	return func(yield func(*T, error) bool) {
		for {
			m, err := s.nextOfAll(ctx)
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(m, nil) {
				return
			}
		}
	}
}

// nextOfAll returns the next message.
func (s *TypedSubscription[T]) nextOfAll(ctx context.Context) (*T, error) {
	if !s.recycles {
		m := new(T)
		_, err := s.Next(ctx, m)
		return m, err
	}
	if err := s.begin(); err != nil {
		return nil, err
	}
	defer s.reading.Unlock()
	if s.item == nil {
		s.item = new(T)
	}
	_, err := s.recycle(ctx, s.item)
	return s.item, err
}

// Latest copies the newest message of the publisher to m, without waiting for anything, as
// [Subscription.Latest] does. ok is false if there is none; then m is as before. With
// SubscribeOptions.Recycling, m is valid until the next call of Latest, whatever it returns.
func (s *TypedSubscription[T]) Latest(ctx context.Context, m *T) (a Arrival, ok bool, err error) {
	if err := s.begin(); err != nil {
		return a, false, err
	}
	defer s.reading.Unlock()
	s.newest, a, ok, err = s.bytes.Latest(ctx, s.newest)
	if err != nil || !ok {
		return Arrival{}, false, err
	}
	s.decode(s.newest, m)
	return a, true, nil
}

// Arrival returns what is known of the message that was read last. It must be called by the
// goroutine that reads.
func (s *TypedSubscription[T]) Arrival() Arrival { return s.bytes.Arrival() }

// Bytes returns the subscription to the encoded messages.
func (s *TypedSubscription[T]) Bytes() *Subscription { return s.bytes }

// Close ends the subscription, as [Subscription.Close] does.
func (s *TypedSubscription[T]) Close() error { return s.bytes.Close() }
