package ipc_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/ipctest"
)

var methodAgain = idempotentMethod("Again")

// reconnecting makes a client of channel "echo" that the test closes.
func reconnecting(t *testing.T, v ipc.RendezvousOption, opts ...ipc.ClientOption) *ipc.Client {
	t.Helper()
	c, err := ipc.Connect("echo", append([]ipc.ClientOption{v}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// patiently is for calls that nothing but a fault of the client lets fail.
func patiently() ipc.ClientOption { return ipc.WithPatience(time.Minute) }

func clientWaitsForItsServer(t *testing.T, v ipc.RendezvousOption) {
	c := reconnecting(t, v, patiently())
	var waiting []<-chan error
	for range 8 {
		waiting = append(waiting, invoke(t.Context(), c, methodEcho, "early"))
	}
	sent := make(chan error, 1)
	go func() { sent <- ipc.Send(t.Context(), c, messageNote, &blob{Data: []byte("early")}) }()
	noted := make(chan string, 1)
	host(t, v, echoService(ipc.Receive(messageNote, func(_ context.Context, m *blob) error {
		noted <- string(m.Data)
		return nil
	})))
	for _, result := range waiting {
		if err := <-result; err != nil {
			t.Error(err)
		}
	}
	if err := <-sent; err != nil || <-noted != "early" {
		t.Error(err)
	}
	conn, err := c.WaitConnected(t.Context())
	if err != nil || conn.Endpoint.Channel != "echo" || conn.Conn.Peer().PID != os.Getpid() {
		t.Errorf("%+v, %v", conn, err)
	}
	still(t, conn.Conn)
}

func clientOutlivesServers(t *testing.T, v ipc.RendezvousOption) {
	c := reconnecting(t, v, patiently())
	echoes := echoes(ipc.Handle(methodAgain, func(_ context.Context, m *blob) (*blob, error) {
		return m, nil
	}))
	for round := range 6 {
		srv := host(t, v, echoes)
		for range 3 {
			rep, err := ipc.Invoke(t.Context(), c, methodAgain, &blob{Data: []byte{byte(round)}})
			if err != nil || rep.Data[0] != byte(round) {
				t.Fatalf("round %d: %v, %v", round, rep, err)
			}
		}
		if round%2 == 0 {
			srv.Close()
		} else if err := srv.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		if srv.Conns() == 0 && round%3 == 0 { // the next call begins before the next server
			early := invoke(t.Context(), c, methodAgain, "")
			next := host(t, v, echoes)
			if err := <-early; err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
			next.Close()
		}
	}
}

// answer handles a method by an empty reply.
func answer(m *ipc.Method[blob, blob]) ipc.Route {
	return ipc.Handle(m, func(context.Context, *blob) (*blob, error) { return &blob{}, nil })
}

// A server that drains answers what it has, while its successor has the calls after that.
func clientFollowsDuringDrain(t *testing.T, v ipc.RendezvousOption) {
	c := reconnecting(t, v, patiently())
	entered, gate := make(chan struct{}), make(chan struct{})
	old := host(t, v, echoService(ipc.Handle(methodCrash,
		func(context.Context, *blob) (*blob, error) {
			close(entered)
			<-gate
			return &blob{}, nil
		})))
	slow := invoke(t.Context(), c, methodCrash, "")
	<-entered
	down := make(chan error, 1)
	go func() { down <- old.Shutdown(context.Background()) }()
	for { // until the old server has given up its name
		if l, err := ipc.Listen("echo", v); err == nil {
			l.Close()
			break
		}
	}
	host(t, v, echoes(answer(methodAgain)))
	_, err := ipc.Invoke(t.Context(), c, methodAgain, &blob{})
	// by the old one, of which the client knows later
	for ipc.CodeOf(err) == ipc.CodeUnimplemented {
		_, err = ipc.Invoke(t.Context(), c, methodAgain, &blob{})
	}
	if err != nil {
		t.Error(err)
	}
	select {
	case err := <-slow:
		t.Errorf("the call ended early: %v", err)
	default:
	}
	close(gate)
	if err := <-slow; err != nil {
		t.Errorf("the call that the draining server had: %v", err)
	}
	if err := <-down; err != nil {
		t.Error(err)
	}
}

func clientWithoutServer(t *testing.T, v ipc.RendezvousOption) {
	// Fail fast, before there is a server and after the server has gone.
	c := reconnecting(t, v, ipc.WithPatience(0))
	for range 3 {
		want(t, <-invoke(t.Context(), c, methodEcho, ""), ipc.CodeUnavailable, ipc.NotSent,
			"call test.Echo/Echo", "start the server first")
	}
	want(t, ipc.Send(t.Context(), c, messageNote, &blob{}), ipc.CodeUnavailable, ipc.NotSent,
		"send test.Echo/Note")
	srv := host(t, v, echoService())
	if _, err := c.WaitConnected(t.Context()); err != nil {
		// It fails fast as calls do, but what is dialled now succeeds.
		fresh := reconnecting(t, v, ipc.WithPatience(0))
		if err := <-invoke(t.Context(), fresh, methodEcho, ""); err != nil {
			t.Errorf("a new client that fails fast, and a server: %v", err)
		}
	}
	srv.Close()
	if err := <-invoke(t.Context(), c, methodEcho, ""); ipc.CodeOf(err) != ipc.CodeUnavailable {
		t.Error(err)
	}
	want(t, <-invoke(t.Context(), c, methodEcho, ""), ipc.CodeUnavailable, ipc.NotSent)

	// Patience ends.
	c = reconnecting(t, v, ipc.WithPatience(time.Millisecond))
	want(t, <-invoke(t.Context(), c, methodEcho, ""), ipc.CodeUnavailable, ipc.NotSent,
		"waited 1ms", "echo")

	// The contexts of calls end while the calls wait.
	c = reconnecting(t, v, patiently())
	ended(t, ipc.CodeDeadlineExceeded, "echo", func(ctx context.Context) error {
		err := <-invoke(ctx, c, methodEcho, "")
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		return err
	})
	ctx, cancel := context.WithCancel(t.Context())
	result := invoke(ctx, c, methodEcho, "")
	cancel()
	want(t, <-result, ipc.CodeCanceled, ipc.NotSent)

	// The client ends while calls wait.
	var waiting []<-chan error
	for range 8 {
		waiting = append(waiting, invoke(t.Context(), c, methodEcho, ""))
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	for _, result := range append(waiting, invoke(t.Context(), c, methodEcho, "")) {
		err := <-result
		want(t, err, ipc.CodeUnavailable, ipc.NotSent, "the client was closed")
		if !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
	}
}

// closeNoticed closes the server to which a client is connected. It returns when the client knows,
// so that its next call is not lost with that server.
func closeNoticed(t *testing.T, c *ipc.Client, srv *ipc.Server) {
	t.Helper()
	conn, err := c.WaitConnected(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	srv.Close()
	<-conn.Conn.Done()
}

func clientSendsAgain(t *testing.T, v ipc.RendezvousOption) {
	c := reconnecting(t, v, patiently())
	var executed atomic.Int32
	entered := make(chan struct{}, 8)
	hang := func(ctx context.Context, _ *blob) (*blob, error) {
		executed.Add(1)
		entered <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}
	// Each of these servers is closed when it has taken the call, and answers nothing.
	lose := func() {
		srv := host(t, v, echoes(ipc.Handle(methodAgain, hang), ipc.Handle(methodEcho, hang)))
		<-entered
		srv.Close()
	}
	result := invoke(t.Context(), c, methodEcho, "")
	lose()
	want(t, <-result, ipc.CodeUnavailable, ipc.OutcomeUnknown)
	if n := executed.Swap(0); n != 1 {
		t.Errorf("a call that may not be sent again was executed %d times", n)
	}

	result = invoke(t.Context(), c, methodAgain, "")
	lose()
	srv := host(t, v, echoes(answer(methodAgain)))
	if err := <-result; err != nil || executed.Swap(0) != 1 {
		t.Errorf("an idempotent call that lost a server: %v", err)
	}
	closeNoticed(t, c, srv)

	result = invoke(t.Context(), c, methodAgain, "")
	lose()
	lose()
	want(t, <-result, ipc.CodeUnavailable, ipc.OutcomeUnknown, "2 servers were lost",
		fmt.Sprintf("echo (pid %d)", os.Getpid()))
	if n := executed.Swap(0); n != 2 {
		t.Errorf("executed %d times", n)
	}

	// An error that the handler has answered is final, whatever its code.
	host(t, v, echoes(ipc.Handle(methodAgain, func(context.Context, *blob) (*blob, error) {
		executed.Add(1)
		return nil, ipc.Errorf(ipc.CodeUnavailable, "the disk is")
	})))
	want(t, <-invoke(t.Context(), c, methodAgain, ""), ipc.CodeUnavailable, ipc.Executed,
		"the disk is")
	if n := executed.Load(); n != 1 {
		t.Errorf("an answered call was executed %d times", n)
	}
}

// A failure that waiting does not cure ends a call at once. Later calls succeed when it is cured.
func clientThatIsRefused(t *testing.T, v ipc.RendezvousOption) {
	var admit atomic.Bool
	host(t, v, echoService(), ipc.WithAuthorize(func(ipc.Peer) error {
		if admit.Load() {
			return nil
		}
		return errors.New("not you")
	}))
	c := reconnecting(t, v, patiently())
	want(t, <-invoke(t.Context(), c, methodEcho, ""), ipc.CodePermissionDenied,
		ipc.NotSent, "not you")
	admit.Store(true)
	for {
		_, err := echo(t.Context(), c, nil)
		if err == nil {
			break
		}
		want(t, err, ipc.CodePermissionDenied, ipc.NotSent)
		if t.Failed() {
			return
		}
	}
}

// A switchboard is a resolver that the test turns.
type switchboard struct {
	target atomic.Pointer[ipc.Target]
	turned chan struct{}
}

func (s *switchboard) Resolve() ipc.Target { return *s.target.Load() }

func (s *switchboard) Watch(ctx context.Context, changed func()) error {
	for {
		changed()
		select {
		case <-s.turned:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *switchboard) turn(t ipc.Target) {
	s.target.Store(&t)
	s.turned <- struct{}{}
}

func clientOfAResolver(t *testing.T, v ipc.RendezvousOption) {
	a, b := ipc.Endpoint{Channel: "a"}, ipc.Endpoint{Name: "second", Channel: "b", Reply: "b_reply"}
	entered := make(chan struct{}, 1)
	which := func(name string, opts ...ipc.ListenOption) *ipc.Server {
		l, err := ipc.Listen(name, append(opts, v)...)
		if err != nil {
			t.Fatal(err)
		}
		srv := ipc.NewServer(echoes(ipc.Handle(methodEcho,
			func(context.Context, *blob) (*blob, error) {
				return &blob{Data: []byte(name)}, nil
			}),
			ipc.Handle(methodBlock, func(ctx context.Context, _ *blob) (*blob, error) {
				entered <- struct{}{}
				<-ctx.Done()
				return nil, ctx.Err()
			})))
		done := make(chan error, 1)
		go func() { done <- srv.Serve(context.Background(), l) }()
		t.Cleanup(func() { srv.Close(); <-done })
		return srv
	}
	srvA, srvB := which("a"), which("b", ipc.WithReplyChannel("b_reply"))
	s := &switchboard{turned: make(chan struct{})}
	s.target.Store(&ipc.Target{Absent: errors.New("nobody is elected")})
	c, err := ipc.NewClient(s, v, ipc.WithPatience(time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	want(t, <-invoke(t.Context(), c, methodEcho, ""), ipc.CodeUnavailable, ipc.NotSent, "waited",
		"nobody is elected")
	c.Close()

	if c, err = ipc.NewClient(s, v, patiently()); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s.turn(ipc.Target{Warm: []ipc.Endpoint{a, b}, Down: errors.New("the election is void")})
	want(t, <-invoke(t.Context(), c, methodEcho, ""), ipc.CodeUnavailable, ipc.NotSent,
		"the election is void")
	for srvA.Conns() != 1 || srvB.Conns() != 1 { // both are warm
		pause(10)
	}
	var blocked <-chan error
	for epoch, e := range []ipc.Endpoint{a, b, a} {
		s.turn(ipc.Target{Endpoint: e, Epoch: uint64(epoch + 1), Warm: []ipc.Endpoint{a, b}})
		conn, err := c.WaitConnected(t.Context())
		for err == nil && conn.Epoch != uint64(epoch+1) {
			conn, err = c.WaitConnected(t.Context())
		}
		if err != nil || conn.Endpoint.Channel != e.Channel {
			t.Fatalf("%+v, %v", conn, err)
		}
		if got, err := echo(t.Context(), c, nil); err != nil || string(got) != e.Channel {
			t.Errorf("epoch %d: %q, %v", epoch+1, got, err)
		}
		if blocked != nil { // at the server of before, whose connection is given up
			want(t, <-blocked, ipc.CodeUnavailable, ipc.OutcomeUnknown)
		}
		blocked = invoke(t.Context(), c, methodBlock, "")
		select {
		case <-entered:
		case err := <-blocked:
			t.Fatalf("epoch %d: %v", epoch+1, err)
		}
	}
	c.Close()
	want(t, <-blocked, ipc.CodeUnavailable, ipc.OutcomeUnknown)
	if _, err := ipc.NewClient(nil); ipc.CodeOf(err) != ipc.CodeInvalidArgument {
		t.Error(err)
	}
}

// A bareTransport tells of nothing.
type bareTransport struct{ ipc.Transport }

// TestClientWithoutNews connects over a transport that does not tell of servers.
func TestClientWithoutNews(t *testing.T) {
	expectNothingLeft(t)
	v := ipctest.NewNetwork()
	c := reconnecting(t, ipc.WithTransport(bareTransport{ipc.TransportOf(v)}), patiently())
	for range 2 {
		result := invoke(t.Context(), c, methodEcho, "")
		srv := host(t, v, echoService())
		if err := <-result; err != nil {
			t.Error(err)
		}
		closeNoticed(t, c, srv)
	}
	c = reconnecting(t, ipc.WithTransport(elsewhere{}), patiently())
	want(t, <-invoke(t.Context(), c, methodEcho, ""), ipc.CodeUnsupported, ipc.NotSent)
	if _, err := ipc.Connect("no/name"); ipc.CodeOf(err) != ipc.CodeInvalidArgument {
		t.Error(err)
	}
}

// BenchmarkClient compares a call through a Client with one through its connection. An
// interceptor answers at once in the runs called "alone", which leaves what the callers cost.
func BenchmarkClient(b *testing.B) {
	d := newDomain(b)
	serve(b, d)
	answered := ipc.WithClientInterceptor(func(context.Context, ipc.Call, ipc.Caller) error {
		return nil
	})
	for name, opts := range map[string][]ipc.ClientOption{"whole": {d}, "alone": {d, answered}} {
		c, err := ipc.Connect("echo", opts...)
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		conn, err := c.WaitConnected(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		call := ipc.Call{Method: methodEcho.Info(), Request: &blob{Data: make([]byte, 64)},
			Reply: &blob{}}
		for who, caller := range map[string]ipc.Caller{"Conn": conn.Conn, "Client": c} {
			b.Run(name+"/"+who, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if err := caller.Invoke(context.Background(), call); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
