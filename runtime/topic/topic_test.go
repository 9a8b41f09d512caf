package topic_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/ipctest"
	"github.com/ipcgen/ipcgen/runtime/topic"
)

var meter = &topic.Info{Protocol: &ipc.Protocol{Name: "test.Meter", Fingerprint: 42}}

// channelName is the channel of all publishers here.
const channelName = "meters"

// message returns the n-th message: its number, again and again.
func message(n uint64) []byte {
	b := make([]byte, 8+n*8%100)
	for i := 0; i+8 <= len(b); i += 8 {
		binary.NativeEndian.PutUint64(b[i:], n)
	}
	return b
}

// checkMessage returns an error unless b is the n-th message.
func checkMessage(b []byte, n uint64) error {
	if !bytes.Equal(b, message(n)) {
		return fmt.Errorf("message %d is torn: % x", n, b)
	}
	return nil
}

// overEach runs a test over each transport.
func overEach(t *testing.T, f func(t *testing.T, where ipc.RendezvousOption)) {
	t.Run("processes", func(t *testing.T) {
		t.Parallel()
		f(t, ipc.WithDomain(filepath.Join(t.TempDir(), "d")))
	})
	t.Run("ipctest", func(t *testing.T) {
		t.Parallel()
		f(t, ipctest.NewNetwork())
	})
}

// within bounds what must not take for ever.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// newPublisher makes a publisher; for ipctest, in memory that the race detector watches.
func newPublisher(where ipc.ListenOption, o topic.Options) *topic.Publisher {
	if _, ok := where.(*ipctest.Network); ok {
		return topic.NewHeapPublisher(meter, o)
	}
	return topic.NewPublisher(meter, o)
}

// publisher makes a publisher that a server offers until the test ends.
func publisher(t testing.TB, where ipc.ListenOption, o topic.Options,
	opts ...ipc.ServerOption) *topic.Publisher {
	t.Helper()
	p := newPublisher(where, o)
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	ipctest.Serve(t, where, channelName, append(opts, p)...)
	return p
}

