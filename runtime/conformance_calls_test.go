package ipc_test

import (
	"context"
	"testing"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// slowCallAfterFastOnes is the same after so many fast calls that the watchdog looks as
// seldom as it ever does.
func slowCallAfterFastOnes(t *testing.T, v ipc.RendezvousOption) {
	svc, entered, left := blocking()
	host(t, v, svc)
	c := dial(t, v)
	for start := time.Now(); time.Since(start) < time.Second; {
		still(t, c)
	}
	ctx, cancel := context.WithCancel(t.Context())
	slow := invoke(ctx, c, methodBlock, "")
	<-entered
	for range 10 {
		still(t, c)
	}
	cancel()
	<-left
	want(t, <-slow, ipc.CodeCanceled, ipc.OutcomeUnknown)
}

func lateRepliesAreDropped(t *testing.T, v ipc.RendezvousOption) {
	entered, release := make(chan struct{}), make(chan struct{})
	host(t, v, echoService(ipc.Handle(methodCrash, func(context.Context, *blob) (*blob, error) {
		close(entered)
		<-release // whatever the context says
		return &blob{Data: []byte("late")}, nil
	})))
	c := dial(t, v)
	ctx, cancel := context.WithCancel(t.Context())
	result := invoke(ctx, c, methodCrash, "")
	<-entered
	cancel()
	want(t, <-result, ipc.CodeCanceled, ipc.OutcomeUnknown)
	close(release)
	for c.Stats().Dropped == 0 {
		still(t, c) // the late reply is before one of these
	}
	if s := c.Stats(); s.Dropped != 1 || s.CallsInFlight != 0 {
		t.Errorf("stats %+v", s)
	}
}
