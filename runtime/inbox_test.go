package ipc_test

import (
	"context"
	"testing"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/ipctest"
)

// flood sends n messages, of which far fewer than all fit into the ring and the
// inbox behind it.
func flood(ctx context.Context, to ipc.Sender, n int) <-chan error {
	sent := make(chan error, 1)
	go func() {
		for i := range n {
			if err := note(ctx, to, number(i, 1000)); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	return sent
}

// untilDeadline makes calls until one meets its deadline.
func untilDeadline(t *testing.T, c *ipc.Conn) {
	t.Helper()
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		_, err := echo(ctx, c, nil)
		cancel()
		if ipc.CodeOf(err) == ipc.CodeDeadlineExceeded {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestFullInbox blocks a message handler until its inbox is full and the ring is not read any more.
// Calls of that connection fail at their deadlines. When the handler returns, calls succeed again.
func TestFullInbox(t *testing.T) {
	const n = 300
	small := []ipc.Option{ipc.WithRings(16<<10, 16<<10), ipc.WithMaxMessage(16 << 10)}
	for _, side := range []string{"client", "server"} {
		t.Run("of the "+side, func(t *testing.T) {
			v, peers, got := ipctest.NewNetwork(), make(chan *ipc.Peer, 1), make(chan string)
			host(t, v, pushes(peers),
				ipc.NewService(&ipc.Protocol{Name: "test.Up", Fingerprint: 1}, notes(got)),
				small[0], small[1])
			c := dial(t, v, echoes(notes(got)), small[0], small[1])
			to := ipc.Sender(peerOf(t, c, peers))
			if side == "server" {
				to = c
			}
			sent := flood(t.Context(), to, n)
			untilDeadline(t, c)
			untilDeadline(t, c)
			expectNumbers(t, got, n)
			if err := <-sent; err != nil {
				t.Error(err)
			}
			still(t, c)
		})
	}
}

// TestFullInboxOfCaller has a message handler whose inbox is full make a call on its own
// connection. The reply lies behind messages that wait for the handler, so the call ends at its
// deadline.
func TestFullInboxOfCaller(t *testing.T) {
	const n = 300
	v, peers, conn, got := ipctest.NewNetwork(), make(chan *ipc.Peer, 1), make(chan *ipc.Conn, 1),
		make(chan string, n)
	host(t, v, pushes(peers))
	c := dial(t, v, ipc.WithRings(16<<10, 16<<10), ipc.WithMaxMessage(16<<10),
		echoes(ipc.Receive(messageNote,
			func(_ context.Context, m *blob) error {
				select {
				case c := <-conn: // the first message
					untilDeadline(t, c)
				default:
				}
				got <- string(m.Data)
				return nil
			})))
	peer := peerOf(t, c, peers)
	conn <- c
	sent := flood(t.Context(), peer, n)
	expectNumbers(t, got, n)
	if err := <-sent; err != nil {
		t.Error(err)
	}
	still(t, c)
}
