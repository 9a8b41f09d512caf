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
	// Size is the length of each message if the messages are structs, and otherwise 0.
	Size int
	// Verify checks the bytes of a message, unless the messages are structs.
	Verify func(message []byte) error
	// Encode builds a message in an empty builder.
	Encode func(b *flatbuffers.Builder, m *T) error
	// Decode copies a verified message to m.
	Decode func(message []byte, m *T)
}

// Info returns the description for publishers and subscriptions of bytes.
func (t *Type[T]) Info() *Info {
	verify := t.Verify
	if t.Size > 0 {
		verify = func(message []byte) error {
			if len(message) != t.Size {
				return fmt.Errorf("a struct of %d bytes, not %d", len(message), t.Size)
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
// Options.MaxMessage defaults to their size.
func NewTypedPublisher[T any](t *Type[T], o Options) *TypedPublisher[T] {
	o.MaxMessage = cmp.Or(o.MaxMessage, t.Size)
	p := &TypedPublisher[T]{typ: t, bytes: NewPublisher(t.Info(), o)}
	p.ServerOption = p.bytes.ServerOption
	return p
}

// Publish publishes a copy of m, as [Publisher.Publish] does.
func (p *TypedPublisher[T]) Publish(ctx context.Context, m *T) error {
	return p.build(ctx, func(b *flatbuffers.Builder) error { return p.typ.Encode(b, m) })
}

// Build publishes the message that finish has finished in a builder, which is empty and must not be
// kept. If finish returns an error, no message is published, and Build returns that error. The
// message is not verified before subscribers do so. Build waits as [Publisher.Publish] does.
func (p *TypedPublisher[T]) Build(ctx context.Context,
	finish func(b *flatbuffers.Builder) error) error {
	return p.build(ctx, finish)
}

func (p *TypedPublisher[T]) build(ctx context.Context,
	finish func(b *flatbuffers.Builder) error) error {
	b, _ := p.builders.Get().(*flatbuffers.Builder)
	if b == nil {
		b = flatbuffers.NewBuilder(0)
	}
	b.Reset()
	if err := finish(b); err != nil {
		return err
	}
	err := p.bytes.Publish(ctx, b.Bytes[b.Head():])
	if len(b.Bytes) <= 2*p.bytes.geo.Longest+initialBuilder {
		p.builders.Put(b)
	}
	return err
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
	typ   *Type[T]
	bytes *Subscription
	buf   []byte // guarded by reading
	// reading is held by the calls that use buf.
	reading sync.Mutex
}

// SubscribeTyped subscribes to a topic, as [Subscribe] does.
func SubscribeTyped[T any](ctx context.Context, from Source, t *Type[T],
	o SubscribeOptions) (*TypedSubscription[T], error) {
	s, err := Subscribe(ctx, from, t.Info(), o)
	if err != nil {
		return nil, err
	}
	return &TypedSubscription[T]{typ: t, bytes: s}, nil
}

// Next waits for the next message, and copies it to m. All that m held is replaced.
func (s *TypedSubscription[T]) Next(ctx context.Context, m *T) (Arrival, error) {
	var a Arrival
	err := s.bytes.Read(ctx, func(message []byte, arrived Arrival) error {
		s.typ.Decode(message, m)
		a = arrived
		return nil
	})
	return a, err
}

// All waits for message after message, until ctx is done or the subscription ends: then it yields
// the error as the last element. The body of the loop may keep the messages.
// [TypedSubscription.Arrival] has the rest.
func (s *TypedSubscription[T]) All(ctx context.Context) iter.Seq2[*T, error] {
	return func(yield func(*T, error) bool) {
		for {
			m := new(T)
			if _, err := s.Next(ctx, m); err != nil {
				yield(nil, err)
				return
			}
			if !yield(m, nil) {
				return
			}
		}
	}
}

// Latest copies the newest message of the publisher to m, without waiting for anything, as
// [Subscription.Latest] does. ok is false if there is none; then m is as before.
func (s *TypedSubscription[T]) Latest(ctx context.Context, m *T) (a Arrival, ok bool, err error) {
	s.reading.Lock()
	defer s.reading.Unlock()
	message, a, ok, err := s.bytes.Latest(ctx, s.buf)
	s.buf = message[:0]
	if err != nil || !ok {
		return Arrival{}, false, err
	}
	s.typ.Decode(message, m)
	return a, true, nil
}

// Arrival returns what is known of the message that was read last. It must be called by the
// goroutine that reads.
func (s *TypedSubscription[T]) Arrival() Arrival { return s.bytes.Arrival() }

// Bytes returns the subscription to the encoded messages.
func (s *TypedSubscription[T]) Bytes() *Subscription { return s.bytes }

// Close ends the subscription, as [Subscription.Close] does.
func (s *TypedSubscription[T]) Close() error { return s.bytes.Close() }
