package ipctest_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/ipctest"
)

func TestPipe(t *testing.T) {
	c := ipctest.Pipe(t, newTalker().service())
	if err := <-ask(t.Context(), c, "hello"); err != nil {
		t.Error(err)
	}
}

// TestNetworksAreApart shows that a channel is visible in its own network only.
func TestNetworksAreApart(t *testing.T) {
	one, two := ipctest.NewNetwork(), ipctest.NewNetwork()
	ipctest.Serve(t, one, "talk", newTalker().service())
	ipctest.Serve(t, two, "talk", newTalker().service())
	ipctest.Serve(t, one, "more", newTalker().service())
	for _, n := range []*ipctest.Network{one, two} {
		if err := <-ask(t.Context(), ipctest.Dial(t, n, "talk"), "hello"); err != nil {
			t.Error(err)
		}
	}
	_, err := two.Dial(t.Context(), "more")
	want(t, err, ipc.CodeUnavailable, ipc.NotSent)
}

// TestAs shows that each side has the identity that the test has chosen.
func TestAs(t *testing.T) {
	n := ipctest.NewNetwork()
	server, client := ipc.Peer{PID: 11, UID: 1001, GID: 1}, ipc.Peer{PID: 12, UID: 1002, GID: 2}
	anyone := ipc.WithAuthorize(func(ipc.Peer) error { return nil })
	callers := make(chan *ipc.Peer, 1)
	tk := newTalker()
	tk.wait = func(ctx context.Context, _ string) error {
		p, _ := ipc.PeerFromContext(ctx)
		callers <- p
		return nil
	}
	ipctest.Serve(t, n.As(server), "talk", tk.service(), anyone)

	c := ipctest.Dial(t, n.As(client), "talk", anyone)
	if err := <-ask(t.Context(), c, "hello"); err != nil {
		t.Fatal(err)
	}
	if p := <-callers; p.PID != 12 || p.UID != 1002 || p.GID != 2 {
		t.Errorf("the server sees %d, %d, %d", p.PID, p.UID, p.GID)
	}
	if p := c.Peer(); p.PID != 11 || p.UID != 1001 || p.GID != 1 {
		t.Errorf("the client sees %d, %d, %d", p.PID, p.UID, p.GID)
	}
	_, err := n.Dial(t.Context(), "talk") // the user of the test is not user 1001
	want(t, err, ipc.CodePermissionDenied, ipc.NotSent)
}

// TestInBubble lets deadlines of hours pass at once: nothing between a call and its reply spins,
// polls or reads another clock.
func TestInBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tk := &talker{wait: func(ctx context.Context, said string) error {
			if said == "quick" {
				return nil
			}
			select {
			case <-time.After(time.Hour):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}}
		c := ipctest.Pipe(t, tk.service())
		start := time.Now()
		if err := <-ask(t.Context(), c, "patient"); err != nil {
			t.Error(err)
		}
		if d := time.Since(start); d != time.Hour {
			t.Errorf("the reply came after %v", d)
		}

		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start = time.Now()
		if err := <-ask(ctx, c, "impatient"); ipc.CodeOf(err) != ipc.CodeDeadlineExceeded {
			t.Error(err)
		}
		if d := time.Since(start); d != time.Minute {
			t.Errorf("the deadline passed after %v", d)
		}
		for range 100 {
			if err := <-ask(t.Context(), c, "quick"); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestHandshakeInBubble shows that a client waits for a silent server as long as configured.
func TestHandshakeInBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := ipctest.NewNetwork()
		l, err := n.Listen("talk")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		start := time.Now()
		_, err = n.Dial(t.Context(), "talk", ipc.WithHandshakeTimeout(time.Hour))
		want(t, err, ipc.CodeDeadlineExceeded, ipc.NotSent)
		if d := time.Since(start); d != time.Hour {
			t.Errorf("it took %v", d)
		}
	})
}
