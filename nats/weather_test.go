package natsipc_test

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/ipcgen/ipcgen/internal/echo"
	"github.com/ipcgen/ipcgen/nats"
	"github.com/ipcgen/ipcgen/nats/internal/natstest"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// beat is short, so that the tests of silence are.
const beat = 250 * time.Millisecond

var quiet = ipc.WithLogger(slog.New(slog.DiscardHandler))

// serve starts a server of the channel "echo", which the test closes.
func serve(t *testing.T, nc *nats.Conn, opts ...ipc.ServerOption) *natsipc.Server {
	t.Helper()
	s, err := natsipc.Serve(t.Context(), nc, "echo", append(opts, natsipc.WithBeat(beat), quiet)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// dial returns a client of the channel "echo", which the test closes.
func dial(t *testing.T, nc *nats.Conn, opts ...ipc.DialOption) *natsipc.Conn {
	t.Helper()
	c, err := natsipc.Dial(t.Context(), nc, "echo", append(opts, natsipc.WithBeat(beat))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// entered waits until a handler runs.
func entered(t *testing.T, handler <-chan struct{}, result <-chan error) {
	t.Helper()
	select {
	case <-handler:
	case err := <-result:
		t.Fatalf("the call has ended before: %v", err)
	case <-time.After(5 * time.Minute):
		t.Fatal("the handler does not run")
	}
}

// TestLongItems has items of streams up to half of the window of the side that takes them, and
// longer ones, beside a call that is as long as calls may be.
func TestLongItems(t *testing.T) {
	echo.ExpectNothingLeft(t)
	broker := natstest.Start(t)
	serve(t, broker.ConnectInProcess(t), echo.StreamingService(), echo.Service())
	const head = 8 // of an encoded blob
	// jam has an item sent and sent back.
	jam := func(c ipc.Caller, bytes int) error {
		for _, err := range ipc.InvokeBidiStream(t.Context(), c, echo.Jam,
			func(yield func(*echo.Blob, error) bool) {
				yield(&echo.Blob{Data: make([]byte, bytes-head)}, nil)
			}) {
			if err != nil {
				return err
			}
		}
		return nil
	}
	c := dial(t, broker.ConnectInProcess(t))
	most := ipc.DefaultStreamingWindow / 2
	if err := jam(c, most); err != nil {
		t.Error(err)
	}
	err := jam(c, most+4)
	echo.Want(t, err, ipc.CodeTooLarge, ipc.OutcomeOf(err), "an item of 131076 bytes; the limit "+
		"is 131072, half of the other side's window; see ipc.WithStreamingWindow")
	narrow := dial(t, broker.ConnectInProcess(t), ipc.WithStreamingWindow(4096))
	if err := jam(narrow, 2048); err != nil {
		t.Error(err)
	}
	err = jam(narrow, 2048+4) // which the server may not send back
	echo.Want(t, err, ipc.CodeTooLarge, ipc.OutcomeOf(err), "the limit is 2048")
	if _, err := echo.Call(t.Context(), c, make([]byte, ipc.DefaultMaxMessage-head)); err != nil {
		t.Error(err)
	}
}

// TestNoServer dials, and calls, where nobody serves: nothing is sent.
func TestNoServer(t *testing.T) {
	echo.ExpectNothingLeft(t)
	broker := natstest.Start(t)
	nc := broker.ConnectInProcess(t)
	_, err := natsipc.Dial(t.Context(), nc, "echo")
	echo.Want(t, err, ipc.CodeUnavailable, ipc.NotSent, "dial echo",
		"there is no server at ipcgen.echo; start one")
	srv := serve(t, broker.ConnectInProcess(t), echo.Service(echo.Notes(make(chan string, 10))))
	c := dial(t, nc)
	echo.Still(t, c)
	if err := echo.SendNote(t.Context(), c, "x"); err != nil {
		t.Error(err)
	}
	srv.Close()
	_, err = echo.Call(t.Context(), c, nil)
	echo.Want(t, err, ipc.CodeUnavailable, ipc.NotSent, "there is no server")
	echo.Want(t, echo.SendNote(t.Context(), c, "x"), ipc.CodeUnavailable, ipc.NotSent)
	serve(t, broker.ConnectInProcess(t), echo.Service(echo.Notes(make(chan string, 10))))
	echo.Still(t, c) // the client goes on with another server
	if err := echo.SendNote(t.Context(), c, "x"); err != nil {
		t.Error(err)
	}
}

// TestWrongConnections gives connections that cannot carry calls.
func TestWrongConnections(t *testing.T) {
	echo.ExpectNothingLeft(t)
	broker := natstest.Start(t)
	closed := broker.ConnectInProcess(t)
	closed.Close()
	for name, tt := range map[string]struct {
		nc   *nats.Conn
		code ipc.Code
		text string
	}{
		"nil": {nil, ipc.CodeInvalidArgument, "nil"},
		"one that keeps what is sent": {broker.ConnectInProcess(t, nats.ReconnectBufSize(1<<20)),
			ipc.CodeFailedPrecondition, "ReconnectBufSize"},
		"closed": {closed, ipc.CodeUnavailable, "no connection"},
	} {
		t.Log(name)
		_, err := natsipc.Dial(t.Context(), tt.nc, "echo")
		echo.Want(t, err, tt.code, ipc.NotSent, tt.text, "dial echo")
		_, err = natsipc.Serve(t.Context(), tt.nc, "echo", echo.Service())
		echo.Want(t, err, tt.code, ipc.NotSent, tt.text, "serve echo")
		if tt.nc != closed { // a client of a group waits
			_, err = natsipc.DialGroup(t.Context(), tt.nc, "echo", natsipc.GroupDialConfig{})
			echo.Want(t, err, tt.code, ipc.NotSent, tt.text, "dial group echo")
			_, err = natsipc.JoinGroup(t.Context(), tt.nc, natsipc.GroupConfig{Group: "echo"},
				echo.Service())
			echo.Want(t, err, tt.code, ipc.NotSent, tt.text, "join group echo")
		}
	}
	for _, channel := range []string{"", strings.Repeat("x", 300)} {
		_, err := natsipc.Dial(t.Context(), broker.ConnectInProcess(t), channel)
		echo.Want(t, err, ipc.CodeInvalidArgument, ipc.NotSent)
	}
}

// TestWrongSettings gives settings with which nothing could be reached to all that takes them. Each
// of them says so at once, although no server, and no local channel, is there.
func TestWrongSettings(t *testing.T) {
	echo.ExpectNothingLeft(t)
	nc := natstest.Start(t).ConnectInProcess(t)
	for text, o := range map[string]ipc.Option{
		`the prefix "a.>"`:      natsipc.WithPrefix("a.>"),
		`the inbox "a b"`:       natsipc.WithInboxes("_INBOX", "a b"),
		"there are no prefixes": natsipc.WithInboxes(),
		`the version "1.02"`:    natsipc.WithVersion("1.02", ""),
	} {
		g := natsipc.Gateway{Channel: "echo", NATS: []ipc.Option{o}}
		_, dialled := natsipc.Dial(t.Context(), nc, "echo", o)
		_, served := natsipc.Serve(t.Context(), nc, "echo", echo.Service(), o)
		for _, err := range []error{dialled, served, g.Export(t.Context(), nc),
			g.Import(t.Context(), nc)} {
			echo.Want(t, err, ipc.CodeInvalidArgument, ipc.NotSent, text)
		}
	}
	_, err := natsipc.JoinGroup(t.Context(), nc, natsipc.GroupConfig{Group: "echo", Prefix: "a.>"},
		echo.Service())
	echo.Want(t, err, ipc.CodeInvalidArgument, ipc.NotSent, "prefix")
	_, err = natsipc.JoinGroup(t.Context(), nc, natsipc.GroupConfig{Group: "echo",
		Options: []ipc.ServerOption{natsipc.WithInboxes("a b")}}, echo.Service())
	echo.Want(t, err, ipc.CodeInvalidArgument, ipc.NotSent, "the inbox")
	_, err = natsipc.DialGroup(t.Context(), nc, "echo", natsipc.GroupDialConfig{Prefix: "a b"})
	echo.Want(t, err, ipc.CodeInvalidArgument, ipc.NotSent, "prefix")
	for text, g := range map[string]natsipc.Gateway{
		`channel name "a b"`:   {Channel: "echo", Local: "a b"},
		`channel name "a:b"`:   {Channel: "a:b"},
		"the channel has no":   {Local: "x"},
		"an import has no gro": {Channel: "echo", Group: "x"},
	} {
		echo.Want(t, g.Import(t.Context(), nc), ipc.CodeInvalidArgument, ipc.NotSent, text)
	}
	g := natsipc.Gateway{Channel: "echo", Group: "a b"}
	echo.Want(t, g.Export(t.Context(), nc), ipc.CodeInvalidArgument, ipc.NotSent, "a b")
}

// TestMessagesOfServers dials with a service, which would handle messages of the server. They do
// not go over NATS, so it is refused, and the handler of a call has no peer to send any to.
func TestMessagesOfServers(t *testing.T) {
	echo.ExpectNothingLeft(t)
	broker := natstest.Start(t)
	nc := broker.ConnectInProcess(t)
	serve(t, nc, ipc.NewService(relayed, ipc.Handle(relayedEcho, func(ctx context.Context,
		m *echo.Blob) (*echo.Blob, error) {
		if p, ok := ipc.PeerFromContext(ctx); ok {
			return nil, ipc.Errorf(ipc.CodeInternal, "there is a peer: %v", p)
		}
		return m, nil
	})))
	own := ipc.NewService(relayedNotes)
	_, err := natsipc.Dial(t.Context(), nc, "echo", own)
	echo.Want(t, err, ipc.CodeUnsupported, ipc.NotSent, "messages of test.Notes, and servers send "+
		"none over NATS; use a streaming method or a topic")
	_, err = natsipc.DialGroup(t.Context(), nc, "echo",
		natsipc.GroupDialConfig{Options: []ipc.DialOption{own}})
	echo.Want(t, err, ipc.CodeUnsupported, ipc.NotSent, "servers send none over NATS")
	if _, err := ipc.Invoke(t.Context(), dial(t, nc), relayedEcho, &echo.Blob{}); err != nil {
		t.Error(err)
	}
}

// TestConnect has no NATS server, and one that wants a password.
func TestConnect(t *testing.T) {
	echo.ExpectNothingLeft(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	_, err = natsipc.Connect("nats://user:secret@" + address)
	echo.Want(t, err, ipc.CodeUnavailable, ipc.NotSent, address)
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("the error tells the password: %v", err)
	}
	for _, url := range []string{"nats://user:secret@[::1", "nats://user:secret@x:port",
		"nats://user:secret@127.0.0.1:99999"} {
		_, err = natsipc.Connect(url)
		echo.Want(t, err, ipc.CodeInvalidArgument, ipc.NotSent, "URL")
		if strings.Contains(err.Error(), "secret") {
			t.Errorf("the error tells the password: %v", err)
		}
	}
	_, err = natsipc.Connect("nats://"+address, nats.UserCredentials("none.creds"))
	echo.Want(t, err, ipc.CodeInvalidArgument, ipc.NotSent, "none.creds")
	for _, url := range []string{"", " , "} {
		_, err = natsipc.Connect(url)
		echo.Want(t, err, ipc.CodeInvalidArgument, ipc.NotSent, "there is no URL")
	}
	_, err = natsipc.Connect("nats://"+address, nats.CustomInboxPrefix("*"), nil)
	echo.Want(t, err, ipc.CodeInvalidArgument, ipc.NotSent, "an option is wrong", "prefix")
	_, err = natsipc.Connect("nats://"+address, nats.RootCAs("none.pem"))
	echo.Want(t, err, ipc.CodeInvalidArgument, ipc.NotSent, "cannot be read", "none.pem")
	broker := natstest.Start(t, natstest.Password("user", "secret"))
	_, err = natsipc.Connect(broker.ClientURL(), nats.UserInfo("user", "wrong"))
	echo.Want(t, err, ipc.CodePermissionDenied, ipc.NotSent, "credentials")
	nc, err := natsipc.Connect(broker.ClientURL(), nats.UserInfo("user", "secret"),
		nats.Timeout(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	serve(t, nc, echo.Service())
	inside, err := natsipc.Connect("", nats.InProcessServer(broker.Server),
		nats.UserInfo("user", "secret"), nats.Timeout(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	defer inside.Close()
	echo.Still(t, dial(t, inside))
}

// TestServerDies loses a server in the middle of calls, without a word.
func TestServerDies(t *testing.T) {
	echo.ExpectNothingLeft(t)
	broker := natstest.Start(t)
	svc, began, left := echo.Blocking()
	theirs := broker.ConnectInProcess(t)
	srv := serve(t, theirs, svc)
	c := dial(t, broker.ConnectInProcess(t))
	result := echo.Invoke(t.Context(), c, echo.Block, "")
	entered(t, began, result)
	theirs.Close()
	echo.Want(t, <-result, ipc.CodeUnavailable, ipc.OutcomeUnknown, "nothing was heard")
	<-left
	<-srv.Done()
}

// TestClientDies loses a client in the middle of a call: its handler learns of it.
func TestClientDies(t *testing.T) {
	echo.ExpectNothingLeft(t)
	broker := natstest.Start(t)
	svc, began, left := echo.Blocking()
	serve(t, broker.ConnectInProcess(t), svc)
	theirs := broker.ConnectInProcess(t)
	c := dial(t, theirs)
	result := echo.Invoke(t.Context(), c, echo.Block, "")
	entered(t, began, result)
	theirs.Close()
	echo.Want(t, <-result, ipc.CodeUnavailable, ipc.OutcomeUnknown)
	<-left
}

// TestBrokerRestarts loses the NATS server in the middle of a call. Client and server go on when it
// is back, and nothing that was sent meanwhile is executed.
func TestBrokerRestarts(t *testing.T) {
	echo.ExpectNothingLeft(t)
	broker := natstest.Start(t)
	svc, began, left := echo.Blocking()
	serve(t, broker.Connect(t), svc)
	nc := broker.Connect(t)
	c := dial(t, nc)
	result := echo.Invoke(t.Context(), c, echo.Block, "")
	entered(t, began, result)
	broker.Stop()
	echo.Want(t, <-result, ipc.CodeUnavailable, ipc.OutcomeUnknown, "connection to NATS")
	<-left
	for nc.IsConnected() {
		time.Sleep(time.Millisecond)
	}
	for range 3 {
		echo.Want(t, <-echo.Invoke(t.Context(), c, echo.Block, ""), ipc.CodeUnavailable,
			ipc.NotSent)
	}
	broker.Restart(t)
	for {
		if _, err := echo.Call(t.Context(), c, nil); err == nil {
			break
		} else if ipc.OutcomeOf(err) != ipc.NotSent {
			echo.Want(t, err, ipc.CodeUnavailable, ipc.OutcomeUnknown)
		}
		time.Sleep(10 * time.Millisecond)
	}
	select {
	case <-began:
		t.Error("a call was executed that had failed")
	default:
	}
}

// TestSmallPayloads has a NATS server whose messages are shorter than metadata may be.
func TestSmallPayloads(t *testing.T) {
	echo.ExpectNothingLeft(t)
	broker := natstest.Start(t, natstest.MaxPayload(1024))
	got := make(chan string, 10)
	serve(t, broker.ConnectInProcess(t), echo.Mirrors(got))
	c := dial(t, broker.ConnectInProcess(t))
	for _, n := range []int{0, 100, 1000, 5000, 1 << 20} {
		data := strings.Repeat("x", n)
		var back ipc.Metadata
		ctx := ipc.WithReplyMetadata(ipc.WithMetadata(t.Context(), "k", "v"), &back)
		rep, err := echo.Call(ctx, c, []byte(data))
		if err != nil || string(rep) != data || back.Get("back-k") != "v" {
			t.Errorf("%d bytes: %d came back, %v", n, len(rep), err)
		}
		if err := echo.SendNote(ctx, c, data); err != nil {
			t.Errorf("a one-way message of %d bytes: %v", n, err)
		} else if s := <-got; s != "k=v: "+data {
			t.Errorf("%d bytes of a one-way message came", len(s))
		}
	}
	long := ipc.WithMetadata(t.Context(), "k", strings.Repeat("x", 2000))
	_, err := echo.Call(long, c, nil)
	echo.Want(t, err, ipc.CodeTooLarge, ipc.NotSent, "max_payload")
	// The way back has longer keys.
	ctx := t.Context()
	for range 30 {
		ctx = ipc.WithMetadata(ctx, "k", strings.Repeat("x", 12))
	}
	_, err = echo.Call(ctx, c, nil)
	echo.Want(t, err, ipc.CodeTooLarge, ipc.Executed, "max_payload")
	echo.Still(t, c)
}

// TestCallsAreShared has two servers of a channel, of which one shuts down: no call fails.
func TestCallsAreShared(t *testing.T) {
	echo.ExpectNothingLeft(t)
	broker := natstest.Start(t)
	done := make(chan int, 1000)
	counting := func(i int) *ipc.Service {
		return echo.Of(ipc.Handle(echo.Echo, func(_ context.Context, m *echo.Blob) (*echo.Blob,
			error) {
			done <- i
			return m, nil
		}))
	}
	var n [2]int
	first := serve(t, broker.ConnectInProcess(t), counting(0))
	serve(t, broker.ConnectInProcess(t), counting(1))
	c := dial(t, broker.ConnectInProcess(t))
	down := make(chan error, 1)
	for i := range 200 {
		if i == 100 {
			go func() { down <- first.Shutdown(t.Context()) }()
		}
		echo.Still(t, c) // no call fails when a server shuts down and another is there
	}
	if err := <-down; err != nil {
		t.Error(err)
	}
	for len(done) > 0 {
		n[<-done]++
	}
	if n[0] == 0 || n[1] == 0 || n[0]+n[1] != 200 {
		t.Errorf("the servers have executed %v calls", n)
	}
}
