package ipc_test

import (
	"context"
	"os"
	"testing"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// pushes makes a service whose News method hands out the caller's Peer.
func pushes(to chan<- *ipc.Peer) *ipc.Service {
	return echoes(
		ipc.Handle(methodEcho, func(_ context.Context, m *blob) (*blob, error) { return m, nil }),
		ipc.Handle(methodNews, func(ctx context.Context, m *blob) (*blob, error) {
			p, ok := ipc.PeerFromContext(ctx)
			if !ok {
				return nil, ipc.Errorf(ipc.CodeInternal, "the context has no peer")
			}
			to <- p
			return m, nil
		}))
}

// peerOf makes the server hand out the peer of c.
func peerOf(t *testing.T, c *ipc.Conn, from <-chan *ipc.Peer) *ipc.Peer {
	t.Helper()
	if _, err := ipc.Invoke(t.Context(), c, methodNews, &blob{}); err != nil {
		t.Fatal(err)
	}
	return <-from
}

// unknownMessages sends messages of a known protocol that the receiver does not know, as a newer
// version of the schema may add. The connection goes on.
func unknownMessages(t *testing.T, v ipc.RendezvousOption) {
	unknown := ipc.NewMessage(echoProtocol, ipc.MessageSpec[blob]{
		Name: "Unknown", ID: idOf("test.Echo/Unknown"), Encode: encodeBlob, Decode: decodeBlob,
	})
	peers := make(chan *ipc.Peer, 1)
	host(t, v, pushes(peers))
	c := dial(t, v)
	server := peerOf(t, c, peers)
	for _, to := range []ipc.Sender{c, server} {
		if err := ipc.Send(t.Context(), to, unknown, &blob{}); err != nil {
			t.Fatal(err)
		}
	}
	for c.Stats().Dropped == 0 || server.Stats().Dropped == 0 {
		still(t, c)
	}
	still(t, c)
	if a, b := c.Stats().Dropped, server.Stats().Dropped; a != 1 || b != 1 {
		t.Errorf("the client counts %d, the server %d", a, b)
	}
}

func messagesBothWays(t *testing.T, v ipc.RendezvousOption) {
	const n = 1000
	up, down, peers := make(chan string), make(chan string), make(chan *ipc.Peer, 1)
	upstream := &ipc.Protocol{Name: "test.Up", Fingerprint: 1}
	host(t, v, pushes(peers), ipc.NewService(upstream, notes(up)))
	c := dial(t, v, echoes(notes(down)))
	peer := peerOf(t, c, peers)
	failed := make(chan error, 2)
	for _, to := range []ipc.Sender{c, peer} {
		go func() {
			for i := range n {
				if err := note(t.Context(), to, number(i, 4+i)); err != nil {
					failed <- err
					return
				}
			}
			failed <- nil
		}()
	}
	expectNumbers(t, up, n)
	expectNumbers(t, down, n)
	for range 2 {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
	still(t, c)
}

func slowMessageHandler(t *testing.T, v ipc.RendezvousOption) {
	up, down, peers := make(chan string), make(chan string), make(chan *ipc.Peer, 1)
	host(t, v, pushes(peers),
		ipc.NewService(&ipc.Protocol{Name: "test.Up", Fingerprint: 1}, notes(up)))
	c := dial(t, v, echoes(notes(down)))
	peer := peerOf(t, c, peers)
	for i := range 3 {
		if err := note(t.Context(), c, number(i, 100)); err != nil {
			t.Error(err)
		}
		if err := note(t.Context(), peer, number(i, 100)); err != nil {
			t.Error(err)
		}
	}
	for range 10 {
		still(t, c) // while both handlers wait for the channels
	}
	expectNumbers(t, up, 3)
	expectNumbers(t, down, 3)
}

func messageHandlerMakesCalls(t *testing.T, v ipc.RendezvousOption) {
	peers, got := make(chan *ipc.Peer, 1), make(chan string, 1)
	host(t, v, pushes(peers))
	conn := make(chan *ipc.Conn, 1)
	c := dial(t, v, echoes(ipc.Receive(messageNote, func(ctx context.Context, m *blob) error {
		rep, err := echo(ctx, <-conn, m.Data)
		got <- string(rep)
		return err
	})))
	conn <- c
	if err := note(t.Context(), peerOf(t, c, peers), "ask"); err != nil {
		t.Fatal(err)
	}
	if s := <-got; s != "ask" {
		t.Errorf("the handler's call returned %q", s)
	}
}

// messageHandlerEnds shows that a message handler's context, on either side,
// ends when the connection does.
func messageHandlerEnds(t *testing.T, v ipc.RendezvousOption) {
	entered, left, peers := make(chan string, 2), make(chan string, 2), make(chan *ipc.Peer, 1)
	waits := func(side string) ipc.Route {
		return ipc.Receive(messageNote, func(ctx context.Context, _ *blob) error {
			entered <- side
			<-ctx.Done()
			left <- side
			return ctx.Err()
		})
	}
	host(t, v, pushes(peers),
		ipc.NewService(&ipc.Protocol{Name: "test.Up", Fingerprint: 1}, waits("server")))
	c := dial(t, v, echoes(waits("client")))
	for side, to := range map[string]ipc.Sender{"server": c, "client": peerOf(t, c, peers)} {
		if err := note(t.Context(), to, ""); err != nil {
			t.Fatal(err)
		}
		if got := <-entered; got != side {
			t.Errorf("the %s got the message for the %s", got, side)
		}
	}
	c.Close()
	for range 2 {
		<-left
	}
}

func peersKnowEachOther(t *testing.T, v ipc.RendezvousOption) {
	peers := make(chan *ipc.Peer, 1)
	host(t, v, pushes(peers))
	c := dial(t, v)
	client, server := peerOf(t, c, peers), c.Peer()
	for _, p := range []*ipc.Peer{client, &server} {
		if p.PID != os.Getpid() || p.UID != os.Geteuid() || p.GID != os.Getegid() {
			t.Errorf("peer %d, %d, %d", p.PID, p.UID, p.GID)
		}
	}
	if err := c.Err(); err != nil {
		t.Errorf("the connection has ended: %v", err)
	}
	c.Close()
	<-client.Done()
	want(t, note(t.Context(), client, "too late"), ipc.CodeUnavailable, ipc.NotSent)
	want(t, c.Err(), ipc.CodeUnavailable, ipc.OutcomeUnknown)
}
