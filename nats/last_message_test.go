package natsipc_test

import (
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/ipcgen/ipcgen/internal/echo"
	"github.com/ipcgen/ipcgen/nats"
	"github.com/ipcgen/ipcgen/nats/internal/natstest"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// TestNothingBehindLastMessage closes servers in the middle of calls whose handlers send all the
// time, and which get beats all the time, and looks at what goes to the clients: the last message
// of a call tells how many frames were before it, and nothing comes behind it.
func TestNothingBehindLastMessage(t *testing.T) {
	echo.ExpectNothingLeft(t)
	broker := natstest.Start(t)
	watcher := broker.ConnectInProcess(t)
	var mu sync.Mutex
	frames, over := map[string]int{}, map[string]bool{}
	const end = "_INBOX.end"
	ended := make(chan struct{})
	check := func(m *nats.Msg) {
		if m.Subject == end {
			close(ended)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		call, isFrame := strings.CutSuffix(m.Subject, ".f")
		if over[call] {
			t.Errorf("%s: a message of %d bytes comes behind the last one", call, len(m.Data))
		}
		if isFrame {
			if m.Data[4]|m.Data[5]|m.Data[6]|m.Data[7] != 0 { // not a beat
				frames[call]++
			}
			return
		}
		over[call] = true
		if h := strings.Fields(m.Header.Get("Ipcgen")); len(h) >= 5 &&
			h[4] != strconv.Itoa(frames[call]) {
			t.Errorf("%s: the last message tells of %s frames, of %d", call, h[4], frames[call])
		}
	}
	if _, err := watcher.Subscribe("_INBOX.>", check); err != nil {
		t.Fatal(err)
	}
	if err := watcher.Flush(); err != nil {
		t.Fatal(err)
	}
	const rounds = 100
	for range rounds {
		e := echo.NewEndless()
		srv, err := natsipc.Serve(t.Context(), broker.Connect(t), "echo",
			echo.StreamingService(e.Route()), natsipc.WithBeat(time.Millisecond))
		if err != nil {
			t.Fatal(err)
		}
		c := dial(t, broker.Connect(t))
		n := 0
		for _, err := range e.Call(t.Context(), c) {
			if err != nil {
				echo.Want(t, err, ipc.CodeUnavailable, ipc.OutcomeUnknown, "the server was closed")
			} else if n++; n == 10 {
				srv.Close()
			}
		}
		c.Close()
	}
	if err := watcher.Publish(end, nil); err != nil {
		t.Fatal(err)
	}
	<-ended // check has seen all that came before
	mu.Lock()
	defer mu.Unlock()
	if len(over) < 2*rounds { // each hello and each call
		t.Errorf("%d calls have ended", len(over))
	}
}
