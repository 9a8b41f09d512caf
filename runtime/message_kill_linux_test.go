package ipc_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// tellerRole sends one-way messages that count, of various lengths, until it is killed.
func tellerRole(domain ipc.RendezvousOption) error {
	c, err := ipc.Dial(context.Background(), "echo", domain)
	if err != nil {
		return err
	}
	for n := 1; ; n++ {
		padding := ""
		switch {
		case n%50 == 0:
			padding = strings.Repeat("x", 4<<10)
		case n%500 == 1:
			padding = strings.Repeat("x", 300<<10) // in pieces
		}
		if err := ipc.Send(context.Background(), c, messageNote,
			&blob{Data: fmt.Append(nil, n, " ", padding)}); err != nil {
			return err
		}
		if n == 1 {
			fmt.Println("ready")
		}
	}
}

// A teller is what the server has handled of one client.
type teller struct {
	handled atomic.Int64
	running atomic.Int32
}

// TestMessagesOfKilledClients kills clients amid their one-way messages, some of which have
// handlers that take long, panic, or end their goroutine. Of each client the server handles the
// messages from the first one on, in order, one at a time, and none twice; then it has no
// connection left.
func TestMessagesOfKilledClients(t *testing.T) {
	var clients sync.Map // of *teller, by pid
	path := t.TempDir() + "/d"
	srv := host(t, ipc.WithDomain(path),
		ipc.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil))),
		echoService(ipc.Receive(messageNote, func(ctx context.Context, m *blob) error {
			peer, _ := ipc.PeerFromContext(ctx)
			v, _ := clients.LoadOrStore(peer.PID, new(teller))
			c := v.(*teller)
			if c.running.Add(1) != 1 {
				t.Error("two handlers run at a time")
			}
			defer c.running.Add(-1)
			var n int64
			if _, err := fmt.Sscan(string(m.Data[:min(len(m.Data), 20)]), &n); err != nil {
				t.Error(err)
			}
			if last := c.handled.Swap(n); n != last+1 {
				t.Errorf("message %d is handled behind message %d", n, last)
			}
			switch n % 300 {
			case 100:
				time.Sleep(5 * time.Millisecond)
			case 200:
				panic("on purpose")
			case 0:
				runtime.Goexit()
			}
			return nil
		})))
	until := func(what string, cond func() bool) {
		t.Helper()
		for end := time.Now().Add(5 * time.Minute); !cond(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("not within five minutes: " + what)
			}
		}
	}
	for i := range 10 {
		told := startChild(t, "teller", path)
		reach := 1 + rand.Int64N(1000)
		until("messages are handled", func() bool {
			v, ok := clients.Load(told.Process.Pid)
			return ok && v.(*teller).handled.Load() >= reach
		})
		if i%3 == 0 {
			stopProcess(t, told)
		}
		told.kill()
		until("the connection ends", func() bool { return srv.Conns() == 0 })
	}
}
