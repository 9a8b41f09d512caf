package ipc_test

import (
	"context"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	flatbuffers "github.com/google/flatbuffers/go"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

func limitsOfMessages(t *testing.T, v ipc.RendezvousOption) {
	peers := make(chan *ipc.Peer, 1)
	host(t, v, pushes(peers), ipc.WithMaxMessage(5000),
		ipc.NewService(&ipc.Protocol{Name: "test.More"},
			ipc.Handle(methodCrash, func(context.Context, *blob) (*blob, error) {
				return &blob{Data: make([]byte, 2000)}, nil
			})))
	for _, tt := range []struct {
		asked int
		limit string
	}{{1000, "limit is 1000"}, {1 << 20, "limit is 5000"}, {0, "limit is 5000"}} {
		c := dial(t, v, ipc.WithMaxMessage(tt.asked), echoes(notes(make(chan string, 1))))
		_, err := echo(t.Context(), c, make([]byte, 5000))
		want(t, err, ipc.CodeTooLarge, ipc.NotSent, tt.limit)
		want(t, note(t.Context(), c, string(make([]byte, 5000))), ipc.CodeTooLarge,
			ipc.NotSent, tt.limit)
		want(t, note(t.Context(), peerOf(t, c, peers), string(make([]byte, 5000))),
			ipc.CodeTooLarge, ipc.NotSent, tt.limit)
		_, err = ipc.Invoke(t.Context(), c, methodCrash, &blob{})
		if tt.asked == 1000 {
			want(t, err, ipc.CodeTooLarge, ipc.Executed, tt.limit)
		} else if err != nil {
			t.Error(err)
		}
		still(t, c)
	}
}

func limitsOfCalls(t *testing.T, v ipc.RendezvousOption) {
	entered := make(chan struct{}, 2)
	host(t, v, ipc.WithMaxCalls(2), echoes(
		ipc.Handle(methodEcho, func(_ context.Context, m *blob) (*blob, error) { return m, nil }),
		ipc.Handle(methodBlock, func(ctx context.Context, _ *blob) (*blob, error) {
			entered <- struct{}{}
			<-ctx.Done()
			return nil, ctx.Err()
		})))
	c := dial(t, v)
	ctx, cancel := context.WithCancel(t.Context())
	first, second := invoke(ctx, c, methodBlock, ""), invoke(ctx, c, methodBlock, "")
	<-entered
	<-entered
	ended(t, ipc.CodeDeadlineExceeded, "calls in flight", func(ctx context.Context) error {
		_, err := echo(ctx, c, nil)
		return err
	})
	waiting := invoke(t.Context(), c, methodEcho, "")
	cancel()
	for _, result := range []<-chan error{first, second} {
		want(t, <-result, ipc.CodeCanceled, ipc.OutcomeUnknown)
	}
	if err := <-waiting; err != nil {
		t.Errorf("the call that waited for a place: %v", err)
	}
}

// callsAboveTheLimit makes more calls at once than a connection may have in flight, in every way in
// which a call is answered: a client that keeps to the limit is never refused.
func callsAboveTheLimit(t *testing.T, v ipc.RendezvousOption) {
	const limit, callers = 4, 16
	calls := 250
	if testing.Short() {
		calls = 100
	}
	// work makes a handler slow in the eyes of the server, so that its calls run apart.
	work := func() func() {
		var n atomic.Int64
		return func() {
			if n.Add(1) < 2*callers {
				pause(4000)
			}
			pause(60)
		}
	}
	long, refuse, linger := work(), work(), work()
	host(t, v, ipc.WithMaxCalls(limit), echoService(
		ipc.Handle(methodLong, func(_ context.Context, m *blob) (*blob, error) {
			long()
			return m, nil
		}),
		ipc.Handle(methodRefuse, func(context.Context, *blob) (*blob, error) {
			refuse()
			return nil, ipc.Errorf(ipc.CodeNotFound, "on purpose")
		}),
		ipc.HandleInPlace(methodLinger,
			func(_ context.Context, _ []byte, reply *ipc.ReplyBuilder) error {
				linger()
				err := reply.Build(64, func(b *flatbuffers.Builder, _, _ uint64) {
					_ = encodeBlob(b, 0, &blob{})
				})
				pause(60)
				return err
			})))
	c := dial(t, v)
	plain := func(m *ipc.Method[blob, blob], n int) func() error {
		return func() error {
			_, err := ipc.Invoke(t.Context(), c, m, &blob{Data: make([]byte, n)})
			return err
		}
	}
	inPlace := func(m *ipc.Method[blob, blob]) func() error {
		return func() error { return asideBy(t.Context(), c, m, nil) }
	}
	for name, call := range map[string]func() error{
		"plain": plain(methodEcho, 10), "apart": plain(methodLong, 10),
		"in pieces": plain(methodLong, 70_000), "errors": plain(methodRefuse, 10),
		"in place": inPlace(methodAside), "in place, apart": inPlace(methodLinger),
	} {
		var group sync.WaitGroup
		var refused atomic.Int64
		for range callers {
			group.Go(func() {
				for range calls {
					if ipc.CodeOf(call()) == ipc.CodeResourceExhausted {
						refused.Add(1)
					}
				}
			})
		}
		group.Wait()
		if n := refused.Load(); n > 0 {
			t.Errorf("%s: %d of %d calls were refused", name, n, callers*calls)
		}
	}
	still(t, c)
}

// answeredCallsDoNotCount makes calls while handlers of earlier ones go on after their replies:
// neither these calls nor their requests count, up to a limit.
func answeredCallsDoNotCount(t *testing.T, v ipc.RendezvousOption) {
	const limit, most = 2, 2*2 + 64
	end := make(chan struct{})
	release := sync.OnceFunc(func() { close(end) })
	defer release()
	host(t, v, ipc.WithMaxCalls(limit), echoService(ipc.HandleInPlace(methodLinger,
		func(_ context.Context, _ []byte, reply *ipc.ReplyBuilder) error {
			err := reply.Build(64, func(b *flatbuffers.Builder, _, _ uint64) {
				_ = encodeBlob(b, 0, &blob{})
			})
			<-end
			return err
		})))
	c := dial(t, v)
	for range most {
		if err := asideBy(t.Context(), c, methodLinger, nil); err != nil {
			t.Fatal(err)
		}
	}
	want(t, asideBy(t.Context(), c, methodLinger, nil), ipc.CodeResourceExhausted,
		ipc.NotExecuted, "of which 68 are answered or cancelled")
	release()
	for ipc.CodeOf(asideBy(t.Context(), c, methodLinger, nil)) == ipc.CodeResourceExhausted {
		runtime.Gosched()
	}
	still(t, c)
}

func limitsOfConnections(t *testing.T, v ipc.RendezvousOption) {
	srv := host(t, v, ipc.WithMaxConns(1), echoService())
	c := dial(t, v)
	_, err := ipc.Dial(t.Context(), "echo", v)
	want(t, err, ipc.CodeResourceExhausted, ipc.NotSent, "limit of 1 connections")
	still(t, c)
	c.Close()
	for srv.Conns() > 0 {
		runtime.Gosched()
	}
	for {
		c, err := ipc.Dial(t.Context(), "echo", v)
		if ipc.CodeOf(err) == ipc.CodeResourceExhausted {
			continue // the last one is being counted out
		}
		if err != nil {
			t.Fatal(err)
		}
		still(t, c)
		c.Close()
		return
	}
}

// small makes rings and inboxes fill soon.
func small() []ipc.DialOption {
	return []ipc.DialOption{ipc.WithRings(4<<10, 4<<10), ipc.WithMaxMessage(64 << 10)}
}

// fill sends numbered messages of 1000 bytes until several attempts in a row have waited for room
// in vain, and returns how many were sent.
func fill(t *testing.T, to ipc.Sender) (n int) {
	t.Helper()
	for refused := 0; refused < 3; {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		err := note(ctx, to, number(n, 1000))
		cancel()
		if err == nil {
			n++
			refused = 0
			continue
		}
		want(t, err, ipc.CodeDeadlineExceeded, ipc.NotSent)
		if t.Failed() {
			break
		}
		if strings.Contains(err.Error(), "room in the ring") { // and was not late itself
			refused++
		}
	}
	return n
}

// slept checks that the goroutines that waited for room for one of n messages slept meanwhile, and
// were not woken again and again before there was room.
func slept(t *testing.T, s ipc.Stats, n int) {
	t.Helper()
	if most := uint64(4*n + 100); s.WaitsForRoom > most || s.Wakeups > most {
		t.Errorf("%d messages took %d waits for room and %d wake-ups", n, s.WaitsForRoom, s.Wakeups)
	}
}

func clientThatDoesNotRead(t *testing.T, v ipc.RendezvousOption) {
	peers, gate := make(chan *ipc.Peer, 1), make(chan string)
	host(t, v, pushes(peers))
	c, other := dial(t, v, append(small(), echoes(notes(gate)))...), dial(t, v)
	peer := peerOf(t, c, peers)
	n := fill(t, peer)
	if n > 1000 {
		t.Errorf("%d messages of 1000 bytes went to a client that does not read", n)
	}
	slept(t, peer.Stats(), n)
	still(t, other)
	expectNumbers(t, gate, n)
	still(t, c)
}

func serverThatDoesNotRead(t *testing.T, v ipc.RendezvousOption) {
	gate := make(chan string)
	host(t, v, echoService(notes(gate)))
	c, other := dial(t, v, small()...), dial(t, v)
	n := fill(t, c)
	if n > 1000 {
		t.Errorf("%d messages of 1000 bytes went to a server that does not read", n)
	}
	slept(t, c.Stats(), n)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := echo(ctx, c, make([]byte, 1000))
	if o := ipc.OutcomeOf(err); ipc.CodeOf(err) != ipc.CodeDeadlineExceeded || o != ipc.NotSent &&
		o != ipc.NotExecuted {
		t.Errorf("call to a server that does not read: %v", err)
	}
	still(t, other)
	expectNumbers(t, gate, n)
	still(t, c)
}

func failFast(t *testing.T, v ipc.RendezvousOption) {
	peers, up, down := make(chan *ipc.Peer, 1), make(chan string), make(chan string)
	host(t, v, ipc.WithFailFast(), pushes(peers),
		ipc.NewService(&ipc.Protocol{Name: "test.Up", Fingerprint: 1}, notes(up)))
	c := dial(t, v, append(small(), ipc.WithFailFast(), echoes(notes(down)))...)
	peer := peerOf(t, c, peers)
	for to, into := range map[ipc.Sender]<-chan string{c: up, peer: down} {
		n := 0
		err := note(context.Background(), to, number(n, 1000))
		for ; err == nil; err = note(context.Background(), to, number(n, 1000)) {
			n++
		}
		want(t, err, ipc.CodeResourceExhausted, ipc.NotSent, "full")
		expectNumbers(t, into, n)
	}
	still(t, c)
}

// largeMessageGivenUp cancels a message of which some pieces are in the ring already. The peer
// drops these pieces.
func largeMessageGivenUp(t *testing.T, v ipc.RendezvousOption) {
	gate, begun := make(chan string), make(chan bool, 3)
	host(t, v, echoService(ipc.Receive(messageNote, func(_ context.Context, m *blob) error {
		begun <- true
		gate <- string(m.Data)
		return nil
	})))
	c := dial(t, v, small()...)
	const large = 60 << 10 // more than fits anywhere on the way
	// The first occupies the handler, the second fills the server's inbox.
	if err := note(t.Context(), c, number(0, 10)); err != nil {
		t.Fatal(err)
	}
	<-begun
	if err := note(t.Context(), c, number(1, large)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	want(t, note(ctx, c, number(2, large)), ipc.CodeDeadlineExceeded, ipc.NotSent)
	done := make(chan error, 1)
	go func() { done <- note(t.Context(), c, "end") }()
	expectNumbers(t, gate, 2)
	if got := <-gate; got != "end" {
		t.Errorf("after the message that was given up came one of %d bytes", len(got))
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	still(t, c)
}
