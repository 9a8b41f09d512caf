package natsipc_test

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/ipcgen/ipcgen/internal/echo"
	natsipc "github.com/ipcgen/ipcgen/nats"
	"github.com/ipcgen/ipcgen/nats/internal/natstest"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// callerArgs are what a process needs that makes one call.
type callerArgs struct {
	URL  string
	Beat time.Duration
}

func childCaller() int {
	var a callerArgs
	return childRun(&a, func() error {
		nc, err := natsipc.Connect(a.URL, nats.Timeout(time.Minute))
		if err != nil {
			return err
		}
		c, err := natsipc.Dial(context.Background(), nc, "echo", natsipc.WithBeat(a.Beat))
		if err != nil {
			return err
		}
		go func() {
			_, err := ipc.Invoke(context.Background(), c, echo.Block, &echo.Blob{})
			fmt.Println("called", err)
		}()
		return nil
	})
}

// TestClientStandsStill stops the process of a client for longer than it waits for the word of a
// server, in the middle of a call. The server has told it all the time that it has the call, so the
// call goes on.
func TestClientStandsStill(t *testing.T) {
	echo.ExpectNothingLeft(t)
	broker := natstest.Start(t)
	entered, release := make(chan struct{}), make(chan struct{})
	nc := broker.Connect(t)
	srv, err := natsipc.Serve(t.Context(), nc, "echo", natsipc.WithBeat(beat), quiet,
		echo.Of(ipc.Handle(echo.Block, func(_ context.Context, m *echo.Blob) (*echo.Blob, error) {
			close(entered)
			<-release
			return m, nil
		})))
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	said := make(chan string, 10)
	const patience = 8 * beat // of a client: five of its beats
	p, err := spawn("caller", callerArgs{broker.ClientURL(), patience / 5},
		func(text string) { said <- text })
	if err != nil {
		t.Fatal(err)
	}
	defer p.kill()
	<-entered
	beats := make(chan *nats.Msg, 1000)
	if _, err := broker.Connect(t).ChanSubscribe("_INBOX.>", beats); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGSTOP)
	for stopped := time.Now(); time.Since(stopped) < 2*patience; {
		if m := <-beats; !strings.HasSuffix(m.Subject, ".f") {
			t.Fatalf("the server says more than that it has the call: %q", m.Data)
		}
	}
	p.signal(syscall.SIGCONT)
	close(release)
	if text := <-said; text != "called <nil>" {
		t.Error(text)
	}
}
