package ipc_test

import (
	"context"
	"testing"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

func expectHealth(t *testing.T, c *ipc.Conn, protocol string, want ipc.Health) {
	t.Helper()
	if got, err := c.Health(t.Context(), protocol); err != nil || got != want {
		t.Errorf("the health of %q is %v, %v; want %v", protocol, got, err, want)
	}
}

// health asks a server for its health while that changes.
func health(t *testing.T, v ipc.RendezvousOption) {
	var state ipc.HealthState
	other := &ipc.Protocol{Name: "test.Other", Fingerprint: 5}
	host(t, v, echoService(), ipc.NewService(other), ipc.WithHealth(&state),
		ipc.HandleStreamReader(blockStream,
			func(context.Context, *ipc.StreamReader) error { return nil }))
	c := dial(t, v)
	for _, p := range []string{"", "test.Echo", "test.Other", "test.Block"} {
		expectHealth(t, c, p, ipc.HealthServing)
	}
	set := func(protocol string, h ipc.Health) {
		t.Helper()
		if err := state.Set(protocol, h); err != nil {
			t.Error(err)
		}
	}
	set("", ipc.HealthNotServing) // holds for those for which nothing is set
	set("test.Other", ipc.HealthServing)
	expectHealth(t, c, "", ipc.HealthNotServing)
	expectHealth(t, c, "test.Echo", ipc.HealthNotServing)
	expectHealth(t, c, "test.Other", ipc.HealthServing)
	still(t, c) // no call is refused for it
	set("", ipc.HealthServing)
	set("test.Other", ipc.HealthNotServing)
	expectHealth(t, c, "", ipc.HealthServing)
	expectHealth(t, c, "test.Echo", ipc.HealthServing)
	expectHealth(t, c, "test.Other", ipc.HealthNotServing)
	_, err := c.Health(t.Context(), "test.None")
	want(t, err, ipc.CodeNotFound, ipc.Executed, "test.None")
}

// healthWhileDraining asks a server that shuts down and still has a call to answer.
func healthWhileDraining(t *testing.T, v ipc.RendezvousOption) {
	srv := host(t, v, echoService())
	c := dial(t, v)
	ctx, cancel := context.WithCancel(t.Context())
	blocked := make(chan error, 1)
	go func() {
		_, err := ipc.Invoke(ctx, c, methodBlock, &blob{})
		blocked <- err
	}()
	for c.Stats().CallsInFlight == 0 {
		expectHealth(t, c, "", ipc.HealthServing)
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.Shutdown(t.Context()) }()
	for {
		got, err := c.Health(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		if got == ipc.HealthDraining {
			break
		}
	}
	expectHealth(t, c, "test.Echo", ipc.HealthDraining)
	cancel()
	<-blocked
	if err := <-ended; err != nil {
		t.Error(err)
	}
	<-c.Done()
	if _, err := c.Health(t.Context(), ""); ipc.CodeOf(err) != ipc.CodeUnavailable {
		t.Errorf("the health of a server that is gone: %v", err)
	}
}

// healthBehindAFence asks a server that admits no call, as a standby does.
func healthBehindAFence(t *testing.T, v ipc.RendezvousOption) {
	host(t, v, echoService(), ipc.WithFence(closedFence{}))
	c := dial(t, v)
	_, err := echo(t.Context(), c, nil)
	want(t, err, ipc.CodeFenced, ipc.NotExecuted)
	expectHealth(t, c, "", ipc.HealthServing)
}

// healthThatIsWrong sets what cannot be.
func healthThatIsWrong(t *testing.T, v ipc.RendezvousOption) {
	var state ipc.HealthState
	host(t, v, echoService(), ipc.WithHealth(&state))
	for _, h := range []ipc.Health{ipc.HealthDraining, 77} {
		if err := state.Set("", h); ipc.CodeOf(err) != ipc.CodeInvalidArgument {
			t.Errorf("%v: %v", h, err)
		}
	}
	if err := state.Set("test.None", ipc.HealthServing); ipc.CodeOf(err) != ipc.CodeNotFound {
		t.Error(err)
	}
	var early ipc.HealthState
	if err := early.Set("test.None", ipc.HealthNotServing); err != nil {
		t.Error(err)
	}
	for _, o := range []ipc.ServerOption{ipc.WithHealth(&early), ipc.WithHealth(nil)} {
		l, err := ipc.Listen("other", v)
		if err != nil {
			t.Fatal(err)
		}
		err = ipc.NewServer(echoService(), o).Serve(t.Context(), l)
		if ipc.CodeOf(err) != ipc.CodeInvalidArgument {
			t.Error(err)
		}
	}
	c := dial(t, v)
	expectHealth(t, c, "", ipc.HealthServing)
	if _, err := (*ipc.Conn)(nil).Health(t.Context(), ""); err == nil {
		t.Error("no connection has a health")
	}
}