// subscribe makes a subscription that ends with the test.
func subscribe(t testing.TB, where ipc.DialOption, o topic.SubscribeOptions) *topic.Subscription {
	t.Helper()
	s, err := topic.Subscribe(within(t), topic.Channel(channelName, where), meter, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// heardOf waits until so many subscribers have confirmed that they have the memory of the topic. A
// publisher without room does not wait long for a lossless one that has not.
func heardOf(t testing.TB, p *topic.Publisher, n int) {
	t.Helper()
	for ctx := within(t); p.Subscribers() != n; time.Sleep(time.Millisecond) {
		if ctx.Err() != nil {
			t.Fatalf("%d subscribers, not %d", p.Subscribers(), n)
		}
	}
}

// publish publishes the messages from to to.
func publish(t testing.TB, p *topic.Publisher, from, to uint64) {
	t.Helper()
	for n := from; n < to; n++ {
		if err := p.Publish(within(t), message(n)); err != nil {
			t.Fatal(n, err)
		}
	}
}

// expect reads one message, which must be the n-th.
func expect(t testing.TB, s *topic.Subscription, n uint64) topic.Arrival {
	t.Helper()
	b, a, err := s.Next(within(t), nil)
	if err == nil {
		err = checkMessage(b, n)
	}
	if err != nil || a.Number != n {
		t.Fatalf("message %d: %+v, %v", n, a, err)
	}
	return a
}

func TestPolicies(t *testing.T) {
	overEach(t, func(t *testing.T, where ipc.RendezvousOption) {
		p := publisher(t, where, topic.Options{Depth: 4})
		publish(t, p, 0, 10)
		fresh := subscribe(t, where, topic.SubscribeOptions{})
		late := subscribe(t, where, topic.SubscribeOptions{History: 3})
		latest := subscribe(t, where, topic.SubscribeOptions{Policy: topic.Latest})
		if a := expect(t, latest, 9); a.Lost != 0 || time.Since(a.Published) > time.Hour {
			t.Errorf("%+v", a)
		}
		for n := range uint64(3) {
			if a := expect(t, late, 7+n); a.Lost != 0 || a.Break {
				t.Errorf("%+v", a)
			}
		}
		publish(t, p, 10, 30)
		if a := expect(t, latest, 29); a.Lost != 19 {
			t.Errorf("latest: %+v", a)
		}
		for _, s := range []*topic.Subscription{fresh, late} {
			lost, read := uint64(0), uint64(0)
			for {
				b, a, err := s.Next(within(t), nil)
				if err != nil {
					t.Fatal(err)
				}
				if err := checkMessage(b, a.Number); err != nil {
					t.Fatal(err)
				}
				lost += a.Lost
				if read++; a.Number == 29 {
					break
				}
			}
			if lost+read != 20 || lost < 16 {
				t.Errorf("lost %d, read %d", lost, read)
			}
		}
		if b, a, ok, err := fresh.Latest(within(t), nil); !ok || err != nil || a.Number != 29 ||
			checkMessage(b, 29) != nil {
			t.Error(a, ok, err)
		}
	})
}

// TestWaiting reads messages that are published while the subscriber sleeps.
func TestWaiting(t *testing.T) {
	overEach(t, func(t *testing.T, where ipc.RendezvousOption) {
		p := publisher(t, where, topic.Options{})
		back := make(chan uint64)
		for i := range 6 { // more than are woken by the publishing call
			s := subscribe(t, where, topic.SubscribeOptions{InPlace: i < 2})
			go func() {
				for message, err := range s.All(within(t)) {
					if err == nil {
						err = checkMessage(message, s.Arrival().Number)
					}
					if err != nil {
						t.Error(err)
						return
					}
					back <- s.Arrival().Number
					if s.Arrival().Number == 99 {
						return
					}
				}
			}()
		}
		for n := range uint64(100) {
			publish(t, p, n, n+1)
			for range 6 {
				select {
				case got := <-back:
					if got != n {
						t.Fatalf("%d, not %d", got, n)
					}
				case <-within(t).Done():
					t.Fatal("nobody has got", n)
				}
			}
		}
	})
}

func TestLossless(t *testing.T) {
	overEach(t, func(t *testing.T, where ipc.RendezvousOption) {
		p := publisher(t, where, topic.Options{Depth: 4})
		a := subscribe(t, where, topic.SubscribeOptions{Policy: topic.Lossless})
		b := subscribe(t, where, topic.SubscribeOptions{Policy: topic.Lossless, InPlace: true})
		heardOf(t, p, 2)
		publish(t, p, 0, 4)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		err := p.Publish(ctx, message(4))
		if ipc.CodeOf(err) != ipc.CodeDeadlineExceeded ||
			!strings.Contains(err.Error(), "lossless") {
			t.Errorf("full: %v", err)
		}
		done := make(chan struct{})
		for _, s := range []*topic.Subscription{a, b} {
			go func() {
				defer func() { done <- struct{}{} }()
				for n := range uint64(2000) {
					if err := s.Read(within(t), func(m []byte, a topic.Arrival) error {
						if a.Number != n || a.Lost != 0 {
							return fmt.Errorf("%+v, not %d", a, n)
						}
						return checkMessage(m, n)
					}); err != nil {
						t.Error(err)
						return
					}
				}
			}()
		}
		publish(t, p, 4, 2000)
		<-done
		<-done
	})
}

func TestSlowPolicies(t *testing.T) {
	overEach(t, func(t *testing.T, where ipc.RendezvousOption) {
		lossless := topic.SubscribeOptions{Policy: topic.Lossless}
		t.Run("fail", func(t *testing.T) {
			p := publisher(t, where, topic.Options{Depth: 2, Slow: topic.SlowFail})
			s := subscribe(t, where, lossless)
			publish(t, p, 0, 2)
			if err := p.Publish(t.Context(), nil); ipc.CodeOf(err) != ipc.CodeResourceExhausted {
				t.Error(err)
			}
			expect(t, s, 0)
			publish(t, p, 2, 3)
			heardOf(t, p, 1)
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			heardOf(t, p, 0)
			publish(t, p, 3, 10)
		})
		t.Run("refuse", func(t *testing.T) {
			publisher(t, where, topic.Options{Slow: topic.SlowRefuse})
			_, err := topic.Subscribe(within(t), topic.Channel(channelName, where), meter, lossless)
			if ipc.CodeOf(err) != ipc.CodeFailedPrecondition {
				t.Error(err)
			}
			subscribe(t, where, topic.SubscribeOptions{})
		})
		t.Run("let go", func(t *testing.T) {
			p := publisher(t, where, topic.Options{Depth: 2, LetGo: 10 * time.Millisecond})
			slow := subscribe(t, where, lossless)
			heardOf(t, p, 1)
			publish(t, p, 0, 10)
			for range 2 {
				_, _, err := slow.Next(within(t), nil)
				if ipc.CodeOf(err) != ipc.CodeResourceExhausted ||
					!strings.Contains(err.Error(), "has not read message 0 for 10ms") {
					t.Error(err)
				}
			}
			if n := p.Subscribers(); n != 0 {
				t.Error(n, "subscribers")
			}
		})
	})
}

// TestBeforeThePublisher subscribes when there is none, and goes on with the next one.
func TestBeforeThePublisher(t *testing.T) {
	overEach(t, func(t *testing.T, where ipc.RendezvousOption) {
		breaks := make(chan error, 10)
		s := subscribe(t, where, topic.SubscribeOptions{OnBreak: func(why error) error {
			breaks <- why
			return nil
		}})
		short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		_, _, err := s.Next(short, nil)
		if ipc.CodeOf(err) != ipc.CodeDeadlineExceeded ||
			!strings.Contains(err.Error(), "there is no publisher") {
			t.Error(err)
		}
		if _, _, ok, err := s.Latest(t.Context(), nil); ok || err != nil {
			t.Error(ok, err)
		}
		arrivals := make(chan topic.Arrival)
		go func() {
			defer close(arrivals)
			for range 6 {
				b, a, err := s.Next(within(t), nil)
				if err == nil {
					err = checkMessage(b, a.Number)
				}
				if err != nil {
					t.Error(err)
					return
				}
				arrivals <- a
			}
		}()
		for life := range 2 {
			p := newPublisher(where, topic.Options{Depth: 3})
			srv := ipc.NewServer(p, ipc.WithFence(epoch(life+5)))
			publish(t, p, 0, 4) // before it can be found
			l, err := ipc.Listen(channelName, where)
			if err != nil {
				t.Fatal(err)
			}
			served := make(chan error, 1)
			go func() { served <- srv.Serve(context.Background(), l) }()
			for n := uint64(1); n < 4; n++ {
				a := <-arrivals
				lost := uint64(0)
				if n == 1 {
					lost = 1
				}
				if a.Number != n || a.Lost != lost || a.Break != (life == 1 && n == 1) ||
					a.Epoch != uint64(life+5) {
					t.Errorf("life %d, message %d: %+v", life, n, a)
				}
			}
			if err := srv.Shutdown(within(t)); err != nil {
				t.Error(err)
			}
			if err := <-served; err != ipc.ErrServerClosed {
				t.Error(err)
			}
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		}
		if why := <-breaks; ipc.CodeOf(why) != ipc.CodeUnavailable ||
			errors.Is(why, io.ErrUnexpectedEOF) ||
			!strings.Contains(why.Error(), "the server is shutting down") {
			t.Error(why)
		}
	})
}

type epoch uint64

func (e epoch) Epoch() uint64      { return uint64(e) }
func (e epoch) Admit(uint64) error { return nil }

// TestCutAndResumed loses the connection, but not the publisher: the count of lost messages stays
// exact, and nothing is broken.
func TestCutAndResumed(t *testing.T) {
	for _, policy := range []topic.Policy{topic.Lossy, topic.Lossless} {
		t.Run(fmt.Sprint("policy ", policy), func(t *testing.T) {
			overEach(t, func(t *testing.T, where ipc.RendezvousOption) {
				cutAndResume(t, where, policy)
			})
		})
	}
}

func cutAndResume(t *testing.T, where ipc.RendezvousOption, policy topic.Policy) {
	p := newPublisher(where, topic.Options{Depth: 4})
	defer p.Close()
	var s *topic.Subscription
	for life := range uint64(4) {
		l, err := ipc.Listen(channelName, where)
		if err != nil {
			t.Fatal(err)
		}
		srv := ipc.NewServer(p)
		served := make(chan error, 1)
		go func() { served <- srv.Serve(context.Background(), l) }()
		if life == 0 {
			s = subscribe(t, where, topic.SubscribeOptions{Policy: policy})
		}
		for lost, read := uint64(0), uint64(0); life > 0 && lost+read < 10; read++ {
			b, a, err := s.Next(within(t), nil)
			if err == nil {
				err = checkMessage(b, a.Number)
			}
			lost += a.Lost
			if err != nil || a.Break || a.Number != life*10-10+lost+read {
				t.Fatal(life, lost, read, a, err)
			}
		}
		if err := srv.Shutdown(within(t)); err != nil {
			t.Error(err)
		}
		<-served
		publish(t, p, life*10, life*10+10)
	}
}

// TestServerGoneAndPublisherNot ends the server of a publisher that goes on publishing, faster than
// the subscription reads. The subscription leaves it for the next publisher of the name.
func TestServerGoneAndPublisherNot(t *testing.T) {
	for _, policy := range []topic.Policy{topic.Lossy, topic.Lossless, topic.Latest} {
		t.Run(fmt.Sprint("policy ", policy), func(t *testing.T) {
			overEach(t, func(t *testing.T, where ipc.RendezvousOption) {
				leavePublisher(t, where, policy)
			})
		})
	}
}

func leavePublisher(t *testing.T, where ipc.RendezvousOption, policy topic.Policy) {
	old := newPublisher(where, topic.Options{Depth: 1000})
	defer old.Close()
	publish(t, old, 0, 1)
	l, err := ipc.Listen(channelName, where)
	if err != nil {
		t.Fatal(err)
	}
	srv := ipc.NewServer(old)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(context.Background(), l) }()
	s := subscribe(t, where, topic.SubscribeOptions{Policy: policy, History: 1})
	expect(t, s, 0)
	if err := srv.Shutdown(within(t)); err != nil {
		t.Error(err)
	}
	<-served
	ctx, stop := context.WithCancel(t.Context())
	var busy sync.WaitGroup
	defer busy.Wait()
	defer stop()
	busy.Go(func() {
		for n := uint64(1); ctx.Err() == nil; n++ {
			if err := old.Publish(context.Background(), message(n)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	next := publisher(t, where, topic.Options{})
	publish(t, next, 0, 1)
	for end := time.Now().Add(time.Minute); ; {
		_, a, err := s.Next(within(t), nil)
		if err != nil {
			t.Fatal(err)
		}
		if a.Break {
			return
		}
		if time.Now().After(end) {
			t.Fatal("the subscription stays with its former publisher, at message ", a.Number)
		}
		time.Sleep(time.Millisecond) // a slow reader
	}
}

func TestRefused(t *testing.T) {
	overEach(t, func(t *testing.T, where ipc.RendezvousOption) {
		var asked atomic.Int32
		var deny atomic.Bool
		publisher(t, where, topic.Options{InPlace: 1}, ipc.WithServerInterceptor(
			func(ctx context.Context, c *ipc.ServerCall, next func(context.Context) error) error {
				if asked.Add(1); c.Kind != ipc.KindSubscription {
					t.Error(c.Kind)
				}
				if c.Name != "test.Meter" || c.Protocol != meter.Protocol || c.Peer.PID == 0 {
					t.Errorf("%+v", c)
				}
				if deny.Load() {
					return ipc.Errorf(ipc.CodePermissionDenied, "not you")
				}
				return next(ctx)
			}))
		subscribe(t, where, topic.SubscribeOptions{InPlace: true})
		try := func(want ipc.Code, info *topic.Info, o topic.SubscribeOptions) {
			t.Helper()
			s, err := topic.Subscribe(within(t), topic.Channel(channelName, where), info, o)
			if ipc.CodeOf(err) != want {
				t.Errorf("%v; want %v", err, want)
			}
			if s != nil {
				s.Close()
			}
		}
		if n := asked.Load(); n != 1 {
			t.Error(n, "subscriptions")
		}
		try(ipc.CodeIncompatible, &topic.Info{Protocol: &ipc.Protocol{Name: "test.Meter",
			Fingerprint: 43}}, topic.SubscribeOptions{})
		try(ipc.CodeUnimplemented, &topic.Info{Protocol: &ipc.Protocol{Name: "test.Other"}},
			topic.SubscribeOptions{})
		try(ipc.CodeInvalidArgument, meter, topic.SubscribeOptions{Policy: 9})
		try(ipc.CodeInvalidArgument, nil, topic.SubscribeOptions{})
		deny.Store(true)
		try(ipc.CodePermissionDenied, meter, topic.SubscribeOptions{})
	})
}

func TestUnauthorized(t *testing.T) {
	n := ipctest.NewNetwork()
	publisher(t, n, topic.Options{})
	from := topic.Channel(channelName, n.As(ipc.Peer{PID: 1, UID: 99}))
	_, err := topic.Subscribe(within(t), from, meter, topic.SubscribeOptions{})
	if ipc.CodeOf(err) != ipc.CodePermissionDenied {
		t.Error(err)
	}
}

func TestWrite(t *testing.T) {
	n := ipctest.NewNetwork()
	p := publisher(t, n, topic.Options{MaxMessage: 100})
	s := subscribe(t, n, topic.SubscribeOptions{})
	own := errors.New("own")
	if err := p.Write(t.Context(), 10, func(b []byte) error {
		clear(b)
		return own
	}); err != own {
		t.Error(err)
	}
	func() {
		defer func() { _ = recover() }()
		_ = p.Write(t.Context(), 10, func(b []byte) error { panic(own) })
	}()
	for i := range uint64(3) {
		m := message(i)
		if err := p.Write(t.Context(), len(m), func(b []byte) error {
			if copy(b, m) != len(m) || cap(b) != len(m) {
				t.Error(len(b), cap(b))
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
		expect(t, s, i)
	}
	for _, size := range []int{-1, 101} {
		if err := p.Write(t.Context(), size, nil); ipc.CodeOf(err) != ipc.CodeTooLarge {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
	p.Close()
	if err := p.Publish(t.Context(), nil); ipc.CodeOf(err) != ipc.CodeUnavailable {
		t.Error(err)
	}
}

// TestLimits exceeds the limits of subscriptions. A subscription that ends makes room.
func TestLimits(t *testing.T) {
	for name, tt := range map[string]struct {
		most   int
		server []ipc.ServerOption
		o      topic.SubscribeOptions
	}{
		"in place":    {4, nil, topic.SubscribeOptions{InPlace: true}},
		"connections": {3, []ipc.ServerOption{ipc.WithMaxConns(3)}, topic.SubscribeOptions{}},
	} {
		t.Run(name, func(t *testing.T) {
			overEach(t, func(t *testing.T, where ipc.RendezvousOption) {
				p := publisher(t, where, topic.Options{}, tt.server...)
				first := subscribe(t, where, tt.o)
				for range tt.most - 1 {
					subscribe(t, where, tt.o)
				}
				late := subscribe(t, where, tt.o) // which waits for room
				read := func() error {
					ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
					defer cancel()
					return late.Read(ctx, func([]byte, topic.Arrival) error { return nil })
				}
				publish(t, p, 0, 1)
				expect(t, first, 0)
				for told := false; !told; { // on a busy machine the publisher may not have answered
					err := read()
					if ipc.CodeOf(err) != ipc.CodeDeadlineExceeded {
						t.Fatalf("subscription %d reads: %v", tt.most+1, err)
					}
					told = strings.Contains(err.Error(), "limit")
				}
				if err := first.Close(); err != nil {
					t.Fatal(err)
				}
				for n := uint64(1); read() != nil; n++ {
					publish(t, p, n, n+1)
				}
			})
		})
	}
}

// TestMisuse makes publishers that cannot be.
func TestMisuse(t *testing.T) {
	for _, p := range []*topic.Publisher{
		topic.NewPublisher(nil, topic.Options{}),
		topic.NewPublisher(&topic.Info{}, topic.Options{}),
		topic.NewPublisher(meter, topic.Options{Depth: 1}),
		topic.NewPublisher(meter, topic.Options{Depth: -1}),
		topic.NewPublisher(meter, topic.Options{MaxMessage: 1 << 40}),
		topic.NewPublisher(meter, topic.Options{InPlace: 1000}),
	} {
		if err := p.Publish(t.Context(), nil); ipc.CodeOf(err) != ipc.CodeInvalidArgument {
			t.Error(err)
		}
		l, err := ipctest.NewNetwork().Listen("x")
		if err != nil {
			t.Fatal(err)
		}
		err = ipc.NewServer(p).Serve(t.Context(), l)
		if ipc.CodeOf(err) != ipc.CodeInvalidArgument {
			t.Error(err)
		}
	}
	a, b := topic.NewPublisher(meter, topic.Options{}), topic.NewPublisher(meter, topic.Options{})
	defer a.Close()
	defer b.Close()
	l, err := ipctest.NewNetwork().Listen("x")
	if err != nil {
		t.Fatal(err)
	}
	err = ipc.NewServer(a, b).Serve(t.Context(), l)
	if ipc.CodeOf(err) != ipc.CodeInvalidArgument {
		t.Error(err)
	}
}

// TestMalformed publishes messages that the verifier refuses. No subscriber gets them.
func TestMalformed(t *testing.T) {
	n := ipctest.NewNetwork()
	p := publisher(t, n, topic.Options{})
	checked := &topic.Info{Protocol: meter.Protocol, Verify: func(b []byte) error {
		if len(b) != 8 {
			return errors.New("not 8 bytes")
		}
		return nil
	}}
	s, err := topic.Subscribe(within(t), topic.Channel(channelName, n), checked,
		topic.SubscribeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	publish(t, p, 0, 2)
	expect(t, s, 0)
	for range 2 {
		_, _, err := s.Next(within(t), nil)
		if ipc.CodeOf(err) != ipc.CodeCorrupt || !strings.Contains(err.Error(), "not 8 bytes") {
			t.Error(err)
		}
	}
}

// TestCloseWhileReading closes a subscription that waits for a message, and one that waits for a
// publisher.
func TestCloseWhileReading(t *testing.T) {
	overEach(t, func(t *testing.T, where ipc.RendezvousOption) {
		for _, there := range []bool{true, false} {
			t.Run(fmt.Sprint(there), func(t *testing.T) {
				if there {
					publisher(t, where, topic.Options{})
				}
				s := subscribe(t, where, topic.SubscribeOptions{})
				read := make(chan error, 1)
				go func() {
					_, _, err := s.Next(within(t), nil)
					read <- err
				}()
				time.Sleep(5 * time.Millisecond)
				if err := s.Close(); err != nil {
					t.Error(err)
				}
				if err := <-read; ipc.CodeOf(err) != ipc.CodeUnavailable {
					t.Error(err)
				}
				_, _, _, err := s.Latest(t.Context(), nil)
				if ipc.CodeOf(err) != ipc.CodeUnavailable {
					t.Error(err)
				}
			})
		}
	})
}

// TestUseWithinALoop uses a subscription in the body of a loop over it: the newest message, further
// ones, and Close, after which the loop ends with an error.
func TestUseWithinALoop(t *testing.T) {
	overEach(t, func(t *testing.T, where ipc.RendezvousOption) {
		p := publisher(t, where, topic.Options{})
		publish(t, p, 0, 4)
		s := subscribe(t, where, topic.SubscribeOptions{History: 4})
		next := uint64(0)
		for b, err := range s.All(within(t)) {
			if next == 4 {
				if ipc.CodeOf(err) != ipc.CodeUnavailable {
					t.Errorf("after Close: %q, %v", b, err)
				}
				next++
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if m, a, ok, err := s.Latest(t.Context(), nil); err != nil || !ok || a.Number != 3 {
				t.Errorf("the newest message is %q, %+v, %v, %v", m, a, ok, err)
			}
			expect(t, s, next+1)
			if err := s.Read(within(t), func(m []byte, a topic.Arrival) error {
				return checkMessage(m, next+2)
			}); err != nil {
				t.Error(err)
			}
			if err := checkMessage(b, next); err != nil { // it is still that of the loop
				t.Error(err)
			}
			expect(t, s, next+3)
			next += 4
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
		if next != 5 {
			t.Errorf("the loop ended at %d", next)
		}
	})
}
