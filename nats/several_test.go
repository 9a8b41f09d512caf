package natsipc_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/gen/audio"
	"github.com/ipcgen/ipcgen/internal/echo"
	"github.com/ipcgen/ipcgen/nats"
	"github.com/ipcgen/ipcgen/nats/internal/natstest"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/topic"
)

// TestSeveralServers has client and server at different NATS servers: two of a cluster, and a leaf
// node and its hub, both ways. Calls, streams, one-way messages and topics pass as at one server.
func TestSeveralServers(t *testing.T) {
	for name, start := range map[string]func(t *testing.T) (theirs, ours *natstest.Server){
		"cluster": func(t *testing.T) (theirs, ours *natstest.Server) {
			theirs = natstest.Start(t, natstest.Cluster())
			return theirs, natstest.Start(t, natstest.Cluster(theirs))
		},
		"client at the leaf node": func(t *testing.T) (theirs, ours *natstest.Server) {
			theirs = natstest.Start(t, natstest.Hub())
			return theirs, natstest.Start(t, natstest.Leaf(t, theirs))
		},
		"server at the leaf node": func(t *testing.T) (theirs, ours *natstest.Server) {
			ours = natstest.Start(t, natstest.Hub())
			return natstest.Start(t, natstest.Leaf(t, ours)), ours
		},
	} {
		t.Run(name, func(t *testing.T) { testSeveral(t, start) })
	}
}

func testSeveral(t *testing.T, start func(t *testing.T) (theirs, ours *natstest.Server)) {
	echo.ExpectNothingLeft(t)
	theirs, ours := start(t)
	there, here := theirs.Connect(t), ours.Connect(t)
	notes := make(chan string, 10)
	levels := audio.NewLevelsPublisher(topic.Options{})
	defer levels.Close()
	svc, began, left := echo.Blocking()
	serve(t, there, svc, echo.StreamingService(echo.Notes(notes)), levels)
	soon(t, "the servers tell each other of subscriptions", func() error {
		c, err := natsipc.Dial(t.Context(), here, "echo", natsipc.WithBeat(beat))
		if err == nil {
			c.Close()
		}
		return err
	})
	c := dial(t, here)
	echo.Still(t, c)
	if got, err := echo.Call(t.Context(), c, make([]byte, 3<<20)); err != nil || len(got) != 3<<20 {
		t.Errorf("%d bytes came back, %v", len(got), err)
	}
	echo.ExpectCounted(t, echo.CountTo(t.Context(), c, 1000), 1000)
	for i := range 10 {
		if err := echo.SendNote(t.Context(), c, fmt.Sprint(i)); err != nil {
			t.Error(err)
		}
		if got := <-notes; got != fmt.Sprint(i) {
			t.Errorf("message %d is %q", i, got)
		}
	}
	sub, err := audio.SubscribeLevels(t.Context(), natsipc.Topics(here, "echo"),
		topic.SubscribeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	// The publisher's server hears of the subscription a little after it was made.
	published, stop := context.WithCancel(t.Context())
	var publishing sync.WaitGroup
	publishing.Go(func() {
		for published.Err() == nil {
			if err := levels.Publish(t.Context(), &audio.LevelsT{}); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Millisecond)
		}
	})
	var last uint64
	for i := range 3 {
		a, err := sub.Next(t.Context(), new(audio.LevelsT))
		if err != nil || i > 0 && a.Number != last+1+a.Lost {
			t.Errorf("%+v behind %d, %v", a, last, err)
		}
		last = a.Number
	}
	stop()
	publishing.Wait()
	// A cancellation passes, and so does the end of a server.
	ctx, cancel := context.WithCancel(t.Context())
	result := echo.Invoke(ctx, c, echo.Block, "")
	entered(t, began, result)
	cancel()
	echo.Want(t, <-result, ipc.CodeCanceled, ipc.OutcomeUnknown)
	<-left
	result = echo.Invoke(t.Context(), c, echo.Block, "")
	entered(t, began, result)
	theirs.Stop()
	echo.Want(t, <-result, ipc.CodeUnavailable, ipc.OutcomeUnknown)
	<-left
}

// TestManyStreams has 1,000 streams of one client at a time, whose items wait for longer than a
// client waits for its server: all of them have come.
func TestManyStreams(t *testing.T) {
	echo.ExpectNothingLeft(t)
	broker := natstest.Start(t)
	serve(t, broker.ConnectInProcess(t), echo.StreamingService(), echo.Service())
	c := dial(t, broker.ConnectInProcess(t))
	const n = 1000
	// All are open before the first goes on.
	var opened, ended sync.WaitGroup
	opened.Add(n)
	for i := range n {
		ended.Go(func() {
			got := 0
			for item, err := range echo.CountTo(t.Context(), c, 10) {
				if err != nil || string(item.Data) != fmt.Sprint(got) {
					t.Errorf("stream %d, item %d: %v, %v", i, got, item, err)
				}
				if got == 0 {
					opened.Done()
					opened.Wait()
				}
				if got++; err != nil {
					break
				}
			}
			if got != 10 {
				t.Errorf("stream %d has %d items", i, got)
			}
		})
	}
	opened.Wait()
	echo.Still(t, c)
	ended.Wait()
}

// TestMaxCalls reaches the limit of calls of a server: further ones are refused, unexecuted, and
// taken again when there is room.
func TestMaxCalls(t *testing.T) {
	echo.ExpectNothingLeft(t)
	broker := natstest.Start(t)
	svc, began, left := echo.Blocking()
	serve(t, broker.ConnectInProcess(t), svc, natsipc.WithMaxCalls(3))
	c, other := dial(t, broker.ConnectInProcess(t)), dial(t, broker.ConnectInProcess(t))
	ctx, cancel := context.WithCancel(t.Context())
	var blocked []<-chan error
	for range 3 {
		result := echo.Invoke(ctx, c, echo.Block, "")
		entered(t, began, result)
		blocked = append(blocked, result)
	}
	for _, c := range []ipc.Caller{c, other} { // the limit is that of all clients
		_, err := echo.Call(t.Context(), c, nil)
		echo.Want(t, err, ipc.CodeResourceExhausted, ipc.NotExecuted, "3 calls", "WithMaxCalls")
	}
	cancel()
	for _, r := range blocked {
		echo.Want(t, <-r, ipc.CodeCanceled, ipc.OutcomeUnknown)
		<-left
	}
	soon(t, "there is room again", func() error {
		_, err := echo.Call(t.Context(), other, nil)
		return err
	})
}
