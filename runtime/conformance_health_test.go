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

// healthBehindAFence asks a server that admits no call, as a standby does.
func healthBehindAFence(t *testing.T, v ipc.RendezvousOption) {
	host(t, v, echoService(), ipc.WithFence(closedFence{}), ipc.HandleStreamReader(blockStream,
		func(context.Context, *ipc.StreamReader) error { return nil }))
	c := dial(t, v)
	_, err := echo(t.Context(), c, nil)
	want(t, err, ipc.CodeFenced, ipc.NotExecuted)
	expectHealth(t, c, "", ipc.HealthServing)
	expectHealth(t, c, "test.Block", ipc.HealthServing)
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
